//! Tiny built-in test guests.
fn main() {}
