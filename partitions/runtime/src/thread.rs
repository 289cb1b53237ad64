//! Further threads of a program: the environment names them, the first thread starts them.

use crate::object;
use crate::syscall::Slot;
use bulkhead_abi::Error;
use bulkhead_plan::{Thread, layout};
use core::arch::{asm, global_asm};

/// Most threads of a program.
pub const MAX_THREADS: usize = 16;

global_asm!(
    ".pushsection .text, \"ax\", @progbits",
    ".type bulkhead_thread, @function",
    "bulkhead_thread:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {enter}",
    "ud2",
    ".size bulkhead_thread, . - bulkhead_thread",
    ".popsection",
    enter = sym enter,
);

unsafe extern "C" {
    fn bulkhead_thread();
}

/// What each thread runs, by index.
static ENTRIES: [spin::Once<fn(usize)>; MAX_THREADS] = [const { spin::Once::new() }; MAX_THREADS];

extern "C" fn enter(index: u64) -> ! {
    let index = index as usize;
    crate::events::live();
    if let Some(function) = ENTRIES.get(index).and_then(spin::Once::get) {
        function(index);
    }
    loop {
        crate::events::wait(bulkhead_abi::NO_DEADLINE);
    }
}

/// Starts a further thread: it runs `function` with its index, and sleeps for ever after that. A thread can be started once.
pub fn start(entry: &Thread, function: fn(usize)) -> Result<(), Error> {
    let index = entry.index as usize;
    let once = ENTRIES.get(index).filter(|_| index != 0).ok_or(Error::OutOfRange)?;
    once.call_once(|| function);
    crate::events::set_notification_of(index, object::Notification(Slot(entry.notification)));
    let thread = object::Thread(Slot(entry.slot));
    let address = bulkhead_thread as *const () as u64;
    thread.set_registers(address, entry.stack_top, index as u64)?;
    thread.start()
}

/// Index of the thread that calls, from the place of its stack; 0 for the first one, and for init.
#[inline]
pub fn index() -> usize {
    let stack: u64;
    // SAFETY: it copies a register.
    unsafe { asm!("mov {}, rsp", out(reg) stack, options(nomem, nostack, preserves_flags)) };
    let first = layout::STACK_TOP - layout::STACK_STRIDE;
    let index = stack.saturating_sub(first) / layout::STACK_STRIDE;
    if index < MAX_THREADS as u64 { index as usize } else { 0 }
}
