//! Controller registers (NVMe 1.4, 3.1).

use bulkhead_driver::Registers;

/// Offsets of the registers.
const CAPABILITIES: u32 = 0x00;
const CONFIGURATION: u32 = 0x14;
const STATUS: u32 = 0x1c;
const ADMIN_ATTRIBUTES: u32 = 0x24;
const ADMIN_SUBMISSION: u32 = 0x28;
const ADMIN_COMPLETION: u32 = 0x30;
const DOORBELLS: u32 = 0x1000;

/// CC.EN.
const ENABLE: u32 = 1 << 0;
/// CC.IOSQES and IOCQES: entries of 2^6 and 2^4 bytes; CC.MPS, CSS and AMS are 0: pages of 4 KiB, NVM commands, round robin.
const ENTRY_SIZES: u32 = 6 << 16 | 4 << 20;

/// CSTS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(u32);

impl Status {
    /// The controller takes commands.
    pub fn is_ready(self) -> bool {
        self.0 & 1 != 0
    }

    /// The controller cannot go on without a reset.
    pub fn is_fatal(self) -> bool {
        self.0 & 2 != 0
    }

    /// Nothing answers on the bus.
    pub fn is_gone(self) -> bool {
        self.0 == u32::MAX
    }
}

/// CAP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Most entries of a queue: MQES, which counts from 0.
    pub fn queue_entries(self) -> u32 {
        (self.0 & 0xffff) as u32 + 1
    }

    /// Longest time to get ready, or not ready, in milliseconds: TO, in units of 500.
    pub fn ready_limit(self) -> u64 {
        (self.0 >> 24 & 0xff).max(1) * 500
    }

    /// Bytes between two doorbells: DSTRD.
    pub fn doorbell_stride(self) -> u32 {
        4 << (self.0 >> 32 & 0xf)
    }

    /// There are NVM commands (CSS), and pages of 4 KiB (MPSMIN).
    pub fn is_usable(self) -> bool {
        self.0 >> 37 & 1 != 0 && self.0 >> 48 & 0xf == 0
    }
}

/// The registers of a controller.
pub struct Controller<R> {
    registers: R,
    pub capabilities: Capabilities,
}

impl<R: Registers> Controller<R> {
    pub fn new(registers: R) -> Self {
        let capabilities = Capabilities(registers.read_u64(CAPABILITIES));
        Self { registers, capabilities }
    }

    pub fn status(&self) -> Status {
        Status(self.registers.read_u32(STATUS))
    }

    /// Begins a reset: the controller forgets its I/O queues, and has ended all DMA when it is not ready any more (7.3.2).
    pub fn disable(&self) {
        self.registers.write_u32(CONFIGURATION, 0);
    }

    /// Lets the controller get ready, with the admin queues at these addresses, of so many entries each.
    pub fn enable(&self, submission: u64, completion: u64, entries: u16) {
        let last = u32::from(entries.saturating_sub(1)) & 0xfff;
        self.registers.write_u32(ADMIN_ATTRIBUTES, last << 16 | last);
        self.registers.write_u64(ADMIN_SUBMISSION, submission);
        self.registers.write_u64(ADMIN_COMPLETION, completion);
        self.registers.write_u32(CONFIGURATION, ENTRY_SIZES | ENABLE);
    }

    /// Tells a queue's new tail (3.1.24). Queue 0 is the admin queue.
    pub fn ring_submission(&self, queue: u16, tail: u16) {
        self.ring(2 * u32::from(queue), tail);
    }

    /// Tells a queue's new head (3.1.25).
    pub fn ring_completion(&self, queue: u16, head: u16) {
        self.ring(2 * u32::from(queue) + 1, head);
    }

    fn ring(&self, doorbell: u32, value: u16) {
        // Queues are few, and a stride is at most 2^17: this does not overflow.
        self.registers.write_u32(DOORBELLS + doorbell * self.capabilities.doorbell_stride(), value.into());
    }
}
