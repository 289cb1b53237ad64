//! Control registers that are read in more than one place.

/// CR2: the address of the last page fault.
pub fn fault_address() -> u64 {
    // SAFETY: the kernel may read it.
    unsafe { x86::controlregs::cr2() as u64 }
}
