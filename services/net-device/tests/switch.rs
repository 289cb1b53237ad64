//! Guests on a switch: frames arrive where the policy allows, whole, and nowhere else.

use bulkhead_channel::{AtomicU64, Configuration, Interrupts, MonitorSide, Outcome, QueueConfiguration};
use bulkhead_driver::Clock;
use bulkhead_net_device::*;
use bulkhead_virtio::{GuestMemory, OutsideMemory, PhysicalSegment};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const SIZE: u16 = 16;
const MEMORY: usize = 0x10_0000;
/// Where each queue's parts lie, receive and transmit.
const QUEUES: [u64; 2] = [0x1000, 0x4000];
/// Memory of each buffer of a queue.
const BUFFERS: [u64; 2] = [0x1_0000, 0x8_0000];
const BUFFER_BYTES: u64 = 0x4000;

#[derive(Clone)]
struct Memory(Rc<RefCell<Vec<u8>>>);

impl GuestMemory for Memory {
    fn read(&self, address: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        let start = usize::try_from(address).map_err(|_| OutsideMemory)?;
        let end = start.checked_add(destination.len()).ok_or(OutsideMemory)?;
        destination.copy_from_slice(self.0.borrow().get(start..end).ok_or(OutsideMemory)?);
        Ok(())
    }

    fn write(&self, address: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        let start = usize::try_from(address).map_err(|_| OutsideMemory)?;
        let end = start.checked_add(source.len()).ok_or(OutsideMemory)?;
        self.0.borrow_mut().get_mut(start..end).ok_or(OutsideMemory)?.copy_from_slice(source);
        Ok(())
    }

    fn load_u16(&self, address: u64) -> Result<u16, OutsideMemory> {
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), OutsideMemory> {
        self.write(address, &value.to_le_bytes())
    }

    fn translate(&self, address: u64, length: u64) -> Result<PhysicalSegment, OutsideMemory> {
        if address.checked_add(length).is_none_or(|end| end > MEMORY as u64) {
            Err(OutsideMemory)
        } else {
            Ok(PhysicalSegment { address, length })
        }
    }
}

#[derive(Clone, Default)]
struct Time(Rc<Cell<u64>>);

impl Clock for Time {
    fn milliseconds(&self) -> u64 {
        self.0.get()
    }
}

/// A guest: its monitor and its driver.
struct Guest {
    monitor: MonitorSide<'static>,
    memory: Memory,
    mac: Mac,
    available: [u16; 2],
    used: [u16; 2],
    features: u64,
    /// Bytes of each receive buffer.
    room: u32,
}

impl Guest {
    fn place(queue: usize) -> QueueConfiguration {
        let at = QUEUES[queue];
        QueueConfiguration { size: SIZE, descriptors: at, driver: at + 0x1000, device: at + 0x2000 }
    }

    fn configure(&mut self, features: u64) {
        let mut configuration = Configuration { features, ..Default::default() };
        for queue in 0..2 {
            configuration.queues[queue] = Some(Self::place(queue));
        }
        self.features = features;
        self.monitor.configure(&configuration);
    }

    fn offer(&mut self, queue: usize, head: u16) {
        let at = Self::place(queue);
        self.memory.store_u16(at.driver + 4 + 2 * u64::from(self.available[queue] % SIZE), head).unwrap();
        self.available[queue] = self.available[queue].wrapping_add(1);
        self.memory.store_u16(at.driver + 2, self.available[queue]).unwrap();
    }

    fn descriptor(&self, queue: usize, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let value = u128::from(address) | u128::from(length) << 64 | u128::from(flags) << 96 | u128::from(next) << 112;
        self.memory.write(QUEUES[queue] + 16 * u64::from(index), &value.to_le_bytes()).unwrap();
    }

    /// Offers all receive buffers.
    fn fill(&mut self) {
        for index in 0..SIZE {
            self.descriptor(0, index, BUFFERS[0] + u64::from(index) * BUFFER_BYTES, self.room, 2, 0);
            self.offer(0, index);
        }
    }

    /// Sends header and frame as one descriptor; whether the driver rings.
    fn send(&mut self, header: [u8; HEADER_BYTES], frame: &[u8]) -> bool {
        let index = self.available[1] % 4;
        let at = BUFFERS[1] + u64::from(index) * 0x1_2000;
        self.memory.write(at, &header).unwrap();
        self.memory.write(at + HEADER_BYTES as u64, frame).unwrap();
        self.descriptor(1, index, at, (HEADER_BYTES + frame.len()) as u32, 0, 0);
        self.offer(1, index);
        let device = Self::place(1).device;
        if self.features & feature::EVENT_INDEX != 0 {
            let event = self.memory.load_u16(device + 4 + 8 * u64::from(SIZE)).unwrap();
            event == self.available[1].wrapping_sub(1)
        } else {
            self.memory.load_u16(device).unwrap() & 1 == 0
        }
    }

    /// Takes what is used of a queue: heads and lengths.
    fn used(&mut self, queue: usize) -> Vec<(u16, u32)> {
        let at = Self::place(queue).device;
        let mut all = Vec::new();
        while self.memory.load_u16(at + 2).unwrap() != self.used[queue] {
            let mut element = [0; 8];
            self.memory.read(at + 4 + 8 * u64::from(self.used[queue] % SIZE), &mut element).unwrap();
            all.push((
                u16::from_le_bytes([element[0], element[1]]),
                u32::from_le_bytes(element[4..].try_into().unwrap()),
            ));
            self.used[queue] = self.used[queue].wrapping_add(1);
        }
        all
    }

    /// Frames that have arrived, with their headers; their buffers are offered again.
    fn receive(&mut self) -> Vec<([u8; HEADER_BYTES], Vec<u8>)> {
        let mut used = self.used(0).into_iter();
        let mut frames = Vec::new();
        while let Some((head, length)) = used.next() {
            let bytes = |head: u16, length: u32| {
                let mut bytes = vec![0; length as usize];
                self.memory.read(BUFFERS[0] + u64::from(head) * BUFFER_BYTES, &mut bytes).unwrap();
                bytes
            };
            let first = bytes(head, length);
            let header: [u8; HEADER_BYTES] = first[..HEADER_BYTES].try_into().unwrap();
            let mut frame = first[HEADER_BYTES..].to_vec();
            let mut heads = vec![head];
            for _ in 1..u16::from_le_bytes([header[10], header[11]]) {
                let (head, length) = used.next().expect("all buffers of a frame are shown together");
                frame.extend(bytes(head, length));
                heads.push(head);
            }
            for head in heads {
                self.offer(0, head);
            }
            frames.push((header, frame));
        }
        // The next one is to interrupt again (virtio 1.2, 2.7.7).
        self.memory.store_u16(Self::place(0).driver + 4 + 2 * u64::from(SIZE), self.used[0]).unwrap();
        frames
    }
}

struct World {
    switch: Switch<'static, Time, Memory>,
    guests: Vec<Guest>,
    time: Time,
}

fn world(count: usize, policy: Policy, rate: u64, features: u64, room: u32) -> World {
    let time = Time::default();
    let buffer: &'static mut [u8] = vec![0; 70_000].leak();
    let mut switch = Switch::new(time.clone(), policy, buffer);
    let mut guests = Vec::new();
    for number in 0..count {
        let words: &'static [AtomicU64] = (0..512).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
        let memory = Memory(Rc::new(RefCell::new(vec![0; MEMORY])));
        let mac = Mac([2, 0, 0, 0, 0, number as u8]);
        let offer = CardOffer { mac, mtu: 1500, checksum: true, segmentation: true, link: true };
        switch.add(Port::publish(words, memory.clone(), offer, rate).unwrap()).unwrap();
        let monitor = MonitorSide::attach(words).unwrap();
        let (available, used) = ([0; 2], [0; 2]);
        guests.push(Guest { monitor, memory, mac, available, used, features: 0, room });
    }
    let mut world = World { switch, guests, time };
    for guest in &mut world.guests {
        guest.configure(features);
        guest.fill();
    }
    world.run();
    assert!(world.guests.iter().all(|guest| guest.monitor.outcome() == Outcome::Done));
    world
}

impl World {
    fn run(&mut self) {
        while self.switch.work() {}
        self.switch.take_signals(|_| {});
    }

    fn frame(&self, from: usize, to: Mac, length: usize) -> Vec<u8> {
        let mut frame = to.0.to_vec();
        frame.extend(self.guests[from].mac.0);
        frame.extend([8, 0]);
        frame.extend((14..length).map(|at| (at * 7 + from) as u8));
        frame
    }
}

const ALL: u64 = feature::VERSION_1
    | feature::CHECKSUM
    | feature::GUEST_CHECKSUM
    | feature::HOST_TSO4
    | feature::GUEST_TSO4
    | feature::MERGED_BUFFERS;
const NONE: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

fn both_ways(pairs: &[(usize, usize)]) -> Policy {
    let mut policy = Policy::NONE;
    for (one, other) in pairs {
        policy.allow(*one, 1 << other);
        policy.allow(*other, 1 << one);
    }
    policy
}

#[test]
fn a_frame_arrives_whole() {
    for features in [feature::VERSION_1, ALL, ALL | feature::EVENT_INDEX] {
        let mut world = world(2, both_ways(&[(0, 1)]), 0, features, 2048);
        for length in [14, 60, 61, 1514] {
            let frame = world.frame(0, world.guests[1].mac, length);
            assert!(world.guests[0].send(NONE, &frame), "the switch sleeps: it must be rung for");
            world.run();
            assert_eq!(world.guests[0].used(1).len(), 1);
            let received = world.guests[1].receive();
            assert_eq!(received.len(), 1, "{features:#x} {length}");
            assert_eq!(received[0].1, frame);
            assert_eq!(received[0].0[10..], [1, 0]);
            assert!(world.guests[1].monitor.take_interrupts().contains(Interrupts::queue(0)));
        }
    }
}

#[test]
fn a_train_of_segments_passes_between_guests_that_take_it() {
    let mut world = world(2, both_ways(&[(0, 1)]), 0, ALL, 4096);
    let frame = world.frame(0, world.guests[1].mac, 40_000);
    let header = Header { checksum: Some((34, 16)), segments: Some((1448, 66)) };
    world.guests[0].send(header.to_bytes(0), &frame);
    world.run();
    let received = world.guests[1].receive();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].0, header.to_bytes(10));
    assert_eq!(received[0].1, frame);
    // Who takes none gets none, but the open checksum of a plain frame filled in.
    let mut world = self::world(2, both_ways(&[(0, 1)]), 0, ALL, 4096);
    world.guests[1].monitor.reset();
    world.run();
    world.guests[1].available = [0; 2];
    world.guests[1].used = [0; 2];
    for area in [QUEUES[0] + 0x1000, QUEUES[0] + 0x2000, QUEUES[1] + 0x1000, QUEUES[1] + 0x2000] {
        world.guests[1].memory.write(area, &[0; 0x200]).unwrap();
    }
    world.guests[1].configure(feature::VERSION_1);
    world.guests[1].fill();
    world.guests[0].send(header.to_bytes(0), &frame);
    let plain = world.frame(0, world.guests[1].mac, 100);
    world.guests[0].send(Header { checksum: Some((34, 16)), segments: None }.to_bytes(0), &plain);
    world.run();
    let received = world.guests[1].receive();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].0[..2], [0, 0]);
    assert_ne!(received[0].1, plain);
    assert_eq!(received[0].1[..50], plain[..50]);
    assert_eq!(world.switch.ports()[1].statistics().missed, 1);
}

#[test]
fn wrong_frames_are_dropped_and_counted() {
    let mut world = world(2, both_ways(&[(0, 1)]), 0, feature::VERSION_1, 2048);
    let (own, other) = (world.guests[0].mac, world.guests[1].mac);
    let good = world.frame(0, other, 60);
    let mut spoofed = good.clone();
    spoofed[11] = 9;
    let stranger = world.frame(0, Mac([2, 0, 0, 0, 0, 77]), 60);
    let to_oneself = world.frame(0, own, 60);
    let long = world.frame(0, other, 1519);
    let open_checksum = Header { checksum: Some((0, 0)), segments: None }.to_bytes(0);
    for (header, frame) in [
        (NONE, &spoofed),
        (NONE, &stranger),
        (NONE, &to_oneself),
        (NONE, &long),
        (open_checksum, &good),
        (NONE, &good[..13].to_vec()),
    ] {
        world.guests[0].send(header, frame);
        world.run();
    }
    let drops = world.switch.ports()[0].statistics().dropped;
    assert_eq!(drops, Drops { length: 2, header: 1, source: 1, tag: 0, destination: 2, receiver: 0 });
    assert_eq!(world.guests[0].used(1).len(), 6);
    assert!(world.guests[1].receive().is_empty());
    // A receiver without buffers loses its own frames.
    for _ in 0..SIZE + 4 {
        world.guests[0].send(NONE, &good);
        world.run();
    }
    assert_eq!(world.guests[1].receive().len(), usize::from(SIZE));
    assert_eq!(world.switch.ports()[0].statistics().dropped.receiver, 4);
}

#[test]
fn a_rate_is_kept() {
    let mut world = world(2, both_ways(&[(0, 1)]), 100_000, feature::VERSION_1, 2048);
    let frame = world.frame(0, world.guests[1].mac, 1000);
    let mut received = 0;
    for now in 0..3000 {
        world.time.0.set(now);
        if world.guests[0].available[1].wrapping_sub(world.guests[0].used[1]) < 4 {
            world.guests[0].send(NONE, &frame);
        }
        world.run();
        world.guests[0].used(1);
        received += world.guests[1].receive().len();
    }
    assert!((290..=301).contains(&received), "{received}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Frames go where addresses and policy say, and nowhere else.
    #[test]
    fn nobody_hears_what_is_not_for_him(
        rules in proptest::collection::vec((0usize..4, 0usize..4), 0..8),
        frames in proptest::collection::vec((0usize..4, 0usize..6, 14usize..1500), 1..40))
    {
        let mut policy = Policy::NONE;
        for (from, to) in &rules {
            policy.allow(*from, 1 << to);
        }
        let mut world = world(4, policy, 0, ALL, 2048);
        for (from, to, length) in frames {
            let mac = match to {
                0..4 => world.guests[to].mac,
                4 => Mac([0xff; 6]),
                _ => Mac([2, 9, 9, 9, 9, 9]),
            };
            let frame = world.frame(from, mac, length);
            world.guests[from].send(NONE, &frame);
            world.run();
            world.guests[from].used(1);
            for guest in 0..4 {
                let meant = (to == 4 || to == guest) && guest != from && rules.contains(&(from, guest));
                let received = world.guests[guest].receive();
                prop_assert_eq!(received.len(), usize::from(meant));
                prop_assert!(received.iter().all(|(_, bytes)| *bytes == frame));
            }
        }
    }

    /// A guest that writes anything into its queues stops itself at the most.
    #[test]
    fn hostile_queues_harm_nobody_else(writes in proptest::collection::vec((0u64..0x7000, any::<u64>()), 1..200)) {
        let mut world = world(3, both_ways(&[(0, 1), (1, 2)]), 0, ALL, 2048);
        for (at, value) in writes {
            world.guests[0].memory.write(at, &value.to_le_bytes()).unwrap();
            for _ in 0..4 {
                let _ = world.switch.work();
            }
            world.switch.take_signals(|_| {});
        }
        // What came of it is drained; then the others still talk.
        world.guests[1].receive();
        let frame = world.frame(1, world.guests[2].mac, 700);
        world.guests[1].send(NONE, &frame);
        for _ in 0..8 {
            let _ = world.switch.work();
        }
        let received = world.guests[2].receive();
        prop_assert_eq!(received.iter().filter(|(_, bytes)| *bytes == frame).count(), 1);
    }
}
