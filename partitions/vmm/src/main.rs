//! The per-guest virtual machine monitor.
fn main() {}
