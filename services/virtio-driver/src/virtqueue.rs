//! A split virtqueue, the driver's side of it (virtio 1.2, 2.7).
//!
//! Every request is one descriptor: a buffer, or a table of more of them (2.7.5.3). The driver knows by its own tables which ones the
//! device has.

use bulkhead_driver::DmaMemory;
use core::sync::atomic::{Ordering::SeqCst, fence};

/// Most entries of a queue.
pub const MOST_ENTRIES: u16 = 128;
/// Bytes of each half of a queue's memory.
const HALF: usize = 4096;
/// Bytes of a queue's memory.
pub const QUEUE_BYTES: usize = 2 * HALF;
/// Bytes of a descriptor, and of an element of the used ring.
pub const DESCRIPTOR_BYTES: usize = 16;
const USED_BYTES: usize = 8;
/// Where the available ring begins: behind the longest table.
const AVAILABLE: usize = DESCRIPTOR_BYTES * MOST_ENTRIES as usize;

/// Flags of a descriptor (2.7.5).
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
/// Flag of a descriptor: it is of a table of descriptors (2.7.5.3).
pub const INDIRECT: u16 = 4;
/// Of the available ring: no interrupts (2.7.7). Of the used ring: no notifications (2.7.10).
const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;

const _: () = assert!(AVAILABLE + 4 + 2 * MOST_ENTRIES as usize + 2 <= HALF);
const _: () = assert!(4 + USED_BYTES * MOST_ENTRIES as usize + 2 <= HALF);

/// Memory of a queue: what the driver writes, and what the device writes.
#[derive(Clone, Copy)]
pub struct QueueMemory<'a> {
    driver: DmaMemory<'a>,
    device: DmaMemory<'a>,
}

impl<'a> QueueMemory<'a> {
    /// Cuts it off; `None` if there is too little.
    pub fn new(memory: &mut DmaMemory<'a>) -> Option<Self> {
        Some(Self { driver: memory.take(HALF, HALF as u64)?, device: memory.take(HALF, HALF as u64)? })
    }
}

/// A descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    pub address: u64,
    pub length: u32,
    pub flags: u16,
    /// The next one, with [`NEXT`].
    pub next: u16,
}

impl Descriptor {
    /// Writes it to a table.
    pub fn write(&self, table: &DmaMemory<'_>, index: usize) {
        let at = DESCRIPTOR_BYTES * index;
        table.write_u64(at, self.address);
        table.write_u64(at + 8, u64::from(self.length) | u64::from(self.flags) << 32 | u64::from(self.next) << 48);
    }
}

/// A request that the device has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Outstanding {
    token: u16,
    /// Most bytes that the device may write.
    writable: u32,
}

/// A request that the device has given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Used {
    /// What the request was pushed with.
    pub token: u16,
    /// Bytes that the device says it has written: not more than it might.
    pub length: u32,
}

/// The device gave back what it did not have, or more than there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

/// Descriptors that are free, the one that has been so for longest first: a number that comes twice is then rarely taken for the
/// next request's.
struct Free {
    numbers: [u16; MOST_ENTRIES as usize],
    first: usize,
    count: usize,
}

impl Free {
    fn new(size: u16) -> Self {
        let mut free = Self { numbers: [0; MOST_ENTRIES as usize], first: 0, count: 0 };
        for number in 0..size {
            free.put(number);
        }
        free
    }

    fn take(&mut self) -> Option<u16> {
        let number = self.numbers.get(self.first).copied().filter(|_| self.count != 0)?;
        self.first = (self.first + 1) % self.numbers.len();
        self.count -= 1;
        Some(number)
    }

    fn put(&mut self, number: u16) {
        let place = (self.first + self.count) % self.numbers.len();
        if let Some(free) = self.numbers.get_mut(place).filter(|_| self.count < MOST_ENTRIES.into()) {
            *free = number;
            self.count += 1;
        }
    }
}

/// A queue.
pub struct Virtqueue<'a> {
    memory: QueueMemory<'a>,
    index: u16,
    size: u16,
    doorbell: u32,
    free: Free,
    outstanding: [Option<Outstanding>; MOST_ENTRIES as usize],
    /// Requests ever made available, and ever given back, as the rings count them.
    available: u16,
    used: u16,
}

impl<'a> Virtqueue<'a> {
    /// An empty queue of `size` entries, a power of two; `None` if there are too many.
    pub fn new(memory: QueueMemory<'a>, index: u16, size: u16, doorbell: u32) -> Option<Self> {
        if size > MOST_ENTRIES || !size.is_power_of_two() {
            return None;
        }
        memory.driver.clear();
        memory.device.clear();
        let outstanding = [None; MOST_ENTRIES as usize];
        Some(Self { memory, index, size, doorbell, free: Free::new(size), outstanding, available: 0, used: 0 })
    }

    /// Physical addresses of the descriptor table, the available ring and the used ring.
    pub fn addresses(&self) -> [u64; 3] {
        let driver = self.memory.driver.physical();
        // The memory is there up to its end: this does not overflow.
        [driver, driver + AVAILABLE as u64, self.memory.device.physical()]
    }

    /// Its number among the device's queues.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Entries.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Where the device is told of new requests, as the transport counts.
    pub fn doorbell(&self) -> u32 {
        self.doorbell
    }

    /// Gives the device a request, into which it may write so many bytes. False if there is no room.
    pub fn push(&mut self, address: u64, length: u32, flags: u16, writable: u32, token: u16) -> bool {
        let Some(number) = self.free.take() else { return false };
        let Some(outstanding) = self.outstanding.get_mut(usize::from(number)) else { return false };
        *outstanding = Some(Outstanding { token, writable });
        Descriptor { address, length, flags, next: 0 }.write(&self.memory.driver, number.into());
        let place = usize::from(self.available % self.size);
        self.memory.driver.write_u16(AVAILABLE + 4 + 2 * place, number);
        self.available = self.available.wrapping_add(1);
        self.memory.driver.write_u16(AVAILABLE + 2, self.available);
        true
    }

    /// Whether the device has given something back.
    pub fn is_waiting(&self) -> bool {
        self.memory.device.read_u16(2) != self.used
    }

    /// Takes back the next request, if there is one.
    pub fn pop(&mut self) -> Result<Option<Used>, Broken> {
        // The count is read before the element.
        let waiting = self.memory.device.read_u16(2).wrapping_sub(self.used);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > self.size {
            return Err(Broken);
        }
        let at = 4 + USED_BYTES * usize::from(self.used % self.size);
        let (number, length) = (self.memory.device.read_u32(at), self.memory.device.read_u32(at + 4));
        let number = u16::try_from(number).map_err(|_| Broken)?;
        let outstanding = self.outstanding.get_mut(usize::from(number)).ok_or(Broken)?;
        let Outstanding { token, writable } = outstanding.take().ok_or(Broken)?;
        self.used = self.used.wrapping_add(1);
        self.free.put(number);
        if length > writable { Err(Broken) } else { Ok(Some(Used { token, length })) }
    }

    /// Whether the device wants to be told of new requests. What was pushed is visible to it before this is asked: otherwise both
    /// might miss the other's word.
    pub fn wants_notification(&self) -> bool {
        fence(SeqCst);
        self.memory.device.read_u16(0) & NO_NOTIFY == 0
    }

    /// Whether the device is to cause interrupts when it gives requests back: a hint. What it gave back before must be looked for
    /// afterwards.
    pub fn set_interrupts(&self, wanted: bool) {
        self.memory.driver.write_u16(AVAILABLE, if wanted { 0 } else { NO_INTERRUPT });
        fence(SeqCst);
    }
}
