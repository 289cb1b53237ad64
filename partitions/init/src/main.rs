//! Init: builds every partition from the plan, seals the system, starts and restarts partitions.
fn main() {}
