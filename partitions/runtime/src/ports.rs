//! I/O ports, after init has let the partition use them.

use core::arch::asm;

/// A port outside the range that the partition was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutsidePorts;

/// A range of I/O ports that the partition may use.
///
/// A port that the kernel does not allow after all faults; it never reaches the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    base: u16,
    count: u32,
}

macro_rules! widths {
    ($($read:ident, $write:ident: $type:ty, $register:tt, $bytes:literal;)*) => { $(
        /// Reads the port at `offset`.
        #[inline]
        pub fn $read(self, offset: u16) -> Result<$type, OutsidePorts> {
            let port = self.port(offset, $bytes)?;
            let value: $type;
            // SAFETY: the port belongs to a device that the partition was given for its own; no device that it is given can
            // change the partition's memory otherwise than by DMA to memory that it programs itself.
            unsafe { asm!(concat!("in ", $register, ", dx"), in("dx") port, out($register) value, options(nostack, preserves_flags)) };
            Ok(value)
        }

        /// Writes the port at `offset`.
        #[inline]
        pub fn $write(self, offset: u16, value: $type) -> Result<(), OutsidePorts> {
            let port = self.port(offset, $bytes)?;
            // SAFETY: as for reading.
            unsafe { asm!(concat!("out dx, ", $register), in("dx") port, in($register) value, options(nostack, preserves_flags)) };
            Ok(())
        }
    )* };
}

impl PortRange {
    /// The range that an environment entry names.
    pub(crate) const fn new(base: u16, count: u32) -> Self {
        Self { base, count }
    }

    /// First port.
    pub const fn base(self) -> u16 {
        self.base
    }

    /// Number of ports.
    pub const fn count(self) -> u32 {
        self.count
    }

    #[inline(always)]
    fn port(self, offset: u16, bytes: u16) -> Result<u16, OutsidePorts> {
        if u32::from(offset) + u32::from(bytes) <= self.count {
            self.base.checked_add(offset).ok_or(OutsidePorts)
        } else {
            Err(OutsidePorts)
        }
    }

    widths! {
        read_u8, write_u8: u8, "al", 1;
        read_u16, write_u16: u16, "ax", 2;
        read_u32, write_u32: u32, "eax", 4;
    }

    /// Fills `words` from the 16-bit port at `offset`, read again and again (a data register).
    pub fn read_u16_repeated(self, offset: u16, words: &mut [u16]) -> Result<(), OutsidePorts> {
        for word in words {
            *word = self.read_u16(offset)?;
        }
        Ok(())
    }

    /// Writes all of `words` to the 16-bit port at `offset`.
    pub fn write_u16_repeated(self, offset: u16, words: &[u16]) -> Result<(), OutsidePorts> {
        for word in words {
            self.write_u16(offset, *word)?;
        }
        Ok(())
    }
}
