//! Why a device cannot be used.

/// Why a device could not be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// Its structures are in several BARs, beyond the registers, too short, or misaligned.
    Structures,
    /// Nothing answers.
    Absent,
    /// It did not end a reset, or did not answer a request.
    Timeout,
    /// It lacks a feature that the driver cannot do without, or refused the choice.
    Features,
    /// It lacks a queue, or the queue is too short, or its doorbell is out of reach.
    Queue,
    /// It did not take the interrupt vector.
    Interrupts,
    /// What it says of itself changes all the time, or makes no sense.
    Configuration,
    /// It cannot be written to.
    ReadOnly,
    /// It answered what was not asked.
    Broken,
    /// The memory is less than the driver takes.
    Memory,
}
