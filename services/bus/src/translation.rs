//! The IOMMU, from what init says to its tables.

use crate::Device;
use bulkhead_driver::DmaMemory;
use bulkhead_iommu::{Allowed, InterruptTable, MAX_UNITS, PAGE_BYTES, QUEUE_BYTES, Range, Tables, Unit};
use bulkhead_pci::exchange::{self, AllowedInterrupt, DmaRange, MAX_INTERRUPTS, MAX_RANGES, Remapping};
use bulkhead_runtime::device::DeviceRegisters;
use bulkhead_runtime::program::DeviceInterrupt;
use bulkhead_runtime::shared::SharedMemory;
use bulkhead_runtime::time::Tsc;
use bulkhead_runtime::{Program, println};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// A unit, and its interrupt for faults.
pub type UnitOfProgram = (Unit<DeviceRegisters>, DeviceInterrupt);
/// The units.
pub type Units = heapless::Vec<UnitOfProgram, MAX_UNITS>;

/// Whether the processors' APICs are in x2APIC mode: they are if they can be (CPUID 1, ECX bit 21; SDM vol. 2A).
fn x2apic() -> bool {
    core::arch::x86_64::__cpuid(1).ecx & 1 << 21 != 0
}

/// The machine's units; tells init what they can do.
pub fn units(program: &Program, memory: SharedMemory<'static>) -> Units {
    let mut units = Units::new();
    let mut usable = true;
    for (registers, interrupt) in program.remapping_units() {
        match Unit::new(registers, registers.len()) {
            Ok(unit) => {
                // The plan has room for as many.
                let _ = units.push((unit, interrupt));
            }
            Err(error) => {
                println!("a DMA remapping unit cannot be used: {error:?}");
                usable = false;
            }
        }
    }
    let interrupts = units.iter().all(|(unit, _)| unit.remaps_interrupts(x2apic()));
    let offered = Remapping { memory: usable && !units.is_empty(), interrupts };
    // Offsets lie in the memory, whose size is the plan's; so below.
    let _ = memory.write(exchange::REMAPPING, &u32::from(offered).to_le_bytes());
    units
}

/// The records of a kind that init has written.
fn records<T: FromZeros + FromBytes + IntoBytes, const N: usize>(
    memory: SharedMemory<'static>,
    count_at: usize,
    at: fn(usize) -> usize,
) -> heapless::Vec<T, N> {
    let mut count = [0; 4];
    let mut records = heapless::Vec::new();
    let _ = memory.read(count_at, &mut count);
    for index in 0..(u32::from_le_bytes(count) as usize).min(N) {
        let mut record = T::new_zeroed();
        if memory.read(at(index), record.as_mut_bytes()).is_ok() {
            // There are as many places as records.
            let _ = records.push(record);
        }
    }
    records
}

/// Has the units confine all devices, as init has decided; nothing if it has decided that they do not.
pub fn turn_on(
    program: &Program,
    units: &Units,
    memory: SharedMemory<'static>,
    devices: &[Option<Device>],
) -> Result<(), &'static str> {
    let mut chosen = [0; 4];
    let _ = memory.read(exchange::REMAPPING, &mut chosen);
    let chosen = Remapping::from(u32::from_le_bytes(chosen));
    if !chosen.memory {
        return Ok(());
    }
    let (tables_memory, entry) = program.memory(exchange::TABLES).ok_or("there is no memory for tables")?;
    let words = tables_memory.atomics(0, tables_memory.len() / 8).map_err(|_| "the memory for tables is not whole")?;
    if entry.physical == 0 {
        return Err("the memory for tables has no physical address");
    }
    let mut free = DmaMemory::new(words, entry.physical);
    let too_little = "there is too little memory for tables";
    let interrupts = match chosen.interrupts {
        true => Some(InterruptTable::new(&mut free, x2apic()).ok_or(too_little)?),
        false => None,
    };
    if let Some(table) = &interrupts {
        allow(table, memory);
    }
    let mut queues = heapless::Vec::<_, MAX_UNITS>::new();
    for _ in units {
        // There are as many places as units.
        let _ = queues.push(free.take(QUEUE_BYTES, PAGE_BYTES as u64).ok_or(too_little)?);
    }
    let mut formats = units.iter().filter_map(|(unit, _)| unit.format());
    let first = formats.next().ok_or("there is no unit")?;
    let format = formats.try_fold(first, |all, format| all.and(format)).ok_or("the units have no format in common")?;
    let mut tables = Tables::new(free, format).ok_or(too_little)?;
    add_devices(&mut tables, memory, devices)?;
    let write_back = || {
        if units.iter().any(|(unit, _)| unit.needs_write_back()) {
            tables_memory.write_back();
        }
    };
    for ((unit, interrupt), queue) in units.iter().zip(&queues) {
        unit.signal_faults(interrupt.entry.message_address, interrupt.entry.message_data);
        if let Err(error) = unit.turn_on(&Tsc, tables.root(), interrupts.as_ref(), queue, write_back) {
            println!("a DMA remapping unit cannot be turned on: {error:?}");
            return Err("devices cannot be confined");
        }
    }
    Ok(())
}

fn allow(table: &InterruptTable<'_>, memory: SharedMemory<'static>) {
    let interrupts: heapless::Vec<AllowedInterrupt, MAX_INTERRUPTS> =
        records(memory, exchange::INTERRUPT_COUNT, exchange::interrupt);
    for interrupt in &interrupts {
        let AllowedInterrupt { vector, apic_id, requester, level } = *interrupt;
        table.allow(Allowed { vector: vector as u8, apic_id, requester: requester as u16, level: level != 0 });
    }
}

fn add_devices(
    tables: &mut Tables<'_>,
    memory: SharedMemory<'static>,
    devices: &[Option<Device>],
) -> Result<(), &'static str> {
    let ranges: heapless::Vec<DmaRange, MAX_RANGES> = records(memory, exchange::RANGE_COUNT, exchange::range);
    for (index, device) in devices.iter().enumerate() {
        let Some(device) = device else { continue };
        let own = ranges.iter().filter(|range| range.device as usize == index);
        let own =
            own.map(|range| Range { address: range.address, length: range.length, writable: range.writable != 0 });
        let bytes = own.clone().fold(0u64, |sum, range| sum.saturating_add(range.length));
        let address = device.identity.address;
        tables.add(address.0, own).map_err(|error| {
            println!("{address}: no tables: {error:?}");
            "a device's memory cannot be translated"
        })?;
        println!("{address}: confined to {} KiB of memory", bytes >> 10);
    }
    Ok(())
}
