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

pub(super) fn load(
    memory: &impl GuestMemory,
    flat: &FlatImage<'_>,
) -> Result<BootState, LoadError> {
    let address = flat.address.0;
    let bad = LoadError::BadAddress {
        part: Part::Kernel,
        address,
    };
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
