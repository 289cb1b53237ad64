//! The system calls.

macro_rules! numbered {
    ($(#[$top:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $item:ident = $number:literal,)* }) => {
        $(#[$top])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u64)]
        $vis enum $name { $($(#[$doc])* $item = $number,)* }

        impl $name {
            /// The item with this number, if there is one.
            pub const fn from_number(number: u64) -> Option<Self> {
                match number { $($number => Some(Self::$item),)* _ => None }
            }
        }
    };
}
pub(crate) use numbered;

numbered! {
    /// The system calls: number in `rax`.
    pub enum Syscall {
        /// Send a message to an `Endpoint` on this CPU and wait for the reply. `rdi` endpoint slot, `rsi` [`MessageInfo`], words.
        /// Returns the reply's info and words. Needs `Rights::CALL`.
        Call = 0,
        /// Reply to the caller served last, if any, and receive the next message. `rdi` endpoint slot, `rsi` reply info, words.
        /// Returns `rdi` = badge of the caller's capability, or [`SIGNAL_BADGE`] with `rdx` = signal bits when the thread's bound
        /// notification was signalled. Needs `Rights::RECEIVE`.
        ReplyReceive = 1,
        /// Or bits into a `Notification`: those of `rsi` that the capability's badge has, too, or all bits of the badge if there is none such; if
        /// the badge is 0, the bits in `rsi`. Needs `Rights::SIGNAL`.
        Signal = 2,
        /// Wait until a `Notification` is not zero, then take and clear it. `rsi` = deadline as a TSC value, [`NO_DEADLINE`]
        /// to wait for ever, 0 to poll. Returns `rdx` = bits; `TimedOut` if the deadline passed first. Needs `Rights::WAIT`.
        Wait = 3,
        /// Run a `Vcpu` until an exit that the kernel does not handle, or until the thread's bound notification is signalled.
        /// Returns `rsi` = [`crate::ExitReason`]; details are in its [`crate::VcpuState`]. Needs `Rights::RUN`.
        Run = 4,
        /// Give the CPU to the next ready thread of the same priority. Never fails; needs no capability.
        Yield = 5,
        /// A method of the object in slot `rdi`. `rsi` = method number, arguments in `rdx`, `r10`, `r8`, `r9`.
        Invoke = 6,
    }
}

/// Words of a message.
pub const MESSAGE_WORDS: usize = 4;
/// Deadline that never passes.
pub const NO_DEADLINE: u64 = u64::MAX;
/// Badge that `ReplyReceive` returns when the bound notification, not a message, ended the wait.
pub const SIGNAL_BADGE: u64 = u64::MAX;

/// The first word of a message: a label for the receiver and, optionally, a capability to transfer.
///
/// Bits 0 to 31: label. Bits 32 to 63: slot (16 bits) of the capability to transfer, as a child of the sender's, plus 1; 0 for none. The
/// receiver names the slot for it by [`crate::ThreadMethod::SetReceiveSlot`]; it learns from the same field whether one came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MessageInfo(pub u64);

impl MessageInfo {
    /// A message with this label and no capability.
    pub const fn new(label: u32) -> Self {
        Self(label as u64)
    }
    /// The same message, with a capability to transfer.
    pub const fn with_capability(self, slot: u16) -> Self {
        Self((self.0 & 0xffff_ffff) | ((slot as u64 + 1) << 32))
    }
    /// The label.
    pub const fn label(self) -> u32 {
        self.0 as u32
    }
    /// The slot of the capability that goes along, if any.
    pub const fn capability(self) -> Option<u16> {
        let field = (self.0 >> 32) as u32;
        if field == 0 || field > 0x1_0000 { None } else { Some((field - 1) as u16) }
    }
}
