//! The RAM of a machine.

use bulkhead_machine::memory::{GuestMemory, GuestPhysical, MemoryLayout, OutOfGuest};
use std::cell::RefCell;

/// RAM from 0 on.
pub struct Ram {
    layout: MemoryLayout,
    bytes: RefCell<Vec<u8>>,
}

impl Ram {
    /// So many bytes of zeroes.
    pub fn new(bytes: usize) -> Self {
        Self { layout: MemoryLayout::new(bytes as u64), bytes: RefCell::new(vec![0; bytes]) }
    }

    fn place(&self, address: GuestPhysical, length: usize) -> Result<std::ops::Range<usize>, OutOfGuest> {
        let outside = OutOfGuest { address, length: length as u64 };
        let start = self.layout.flat_offset(address, length as u64).ok_or(outside)? as usize;
        Ok(start..start + length)
    }
}

impl GuestMemory for Ram {
    fn layout(&self) -> MemoryLayout {
        self.layout
    }

    fn read(&self, address: GuestPhysical, buffer: &mut [u8]) -> Result<(), OutOfGuest> {
        let place = self.place(address, buffer.len())?;
        buffer.copy_from_slice(&self.bytes.borrow()[place]);
        Ok(())
    }

    fn write(&self, address: GuestPhysical, bytes: &[u8]) -> Result<(), OutOfGuest> {
        let place = self.place(address, bytes.len())?;
        self.bytes.borrow_mut()[place].copy_from_slice(bytes);
        Ok(())
    }

    fn replace_u32(&self, address: GuestPhysical, expected: u32, new: u32) -> Result<bool, OutOfGuest> {
        let is_same = self.read_u32(address)? == expected;
        if is_same {
            self.write(address, &new.to_le_bytes())?;
        }
        Ok(is_same)
    }
}
