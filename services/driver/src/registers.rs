//! Device registers.

/// The registers in one base address register (BAR) of a device, in memory or on ports, little-endian.
///
/// Each access has exactly the width that its name says. What lies outside the BAR reads as all ones, and writes to it are lost, as
/// on the bus.
pub trait Registers {
    /// Reads 8 bits at a byte offset.
    fn read_u8(&self, offset: u32) -> u8;
    /// Reads 16 bits at a byte offset that is a multiple of 2.
    fn read_u16(&self, offset: u32) -> u16;
    /// Reads 32 bits at a byte offset that is a multiple of 4.
    fn read_u32(&self, offset: u32) -> u32;
    /// Writes 8 bits.
    fn write_u8(&self, offset: u32, value: u8);
    /// Writes 16 bits.
    fn write_u16(&self, offset: u32, value: u16);
    /// Writes 32 bits.
    fn write_u32(&self, offset: u32, value: u32);

    /// Reads 64 bits as two halves, the lower first.
    fn read_u64(&self, offset: u32) -> u64 {
        let low = u64::from(self.read_u32(offset));
        low | u64::from(self.read_u32(offset.wrapping_add(4))) << 32
    }

    /// Writes 64 bits as two halves, the lower first.
    fn write_u64(&self, offset: u32, value: u64) {
        self.write_u32(offset, value as u32);
        self.write_u32(offset.wrapping_add(4), (value >> 32) as u32);
    }
}

impl<R: Registers + ?Sized> Registers for &R {
    fn read_u8(&self, offset: u32) -> u8 {
        (**self).read_u8(offset)
    }
    fn read_u16(&self, offset: u32) -> u16 {
        (**self).read_u16(offset)
    }
    fn read_u32(&self, offset: u32) -> u32 {
        (**self).read_u32(offset)
    }
    fn write_u8(&self, offset: u32, value: u8) {
        (**self).write_u8(offset, value);
    }
    fn write_u16(&self, offset: u32, value: u16) {
        (**self).write_u16(offset, value);
    }
    fn write_u32(&self, offset: u32, value: u32) {
        (**self).write_u32(offset, value);
    }
}
