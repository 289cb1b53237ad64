//! What the IOMMU refuses, told. A device that does not stop is taken off the bus.

use crate::configuration::Configuration;
use crate::translation::Units;
use bulkhead_pci::{Address, function};
use bulkhead_runtime::abi::NO_DEADLINE;
use bulkhead_runtime::{events, println};

/// Faults of a device that are told one by one.
const TOLD: u32 = 8;
/// Faults after which a device may not master the bus any more.
const MOST: u32 = 32;
/// Devices whose faults are counted.
const MAX_SOURCES: usize = 32;

/// Faults by device.
type Counts = heapless::Vec<(u16, u32), MAX_SOURCES>;

/// Reports faults, for ever.
pub fn report(space: &Configuration, units: &Units) {
    let mut counts = Counts::new();
    // What happened before this program waited is told now.
    let mut signals = u64::MAX;
    loop {
        for (unit, interrupt) in units.iter().filter(|(_, interrupt)| signals & interrupt.signal != 0) {
            // An edge that comes while the unit is being looked at must not be lost.
            let _ = interrupt.interrupt.acknowledge();
            let overflow = unit.take_faults(|fault| {
                let address = Address(fault.requester);
                let count = count(&mut counts, fault.requester);
                if count <= TOLD {
                    println!("{address}: {fault}");
                }
                if count == MOST {
                    function::change_command(space, address, 0, function::COMMAND_BUS_MASTER);
                    println!("{address}: {MOST} faults: it does not master the bus any more");
                }
            });
            if overflow {
                println!("more was refused than could be recorded");
            }
        }
        signals = events::wait(NO_DEADLINE);
    }
}

/// Counts a device's fault; how many those are. A device too many is not told.
fn count(counts: &mut Counts, requester: u16) -> u32 {
    if let Some((_, count)) = counts.iter_mut().find(|(other, _)| *other == requester) {
        *count = count.saturating_add(1);
        return *count;
    }
    if counts.push((requester, 1)).is_ok() { 1 } else { u32::MAX }
}
