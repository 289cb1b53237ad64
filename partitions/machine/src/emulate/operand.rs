//! Memory operands: segment and page checks, then RAM or device.

use super::instruction::Mode;
use super::registers::{flags, mask, segment_of};
use super::walk::{Access, Paging, walk};
use super::{Exception, Mmio, Stop};
use crate::memory::{GuestLinear, GuestMemory, GuestPhysical};
use bulkhead_abi::{Segment, StateGroups, VcpuState, segment};

/// The translation that the hardware made before it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Linear address of the access.
    pub linear: GuestLinear,
    /// Its translation.
    pub physical: GuestPhysical,
    /// The hardware checked that the guest may write there.
    pub write: bool,
}

impl Hint {
    /// The hint of an EPT violation, if the violation was by an access to a translated address (SDM vol. 3, table 28-7).
    #[inline]
    pub fn from_exit(state: &VcpuState) -> Option<Self> {
        const EPT_VIOLATION: u64 = 48;
        const WRITE: u64 = 1 << 1;
        const LINEAR_VALID: u64 = 1 << 7;
        const TRANSLATED: u64 = 1 << 8;
        let qualification = state.exit_qualification;
        let both = LINEAR_VALID | TRANSLATED;
        (state.exit_reason & 0xffff == EPT_VIOLATION && qualification & both == both).then_some(Self {
            linear: GuestLinear(state.guest_linear),
            physical: GuestPhysical(state.guest_physical),
            write: qualification & WRITE != 0,
        })
    }
}

/// A translated memory operand: one piece, or two when it crosses a page.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    first: GuestPhysical,
    first_size: u8,
    second: GuestPhysical,
    second_size: u8,
}

/// What an emulation works on.
pub struct Machine<'a, M, D> {
    pub state: &'a mut VcpuState,
    pub memory: &'a M,
    pub device: &'a mut D,
    pub paging: Paging,
    pub mode: Mode,
    pub hint: Option<Hint>,
}

impl<M: GuestMemory, D: Mmio> Machine<'_, M, D> {
    /// The linear address of `size` bytes at `offset` in segment `index`, if the segment allows `access` there.
    #[inline]
    pub fn linear(&self, index: u8, offset: u64, size: u8, access: Access) -> Result<GuestLinear, Stop> {
        let last = offset.wrapping_add(u64::from(size) - 1);
        if self.mode == Mode::Bits64 {
            let base = if index < segment::FS as u8 { 0 } else { self.segment(index)?.base };
            let canonical = |address: u64| (address as i64) << 16 >> 16 == address as i64;
            let linear = base.wrapping_add(offset);
            if canonical(linear) && canonical(base.wrapping_add(last)) {
                return Ok(GuestLinear(linear));
            }
            return Err(Self::segment_fault(index));
        }
        self.linear_segmented(index, offset, last, access)
    }

    /// A segment register, if the state page holds them.
    #[cold]
    #[inline(never)]
    fn segment(&self, index: u8) -> Result<&Segment, Stop> {
        if (self.state.valid | self.state.dirty) & StateGroups::SEGMENTS.bits() == 0 {
            return Err(Stop::Unsupported);
        }
        Ok(segment_of(self.state, index))
    }

    /// Outside of 64-bit mode: limits and types (SDM vol. 3, 6.3 and 6.5).
    fn linear_segmented(&self, index: u8, offset: u64, last: u64, access: Access) -> Result<GuestLinear, Stop> {
        const UNUSABLE: u32 = 1 << 16;
        const EXPAND_DOWN: u32 = 1 << 2;
        const WRITABLE: u32 = 1 << 1;
        const CODE: u32 = 1 << 3;
        const BIG: u32 = 1 << 14;
        const CR0_PE: u64 = 1;
        let segment = self.segment(index)?;
        let limit = u64::from(segment.limit);
        let code = segment.access & CODE != 0;
        let inside = if !code && segment.access & EXPAND_DOWN != 0 {
            offset > limit && last <= if segment.access & BIG != 0 { 0xffff_ffff } else { 0xffff }
        } else {
            last <= limit
        };
        let protected = self.state.cr0 & CR0_PE != 0 && self.state.rflags & flags::VM == 0;
        // For code segments, bit 1 says whether they can be read.
        let typed = !protected
            || match access {
                Access::Write => !code && segment.access & WRITABLE != 0,
                _ => !code || segment.access & WRITABLE != 0,
            };
        if segment.access & UNUSABLE != 0 || !inside || !typed || offset > last {
            return Err(Self::segment_fault(index));
        }
        Ok(GuestLinear(segment.base.wrapping_add(offset) & 0xffff_ffff))
    }

    #[cold]
    fn segment_fault(index: u8) -> Stop {
        Stop::Exception(if usize::from(index) == segment::SS {
            Exception::StackFault
        } else {
            Exception::GeneralProtection
        })
    }

    #[inline]
    fn translate(&self, linear: GuestLinear, access: Access) -> Result<GuestPhysical, Stop> {
        if let Some(hint) = self.hint
            && hint.linear == linear
            && (hint.write || access == Access::Read)
        {
            return Ok(hint.physical);
        }
        Ok(walk(self.memory, &self.paging, linear, access)?)
    }

    /// Translates `size` bytes at `linear`.
    #[inline]
    pub fn place(&self, linear: GuestLinear, size: u8, access: Access) -> Result<Place, Stop> {
        let left = linear.left_in_page();
        let first = self.translate(linear, access)?;
        if left >= u64::from(size) {
            return Ok(Place { first, first_size: size, second: first, second_size: 0 });
        }
        let second = linear.offset(left);
        let second = if self.mode == Mode::Bits64 { second } else { GuestLinear(second.0 & 0xffff_ffff) };
        let second = self.translate(second, access)?;
        Ok(Place { first, first_size: left as u8, second, second_size: size - left as u8 })
    }

    /// Segment check and translation in one.
    #[inline]
    pub fn locate(&self, index: u8, offset: u64, size: u8, access: Access) -> Result<Place, Stop> {
        let linear = self.linear(index, offset, size, access)?;
        let place = self.place(linear, size, access)?;
        self.device.accessed(linear, size, access);
        Ok(place)
    }

    #[inline]
    fn read_piece(&mut self, address: GuestPhysical, size: u8) -> u64 {
        if !self.memory.contains(address, u64::from(size)) {
            return if size.is_power_of_two() {
                self.device.read(address, size) & mask(size)
            } else {
                self.read_odd(address, size)
            };
        }
        let mut bytes = [0; 8];
        if let Some(part) = bytes.get_mut(..usize::from(size)) {
            // Just found to be RAM.
            let _ = self.memory.read(address, part);
        }
        u64::from_le_bytes(bytes)
    }

    #[inline]
    fn write_piece(&mut self, address: GuestPhysical, size: u8, value: u64) {
        if !self.memory.contains(address, u64::from(size)) {
            return if size.is_power_of_two() {
                self.device.write(address, size, value & mask(size));
            } else {
                self.write_odd(address, size, value);
            };
        }
        if let Some(part) = value.to_le_bytes().get(..usize::from(size)) {
            // Just found to be RAM.
            let _ = self.memory.write(address, part);
        }
    }

    /// Reads 3, 5, 6 or 7 device bytes, the rest of an access that crosses a page, in aligned accesses.
    #[cold]
    fn read_odd(&mut self, address: GuestPhysical, size: u8) -> u64 {
        let mut value = 0;
        let mut done = 0;
        while done < size {
            let part = aligned_part(address.offset(done.into()), size - done);
            value |= (self.device.read(address.offset(done.into()), part) & mask(part)) << (8 * u32::from(done));
            done += part;
        }
        value
    }

    /// Writes as [`Self::read_odd`] reads.
    #[cold]
    fn write_odd(&mut self, address: GuestPhysical, size: u8, value: u64) {
        let mut done = 0;
        while done < size {
            let part = aligned_part(address.offset(done.into()), size - done);
            self.device.write(address.offset(done.into()), part, value >> (8 * u32::from(done)) & mask(part));
            done += part;
        }
    }

    /// The aligned word of RAM that holds all of `place`, and the place's lowest bit in it; nothing if there is none.
    pub fn word(&self, place: &Place) -> Option<(GuestPhysical, u32)> {
        let within = place.first.0 & 3;
        let word = GuestPhysical(place.first.0 - within);
        let whole = place.second_size == 0 && within + u64::from(place.first_size) <= 4;
        (whole && self.memory.contains(word, 4)).then_some((word, 8 * within as u32))
    }

    /// Reads an operand.
    #[inline]
    pub fn read(&mut self, place: &Place) -> u64 {
        let low = self.read_piece(place.first, place.first_size);
        if place.second_size == 0 {
            return low;
        }
        low | self.read_piece(place.second, place.second_size) << ((8 * u32::from(place.first_size)) & 63)
    }

    /// Writes an operand.
    #[inline]
    pub fn write(&mut self, place: &Place, value: u64) {
        self.write_piece(place.first, place.first_size, value);
        if place.second_size != 0 {
            self.write_piece(place.second, place.second_size, value >> ((8 * u32::from(place.first_size)) & 63));
        }
    }
}

/// The largest naturally aligned access at `address` of at most `size` (less than 8) bytes.
fn aligned_part(address: GuestPhysical, size: u8) -> u8 {
    let alignment = 1 << address.0.trailing_zeros().min(2);
    let largest = 1 << size.max(1).ilog2();
    alignment.min(largest)
}
