//! The way from interpreted state to state that VM entry accepts.

use super::descriptor::{access, system};
use crate::policy::control::efer;
use bulkhead_abi::{Segment, VcpuState, segment};

/// Requested privilege level of a selector.
const REQUESTED_LEVEL: u64 = 3;
/// Descriptor privilege level in access rights.
const LEVEL: u32 = 3 << 5;
/// The bits of access rights that exist.
const DEFINED: u32 = 0x1_f0ff;

/// Makes the segment registers pass the checks of VM entry (SDM vol. 3, 27.3.1.2) for a guest at level 0 that has just switched
/// paging on, perhaps with the segments of real mode.
///
/// - Every usable segment is present, ordinary and accessed; its granularity bit fits its limit.
/// - CS is code: a data type, which real mode may leave there, becomes readable code. The processor would execute it all the same.
/// - SS is writable data; CS and SS, and their selectors, are of level 0. A real-mode selector may have other low bits, which the
///   guest would see if it read or pushed it before loading another; no code gains from that, since such a selector cannot be
///   loaded again in protected mode, be it by IRET.
/// - DS, ES, FS and GS are readable, of a level not below what their selectors request. The level of a loaded data segment has no
///   effect at level 0.
/// - TR is a busy task, in long mode a 32-bit one, as the type 11 of 64-bit tasks is that of 32-bit ones.
pub fn conform(state: &mut VcpuState) {
    let long = state.efer & efer::LMA != 0;
    for (index, register) in state.segments.iter_mut().enumerate() {
        match index {
            segment::CS => conform_code(register, long),
            segment::SS => conform_stack(register),
            segment::LDTR => register.access &= DEFINED,
            segment::TR => conform_task(register, long),
            _ => conform_data(register),
        }
        fit_granularity(register);
    }
    state.gdtr.limit &= 0xffff;
    state.idtr.limit &= 0xffff;
}

const ORDINARY: u32 = access::PRESENT | access::ORDINARY | access::ACCESSED;

fn conform_code(code: &mut Segment, long: bool) {
    code.access = code.access & DEFINED & !(access::UNUSABLE | LEVEL) | ORDINARY;
    if code.access & access::CODE == 0 {
        code.access = code.access & !0xf | access::READABLE_CODE;
    }
    if long && code.access & access::LONG != 0 {
        code.access &= !access::BIG;
    }
    code.selector &= !REQUESTED_LEVEL;
}

fn conform_stack(stack: &mut Segment) {
    stack.access = stack.access & DEFINED & !LEVEL | ORDINARY | access::WRITABLE;
    if stack.access & access::CODE != 0 {
        stack.access = stack.access & !0xf | access::DATA;
    }
    stack.selector &= !REQUESTED_LEVEL;
}

fn conform_data(data: &mut Segment) {
    let requested = (data.selector & REQUESTED_LEVEL) as u32;
    let level = (data.access >> 5 & 3).max(requested);
    data.access = data.access & DEFINED & !LEVEL | level << 5 | ORDINARY;
    if data.access & access::CODE != 0 {
        data.access |= access::WRITABLE;
    }
}

fn conform_task(task: &mut Segment, long: bool) {
    let kind = if long || task.access & 8 != 0 { system::TSS_32 } else { system::TSS_16 };
    task.access = task.access & DEFINED & !(access::UNUSABLE | access::ORDINARY | 0xf) | access::PRESENT;
    task.access |= kind | system::BUSY;
    task.selector &= !(1 << 2);
}

/// A limit of 1 MiB or more ends in ones and is granular; one that does not end in ones is not.
fn fit_granularity(register: &mut Segment) {
    if register.limit >> 20 != 0 {
        register.limit |= 0xfff;
        register.access |= access::GRANULAR;
    } else if register.limit & 0xfff != 0xfff {
        register.access &= !access::GRANULAR;
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::loader::BootState;
    use proptest::prelude::*;
    use zerocopy::FromZeros;

    /// What VM entry checks of segments, for a guest that is not in virtual-8086 mode, without unrestricted-guest hardware.
    fn accepted(state: &VcpuState) -> Result<(), &'static str> {
        let check = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        let long = state.efer & efer::LMA != 0;
        let level = |register: &Segment| register.access >> 5 & 3;
        let stack = &state.segments[segment::SS];
        let code = &state.segments[segment::CS];
        check(stack.selector & 3 == code.selector & 3, "levels of CS and SS")?;
        check(u64::from(level(stack)) == stack.selector & 3, "level of SS")?;
        for (index, register) in state.segments.iter().enumerate() {
            let kind = register.access & 0xf;
            let usable = register.access & access::UNUSABLE == 0;
            check(register.access & !DEFINED == 0, "reserved bits")?;
            match index {
                segment::CS => {
                    check(usable && [9, 11, 13, 15].contains(&kind), "type of CS")?;
                    check(if kind < 12 { level(code) == level(stack) } else { level(code) <= level(stack) }, "level")?;
                    check(
                        !long || register.access & (access::LONG | access::BIG) != access::LONG | access::BIG,
                        "L, D",
                    )?;
                }
                segment::SS => check(!usable || [3, 7].contains(&kind), "type of SS")?,
                segment::LDTR => continue,
                segment::TR => {
                    check(usable && (kind == 11 || kind == 3 && !long), "type of TR")?;
                    check(register.access & access::ORDINARY == 0 && register.selector & 4 == 0, "TR")?;
                }
                _ if usable => {
                    check(kind & 1 == 1 && (kind & 8 == 0 || kind & 2 != 0), "type of data")?;
                    check(kind > 11 || u64::from(level(register)) >= register.selector & 3, "level of data")?;
                }
                _ => continue,
            }
            check(!usable || register.access & access::PRESENT != 0, "present")?;
            check(index == segment::TR || !usable || register.access & access::ORDINARY != 0, "S")?;
            let granular = register.access & access::GRANULAR != 0;
            check(!usable || register.limit & 0xfff == 0xfff || !granular, "G of a small limit")?;
            check(!usable || register.limit >> 20 == 0 || granular, "G of a big limit")?;
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn whatever_a_guest_loads_is_accepted(
            rights in prop::array::uniform8(any::<u32>()),
            selectors in prop::array::uniform8(any::<u16>()),
            limits in prop::array::uniform8(any::<u32>()),
            long: bool,
        ) {
            let mut state = VcpuState::new_zeroed();
            BootState::real_mode(0).apply(&mut state);
            for (index, register) in state.segments.iter_mut().enumerate() {
                register.access = rights[index];
                register.selector = selectors[index].into();
                register.limit = limits[index];
            }
            state.efer = if long { efer::LMA } else { 0 };
            conform(&mut state);
            prop_assert_eq!(accepted(&state), Ok(()));
        }
    }

    #[test]
    fn sane_segments_stay_as_they_are() {
        let mut state = VcpuState::new_zeroed();
        BootState::protected_mode(0, 0).apply(&mut state);
        let before = state.segments;
        conform(&mut state);
        assert_eq!(state.segments, before);
    }
}
