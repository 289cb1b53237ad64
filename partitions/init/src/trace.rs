//! Trace rings: binding them to CPUs before the seal, taking them away at the end, and having them written out.

use crate::allocator::Allocator;
use crate::construct::{Built, Construction, OWN, Outcome};
use crate::failure::{Cause, During, Failure};
use alloc::vec::Vec;
use bulkhead_runtime::abi::{PAGE_SIZE, Rights, init_slot};
use bulkhead_runtime::object::{Capability, Memory, Partition, Table, Window};
use bulkhead_runtime::plan::StatusReport;
use bulkhead_runtime::status::{COMMAND_SIGNAL, Command, Status};
use bulkhead_runtime::syscall::Slot;
use bulkhead_runtime::{events, println, time};

/// How long init waits at least for the rings to be written out, in milliseconds.
const PATIENCE: u64 = 10_000;
/// Bytes of rings for which it waits a millisecond more: a quarter of those that a serial line carries in it, as text.
const BYTES_PER_MILLISECOND: u64 = 8;

/// The rings of the system's CPUs, while they are written.
#[derive(Debug, Default)]
pub struct Rings {
    /// Parents of the kernel's capabilities.
    memories: Vec<Memory>,
    /// Bytes of all.
    length: u64,
}

impl Rings {
    /// Has the kernel write the plan's rings, and says which partition is which in them.
    pub fn bind(construction: &mut Construction<'_>, outcomes: &[Outcome]) -> Result<Self, Failure> {
        let Some((partition, regions)) = construction.plan.trace() else { return Ok(Self::default()) };
        let mut rings = Self::default();
        for (cpu, region) in (0..construction.boot.cpus).zip(regions) {
            let region = construction.regions.get(region).ok_or(Cause::Contradiction("a trace ring without memory"));
            let length = region.as_ref().map_or(0, |region| region.block.length);
            let outcome = region.and_then(|region| bind(&mut construction.allocator, region.memory, length, cpu));
            rings.memories.push(outcome.during("bind the trace rings for partition", partition.name())?);
            rings.length = rings.length.saturating_add(length);
        }
        tell("init", OWN);
        for outcome in outcomes {
            if let Outcome::Built(Built { plan, handle, .. }) = outcome {
                tell(plan.name(), *handle);
            }
        }
        Ok(rings)
    }

    /// Takes the rings away from the kernel, and waits until the partition has written them out.
    pub fn finish(&mut self, built: Option<&Built>, status: Option<Status<'_>>) {
        let (false, Some(built), Some(status)) = (self.memories.is_empty(), built, status) else { return };
        for memory in self.memories.drain(..) {
            // Init's own capability: it can be revoked.
            let _ = memory.revoke();
        }
        status.set_command(Command::Finish);
        if built.notification.signal(COMMAND_SIGNAL).is_err() {
            return println!("bulkhead: partition {} cannot be told to write the trace", built.plan.name());
        }
        let patience = PATIENCE.saturating_add(self.length / BYTES_PER_MILLISECOND);
        let patience = time::now().saturating_add(time::milliseconds(patience));
        while time::now() < patience {
            let report = status.report().map(|(report, _)| report);
            if report == Some(StatusReport::Finished) {
                return;
            }
            events::rest(time::now().saturating_add(time::milliseconds(10)));
        }
        println!("bulkhead: partition {} does not finish the trace", built.plan.name());
    }
}

fn bind(allocator: &mut Allocator, memory: Memory, length: u64, cpu: u64) -> Result<Memory, Cause> {
    let slot = allocator.slot()?;
    let rights = Rights::READ | Rights::WRITE | Rights::GRANT | Rights::REVOKE;
    memory.derive(slot, rights, 0, Table::Own).map_err(Cause::Kernel)?;
    let parent = Memory(slot);
    parent.zero(0, length.next_multiple_of(PAGE_SIZE)).map_err(Cause::Kernel)?;
    parent.trace(Window(Slot(init_slot::FIRST_WINDOW + cpu))).map_err(Cause::Kernel)?;
    Ok(parent)
}

fn tell(name: &str, partition: Partition) {
    if let Ok(account) = partition.account() {
        println!("bulkhead: trace: partition {name} is {}", account.generation);
    }
}
