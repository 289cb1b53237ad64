//! The console service: owns the UART and multiplexes it.
fn main() {}
