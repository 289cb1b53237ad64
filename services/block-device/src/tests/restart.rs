//! A service that ends at any time and is started anew: requests are answered once each, and right.

use super::*;

/// Numbers that look random, the same for the same seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % end
    }
}

impl World {
    /// The service ends where it is, and another one begins. Its monitors have it go on.
    fn restart(&mut self, features: u64) {
        self.service = service(&self.bus);
        self.publish();
        for guest in &mut self.guests {
            let choice = guest.choice(features);
            guest.monitor.resume(&choice);
        }
    }
}

/// A request that a guest waits for.
struct Open {
    slot: u16,
    kind: u32,
    sector: u64,
    at: u64,
}

const SECTORS: u64 = 32;

fn run_with(seed: u64) {
    let mut random = Random(seed);
    let features = FEATURES | if seed.is_multiple_of(2) { feature::EVENT_INDEX } else { 0 };
    let mut world = world(&[SECTORS, SECTORS], false);
    world.start(features);
    let mut model = vec![vec![0u8; SECTORS as usize]; 2];
    let mut open: Vec<Vec<Open>> = vec![Vec::new(), Vec::new()];
    let (mut number, mut answered, mut restarts) = (0u8, 0, 0);
    for _ in 0..400 {
        match random.below(8) {
            // Sectors that are on their way already are left alone: their contents are open.
            0..4 => {
                let guest = random.below(2) as usize;
                let sector = random.below(SECTORS);
                if world.guests[guest].free.is_empty() || open[guest].iter().any(|one| one.sector == sector) {
                    continue;
                }
                let kind = random.below(2) as u32;
                let slot = *world.guests[guest].free.last().unwrap();
                let at = DATA + u64::from(slot) * 0x1000;
                number = number.wrapping_add(1);
                let byte = if kind == 1 { number } else { 0xee };
                world.guests[guest].ram.write(at, &[byte; 512]).unwrap();
                let (slot, _) = world.guests[guest].request(kind, sector, Segment { address: at, length: 512 });
                if kind == 1 {
                    model[guest][sector as usize] = number;
                }
                open[guest].push(Open { slot, kind, sector, at });
            }
            4..7 => {
                // One step of the service, whatever it is; the drive may finish.
                let _ = world.service.work();
                if random.below(2) == 0 && core::mem::take(&mut world.bus.0.borrow_mut().interrupt) {
                    world.service.on_interrupt();
                }
                if random.below(4) == 0 {
                    world.service.take_signals(|_, _| {});
                }
            }
            _ => {
                world.restart(features);
                restarts += 1;
            }
        }
        for guest in 0..2 {
            answered += collect(&mut world, guest, &mut open[guest], &model[guest]);
        }
    }
    world.run(true);
    for guest in 0..2 {
        answered += collect(&mut world, guest, &mut open[guest], &model[guest]);
        assert!(open[guest].is_empty(), "{} requests were lost", open[guest].len());
        for sector in 0..SECTORS {
            let at = DATA;
            assert_eq!(world.request(guest, 0, sector, Segment { address: at, length: 512 }), 0);
            assert_eq!(world.guests[guest].ram.bytes(at, 512), [model[guest][sector as usize]; 512]);
        }
    }
    assert!(answered > 20 && restarts > 5, "{answered} answers, {restarts} restarts");
}

/// Looks at the used ring, as a driver that polls: each answer is to an open request, and is right.
fn collect(world: &mut World, guest: usize, open: &mut Vec<Open>, model: &[u8]) -> usize {
    let driver = &mut world.guests[guest];
    driver.monitor.take_interrupts();
    driver.drain();
    let mut count = 0;
    while let Some((slot, status, _)) = driver.finished.pop_front() {
        let place = open.iter().position(|one| one.slot == slot).expect("an answer to nobody, or the second one");
        let request = open.swap_remove(place);
        assert_eq!(status, 0);
        if request.kind == 0 {
            assert_eq!(driver.ram.bytes(request.at, 512), [model[request.sector as usize]; 512]);
        }
        count += 1;
    }
    count
}

#[test]
fn no_request_is_lost_or_answered_twice() {
    for seed in 1..60u64 {
        run_with(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

#[test]
fn a_reset_leaves_nothing_to_be_done_again() {
    let mut world = world(&[16], false);
    world.start(FEATURES);
    world.guests[0].request(1, 3, sector(DATA));
    world.run(false);
    world.guests[0].monitor.reset();
    world.bus.0.borrow_mut().interrupt = false;
    // The service ends before the reset is done: the next one knows no queue, and nothing that was in flight.
    world.service = service(&world.bus);
    world.publish();
    assert_eq!(world.guests[0].monitor.outcome(), Outcome::Done);
    world.guests[0].configure(FEATURES);
    world.run(true);
    assert_eq!(world.guests[0].ram.load_u16(DEVICE + 2).unwrap(), 0);
    world.round_trip(0, 3, DATA, DATA + 512, 512);
}

#[test]
fn a_service_that_is_told_twice_to_go_on_goes_on() {
    let mut world = world(&[16], false);
    world.start(FEATURES);
    world.guests[0].request(1, 3, sector(DATA));
    world.run(false);
    world.restart(FEATURES);
    world.run(false);
    let choice = world.guests[0].choice(FEATURES);
    world.guests[0].monitor.resume(&choice);
    world.run(true);
    assert_eq!(world.guests[0].monitor.outcome(), Outcome::Done);
    assert_eq!(world.guests[0].finished.pop_front().map(|end| end.1), Some(0));
    assert!(world.guests[0].finished.is_empty());
    world.round_trip(0, 3, DATA, DATA + 512, 512);
}

/// A monitor that is started anew, as its guest is, finds no queue of the old guest's in use; requests under way end first.
#[test]
fn the_next_life_of_a_monitor_begins_with_a_device_that_is_as_new() {
    let mut world = world(&[SECTORS], false);
    world.start(FEATURES);
    world.guests[0].request(0, 3, sector(DATA));
    world.run(false);
    let before = world.guests[0].ram.load_u16(DEVICE + 2).unwrap();
    world.guests[0].monitor = MonitorSide::attach(world.words[0]).unwrap();
    world.run(false);
    assert_eq!(world.guests[0].monitor.outcome(), Outcome::Pending, "the drive still reaches the memory");
    world.run(true);
    assert_eq!(world.guests[0].monitor.outcome(), Outcome::Done);
    assert_eq!(world.guests[0].ram.load_u16(DEVICE + 2).unwrap(), before, "nothing is given back");
    world.guests[0].configure(FEATURES);
    world.run(true);
    assert_eq!(world.guests[0].monitor.outcome(), Outcome::Done);
    world.round_trip(0, 5, DATA, DATA + 0x1000, 512);
}
