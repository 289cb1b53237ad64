//! The capability kernel: page tables, EPT, VMCS, interrupts, timers, capabilities, scheduling, IPC, and nothing else.
fn main() {}
