//! Which instructions are interpreted: a sweep over the opcode maps.

use super::*;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use iced_x86::CpuidFeature;

/// What every processor with VMX has and start-up code may use: all but x87, MMX, SSE and later additions.
const INTEGER: [CpuidFeature; 18] = [
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL8086_ONLY,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::CMOV,
    CpuidFeature::CPUID,
    CpuidFeature::CX8,
    CpuidFeature::MSR,
    CpuidFeature::TSC,
    CpuidFeature::PAUSE,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::CLFSH,
    CpuidFeature::SMX,
    CpuidFeature::VMX,
    CpuidFeature::MONITOR,
    CpuidFeature::PREFETCHW,
];

/// The instructions of [`INTEGER`] that are refused in the state of `start`.
fn refused(start: &Guest) -> BTreeSet<String> {
    let maps: [&[u8]; 8] = [&[], &[0x66], &[0xf3], &[0xf2], &[0x0f], &[0x66, 0x0f], &[0xf3, 0x0f], &[0xf2, 0x0f]];
    let mut refused = BTreeSet::new();
    let mut world = World::new();
    let mut cache = InstructionCache::new();
    // Every opcode with every register field, with a register and with memory: 16-bit [0x2000], 32-bit [esi].
    let operands = || (0..=0x38u8).step_by(8).flat_map(|field| [field | 0x06, field | 0xc1]);
    for (map, opcode) in maps.iter().flat_map(|map| (0..=255u8).map(move |opcode| (map, opcode))) {
        for modrm in operands() {
            let mut code = map.to_vec();
            code.extend([opcode, modrm, 0x00, 0x20, 0, 0, 0, 0, 0, 0]);
            start.memory.write(GuestPhysical(CODE), &code).unwrap();
            let mut state = start.state;
            if run(&mut state, &start.memory, &mut world, &mut cache, 1) == (Stopped::Unsupported { bytes: [0; 15] }) {
                panic!("{code:02x?}: nothing is reported");
            } else if state.rip == CODE {
                let instruction = decode::instruction(&code, Mode::new(&start.state)).unwrap();
                if instruction.cpuid_features().iter().all(|feature| INTEGER.contains(feature)) {
                    refused.insert(format!("{:?}", instruction.code()));
                }
            }
            world.off = false;
        }
    }
    refused
}

#[test]
fn integer_instructions_are_interpreted() {
    let mut guest = Guest::real(&[]);
    guest.catch();
    guest.state.segments[segment::DS].base = 0x1_0000;
    guest.state.segments[segment::ES].base = 0x1_0000;
    assert_eq!(refused(&guest), BTreeSet::new());
    let mut guest = Guest::protected(&[]);
    guest.catch();
    guest.state.registers[RSI] = 0x1_2000;
    assert_eq!(refused(&guest), BTreeSet::new());
}
