//! Hostile guests: whatever they execute, nothing panics, and every run ends.

use super::*;
use crate::emulate::registers::flags;
use proptest::prelude::*;

fn registers() -> impl Strategy<Value = [u64; 16]> {
    let value = prop_oneof![any::<u64>(), any::<u16>().prop_map(u64::from), any::<u32>().prop_map(u64::from)];
    prop::collection::vec(value, 16).prop_map(|values| values.try_into().unwrap())
}

/// Runs a while, and checks what must always hold.
fn survives(mut guest: Guest, code: &[u8]) -> Result<(), TestCaseError> {
    guest.memory.write(GuestPhysical(CODE), code).unwrap();
    for _ in 0..8 {
        let stopped = guest.run(64);
        let state = &guest.state;
        prop_assert!(state.rip <= u64::from(u32::MAX) && state.rflags & flags::VM == 0);
        prop_assert!(guest.world.device.len() + guest.world.outputs.len() < 8 * 64 * 4096);
        match stopped {
            Stopped::Hardware => prop_assert!(!needed(state)),
            Stopped::Shutdown | Stopped::Unsupported { .. } => break,
            _ => guest.inject(Arbitration::external(0x30)),
        }
        guest.world.off = false;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_code_in_real_mode(
        code in prop::collection::vec(any::<u8>(), 64),
        registers in registers(),
        selectors in prop::array::uniform6(any::<u16>()),
        rflags in any::<u16>(),
    ) {
        let mut guest = Guest::real(&[]);
        guest.catch();
        guest.state.registers = registers;
        guest.state.rflags = u64::from(rflags) & 0x7fd5 | 2;
        for index in [segment::ES, segment::SS, segment::DS, segment::FS, segment::GS] {
            guest.state.segments[index].selector = selectors[index].into();
            guest.state.segments[index].base = u64::from(selectors[index]) << 4;
        }
        survives(guest, &code)?;
    }

    #[test]
    fn random_code_in_protected_mode(
        code in prop::collection::vec(any::<u8>(), 64),
        registers in registers(),
        descriptors in prop::array::uniform8(any::<u64>()),
        rsp in any::<u32>(),
    ) {
        let mut guest = Guest::protected(&[]);
        guest.catch();
        guest.state.registers = registers;
        guest.state.rsp = rsp.into();
        for (index, descriptor) in (4..).zip(descriptors) {
            guest.memory.write_u64(guest.state.gdtr.base + 8 * index, descriptor);
        }
        guest.state.gdtr.limit = 0xffff;
        survives(guest, &code)?;
    }

    #[test]
    fn random_state(code in prop::collection::vec(any::<u8>(), 32), bytes in prop::collection::vec(any::<u8>(), size_of::<VcpuState>())) {
        use zerocopy::FromBytes;
        let mut guest = Guest::real(&[]);
        guest.state = VcpuState::read_from_bytes(&bytes).unwrap();
        guest.state.cr0 &= !0x8000_0000;
        guest.state.rip &= 0xffff;
        guest.memory.write(GuestPhysical(CODE), &code).unwrap();
        for _ in 0..4 {
            guest.run(64);
        }
    }
}
