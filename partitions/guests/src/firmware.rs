//! Firmware of a few instructions, to see that a guest can start as a machine does: at the reset vector, in real mode.
//!
//! It says how far it has come, asks the machine what it has, and powers off. Something that is not as it should be
//! ends the machine with code 1. All of it is in `firmware.s`: before a stack exists there is nothing to say in Rust.
#![no_std]
#![no_main]

use core::arch::global_asm;
use core::panic::PanicInfo;

global_asm!(include_str!("firmware.s"));

/// The language demands it; nothing calls it.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
