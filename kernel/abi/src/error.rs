//! Errors of system calls; each names what was wrong.

use crate::syscall::numbered;

numbered! {
    /// Why a system call was refused. The caller's state is unchanged unless the method says otherwise. 0 is success.
    pub enum Error {
        /// `rax` named no system call.
        UnknownSyscall = 1,
        /// The method number is not one of the object's type.
        UnknownMethod = 2,
        /// The slot index lies outside the capability table.
        SlotOutOfRange = 3,
        /// The slot holds no capability.
        SlotEmpty = 4,
        /// The destination slot already holds a capability.
        SlotOccupied = 5,
        /// The capability is of another type than the call needs.
        WrongType = 6,
        /// The capability lacks a right that the call needs.
        MissingRight = 7,
        /// An address or length is not a multiple of the page size, or a size is zero.
        Misaligned = 8,
        /// A range lies outside the capability or the address space.
        OutOfRange = 9,
        /// The virtual or guest-physical range is already mapped.
        AlreadyMapped = 10,
        /// Nothing is mapped there.
        NotMapped = 11,
        /// The memory is in use: as a kernel object, or mapped where an object is to be made of it.
        MemoryInUse = 12,
        /// The object's own pool of kernel memory is used up; donate more.
        PoolExhausted = 13,
        /// The object belongs to another CPU than the caller's.
        WrongCpu = 14,
        /// The object is not in a state that allows the call (a thread without registers, a busy vCPU...).
        WrongState = 15,
        /// The call's peer or object was destroyed, or the peer started anew, while the caller waited.
        Gone = 16,
        /// The deadline passed before anything was signalled.
        TimedOut = 17,
        /// An argument is outside its documented values.
        BadArgument = 18,
        /// The system is sealed: no new authority can be made.
        Sealed = 19,
        /// The processor or machine lacks the feature (VMX, EPT, an interrupt controller input...).
        Unsupported = 20,
    }
}

impl Error {
    /// This error, if the condition holds: for checks, with `?`.
    pub const fn when(self, condition: bool) -> Result<(), Self> {
        if condition { Err(self) } else { Ok(()) }
    }
}
