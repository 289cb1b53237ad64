//! Repeated string instructions against the same instructions one by one.

use super::*;
use crate::emulate::registers::flags;
use proptest::prelude::*;

/// What a program of string instructions leaves behind.
fn outcome(guest: &Guest) -> ([u64; 16], u64, Vec<u8>) {
    (guest.state.registers, guest.state.rsp, guest.memory.bytes(0x1_0000, 0x3_0000))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn many_at_once_are_as_one_by_one(
        opcode in prop::sample::select(&[0xa4u8, 0xa5, 0xaa, 0xab, 0xac, 0xa6][..]),
        prefixes in prop::collection::vec(prop::sample::select(&[0x66u8, 0x67, 0x26][..]), 0..3),
        source in 0x8000u32..0x1_0100,
        distance in prop_oneof![-600i32..600, -0x8000i32..0x8000],
        count in prop_oneof![0u32..40, 0u32..0x3000],
        limit in prop_oneof![Just(0xffffu32), Just(u32::MAX), 0x8000u32..0xffff],
        backwards in prop::bool::weighted(0.2),
    ) {
        let mut code = prefixes.clone();
        code.extend([0xf3, opcode]);
        let start = |code: &[u8]| {
            let mut guest = Guest::real(code);
            guest.catch();
            for (address, value) in (0x1_0000..0x4_0000).step_by(4).zip(0u32..) {
                guest.memory.write_u32(address, value.wrapping_mul(0x9e37_79b1));
            }
            for index in [segment::DS, segment::ES] {
                guest.state.segments[index].base = 0x1_0000;
                guest.state.segments[index].limit = limit;
            }
            guest.state.rflags |= if backwards { flags::DF } else { 0 };
            guest.state.registers[RAX] = 0x1234_5678;
            guest.state.registers[RCX] = count.into();
            guest.state.registers[RSI] = source.into();
            guest.state.registers[RDI] = u64::from(source.wrapping_add_signed(distance));
            guest
        };
        let mut bulk = start(&code);
        while bulk.state.rip == CODE {
            prop_assert_eq!(bulk.run(1), Stopped::Limit);
        }
        // The same without a prefix, as often as needed; the count is kept by hand.
        let single: Vec<u8> = code.iter().copied().filter(|byte| *byte != 0xf3).collect();
        let mut one = start(&single);
        let wide = prefixes.contains(&0x67);
        let counter = if wide { u64::from(u32::MAX) } else { 0xffff };
        while one.state.registers[RCX] & counter != 0 {
            one.state.rip = CODE;
            prop_assert_eq!(one.run(1), Stopped::Limit);
            if one.state.rip != CODE + single.len() as u64 {
                break;
            }
            one.state.registers[RCX] -= 1;
            if opcode == 0xa6 && one.state.rflags & flags::ZF == 0 {
                break;
            }
        }
        prop_assert_eq!(outcome(&bulk), outcome(&one));
    }
}
