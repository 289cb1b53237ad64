//! The memory functions that compiled Rust code calls, and copies to and from memory that someone else may be changing.
//!
//! The string instructions move eight bytes an iteration: in an emulator that counts each iteration as an instruction that
//! is eight times as fast as bytes, and on hardware it needs no feature test.

#![no_std]

use core::arch::asm;

/// Copies upwards with string instructions.
///
/// # Safety
/// `source` must be readable and `destination` writable for `length` bytes; `destination` must not lie inside the source
/// range, unless it is its start. What other processors write at the same time may arrive torn, as it may by any copy.
#[inline(always)]
pub unsafe fn copy_up(destination: *mut u8, source: *const u8, length: usize) {
    // SAFETY: the caller vouches for the ranges; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep movsq",
            "mov ecx, {tail:e}",
            "rep movsb",
            tail = in(reg) length & 7,
            inout("rcx") length / 8 => _,
            inout("rdi") destination => _,
            inout("rsi") source => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Fills memory with a byte.
///
/// # Safety
/// `destination` must be writable for `length` bytes.
#[inline(always)]
pub unsafe fn fill(destination: *mut u8, byte: u8, length: usize) {
    // SAFETY: the caller vouches for the range; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep stosq",
            "mov ecx, {tail:e}",
            "rep stosb",
            tail = in(reg) length & 7,
            inout("rcx") length / 8 => _,
            inout("rdi") destination => _,
            in("rax") u64::from(byte).wrapping_mul(0x0101_0101_0101_0101),
            options(nostack, preserves_flags),
        );
    }
}

/// C's `memcpy`.
///
/// # Safety
/// As in C: both ranges valid and disjoint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(destination: *mut u8, source: *const u8, length: usize) -> *mut u8 {
    // SAFETY: as this function.
    unsafe { copy_up(destination, source, length) };
    destination
}

/// C's `memmove`.
///
/// # Safety
/// As in C: both ranges valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(destination: *mut u8, source: *const u8, length: usize) -> *mut u8 {
    if (destination as usize).wrapping_sub(source as usize) >= length {
        // SAFETY: the destination does not start inside the source range, so that copying upwards reads before it writes.
        unsafe { copy_up(destination, source, length) };
    } else {
        // SAFETY: both ranges are valid; copying downwards from the last byte reads before it writes. The direction flag is
        // clear again afterwards.
        unsafe {
            asm!(
                "std",
                "rep movsb",
                "mov ecx, {words:e}",
                "sub rsi, 7",
                "sub rdi, 7",
                "rep movsq",
                "cld",
                words = in(reg) length / 8,
                inout("rcx") length & 7 => _,
                inout("rdi") destination.wrapping_add(length).wrapping_sub(1) => _,
                inout("rsi") source.wrapping_add(length).wrapping_sub(1) => _,
                options(nostack),
            );
        }
    }
    destination
}

/// C's `memset`.
///
/// # Safety
/// As in C: the range is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(destination: *mut u8, byte: i32, length: usize) -> *mut u8 {
    // SAFETY: as this function.
    unsafe { fill(destination, byte as u8, length) };
    destination
}

/// C's `memcmp`.
///
/// # Safety
/// As in C: both ranges valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    let mut index = 0;
    while index < length {
        // SAFETY: `index` is inside both ranges. Volatile, lest the loop be recognised as a call of this very function.
        let (a, b) = unsafe { (left.add(index).read_volatile(), right.add(index).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
        index += 1;
    }
    0
}

/// C's `bcmp`.
///
/// # Safety
/// As in C: both ranges valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    // SAFETY: as this function.
    unsafe { memcmp(left, right, length) }
}
