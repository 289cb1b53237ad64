//! QEMU's device for teaching: it copies between memory and a buffer of its own (QEMU documentation, docs/specs/edu).

use bulkhead_driver::Clock;
use bulkhead_driver::Registers;

/// BAR of its registers.
pub const REGISTERS_BAR: u8 = 0;
/// Its identification ends with this.
const IDENTIFICATION: u32 = 0xed;
/// Registers of a copy.
const SOURCE: u32 = 0x80;
const DESTINATION: u32 = 0x88;
const BYTES: u32 = 0x90;
const COMMAND: u32 = 0x98;
/// Where its buffer is, in its own addresses.
const BUFFER: u32 = 0x4_0000;
const START: u32 = 1;
const FROM_DEVICE: u32 = 2;
/// A copy takes 100 ms, and must not take longer than this.
const PATIENCE: u64 = 2000;

/// The device.
pub struct Edu<R, C> {
    registers: R,
    clock: C,
}

impl<R: Registers, C: Clock> Edu<R, C> {
    /// The device behind these registers; `None` if it is another one.
    pub fn new(registers: R, clock: C) -> Option<Self> {
        (registers.read_u32(0) & 0xff == IDENTIFICATION).then_some(Self { registers, clock })
    }

    /// Has it read memory to its buffer. False if it does not end.
    pub fn read(&self, address: u32, bytes: u32) -> bool {
        self.copy(address, BUFFER, bytes, START)
    }

    /// Has it write its buffer to memory.
    pub fn write(&self, address: u32, bytes: u32) -> bool {
        self.copy(BUFFER, address, bytes, START | FROM_DEVICE)
    }

    fn copy(&self, source: u32, destination: u32, bytes: u32, command: u32) -> bool {
        for (register, value) in [(SOURCE, source), (DESTINATION, destination), (BYTES, bytes), (COMMAND, command)] {
            self.registers.write_u32(register, value);
        }
        self.clock.wait_until(PATIENCE, || self.registers.read_u32(COMMAND) & START == 0)
    }
}
