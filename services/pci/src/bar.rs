//! Base address registers: where a function's registers are, and how large (PCI Local Bus Specification 3.0, 6.2.5.1).

use crate::function::{self, Address, COMMAND_MEMORY, COMMAND_PORTS, ConfigurationSpace};
use bulkhead_plan::layout::BARS;

const FIRST: u8 = 0x10;
const IS_PORTS: u32 = 1 << 0;
const TYPE_64: u32 = 2 << 1;
const TYPE_MASK: u32 = 3 << 1;

/// What a base address register describes. Addresses are multiples of sizes, which are powers of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bar {
    /// Registers in memory.
    Memory {
        /// Physical address.
        address: u64,
        /// Bytes.
        size: u64,
    },
    /// Registers on I/O ports.
    Ports {
        /// First port.
        first: u16,
        /// Ports.
        count: u32,
    },
}

const fn register(index: usize) -> u8 {
    FIRST + 4 * index as u8
}

/// Writes ones, reads what sticks, and puts the old value back. Returns both.
fn probe(space: &impl ConfigurationSpace, function: Address, index: usize) -> (u32, u32) {
    let old = space.read(function, register(index));
    space.write(function, register(index), u32::MAX);
    let mask = space.read(function, register(index));
    space.write(function, register(index), old);
    (old, mask)
}

/// The BARs of a function with header layout 0. What has no address, or an impossible size, is left out. The function answers to
/// none of them meanwhile, and is left so.
pub fn read(space: &impl ConfigurationSpace, function: Address) -> [Option<Bar>; BARS] {
    function::change_command(space, function, 0, COMMAND_MEMORY | COMMAND_PORTS);
    let mut bars = [None; BARS];
    let mut index = 0;
    while index < BARS {
        let (old, mask) = probe(space, function, index);
        let place = index;
        index += 1;
        let bar = if mask & IS_PORTS != 0 {
            ports(old, mask)
        } else if mask & TYPE_MASK == TYPE_64 {
            if index == BARS {
                break;
            }
            let (old_high, mask_high) = probe(space, function, index);
            index += 1;
            memory(join(old, old_high), join(mask, mask_high))
        } else {
            // The bits that a register of 32 bits lacks are ones in the mask of sizes.
            memory(u64::from(old), u64::from(mask) | if mask == 0 { 0 } else { !u64::from(u32::MAX) })
        };
        if let Some(slot) = bars.get_mut(place) {
            *slot = bar;
        }
    }
    bars
}

const fn join(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

fn memory(old: u64, mask: u64) -> Option<Bar> {
    let (address, mask) = (old & !0xf, mask & !0xf);
    let size = (!mask).checked_add(1)?;
    let is_sound = mask != 0 && size.is_power_of_two() && address != 0 && address.is_multiple_of(size);
    is_sound.then(|| address.checked_add(size)).flatten()?;
    Some(Bar::Memory { address, size })
}

fn ports(old: u32, mask: u32) -> Option<Bar> {
    // The upper half may be missing in hardware: a PC has 16 bits of ports.
    let count = (!(mask | 0xffff_0000) | 3).checked_add(1)?;
    let first = u16::try_from(old & !3).ok()?;
    let is_sound =
        mask & 0xfffc != 0 && count.is_power_of_two() && first != 0 && u32::from(first).is_multiple_of(count);
    is_sound.then_some(Bar::Ports { first, count })
}
