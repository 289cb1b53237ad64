//! The system calls, one stub each, exactly as [`bulkhead_abi`] lays out the registers.
//!
//! The stubs are the program's fast paths: they are inlined and do nothing but move registers. The typed handles of
//! [`crate::object`] are built on them.

use bulkhead_abi::{Error, MESSAGE_WORDS, MessageInfo, SIGNAL_BADGE, Syscall};
use core::arch::asm;

/// Index of a capability in this program's own table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u64);

/// Words of a message.
pub type Words = [u64; MESSAGE_WORDS];

/// What `Invoke` returned in `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`.
#[derive(Clone, Copy, Debug)]
pub struct Results {
    /// `rdi`.
    pub rdi: u64,
    /// `rsi`.
    pub rsi: u64,
    /// `rdx`.
    pub rdx: u64,
    /// `r10`.
    pub r10: u64,
    /// `r8`.
    pub r8: u64,
    /// `r9`.
    pub r9: u64,
}

/// What ended a wait in [`reply_receive`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// A message from the holder of the capability with this badge.
    Message {
        /// Badge of the caller's capability.
        badge: u64,
        /// Label and capability of the message.
        info: MessageInfo,
        /// Its words.
        words: Words,
    },
    /// The bound notification was signalled.
    Signals(u64),
}

#[inline(always)]
fn checked<T>(code: u64, value: T) -> Result<T, Error> {
    match code {
        0 => Ok(value),
        // The kernel returns only codes of the enumeration; another one can be no success either.
        other => Err(Error::from_number(other).unwrap_or(Error::UnknownSyscall)),
    }
}

/// `Call`: sends a message to an endpoint on this CPU and waits for the reply.
#[inline(always)]
pub fn call(endpoint: Slot, info: MessageInfo, words: Words) -> Result<(MessageInfo, Words), Error> {
    let (code, reply_info): (u64, u64);
    let [mut word0, mut word1, mut word2, mut word3] = words;
    // SAFETY: `syscall` changes no memory of this program except by what the peer writes to shared memory, which is only
    // accessed atomically; every register that the kernel may change is an output.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") Syscall::Call as u64 => code,
            inlateout("rdi") endpoint.0 => _,
            inlateout("rsi") info.0 => reply_info,
            inlateout("rdx") word0,
            inlateout("r10") word1,
            inlateout("r8") word2,
            inlateout("r9") word3,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    checked(code, (MessageInfo(reply_info), [word0, word1, word2, word3]))
}

/// `ReplyReceive`: replies to the caller served last, if any, and waits for the next message or signal.
#[inline(always)]
pub fn reply_receive(endpoint: Slot, info: MessageInfo, words: Words) -> Result<Received, Error> {
    let (code, badge, received_info): (u64, u64, u64);
    let [mut word0, mut word1, mut word2, mut word3] = words;
    // SAFETY: as in `call`.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") Syscall::ReplyReceive as u64 => code,
            inlateout("rdi") endpoint.0 => badge,
            inlateout("rsi") info.0 => received_info,
            inlateout("rdx") word0,
            inlateout("r10") word1,
            inlateout("r8") word2,
            inlateout("r9") word3,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    let received = if badge == SIGNAL_BADGE {
        Received::Signals(word0)
    } else {
        Received::Message { badge, info: MessageInfo(received_info), words: [word0, word1, word2, word3] }
    };
    checked(code, received)
}

/// The system calls that take two arguments and return two results: their code, `rsi` and `rdx`.
#[inline(always)]
fn short(number: Syscall, slot: u64, argument: u64) -> (u64, u64, u64) {
    let (code, rsi, rdx): (u64, u64, u64);
    // SAFETY: as in `call`. `Run` changes the vCPU's state page, which its owner only reaches through the handle that
    // is borrowed mutably for the call.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as u64 => code,
            inlateout("rdi") slot => _,
            inlateout("rsi") argument => rsi,
            lateout("rdx") rdx,
            lateout("r10") _,
            lateout("r8") _,
            lateout("r9") _,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    (code, rsi, rdx)
}

/// `Signal`: the notification gets the capability's badge, or `bits` if the badge is 0.
#[inline(always)]
pub fn signal(notification: Slot, bits: u64) -> Result<(), Error> {
    checked(short(Syscall::Signal, notification.0, bits).0, ())
}

/// `Wait`: waits until the notification is not zero or the TSC has reached `deadline`; returns its bits, which it clears.
#[inline(always)]
pub fn wait(notification: Slot, deadline: u64) -> Result<u64, Error> {
    let (code, _, bits) = short(Syscall::Wait, notification.0, deadline);
    checked(code, bits)
}

/// `Run`: runs a vCPU; returns the number of the [`bulkhead_abi::ExitReason`].
#[inline(always)]
pub(crate) fn run(vcpu: Slot) -> Result<u64, Error> {
    let (code, reason, _) = short(Syscall::Run, vcpu.0, 0);
    checked(code, reason)
}

/// `Yield`: gives the CPU to the next ready thread of the same priority.
#[inline(always)]
pub fn yield_now() {
    // SAFETY: as in `call`; the call takes no arguments and always succeeds.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") Syscall::Yield as u64 => _,
            lateout("rdi") _,
            lateout("rsi") _,
            lateout("rdx") _,
            lateout("r10") _,
            lateout("r8") _,
            lateout("r9") _,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
}

/// `Invoke`: method `method` of the object in `slot`, with the arguments of `rdx`, `r10`, `r8` and `r9`.
///
/// # Safety
/// Some methods write to memory of this program or take memory away from it: the caller must see to it that no Rust object
/// lies there.
#[inline(always)]
pub(crate) unsafe fn invoke(slot: Slot, method: u64, arguments: [u64; 4]) -> Result<Results, Error> {
    let (code, rdi, rsi, rdx, r10, r8, r9): (u64, u64, u64, u64, u64, u64, u64);
    // SAFETY: every register that the kernel may change is an output; the caller vouches for the method.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") Syscall::Invoke as u64 => code,
            inlateout("rdi") slot.0 => rdi,
            inlateout("rsi") method => rsi,
            inlateout("rdx") arguments[0] => rdx,
            inlateout("r10") arguments[1] => r10,
            inlateout("r8") arguments[2] => r8,
            inlateout("r9") arguments[3] => r9,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    checked(code, Results { rdi, rsi, rdx, r10, r8, r9 })
}
