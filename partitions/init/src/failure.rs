//! Why init could not do something, in words that a person can act on.

use alloc::string::String;
use bulkhead_affinity::Misplaced;
use bulkhead_runtime::abi::{CpuFeatures, Error};
use bulkhead_runtime::plan::{EntryKind, PlanError};
use core::fmt;

/// What went wrong.
#[derive(Debug)]
pub enum Cause {
    /// The kernel refused a call.
    Kernel(Error),
    /// No free memory of this size and alignment is left.
    NoMemory {
        /// Bytes.
        size: u64,
        /// Alignment in bytes.
        alignment: u64,
    },
    /// The plan wants memory of a NUMA node that is not to be had.
    Node {
        /// The node.
        node: u32,
        /// Why not.
        why: Misplaced,
    },
    /// No number is left for a message interrupt.
    NoMessages,
    /// A device on the PCI bus is not handed out.
    Device {
        /// Its name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// No free memory lies at this fixed physical address.
    NotFree(u64),
    /// Init's own capability table is full.
    NoSlots,
    /// The boot loader did not bring the module.
    ModuleMissing,
    /// The module is not the file that the manifest was compiled with.
    ModuleDiffers {
        /// What differs: length or BLAKE2b-256.
        what: &'static str,
    },
    /// The plan is not readable.
    Plan(PlanError),
    /// The plan asks for something that cannot be.
    Contradiction(&'static str),
    /// The program's file is not usable.
    Program(&'static str),
    /// The processor lacks a feature.
    Features(CpuFeatures),
    /// The machine has fewer CPUs.
    Cpu {
        /// CPU that is asked for.
        wanted: u64,
        /// CPUs that there are.
        present: u64,
    },
}

/// What init was doing to what, and the cause for which it could not.
#[derive(Debug)]
pub struct Failure {
    action: &'static str,
    subject: String,
    /// Kind and name of the environment entry, if it was about one.
    entry: Option<(EntryKind, String)>,
    cause: Cause,
}

impl Failure {
    /// A failure of `action` (as in "map the stack of") on `subject`.
    pub fn new(action: &'static str, subject: &str, cause: Cause) -> Self {
        Self { action, subject: String::from(subject), entry: None, cause }
    }

    /// The same failure, with the environment entry that it is about.
    pub fn with_entry(mut self, kind: Option<EntryKind>, name: &str) -> Self {
        self.entry = kind.map(|kind| (kind, String::from(name)));
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.action, self.subject)?;
        if let Some((kind, name)) = &self.entry {
            write!(f, " ({kind:?} {name})")?;
        }
        write!(f, ": ")?;
        match &self.cause {
            Cause::Kernel(error) => write!(f, "the kernel answered {error:?}"),
            Cause::NoMemory { size, alignment } => {
                write!(f, "no {} KiB of free memory, aligned to {} KiB, are left", size >> 10, alignment >> 10)
            }
            Cause::Node { node, why } => write!(f, "its memory is to come from NUMA node {node}: {why}"),
            Cause::NoMessages => write!(f, "no number is left for a message interrupt"),
            Cause::Device { name, reason } => write!(f, "device {name}: {reason}"),
            Cause::NotFree(address) => {
                write!(f, "there is no free memory at physical address {address:#x}")
            }
            Cause::NoSlots => write!(f, "init's capability table is full"),
            Cause::ModuleMissing => write!(f, "the boot loader did not load it"),
            Cause::ModuleDiffers { what } => {
                write!(f, "its {what} is not the one in the manifest")
            }
            Cause::Plan(error) => write!(f, "{error:?}"),
            Cause::Contradiction(what) => write!(f, "the plan contradicts itself: {what}"),
            Cause::Program(what) => write!(f, "{what}"),
            Cause::Features(features) => {
                write!(f, "the processor lacks ")?;
                for (index, (name, _)) in features.iter_names().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{name}")?;
                }
                Ok(())
            }
            Cause::Cpu { wanted, present } => {
                write!(f, "it needs CPU {wanted}, and the machine has {present} (numbered from 0)")
            }
        }
    }
}

/// Adds what was being done to what a kernel call answered.
pub trait During<T> {
    /// The value, or a failure of `action` on `subject`.
    fn during(self, action: &'static str, subject: &str) -> Result<T, Failure>;
}

impl<T> During<T> for Result<T, Error> {
    fn during(self, action: &'static str, subject: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(action, subject, Cause::Kernel(error)))
    }
}

impl<T> During<T> for Result<T, Cause> {
    fn during(self, action: &'static str, subject: &str) -> Result<T, Failure> {
        self.map_err(|cause| Failure::new(action, subject, cause))
    }
}
