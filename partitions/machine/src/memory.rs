//! Guest memory: address kinds, where RAM lies in the guest-physical space, and access to it.
//!
//! RAM is one flat block outside, split in two inside: the first [`LOW_LIMIT`] bytes at address 0, whatever is more at
//! 4 GiB; the hole between them belongs to devices. Guest processors change RAM while it is read here, so nothing read twice
//! is the same twice: callers copy first and judge the copy.

use core::fmt;
use thiserror::Error;

/// End of the RAM below 4 GiB; from here to 4 GiB are PCI memory, IOAPIC, local APIC and the like.
pub const LOW_LIMIT: u64 = 3 << 30;
/// Start of the RAM that does not fit below [`LOW_LIMIT`].
pub const HIGH_START: u64 = 4 << 30;
/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;

/// An address that guest page tables translate to, or that a device sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct GuestPhysical(pub u64);

/// An address after segmentation and before paging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct GuestLinear(pub u64);

impl GuestPhysical {
    /// The address `bytes` further on; wraps, since a wrapped address is outside RAM or is refused with its length.
    #[inline]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl GuestLinear {
    /// The address `bytes` further on, wrapping at 64 bits.
    #[inline]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// Bytes from this address to the end of its 4 KiB page.
    #[inline]
    pub const fn left_in_page(self) -> u64 {
        PAGE_SIZE - (self.0 & (PAGE_SIZE - 1))
    }
}

impl fmt::Display for GuestPhysical {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x}", self.0)
    }
}

impl fmt::Display for GuestLinear {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x}", self.0)
    }
}

/// An access that is not wholly inside guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("guest-physical {address}, {length} bytes, is outside of the guest's memory")]
pub struct OutOfGuest {
    /// First address of the access.
    pub address: GuestPhysical,
    /// Bytes of the access.
    pub length: u64,
}

/// Where a block of RAM of some size lies in the guest-physical space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLayout {
    low: u64,
    high: u64,
}

impl MemoryLayout {
    /// The layout of `size` bytes of RAM, rounded down to whole pages.
    pub const fn new(size: u64) -> Self {
        let size = size & !(PAGE_SIZE - 1);
        let low = if size < LOW_LIMIT { size } else { LOW_LIMIT };
        Self { low, high: size - low }
    }

    /// Bytes of RAM.
    #[inline]
    pub const fn size(&self) -> u64 {
        self.low + self.high
    }

    /// Bytes of RAM at address 0.
    #[inline]
    pub const fn low(&self) -> u64 {
        self.low
    }

    /// Bytes of RAM at [`HIGH_START`].
    #[inline]
    pub const fn high(&self) -> u64 {
        self.high
    }

    /// The offset in the flat block of `length` bytes at `address`, or `None` unless all of them are RAM and in one piece.
    #[inline]
    pub const fn flat_offset(&self, address: GuestPhysical, length: u64) -> Option<u64> {
        if address.0 < self.low {
            if length <= self.low - address.0 { Some(address.0) } else { None }
        } else if address.0 >= HIGH_START {
            let within = address.0 - HIGH_START;
            if within < self.high && length <= self.high - within { Some(self.low + within) } else { None }
        } else {
            None
        }
    }
}

/// Access to a guest's RAM. Writing takes `&self`, since the guest and its devices write at the same time anyhow.
///
/// The defaults are right but slow; an implementation on mapped memory overrides the fixed-width ones with single, aligned
/// accesses, which page-table entries need to be read whole.
pub trait GuestMemory {
    /// Where this RAM lies.
    fn layout(&self) -> MemoryLayout;

    /// Copies guest memory from `address` to `buffer`.
    fn read(&self, address: GuestPhysical, buffer: &mut [u8]) -> Result<(), OutOfGuest>;

    /// Copies `bytes` to guest memory at `address`.
    fn write(&self, address: GuestPhysical, bytes: &[u8]) -> Result<(), OutOfGuest>;

    /// Atomically replaces the 4-byte word at `address`, which is 4-byte aligned, by `new` if it is `expected`; says whether it was.
    fn replace_u32(&self, address: GuestPhysical, expected: u32, new: u32) -> Result<bool, OutOfGuest>;

    /// Fills `length` bytes at `address` with `value`.
    fn fill(&self, address: GuestPhysical, length: u64, value: u8) -> Result<(), OutOfGuest> {
        if self.layout().flat_offset(address, length).is_none() {
            return Err(OutOfGuest { address, length });
        }
        let chunk = [value; 512];
        let mut done = 0;
        while done < length {
            let step = (length - done).min(chunk.len() as u64);
            self.write(address.offset(done), chunk.get(..step as usize).unwrap_or(&chunk))?;
            done += step;
        }
        Ok(())
    }

    /// Whether `length` bytes at `address` are RAM; what is not RAM is emulated.
    #[inline]
    fn contains(&self, address: GuestPhysical, length: u64) -> bool {
        self.layout().flat_offset(address, length).is_some()
    }

    /// One byte.
    #[inline]
    fn read_u8(&self, address: GuestPhysical) -> Result<u8, OutOfGuest> {
        let mut bytes = [0; 1];
        self.read(address, &mut bytes)?;
        Ok(u8::from_le_bytes(bytes))
    }

    /// Two bytes, little-endian.
    #[inline]
    fn read_u16(&self, address: GuestPhysical) -> Result<u16, OutOfGuest> {
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Four bytes, little-endian.
    #[inline]
    fn read_u32(&self, address: GuestPhysical) -> Result<u32, OutOfGuest> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Eight bytes, little-endian.
    #[inline]
    fn read_u64(&self, address: GuestPhysical) -> Result<u64, OutOfGuest> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

#[cfg(test)]
pub(crate) mod test {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::cell::RefCell;

    /// Guest RAM in a vector.
    pub struct VecMemory {
        layout: MemoryLayout,
        bytes: RefCell<Vec<u8>>,
    }

    impl VecMemory {
        pub fn new(size: u64) -> Self {
            Self { layout: MemoryLayout::new(size), bytes: RefCell::new(vec![0; size as usize]) }
        }

        pub fn write_u32(&self, address: u64, value: u32) {
            self.write(GuestPhysical(address), &value.to_le_bytes()).unwrap();
        }

        pub fn write_u64(&self, address: u64, value: u64) {
            self.write(GuestPhysical(address), &value.to_le_bytes()).unwrap();
        }

        pub fn u32(&self, address: u64) -> u32 {
            self.read_u32(GuestPhysical(address)).unwrap()
        }

        pub fn u64(&self, address: u64) -> u64 {
            self.read_u64(GuestPhysical(address)).unwrap()
        }

        pub fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
            let mut buffer = vec![0; length];
            self.read(GuestPhysical(address), &mut buffer).unwrap();
            buffer
        }
    }

    impl GuestMemory for VecMemory {
        fn layout(&self) -> MemoryLayout {
            self.layout
        }

        fn read(&self, address: GuestPhysical, buffer: &mut [u8]) -> Result<(), OutOfGuest> {
            let length = buffer.len() as u64;
            let offset = self.layout.flat_offset(address, length).ok_or(OutOfGuest { address, length })? as usize;
            buffer.copy_from_slice(&self.bytes.borrow()[offset..offset + buffer.len()]);
            Ok(())
        }

        fn write(&self, address: GuestPhysical, bytes: &[u8]) -> Result<(), OutOfGuest> {
            let length = bytes.len() as u64;
            let offset = self.layout.flat_offset(address, length).ok_or(OutOfGuest { address, length })? as usize;
            self.bytes.borrow_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn replace_u32(&self, address: GuestPhysical, expected: u32, new: u32) -> Result<bool, OutOfGuest> {
            let found = self.read_u32(address)? == expected;
            if found {
                self.write(address, &new.to_le_bytes())?;
            }
            Ok(found)
        }
    }

    #[test]
    fn layout_has_a_hole() {
        let layout = MemoryLayout::new(5 << 30);
        assert_eq!((layout.low(), layout.high()), (3 << 30, 2 << 30));
        assert_eq!(layout.flat_offset(GuestPhysical(0), 3 << 30), Some(0));
        assert_eq!(layout.flat_offset(GuestPhysical(LOW_LIMIT - 4), 8), None);
        assert_eq!(layout.flat_offset(GuestPhysical(LOW_LIMIT), 1), None);
        assert_eq!(layout.flat_offset(GuestPhysical(HIGH_START), 8), Some(3 << 30));
        assert_eq!(layout.flat_offset(GuestPhysical(HIGH_START + (2 << 30) - 8), 8), Some((5 << 30) - 8));
        assert_eq!(layout.flat_offset(GuestPhysical(HIGH_START + (2 << 30) - 8), 9), None);
        assert_eq!(layout.flat_offset(GuestPhysical(u64::MAX), u64::MAX), None);
    }

    #[test]
    fn fill_stops_at_the_end() {
        let memory = VecMemory::new(0x2000);
        assert!(memory.fill(GuestPhysical(0x1fff), 2, 1).is_err());
        memory.fill(GuestPhysical(0x100), 1000, 0xaa).unwrap();
        assert_eq!(memory.bytes(0xff, 1002)[0], 0);
        assert!(memory.bytes(0x100, 1000).iter().all(|&byte| byte == 0xaa));
        assert_eq!(memory.bytes(0x100 + 1000, 1)[0], 0);
    }
}
