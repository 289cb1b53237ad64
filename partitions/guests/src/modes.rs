//! How interrupts between processors can be addressed (SDM vol. 3, 11.6.2).

use crate::interrupts::NMI;
use crate::ledger::Message;
use crate::{apic, smp};

/// How logical destinations are understood.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// xAPIC: a bit for each of eight processors.
    Flat,
    /// xAPIC: clusters of up to four; here of two, so that four processors have two.
    Cluster,
    /// x2APIC: clusters of sixteen, by the identifier.
    X2Apic,
}

/// How an interrupt is addressed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Physical,
    PhysicalBroadcast,
    Logical,
    LogicalGroup,
    LogicalBroadcast,
    LowestPhysical,
    LowestPriority,
    NonMaskable,
    NonMaskableOthers,
    Myself,
    SelfRegister,
    All,
    Others,
}

/// Modes that do not depend on the model.
pub const UNIFORM: [Mode; 8] = [
    Mode::Physical,
    Mode::PhysicalBroadcast,
    Mode::LowestPhysical,
    Mode::NonMaskable,
    Mode::NonMaskableOthers,
    Mode::Myself,
    Mode::All,
    Mode::Others,
];
/// Modes that do.
pub const BY_MODEL: [Mode; 4] = [Mode::Logical, Mode::LogicalGroup, Mode::LogicalBroadcast, Mode::LowestPriority];

impl Model {
    /// The model's name, where it is not that of the APIC's mode.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flat => " flat",
            Self::Cluster | Self::X2Apic => " cluster",
        }
    }

    /// Gives this processor its logical address.
    pub fn set(self, processor: usize) {
        match self {
            Self::Flat => apic::write(apic::DESTINATION_FORMAT, u32::MAX),
            Self::Cluster => apic::write(apic::DESTINATION_FORMAT, 0x0fff_ffff),
            // It follows from the identifier.
            Self::X2Apic => {
                assert_eq!(apic::read(apic::LOGICAL_DESTINATION), self.address(processor));
                return;
            }
        }
        apic::write(apic::LOGICAL_DESTINATION, self.address(processor) << 24);
    }

    fn address(self, processor: usize) -> u32 {
        match self {
            Self::Flat => 1 << processor,
            Self::Cluster => ((processor / 2) << 4 | 1 << (processor % 2)) as u32,
            Self::X2Apic => {
                let identifier = smp::identifier(processor);
                (identifier >> 4) << 16 | 1 << (identifier & 15)
            }
        }
    }

    /// Processors that one message can reach together with `processor`.
    fn group(self, processor: usize) -> u32 {
        let cluster = |of: usize| match self {
            Self::Flat => 0,
            Self::Cluster => of as u32 / 2,
            Self::X2Apic => smp::identifier(of) >> 4,
        };
        let together = (0..smp::count()).filter(|other| cluster(*other) == cluster(processor));
        together.fold(0, |set, other| set | 1 << other)
    }

    /// The logical destination of processors that one message can reach.
    fn destination(self, targets: u32) -> u32 {
        (0..smp::count()).filter(|target| targets >> target & 1 != 0).fold(0, |all, target| all | self.address(target))
    }
}

impl Mode {
    /// Its name in the summary.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Physical => "fixed physical",
            Self::PhysicalBroadcast => "fixed physical broadcast",
            Self::Logical => "fixed logical",
            Self::LogicalGroup => "fixed logical group",
            Self::LogicalBroadcast => "fixed logical broadcast",
            Self::LowestPhysical => "lowest priority physical",
            Self::LowestPriority => "lowest priority logical",
            Self::NonMaskable => "NMI physical",
            Self::NonMaskableOthers => "NMI to all but self",
            Self::Myself => "self",
            Self::SelfRegister => "self by its register",
            Self::All => "all",
            Self::Others => "all but self",
        }
    }

    /// Whether it sends NMIs, of which only one can wait at a processor, whoever sent it.
    pub const fn is_non_maskable(self) -> bool {
        matches!(self, Self::NonMaskable | Self::NonMaskableOthers)
    }

    /// Whether it is for the sender alone.
    pub const fn is_for_self(self) -> bool {
        matches!(self, Self::Myself | Self::SelfRegister)
    }

    /// The sender's message of this number, to one processor after the other where one gets it.
    pub fn message(self, model: Model, sender: usize, number: usize, vector: usize) -> Message {
        let everybody = (1 << smp::count()) - 1;
        let others = everybody & !(1 << sender);
        let partner = (sender + 1 + number % (smp::count() - 1).max(1)) % smp::count();
        // Over all processors, the sender too, and with that over all clusters.
        let group = model.group(number % smp::count());
        let plain = Message::fixed(vector, partner);
        let logical = |targets: u32| Message {
            command: plain.command | apic::LOGICAL,
            destination: model.destination(targets),
            targets,
            ..plain
        };
        let shorthand =
            |bits: u32, targets: u32| Message { command: plain.command | bits, destination: 0, targets, ..plain };
        let non_maskable = apic::ASSERT | apic::NMI;
        match self {
            Self::Physical => plain,
            Self::PhysicalBroadcast => Message { destination: apic::broadcast(), targets: everybody, ..plain },
            Self::Logical => logical(1 << partner),
            Self::LogicalGroup => logical(group),
            Self::LogicalBroadcast => Message { destination: apic::broadcast(), ..logical(everybody) },
            Self::LowestPhysical => Message { command: plain.command | apic::LOWEST_PRIORITY, ..plain },
            Self::LowestPriority => {
                let message = logical(group);
                Message { command: message.command | apic::LOWEST_PRIORITY, is_for_any: true, ..message }
            }
            Self::NonMaskable => Message { vector: NMI, command: non_maskable, ..plain },
            Self::NonMaskableOthers => {
                let command = non_maskable | apic::OTHERS;
                Message { vector: NMI, command, destination: 0, targets: others, ..plain }
            }
            Self::Myself => shorthand(apic::MYSELF, 1 << sender),
            Self::SelfRegister => Message { targets: 1 << sender, is_by_self_register: true, ..plain },
            Self::All => shorthand(apic::ALL, everybody),
            Self::Others => shorthand(apic::OTHERS, others),
        }
    }
}
