//! A guest's memory and driver, for tests.

use bulkhead_channel::{AtomicU64, QueueConfiguration, Side, TextChannel};
use bulkhead_console_device::*;
use bulkhead_doubles::FlatMemory;
use bulkhead_virtio::GuestMemory;

pub const QUEUES: usize = 2 * MAX_PORTS + 2;
pub const CONTROL_RECEIVE: usize = 2;
pub const CONTROL_TRANSMIT: usize = 3;
const SIZE: u16 = 16;
/// Memory of a queue: descriptors, driver area, device area.
const QUEUE_BYTES: u64 = 0x1000;
/// Memory of a buffer; each queue has as many as descriptors.
const BUFFER_BYTES: u64 = 0x1000;
const BUFFERS: u64 = QUEUES as u64 * QUEUE_BYTES;
const MEMORY: usize = (BUFFERS + QUEUES as u64 * SIZE as u64 * BUFFER_BYTES) as usize;

/// The transmit queue of a port but the first.
pub const fn port_transmit(port: usize) -> usize {
    2 * port + 3
}

/// How long a port stays closed at least.
pub const PAUSE: u64 = 10;

/// A guest: its console and its driver.
pub struct Guest {
    pub console: Console<'static>,
    pub memory: FlatMemory,
    /// The time.
    pub now: u64,
    available: [u16; QUEUES],
    used: [u16; QUEUES],
}

fn place(queue: usize) -> QueueConfiguration {
    let at = queue as u64 * QUEUE_BYTES;
    QueueConfiguration { size: SIZE, descriptors: at, driver: at + 0x400, device: at + 0x800 }
}

fn buffer(queue: usize, index: u16) -> u64 {
    BUFFERS + (queue as u64 * u64::from(SIZE) + u64::from(index)) * BUFFER_BYTES
}

impl Guest {
    pub fn new(console: Console<'static>) -> Self {
        let memory = FlatMemory::new(MEMORY, 0);
        Self { console, memory, now: 0, available: [0; QUEUES], used: [0; QUEUES] }
    }

    /// All queues of a console of any size.
    pub fn queues(&self) -> [Option<QueueConfiguration>; QUEUES] {
        std::array::from_fn(|queue| Some(place(queue)))
    }

    pub fn configure(&mut self, features: u64) {
        self.console.configure(features, &self.queues(), &self.memory).unwrap();
    }

    pub fn serve(&mut self) -> Served {
        self.console.serve(&self.memory, self.now)
    }

    fn offer(&mut self, queue: usize, address: u64, length: u64, flags: u128) {
        let (at, count) = (place(queue), self.available[queue]);
        let index = count % SIZE;
        let descriptor = u128::from(address) | u128::from(length) << 64 | flags << 96;
        self.memory.write(at.descriptors + 16 * u64::from(index), &descriptor.to_le_bytes()).unwrap();
        self.memory.store_u16(at.driver + 4 + 2 * u64::from(index), index).unwrap();
        self.available[queue] = count.wrapping_add(1);
        self.memory.store_u16(at.driver + 2, self.available[queue]).unwrap();
    }

    /// Whether a descriptor of a transmit queue is free.
    pub fn can_send(&self, queue: usize) -> bool {
        self.available[queue].wrapping_sub(self.given_back(queue)) < SIZE
    }

    /// Makes bytes available to transmit.
    pub fn send(&mut self, queue: usize, bytes: &[u8]) {
        let address = buffer(queue, self.available[queue] % SIZE);
        self.memory.write(address, bytes).unwrap();
        self.offer(queue, address, bytes.len() as u64, 0);
    }

    /// The same from any address.
    pub fn send_from(&mut self, queue: usize, address: u64, length: u64) {
        self.offer(queue, address, length, 0);
    }

    pub fn message(&mut self, port: u32, event: u16, value: u16) {
        let message = u64::from(port) | u64::from(event) << 32 | u64::from(value) << 48;
        self.send(CONTROL_TRANSMIT, &message.to_le_bytes());
    }

    /// Makes all buffers of a receive queue available.
    pub fn offer_buffers(&mut self, queue: usize) {
        for _ in 0..SIZE {
            let address = buffer(queue, self.available[queue] % SIZE);
            self.offer(queue, address, 512, 2);
        }
    }

    /// What arrived since this was asked last, by buffer; each buffer is made available again.
    pub fn received(&mut self, queue: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while self.used[queue] != self.given_back(queue) {
            let mut element = [0; 8];
            let place = place(queue).device + 4 + 8 * u64::from(self.used[queue] % SIZE);
            self.memory.read(place, &mut element).unwrap();
            let element = u64::from_le_bytes(element);
            let mut bytes = vec![0; (element >> 32) as usize];
            self.memory.read(buffer(queue, element as u16), &mut bytes).unwrap();
            all.push(bytes);
            self.used[queue] = self.used[queue].wrapping_add(1);
            let address = buffer(queue, self.available[queue] % SIZE);
            self.offer(queue, address, 512, 2);
        }
        all
    }

    /// Chains of a queue that the device has given back, modulo 2^16.
    pub fn given_back(&self, queue: usize) -> u16 {
        self.memory.load_u16(place(queue).device + 2).unwrap()
    }

    /// Writes a word anywhere into the memory of the queues.
    pub fn scribble(&mut self, address: u64, value: u64) {
        self.memory.write(address, &value.to_le_bytes()).unwrap();
    }
}

/// The names of the ports.
pub const NAMES: [&str; 2] = ["first", "second"];

/// Memory of a channel.
pub fn words(count: usize) -> &'static [AtomicU64] {
    Vec::leak((0..count).map(|_| AtomicU64::new(0)).collect())
}

/// A guest with two ports, the other ends of their channels, and the channels' memory: so many words each.
fn over(count: usize) -> (Guest, [TextChannel<'static>; 2], [&'static [AtomicU64]; 2]) {
    let channels = [words(count), words(count)];
    let mut console = Console::new(PAUSE);
    for (name, words) in NAMES.into_iter().zip(channels) {
        assert!(console.add(name, TextChannel::attach(words, Side::First).unwrap()));
    }
    let ends = channels.map(|words| TextChannel::attach(words, Side::Second).unwrap());
    (Guest::new(console), ends, channels)
}

/// A guest with two ports, and the other ends of their channels.
pub fn guest() -> (Guest, [TextChannel<'static>; 2]) {
    let (guest, ends, _) = over(64);
    (guest, ends)
}

/// The same, with both ports open, and the channels' memory: so many words each.
pub fn ready_over(count: usize) -> (Guest, [TextChannel<'static>; 2], [&'static [AtomicU64]; 2]) {
    let (mut guest, ends, channels) = over(count);
    guest.configure(feature::MULTIPORT);
    guest.offer_buffers(CONTROL_RECEIVE);
    guest.message(0, 0, 1);
    let _ = guest.serve();
    for port in 0..2 {
        guest.message(port, 3, 1);
        guest.message(port, 6, 1);
    }
    let _ = guest.serve();
    guest.received(CONTROL_RECEIVE);
    (guest, ends, channels)
}

/// The same, with small channels.
pub fn ready() -> (Guest, [TextChannel<'static>; 2]) {
    let (guest, ends, _) = ready_over(64);
    (guest, ends)
}
