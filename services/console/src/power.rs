//! Switching the machine off.

use bulkhead_runtime::Program;

/// Name of the device whose ports switch the machine off.
pub const DEVICE: &str = "power";

/// PM1a control register, where QEMU's and Bochs' firmware put it.
const CONTROL_REGISTERS: [u16; 2] = [0x604, 0xb004];
/// SLP_EN, with the SLP_TYP of both emulators' S5, which is 0 (ACPI 6.5, 4.8.3.2.1).
const SLEEP: u16 = 1 << 13;
/// Bochs' own port, and what has to be written to it.
const SHUTDOWN_PORT: u16 = 0x8900;
const SHUTDOWN: &[u8] = b"Shutdown";

/// Tries all ways that the environment allows. Returns if there is none.
pub fn off(program: &Program) {
    let ranges = program.environment().ports().filter(|ports| ports.name == DEVICE);
    for range in ranges.filter_map(|entry| program.ports(entry.name, entry.index)) {
        if CONTROL_REGISTERS.contains(&range.base()) {
            // A range that is too small has no such register.
            let _ = range.write_u16(0, SLEEP);
        } else if range.base() == SHUTDOWN_PORT {
            for byte in SHUTDOWN {
                let _ = range.write_u8(0, *byte);
            }
        }
    }
}
