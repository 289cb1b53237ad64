//! The system-call boundary of the Bulkhead kernel, described once.
//!
//! Owns: system-call numbers and register layout, object types and their methods, rights, errors, the boot
//! information that init receives, and the page through which a virtual machine monitor and the kernel exchange a guest
//! processor's state. Must never: contain code that runs, or be re-declared anywhere else.
//!
//! # Register layout
//! `syscall` with `rax` = [`Syscall`], `rdi` = slot of the capability used, arguments in `rsi`, `rdx`, `r10`, `r8`, `r9`.
//! On return `rax` = 0 or an [`Error`], results in `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`. `rcx` and `r11` are destroyed by the
//! processor; `rbx`, `rbp`, `rsp` and `r12` to `r15` are kept.
//!
//! # Messages
//! A message is a [`MessageInfo`] in `rsi` and [`MESSAGE_WORDS`] words in `rdx`, `r10`, `r8`, `r9`. Bulk data goes through memory
//! that a channel grants, never through the kernel.
#![no_std]
#![forbid(unsafe_code)]

mod boot;
mod error;
mod object;
mod rights;
mod syscall;
mod trace;
mod vcpu;

pub use boot::*;
pub use error::*;
pub use object::*;
pub use rights::*;
pub use syscall::*;
pub use trace::*;
pub use vcpu::*;

/// Bytes in a page, the unit of memory and of kernel objects.
pub const PAGE_SIZE: u64 = 4096;
/// First address that no native program may use (the end of the lower canonical half, less one page).
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;
