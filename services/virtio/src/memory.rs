//! What a device needs of a guest's memory.

/// An address range is not, or not wholly, in the guest's memory, or is not aligned as the access needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutsideMemory;

/// A piece of memory as a device's DMA sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhysicalSegment {
    /// Host-physical address.
    pub address: u64,
    /// Bytes, not 0.
    pub length: u64,
}

/// A guest's memory, by guest-physical address. The guest changes it at the same time, so no two reads need agree.
pub trait GuestMemory {
    /// Copies from the guest.
    fn read(&self, address: u64, destination: &mut [u8]) -> Result<(), OutsideMemory>;

    /// Copies to the guest.
    fn write(&self, address: u64, source: &[u8]) -> Result<(), OutsideMemory>;

    /// Reads an aligned, little-endian 16-bit word in one access; later reads are not done before it.
    fn load_u16(&self, address: u64) -> Result<u16, OutsideMemory>;

    /// Writes an aligned, little-endian 16-bit word in one access; earlier writes are not done after it.
    fn store_u16(&self, address: u64, value: u16) -> Result<(), OutsideMemory>;

    /// Where the range begins in host-physical memory, and how many of its bytes are contiguous there. `length` must not be 0.
    fn translate(&self, address: u64, length: u64) -> Result<PhysicalSegment, OutsideMemory>;

    /// Whether all of a range is the guest's memory.
    fn contains(&self, address: u64, length: u64) -> bool {
        let (mut address, mut length) = (address, length);
        while length > 0 {
            let Ok(part) = self.translate(address, length) else {
                return false;
            };
            if part.length == 0 || part.length > length {
                return false;
            }
            length -= part.length;
            if length > 0 {
                match address.checked_add(part.length) {
                    Some(next) => address = next,
                    None => return false,
                }
            }
        }
        true
    }
}

/// A piece of guest memory, as a descriptor names it. Unchecked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Guest-physical address.
    pub address: u64,
    /// Bytes, not 0.
    pub length: u32,
}
