//! Reading and changing the registers of a [`VcpuState`].

use crate::policy::debug::dr6;
use bulkhead_abi::{Segment, StateGroups, VcpuState, register, segment};

/// RFLAGS bits.
pub mod flags {
    pub const CF: u64 = 1 << 0;
    pub const PF: u64 = 1 << 2;
    pub const AF: u64 = 1 << 4;
    pub const ZF: u64 = 1 << 6;
    pub const SF: u64 = 1 << 7;
    pub const TF: u64 = 1 << 8;
    pub const DF: u64 = 1 << 10;
    pub const OF: u64 = 1 << 11;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    /// What arithmetic changes.
    pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;
}

/// The low `width` (1 to 8) bytes.
#[inline]
pub const fn mask(width: u8) -> u64 {
    u64::MAX >> (64u32.wrapping_sub(8 * width as u32) & 63)
}

/// General register `index` (encoding order, 4 is RSP), all 64 bits.
#[inline]
pub fn read_register(state: &VcpuState, index: u8) -> u64 {
    if usize::from(index) == register::RSP { state.rsp } else { state.registers[usize::from(index & 15)] }
}

/// Writes the low `width` bytes of general register `index`; a 4-byte write clears the upper half, as the processor does.
#[inline]
pub fn write_register(state: &mut VcpuState, index: u8, width: u8, value: u64) {
    let target = if usize::from(index) == register::RSP {
        state.dirty |= StateGroups::RSP.bits();
        &mut state.rsp
    } else {
        &mut state.registers[usize::from(index & 15)]
    };
    *target = match width {
        8 => value,
        4 => value & mask(4),
        width => *target & !mask(width) | value & mask(width),
    };
}

/// Segment register `index`; the index is masked, so that it always names one.
#[inline]
pub fn segment_of(state: &VcpuState, index: u8) -> &Segment {
    &state.segments[usize::from(index & 7)]
}

/// The current privilege level: the DPL of CS, which unlike SS is known after every exit. Conforming code of a lower DPL would be
/// the exception, and no system has any.
#[inline]
pub fn privilege(state: &VcpuState) -> u32 {
    state.segments[segment::CS].access >> 5 & 3
}

/// Replaces `changed` flags by those of `value`.
#[inline]
pub fn write_flags(state: &mut VcpuState, changed: u64, value: u64) {
    let new = state.rflags & !changed | value & changed;
    if new != state.rflags {
        state.rflags = new;
        state.dirty |= StateGroups::RFLAGS.bits();
    }
}

/// Ends an instruction of `length` bytes: moves RIP behind it (`wide`: in 64-bit code, else it wraps at 32 bits), ends the
/// shadow of STI and MOV SS, clears RF, and makes a single-step trap pending if TF is set.
#[inline]
pub fn advance(state: &mut VcpuState, length: u32, wide: bool) {
    let next = state.rip.wrapping_add(u64::from(length));
    state.rip = if wide { next } else { next & mask(4) };
    state.dirty |= StateGroups::RIP.bits();
    if state.interruptibility & 3 != 0 && state.valid & StateGroups::INTERRUPTIBILITY.bits() != 0 {
        state.interruptibility &= !3;
        state.dirty |= StateGroups::INTERRUPTIBILITY.bits();
    }
    if state.rflags & (flags::RF | flags::TF) != 0 {
        end_flags(state);
    }
}

#[cold]
#[inline(never)]
fn end_flags(state: &mut VcpuState) {
    write_flags(state, flags::RF, 0);
    step(state);
}

/// Ends an iteration of a repeated instruction, which is a step like an instruction.
pub fn step(state: &mut VcpuState) {
    if !is_stepping(state) {
        return;
    }
    // What is pending besides, if anything, is known only if it was asked for.
    let known = (state.valid | state.dirty) & StateGroups::PENDING_DEBUG.bits() != 0;
    state.pending_debug = if known { state.pending_debug } else { 0 } | dr6::SINGLE_STEP;
    state.dirty |= StateGroups::PENDING_DEBUG.bits();
}

/// Whether the guest executes step by step.
#[inline]
pub const fn is_stepping(state: &VcpuState) -> bool {
    state.rflags & flags::TF != 0
}
