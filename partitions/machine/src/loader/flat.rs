//! Flat images: bytes at an address, entered in one of three processor modes. The built-in test guests are such images.

use super::error::LoadError;
use super::placement::{Part, Placement, STACK_TOP};
use super::state::{BootState, write_gdt, write_page_tables};
use crate::memory::{GuestMemory, GuestPhysical};

/// The processor mode in which a flat image starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlatMode {
    /// Real mode, CS base 0; the image must lie below 64 KiB. A boot sector loads at 0x7c00.
    Real,
    /// 32-bit protected mode, no paging.
    Protected,
    /// 64-bit mode, the first 4 GiB mapped one to one.
    Long,
}

/// A flat image.
#[derive(Clone, Copy, Debug)]
pub struct FlatImage<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Where they go; also the entry point.
    pub address: GuestPhysical,
    /// How they are entered.
    pub mode: FlatMode,
}

pub(super) fn load(memory: &impl GuestMemory, flat: &FlatImage<'_>) -> Result<BootState, LoadError> {
    let address = flat.address.0;
    let bad = LoadError::BadAddress { part: Part::Kernel, address };
    let end = address.checked_add(flat.bytes.len() as u64).ok_or(bad)?;
    let mut placement = match flat.mode {
        FlatMode::Real => Placement::empty(memory.layout()),
        FlatMode::Protected | FlatMode::Long => Placement::new(memory.layout())?,
    };
    placement.claim(address..end, Part::Kernel)?;
    let state = match flat.mode {
        FlatMode::Real => BootState::real_mode(u16::try_from(address).map_err(|_| bad)?),
        FlatMode::Protected => {
            write_gdt(memory, false)?;
            BootState::protected_mode(u32::try_from(address).map_err(|_| bad)?, STACK_TOP.0 as u32)
        }
        FlatMode::Long => {
            write_gdt(memory, true)?;
            write_page_tables(memory)?;
            BootState::long_mode(address, STACK_TOP.0)
        }
    };
    memory.write(flat.address, flat.bytes)?;
    Ok(state)
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::memory::test::VecMemory;
    use bulkhead_abi::segment;

    fn go(mode: FlatMode, address: u64, bytes: &[u8]) -> (VecMemory, Result<BootState, LoadError>) {
        let memory = VecMemory::new(2 << 20);
        let flat = FlatImage { bytes, address: GuestPhysical(address), mode };
        let state = load(&memory, &flat);
        (memory, state)
    }

    #[test]
    fn three_modes() {
        let (memory, state) = go(FlatMode::Real, 0x7c00, b"sector");
        let state = state.unwrap();
        assert_eq!((state.rip, state.cr0, state.segments[segment::CS].base), (0x7c00, 0x10, 0));
        assert_eq!(memory.bytes(0x7c00, 6), b"sector");
        let state = go(FlatMode::Protected, 0x10_0000, b"code").1.unwrap();
        assert_eq!((state.rip, state.rsp, state.cr0), (0x10_0000, 0xb000, 0x11));
        let (memory, state) = go(FlatMode::Long, 0x10_0000, b"code");
        assert_eq!(state.unwrap().cr3, 0x4000);
        assert_eq!(memory.u64(0x1010), 0x00af_9b00_0000_ffff);
    }

    #[test]
    fn refusals() {
        assert!(matches!(go(FlatMode::Real, 0x1_0000, b"x").1, Err(LoadError::BadAddress { .. })));
        assert!(matches!(go(FlatMode::Long, 0x4000, b"x").1, Err(LoadError::Overlap { .. })));
        assert!(matches!(go(FlatMode::Protected, 0x1f_ffff, b"xy").1, Err(LoadError::LittleMemory { .. })));
        assert!(matches!(go(FlatMode::Protected, u64::MAX, b"xy").1, Err(LoadError::BadAddress { .. })));
    }
}
