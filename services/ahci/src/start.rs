//! From the reset of the controller to a drive that takes commands.

use crate::command::{Frame, TRIM_BLOCKS};
use crate::drive::AhciDrive;
use crate::memory::{Memory, PAGE_BYTES};
use crate::port::{Host, Port};
use bulkhead_ata::{IDENTIFY_WORDS, Identity, Unusable};
use bulkhead_driver::{Clock, DmaMemory, PhysicalSegment, Registers};

/// How long the firmware may take to give the controller up, in milliseconds (AHCI, 10.6.3).
const HANDOFF_LIMIT: u64 = 2_000;
/// How long the controller's reset may take (10.4.3).
pub const HOST_LIMIT: u64 = 1_000;
/// How long the link may take.
pub const LINK_LIMIT: u64 = 1_000;
/// How long a drive may take to be ready after a reset (ATA/ATAPI-7 volume 2, 11.2).
pub const READY_LIMIT: u64 = 31_000;
/// How long a port may take to stop (AHCI, 10.1.2).
pub const STOP_LIMIT: u64 = 500;
/// How long a drive may take to answer IDENTIFY DEVICE.
const IDENTIFY_LIMIT: u64 = 5_000;

/// Why a drive could not be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// No controller answers.
    Absent,
    /// No port has an ATA drive.
    NoDrive,
    /// Controller, port or drive did not get ready.
    Timeout,
    /// The drive refused IDENTIFY DEVICE.
    Refused,
    /// The memory is less than [`MEMORY_BYTES`](crate::MEMORY_BYTES), or above 4 GiB where the controller does not reach it.
    Memory,
    /// It is not a drive for this driver.
    Unusable(Unusable),
}

impl<'a, R: Registers, C: Clock> AhciDrive<'a, R, C> {
    /// Resets the controller, finds the first port with an ATA drive, asks it what it is, and lets it interrupt. This waits, within
    /// limits. The memory that is needed is cut off `memory`.
    pub fn start(registers: R, clock: C, memory: &mut DmaMemory<'a>) -> Result<Self, StartError> {
        let host = Host(registers);
        if host.is_gone() {
            return Err(StartError::Absent);
        }
        let in_time = |done| if done { Ok(()) } else { Err(StartError::Timeout) };
        host.ask_firmware();
        in_time(clock.wait_until(HANDOFF_LIMIT, || host.is_handed_over()))?;
        host.reset();
        in_time(clock.wait_until(HOST_LIMIT, || host.is_reset()))?;
        host.enable(false);
        let memory = Memory::new(memory, host.reaches_all()).ok_or(StartError::Memory)?;
        let number = find(&host, &clock, &memory)?;
        let port = host.port(number);
        let identity = identify(&port, &clock, &memory)?;
        port.forget_errors();
        port.take_events();
        port.enable_interrupts(true);
        host.enable(true);
        let queuing = identity.queuing.filter(|_| host.queues());
        let depth = queuing.map_or(1, |queuing| u16::from(queuing.depth.min(host.slots())));
        let information = identity.information(depth, Some(TRIM_BLOCKS));
        Ok(Self::new(host, number, clock, memory, identity, information, queuing.is_some()))
    }
}

/// The first port with an ATA drive; it receives.
fn find<R: Registers>(host: &Host<R>, clock: &impl Clock, memory: &Memory<'_>) -> Result<u32, StartError> {
    for number in host.ports() {
        host.port(number).power();
    }
    // Links come up one after the other: a port without one is looked at again until the time is over.
    let mut found = None;
    let mut looked_at = 0u32;
    clock.wait_until(LINK_LIMIT, || {
        for number in host.ports() {
            if found.is_none() && looked_at >> number & 1 == 0 && host.port(number).is_linked() {
                looked_at |= 1 << number;
                found = examine(&host.port(number), clock, memory).map(|ata| ata.then_some(number)).transpose();
            }
        }
        found.is_some()
    });
    found.unwrap_or(Err(StartError::NoDrive))
}

/// Whether a linked port has an ATA drive. It receives then, and does not otherwise.
fn examine<R: Registers>(port: &Port<'_, R>, clock: &impl Clock, memory: &Memory<'_>) -> Result<bool, StartError> {
    port.receive(memory.list(), memory.received.physical());
    if clock.wait_until(READY_LIMIT, || port.is_ready()) && port.is_ata() {
        return Ok(true);
    }
    port.stop_receiving();
    // The memory is needed for the next port.
    if clock.wait_until(STOP_LIMIT, || port.is_deaf()) { Ok(false) } else { Err(StartError::Timeout) }
}

/// Starts the port and asks the drive what it is, without interrupts.
fn identify<R: Registers>(port: &Port<'_, R>, clock: &impl Clock, memory: &Memory<'_>) -> Result<Identity, StartError> {
    port.start();
    let answer = PhysicalSegment { address: memory.identify.physical(), length: PAGE_BYTES as u64 };
    let (_, descriptors) = memory.describe(0, [answer]).ok_or(StartError::Memory)?;
    memory.prepare(0, &Frame::identify(), descriptors);
    port.issue(0, false);
    let mut failed = false;
    let ended = clock.wait_until(IDENTIFY_LIMIT, || {
        failed = port.is_ready() && port.is_failed();
        failed || port.busy_slots() == 0
    });
    if !ended {
        return Err(StartError::Timeout);
    }
    if failed || memory.transferred(0) != PAGE_BYTES as u64 {
        return Err(StartError::Refused);
    }
    let mut words = [0; IDENTIFY_WORDS];
    for (index, word) in words.iter_mut().enumerate() {
        *word = memory.identify.read_u16(2 * index);
    }
    Identity::parse(&words).map_err(StartError::Unusable)
}
