//! The guest's RAM, as the device models and the instruction emulation see it.

use bulkhead_machine::memory::{GuestMemory, GuestPhysical, MemoryLayout, OutOfGuest};
use bulkhead_runtime::plan::layout;
use bulkhead_runtime::shared::SharedMemory;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// No firmware begins below this: devices do.
const FIRMWARE_START: u64 = layout::GUEST_FIRMWARE_END - layout::GUEST_FIRMWARE_MAX;

/// RAM of a guest: one block of the vmm's address space. Its firmware, if it has any, is memory that it can only read.
#[derive(Clone, Copy)]
pub struct Ram {
    memory: SharedMemory<'static>,
    layout: MemoryLayout,
    firmware: &'static [u8],
}

impl Ram {
    /// The RAM in `memory`, and firmware that may be empty.
    pub fn new(memory: SharedMemory<'static>, firmware: &'static [u8]) -> Self {
        Self { memory, layout: MemoryLayout::new(memory.len() as u64), firmware }
    }

    /// The bytes of the firmware at an address, if all of them are there.
    #[cold]
    fn firmware_at(&self, address: GuestPhysical, length: u64) -> Option<&'static [u8]> {
        let start = layout::GUEST_FIRMWARE_END - self.firmware.len() as u64;
        let offset = usize::try_from(address.0.checked_sub(start)?).ok()?;
        self.firmware.get(offset..offset.checked_add(usize::try_from(length).ok()?)?)
    }

    /// Where `length` bytes are in the block.
    #[inline]
    fn place(&self, address: GuestPhysical, length: u64) -> Result<usize, OutOfGuest> {
        let offset = self.layout.flat_offset(address, length).ok_or(OutOfGuest { address, length })?;
        Ok(offset as usize)
    }
}

impl GuestMemory for Ram {
    fn layout(&self) -> MemoryLayout {
        self.layout
    }

    #[inline]
    fn read(&self, address: GuestPhysical, buffer: &mut [u8]) -> Result<(), OutOfGuest> {
        let length = buffer.len() as u64;
        match self.place(address, length) {
            Ok(offset) => self.memory.read(offset, buffer).map_err(|_| OutOfGuest { address, length }),
            Err(outside) => {
                buffer.copy_from_slice(self.firmware_at(address, length).ok_or(outside)?);
                Ok(())
            }
        }
    }

    fn write(&self, address: GuestPhysical, bytes: &[u8]) -> Result<(), OutOfGuest> {
        let length = bytes.len() as u64;
        let offset = self.place(address, length)?;
        self.memory.write(offset, bytes).map_err(|_| OutOfGuest { address, length })
    }

    fn replace_u32(&self, address: GuestPhysical, expected: u32, new: u32) -> Result<bool, OutOfGuest> {
        let offset = self.place(address, 4)?;
        let word: &AtomicU32 = self.memory.atomic(offset).map_err(|_| OutOfGuest { address, length: 4 })?;
        Ok(word.compare_exchange(expected, new, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    fn fill(&self, address: GuestPhysical, length: u64, value: u8) -> Result<(), OutOfGuest> {
        let offset = self.place(address, length)?;
        self.memory.fill(offset, value, length as usize).map_err(|_| OutOfGuest { address, length })
    }

    #[inline]
    fn contains(&self, address: GuestPhysical, length: u64) -> bool {
        // What is written to firmware is lost, as [`write`](Self::write) refuses it.
        self.layout.flat_offset(address, length).is_some()
            || address.0 >= FIRMWARE_START && self.firmware_at(address, length).is_some()
    }

    #[inline]
    fn read_u64(&self, address: GuestPhysical) -> Result<u64, OutOfGuest> {
        if let Ok(offset) = self.place(address, 8)
            && offset.is_multiple_of(8)
            && let Ok(word) = self.memory.atomic::<AtomicU64>(offset)
        {
            return Ok(word.load(Ordering::Acquire));
        }
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}
