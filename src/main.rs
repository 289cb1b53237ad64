//! The host command of Bulkhead.
fn main() {}
