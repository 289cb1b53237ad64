//! Guests of a switch: their monitors, and their drivers.

use crate::card::Card;
use bulkhead_channel::{AtomicU64, Configuration, MonitorSide, Outcome, QueueConfiguration};
use bulkhead_doubles::{FlatMemory, Time};
use bulkhead_net_device::*;
use bulkhead_virtio::GuestMemory;

pub const SIZE: u16 = 16;
pub const MEMORY: usize = 0x10_0000;
/// Where each queue's parts lie, receive and transmit.
pub const QUEUES: [u64; 2] = [0x1000, 0x4000];
/// Memory of each buffer of a queue.
pub const BUFFERS: [u64; 2] = [0x1_0000, 0x8_0000];
pub const BUFFER_BYTES: u64 = 0x4000;

/// A guest: its monitor and its driver.
pub struct Guest {
    pub monitor: MonitorSide<'static>,
    pub memory: FlatMemory,
    pub mac: Mac,
    pub available: [u16; 2],
    pub used: [u16; 2],
    pub features: u64,
    /// Bytes of each receive buffer.
    pub room: u32,
}

impl Guest {
    pub fn place(queue: usize) -> QueueConfiguration {
        let at = QUEUES[queue];
        QueueConfiguration { size: SIZE, descriptors: at, driver: at + 0x1000, device: at + 0x2000 }
    }

    pub fn configure(&mut self, features: u64) {
        let mut configuration = Configuration { features, ..Default::default() };
        for queue in 0..2 {
            configuration.queues[queue] = Some(Self::place(queue));
        }
        self.features = features;
        self.monitor.configure(&configuration);
    }

    pub fn offer(&mut self, queue: usize, head: u16) {
        let at = Self::place(queue);
        self.memory.store_u16(at.driver + 4 + 2 * u64::from(self.available[queue] % SIZE), head).unwrap();
        self.available[queue] = self.available[queue].wrapping_add(1);
        self.memory.store_u16(at.driver + 2, self.available[queue]).unwrap();
    }

    pub fn descriptor(&self, queue: usize, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let value = u128::from(address) | u128::from(length) << 64 | u128::from(flags) << 96 | u128::from(next) << 112;
        self.memory.write(QUEUES[queue] + 16 * u64::from(index), &value.to_le_bytes()).unwrap();
    }

    /// Offers all receive buffers.
    pub fn fill(&mut self) {
        for index in 0..SIZE {
            self.descriptor(0, index, BUFFERS[0] + u64::from(index) * BUFFER_BYTES, self.room, 2, 0);
            self.offer(0, index);
        }
    }

    /// Sends header and frame as one descriptor; whether the driver rings.
    pub fn send(&mut self, header: [u8; HEADER_BYTES], frame: &[u8]) -> bool {
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
    pub fn used(&mut self, queue: usize) -> Vec<(u16, u32)> {
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
    pub fn receive(&mut self) -> Vec<([u8; HEADER_BYTES], Vec<u8>)> {
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

pub struct World {
    pub switch: Switch<'static, Time, FlatMemory>,
    pub guests: Vec<Guest>,
    pub time: Time,
}

/// Guests in no VLAN, on a switch without an uplink.
pub fn world(count: usize, policy: Policy, rate: u64, features: u64, room: u32) -> World {
    let switch = Ports { vlans: &vec![0; count], policy, rate, features, room, card: None };
    switch.world()
}

/// What is asked of a switch.
pub struct Ports<'a> {
    /// Of each guest; 0 for none.
    pub vlans: &'a [u16],
    pub policy: Policy,
    pub rate: u64,
    pub features: u64,
    pub room: u32,
    pub card: Option<Card>,
}

impl Ports<'_> {
    /// Guests whose drivers run.
    pub fn world(self) -> World {
        let time = Time::default();
        let buffer: &'static mut [u8] = vec![0; 70_000].leak();
        let mut switch = Switch::new(time.clone(), self.policy, buffer);
        let mut guests = Vec::new();
        for (number, vlan) in self.vlans.iter().enumerate() {
            let words: &'static [AtomicU64] = (0..512).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
            let memory = FlatMemory::new(MEMORY, 0);
            let mac = Mac([2, 0, 0, 0, 0, number as u8]);
            let offer = CardOffer { mac, mtu: 1500, checksum: true, segmentation: true, link: true };
            let port = Port::publish(words, memory.clone(), offer, self.rate).unwrap().in_vlan(Vlan::new(*vlan));
            assert_eq!(switch.add(port).unwrap(), number);
            let monitor = MonitorSide::attach(words).unwrap();
            let (available, used) = ([0; 2], [0; 2]);
            guests.push(Guest { monitor, memory, mac, available, used, features: 0, room: self.room });
        }
        if let Some(card) = self.card {
            assert_eq!(switch.set_uplink(Uplink::new(Box::leak(Box::new(card)))), Ok(self.vlans.len()));
        }
        let mut world = World { switch, guests, time };
        for guest in &mut world.guests {
            guest.configure(self.features);
            guest.fill();
        }
        world.run();
        assert!(world.guests.iter().all(|guest| guest.monitor.outcome() == Outcome::Done));
        world
    }
}

impl World {
    pub fn run(&mut self) {
        while self.switch.work() {}
        self.switch.take_signals(|_, _| {});
    }

    /// Has a guest send a frame, and the switch pass it on.
    pub fn send(&mut self, from: usize, frame: &[u8]) {
        self.guests[from].send(NONE, frame);
        self.run();
        self.guests[from].used(1);
    }

    /// The frames that have arrived at each guest.
    pub fn received(&mut self) -> Vec<Vec<Vec<u8>>> {
        let frames = |guest: &mut Guest| guest.receive().into_iter().map(|(_, frame)| frame).collect();
        self.guests.iter_mut().map(frames).collect()
    }

    pub fn frame(&self, from: usize, to: Mac, length: usize) -> Vec<u8> {
        let mut frame = to.0.to_vec();
        frame.extend(self.guests[from].mac.0);
        frame.extend([8, 0]);
        frame.extend((14..length).map(|at| (at * 7 + from) as u8));
        frame
    }
}

pub const ALL: u64 = feature::VERSION_1
    | feature::CHECKSUM
    | feature::GUEST_CHECKSUM
    | feature::HOST_TSO4
    | feature::GUEST_TSO4
    | feature::MERGED_BUFFERS;
pub const NONE: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

pub fn both_ways(pairs: &[(usize, usize)]) -> Policy {
    let mut policy = Policy::NONE;
    for (one, other) in pairs {
        policy.allow(*one, 1 << other);
        policy.allow(*other, 1 << one);
    }
    policy
}
