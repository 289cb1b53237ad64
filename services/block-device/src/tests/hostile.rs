//! What they may not: random attacks of a guest and its monitor.

use super::*;
use bulkhead_doubles::{FlatMemory, Watched};

/// What a hostile guest does, together with a hostile monitor.
enum Attack {
    /// Writes a word of the control page.
    Page(usize, u64),
    /// Writes memory of the guest, the queue's most of the time.
    Memory(u64, u64),
    /// Configures the device, correctly.
    Configure(bool),
    /// Resets the device.
    Reset,
    /// Makes a request available, correct but for its arguments.
    Request(u32, u64, u64, u32),
    /// Lets the drive finish.
    Finish,
}

/// Numbers that look random, the same for the same seed (xorshift64*). The property-testing crate cannot be had here: it
/// needs the standard library in crates that the runtime shares.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number of the range.
    pub(super) fn within(&mut self, range: core::ops::Range<u64>) -> u64 {
        range.start + (self.next() >> 16) % (range.end - range.start)
    }

    pub(super) fn value(&mut self) -> u64 {
        match self.within(0..4) {
            0 => self.next(),
            1 => self.within(0..0x20),
            2 => self.within(0..RAM_BYTES),
            _ => u64::MAX,
        }
    }

    fn attack(&mut self) -> Attack {
        match self.within(0..19) {
            0..2 => Attack::Page(self.within(0..72) as usize, self.value()),
            2..6 => {
                let (start, length) = match self.within(0..5) {
                    0 => (DESCRIPTORS, 0x100),
                    1 => (DRIVER, 0x30),
                    2 => (DEVICE, 0x90),
                    3 => (SLOTS, 0x40),
                    _ => (0, RAM_BYTES - 8),
                };
                Attack::Memory(self.within(start..start + length), self.value())
            }
            6..8 => Attack::Configure(self.next() & 1 != 0),
            8 => Attack::Reset,
            9..15 => {
                let length = match self.within(0..3) {
                    0 => 512,
                    1 => 4096,
                    _ => self.within(0..0x8000) as u32,
                };
                let (kind, sector) = (self.within(0..6) as u32, self.within(0..40));
                Attack::Request(kind, sector, self.within(DATA..RAM_BYTES), length)
            }
            _ => Attack::Finish,
        }
    }
}

/// Bytes of a guest's memory that nobody but the guest may write: those of the device area hold what the driver was told.
fn own_memory(ram: &Ram) -> Vec<u8> {
    let mut bytes = ram.bytes(0, DEVICE as usize);
    bytes.extend(ram.bytes(DEVICE + 0x1000, 0xc000));
    bytes
}

/// Whatever guest and monitor do, the controller moves data between the guest's own memory (or the bounce buffer) and the
/// disk's own sectors alone, and the other guest is served.
#[test]
fn hostile_partitions_harm_themselves_alone() {
    for seed in 1..=50 {
        attack_and_check(seed);
    }
}

fn attack_and_check(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut world = world(&[32, 16], false);
    world.start(FEATURES);
    let before = own_memory(&world.guests[1].ram);
    for _ in 0..random.within(1..60) {
        let guest = &mut world.guests[0];
        match random.attack() {
            Attack::Page(word, value) => world.words[0][word].store(value, Relaxed),
            Attack::Memory(address, value) => guest.ram.write(address, &value.to_le_bytes()).unwrap(),
            Attack::Configure(event_index) => {
                guest.configure(FEATURES | if event_index { feature::EVENT_INDEX } else { 0 });
            }
            Attack::Reset => guest.monitor.reset(),
            Attack::Request(kind, sector, address, length) => {
                if guest.free.is_empty() {
                    guest.free.push(0);
                }
                guest.request(kind, sector, Segment { address, length });
            }
            Attack::Finish => {
                if core::mem::take(&mut world.bus.0.borrow_mut().interrupt) {
                    world.service.on_interrupt();
                }
            }
        }
        let _ = world.service.work();
        world.service.take_signals(|_, _| ());
    }
    for transfer in &world.bus.0.borrow().transfers {
        assert!(
            transfer.first_sector >= 100 && transfer.first_sector + transfer.sectors <= 132,
            "seed {seed}: {transfer:?}"
        );
        for (address, length) in &transfer.memory {
            let own = *address >= 0x1000_0000 && address + length <= 0x1000_0000 + RAM_BYTES + 0x8_0000;
            let bounce = *address == BOUNCE.address && *length <= BOUNCE.length;
            assert!(own || bounce, "seed {seed}: {transfer:?}");
        }
    }
    assert!(own_memory(&world.guests[1].ram) == before, "seed {seed}");
    // What is under way ends, and the other guest is served.
    for _ in 0..1000 {
        let more = world.service.work();
        let interrupted = core::mem::take(&mut world.bus.0.borrow_mut().interrupt);
        if interrupted {
            world.service.on_interrupt();
        }
        if !more && !interrupted {
            break;
        }
    }
    let (slot, _) = world.guests[1].request(0, 3, sector(DATA));
    for _ in 0..1000 {
        let _ = world.service.work();
        if core::mem::take(&mut world.bus.0.borrow_mut().interrupt) {
            world.service.on_interrupt();
        }
    }
    world.guests[1].on_interrupt();
    assert_eq!(world.guests[1].finished.pop_front(), Some((slot, 0, 513)));
    // And so is this one, after a reset.
    world.guests[0].monitor = MonitorSide::attach(world.words[0]).unwrap();
    let _ = world.service.work();
    assert_eq!(world.guests[0].monitor.outcome(), Outcome::Done);
}

#[test]
fn a_monitor_that_commands_without_end_has_no_more_than_its_turn() {
    let words: &'static [AtomicU64] = Box::leak((0..512).map(|_| AtomicU64::new(0)).collect());
    let bus = Bus::new(true);
    let range =
        DiskRange { name: "disk", first_sector: 0, sectors: 8, read_only: false, withheld: Withheld::default() };
    // Its next command comes while the last one is obeyed: there is no memory for the queue.
    let watch = || {
        let given = words[24].fetch_add(1, Relaxed);
        assert!(given as u32 <= 4, "the service does nothing but obey");
    };
    let memory = Watched { memory: FlatMemory::new(0, 0), watch };
    let mut disk = Disk::publish(words, memory, range, service(&bus).information()).unwrap();
    let mut choice = Configuration { features: FEATURES, ..Default::default() };
    choice.queues[0] =
        Some(QueueConfiguration { size: QUEUE_SIZE, descriptors: DESCRIPTORS, driver: DRIVER, device: DEVICE });
    MonitorSide::attach(words).unwrap().configure(&choice);
    disk.obey();
    // The reset that the monitor begins with was given up for it.
    assert_eq!(words[8].load(Relaxed) as u32, 2, "one command is answered");
}
