//! A guest's memory.

use bulkhead_channel::{AtomicU64, QueueConfiguration};
use bulkhead_driver::Clock;
use bulkhead_virtio::{GuestMemory, OutsideMemory, PhysicalSegment};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Bytes of a guest's memory.
pub const BYTES: u64 = 0x2_0000;
/// Descriptors of a queue.
pub const QUEUE: u16 = 16;

/// Memory that starts at guest-physical 0, and for devices at `base`.
#[derive(Clone, Debug)]
pub struct Memory {
    bytes: Rc<RefCell<Vec<u8>>>,
    /// Where a device finds it.
    pub base: u64,
}

impl Memory {
    /// Zeroed memory.
    pub fn new(base: u64) -> Self {
        Self { bytes: Rc::new(RefCell::new(vec![0; BYTES as usize])), base }
    }
}

impl GuestMemory for Memory {
    fn read(&self, address: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        let start = usize::try_from(address).map_err(|_| OutsideMemory)?;
        let end = start.checked_add(destination.len()).ok_or(OutsideMemory)?;
        destination.copy_from_slice(self.bytes.borrow().get(start..end).ok_or(OutsideMemory)?);
        Ok(())
    }

    fn write(&self, address: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        let start = usize::try_from(address).map_err(|_| OutsideMemory)?;
        let end = start.checked_add(source.len()).ok_or(OutsideMemory)?;
        self.bytes.borrow_mut().get_mut(start..end).ok_or(OutsideMemory)?.copy_from_slice(source);
        Ok(())
    }

    fn load_u16(&self, address: u64) -> Result<u16, OutsideMemory> {
        let mut bytes = [0; 2];
        if address & 1 != 0 {
            return Err(OutsideMemory);
        }
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), OutsideMemory> {
        if address & 1 != 0 {
            return Err(OutsideMemory);
        }
        self.write(address, &value.to_le_bytes())
    }

    fn translate(&self, address: u64, length: u64) -> Result<PhysicalSegment, OutsideMemory> {
        match address.checked_add(length) {
            Some(end) if end <= BYTES => Ok(PhysicalSegment { address: self.base + address, length }),
            _ => Err(OutsideMemory),
        }
    }
}

/// The queue of this number, in memory below 64 KiB.
pub fn queue(number: u64) -> QueueConfiguration {
    let at = 0x1000 * number;
    QueueConfiguration { size: QUEUE, descriptors: at, driver: at + 0x400, device: at + 0x800 }
}

/// Makes a chain of a queue available: what a correct driver does, with any contents.
pub fn offer(memory: &Memory, at: &QueueConfiguration, head: u16) {
    let index = memory.load_u16(at.driver + 2).unwrap_or(0);
    let _ = memory.store_u16(at.driver + 4 + 2 * u64::from(index % at.size), head);
    let _ = memory.store_u16(at.driver + 2, index.wrapping_add(1));
}

/// The memory of a channel.
pub fn channel() -> Vec<AtomicU64> {
    (0..512).map(|_| AtomicU64::new(0)).collect()
}

/// A clock that is set.
#[derive(Clone, Debug, Default)]
pub struct Time(pub Rc<Cell<u64>>);

impl Clock for Time {
    fn milliseconds(&self) -> u64 {
        self.0.get()
    }
}
