//! Firmware: nothing is loaded for it but itself, and the processor starts at its end as after a reset.

use super::error::LoadError;
use super::placement::{EXTENDED_START, Part};
use super::state::BootState;
use crate::memory::{GuestMemory, GuestPhysical};

/// Bytes of the firmware's end that are also below 1 MiB, where real mode reaches them.
const SHADOW: usize = 128 << 10;
/// Bytes from the first instruction to the end.
const RESET_VECTOR: usize = 16;

/// Puts the end of `firmware` below 1 MiB, as the chip set of a PC does. All of it lies below 4 GiB already, read-only.
/// `signature` is what the processor has in EDX after a reset.
///
/// # Errors
/// It is too short to start at its end, or the guest has no memory below 1 MiB.
pub fn load(memory: &impl GuestMemory, firmware: &[u8], signature: u32) -> Result<BootState, LoadError> {
    if firmware.len() < RESET_VECTOR {
        let needed = RESET_VECTOR as u64;
        return Err(LoadError::Truncated { part: Part::Firmware, needed, length: firmware.len() as u64 });
    }
    let shadow = firmware.get(firmware.len().saturating_sub(SHADOW)..).unwrap_or(firmware);
    let start = EXTENDED_START.0 - shadow.len() as u64;
    memory.write(GuestPhysical(start), shadow)?;
    Ok(BootState::reset(signature))
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::memory::test::VecMemory;
    use bulkhead_abi::{register, segment};

    #[test]
    fn starts_at_the_reset_vector() {
        let memory = VecMemory::new(2 << 20);
        let mut firmware = alloc::vec![0x90; 0x30000];
        firmware[0x10000] = 0xaa;
        firmware[0x2fff0] = 0xea;
        let state = load(&memory, &firmware, 0x5_0654).unwrap();
        let code = state.segments[segment::CS];
        assert_eq!((code.selector, code.base, code.limit, state.rip), (0xf000, 0xffff_0000, 0xffff, 0xfff0));
        assert_eq!((state.cr0, state.rflags, state.idtr.limit), (0x6000_0010, 2, 0xffff));
        assert_eq!((state.registers[register::RDX], state.segments[segment::SS].base), (0x5_0654, 0));
        assert_eq!(memory.bytes(0xd_ffff, 3), [0, 0xaa, 0x90], "128 KiB of it");
        assert_eq!(memory.bytes(0xf_fff0, 1), [0xea]);
    }

    #[test]
    fn short_firmware() {
        let memory = VecMemory::new(2 << 20);
        load(&memory, &[0xf4; 0x1000], 0).unwrap();
        assert_eq!(memory.bytes(0xf_efff, 2), [0, 0xf4]);
        assert!(matches!(load(&memory, b"short", 0), Err(LoadError::Truncated { .. })));
        assert!(load(&VecMemory::new(0x1000), &[0xf4; 0x1000], 0).is_err());
    }
}
