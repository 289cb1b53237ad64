//! Ports, clock, DMA memory and guests' memory, as the libraries want to see them.

use bulkhead_block::Bounce;
use bulkhead_driver::{Clock, PhysicalSegment};
use bulkhead_ide::{Bank, Ports, PrdTable};
use bulkhead_runtime::abi::PAGE_SIZE;
use bulkhead_runtime::ports::PortRange;
use bulkhead_runtime::program::GuestMemory;
use bulkhead_runtime::shared::SharedMemory;
use bulkhead_runtime::{Program, time};
use bulkhead_virtio::OutsideMemory;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};

/// Name of the memory for DMA.
const DMA: &str = "dma";
/// First port of the first channel's command block.
const COMMAND_BLOCK: u16 = 0x1f0;
/// The first channel's port of device control and alternate status.
const CONTROL: u16 = 0x3f6;
/// First port of PCI configuration mechanism 1.
const CONFIGURATION: u16 = 0xcf8;
/// In place of an unknown physical address: what no controller of this kind reaches.
const UNREACHABLE: u64 = 1 << 62;

/// The controller's port ranges, told apart by where they are: those of an IDE channel are fixed (PCI IDE Controller 1.0, 2.1).
pub struct IdePorts {
    device: &'static str,
    command: Option<(PortRange, u16)>,
    control: Option<(PortRange, u16)>,
    bus_master: Option<PortRange>,
    configuration: Option<(PortRange, u16)>,
}

/// A range that holds a port, with the port's offset in it.
fn holding(range: PortRange, port: u16) -> Option<(PortRange, u16)> {
    let offset = port.checked_sub(range.base())?;
    (u32::from(offset) < range.count()).then_some((range, offset))
}

impl IdePorts {
    /// The ranges that the environment names.
    pub fn new(program: &Program) -> Self {
        let mut ports = Self { device: "", command: None, control: None, bus_master: None, configuration: None };
        for entry in program.environment().ports() {
            let Some(range) = program.ports(entry.name, entry.index) else {
                continue;
            };
            if let Some(found) = holding(range, COMMAND_BLOCK) {
                (ports.command, ports.device) = (Some(found), entry.name);
            } else if let Some(found) = holding(range, CONTROL) {
                ports.control = Some(found);
            } else if let Some(found) = holding(range, CONFIGURATION) {
                ports.configuration = Some(found);
            } else {
                ports.bus_master = Some(range);
            }
        }
        ports
    }

    /// Name of the device; empty if there is none.
    pub fn device(&self) -> &'static str {
        self.device
    }

    /// Where the bus-master registers are wanted, if that can be configured.
    pub fn configurable(&self) -> Option<u16> {
        self.configuration?;
        Some(self.bus_master?.base())
    }

    /// The range of a bank, and the offset in it.
    fn find(&self, bank: Bank, offset: u16) -> Option<(PortRange, u16)> {
        let (range, start) = match bank {
            Bank::Command => self.command?,
            Bank::Control => self.control?,
            Bank::BusMaster => (self.bus_master?, 0),
            Bank::Configuration => self.configuration?,
        };
        Some((range, start.checked_add(offset)?))
    }
}

impl Ports for IdePorts {
    fn read_u8(&self, bank: Bank, offset: u16) -> u8 {
        self.find(bank, offset).and_then(|(range, at)| range.read_u8(at).ok()).unwrap_or(u8::MAX)
    }

    fn read_u16(&self, bank: Bank, offset: u16) -> u16 {
        self.find(bank, offset).and_then(|(range, at)| range.read_u16(at).ok()).unwrap_or(u16::MAX)
    }

    fn read_u32(&self, bank: Bank, offset: u16) -> u32 {
        self.find(bank, offset).and_then(|(range, at)| range.read_u32(at).ok()).unwrap_or(u32::MAX)
    }

    fn write_u8(&self, bank: Bank, offset: u16, value: u8) {
        if let Some((range, at)) = self.find(bank, offset) {
            let _ = range.write_u8(at, value);
        }
    }

    fn write_u32(&self, bank: Bank, offset: u16, value: u32) {
        if let Some((range, at)) = self.find(bank, offset) {
            let _ = range.write_u32(at, value);
        }
    }
}

/// The time-stamp counter as a clock.
pub struct Tsc;

impl Clock for Tsc {
    fn milliseconds(&self) -> u64 {
        time::to_microseconds(time::now()) / 1000
    }
}

/// Memory of the service's own that the controller reaches: a page for the table, the rest to bounce data.
pub struct DmaMemory {
    buffer: SharedMemory<'static>,
    physical: u64,
}

impl DmaMemory {
    /// The memory that the environment names, and the table in its first page.
    pub fn new(program: &Program) -> Option<(Self, PrdTable<'static>)> {
        let (memory, entry) = program.memory(DMA)?;
        let page = usize::try_from(PAGE_SIZE).ok()?;
        if entry.physical == 0 || !entry.writable {
            return None;
        }
        let entries: &[AtomicU64] = memory.atomics(0, page / size_of::<AtomicU64>()).ok()?;
        let table = PrdTable::new(entries, entry.physical).ok()?;
        let buffer = memory.part(page, memory.len().checked_sub(page)?).ok().filter(|part| !part.is_empty())?;
        Some((Self { buffer, physical: entry.physical.checked_add(PAGE_SIZE)? }, table))
    }
}

fn offset(offset: u64) -> Result<usize, OutsideMemory> {
    usize::try_from(offset).map_err(|_| OutsideMemory)
}

impl Bounce for DmaMemory {
    fn segment(&self) -> PhysicalSegment {
        PhysicalSegment { address: self.physical, length: self.buffer.len() as u64 }
    }

    fn read(&self, at: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        self.buffer.read(offset(at)?, destination).map_err(|_| OutsideMemory)
    }

    fn write(&self, at: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        self.buffer.write(offset(at)?, source).map_err(|_| OutsideMemory)
    }
}

/// Most ranges of a guest's memory: below 3 GiB and above 4 GiB.
const MAX_RANGES: usize = 2;

/// A guest's memory.
pub struct Ram {
    ranges: heapless::Vec<GuestMemory, MAX_RANGES>,
}

impl Ram {
    /// The memory of this guest; `None` if it is not mapped.
    pub fn new(program: &Program, guest: &str) -> Option<Self> {
        let mut ranges = heapless::Vec::new();
        for memory in program.guest_memories().filter(|memory| memory.entry.guest == guest) {
            ranges.push(memory).ok()?;
        }
        (!ranges.is_empty()).then_some(Self { ranges })
    }

    /// The range in which an address lies.
    fn range(&self, address: u64) -> Result<&GuestMemory, OutsideMemory> {
        let holds = |memory: &&GuestMemory| {
            address.checked_sub(memory.ram.start()).is_some_and(|offset| offset < memory.ram.len())
        };
        self.ranges.iter().find(holds).ok_or(OutsideMemory)
    }
}

impl bulkhead_virtio::GuestMemory for Ram {
    fn read(&self, address: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        self.range(address)?.ram.read(address, destination).map_err(|_| OutsideMemory)
    }

    fn write(&self, address: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        self.range(address)?.ram.write(address, source).map_err(|_| OutsideMemory)
    }

    fn load_u16(&self, address: u64) -> Result<u16, OutsideMemory> {
        let word: &AtomicU16 = self.range(address)?.ram.atomic(address).map_err(|_| OutsideMemory)?;
        Ok(u16::from_le(word.load(Ordering::Acquire)))
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), OutsideMemory> {
        let word: &AtomicU16 = self.range(address)?.ram.atomic(address).map_err(|_| OutsideMemory)?;
        word.store(value.to_le(), Ordering::Release);
        Ok(())
    }

    fn translate(&self, address: u64, length: u64) -> Result<bulkhead_virtio::PhysicalSegment, OutsideMemory> {
        let memory = self.range(address)?;
        let offset = address.checked_sub(memory.ram.start()).ok_or(OutsideMemory)?;
        if length > memory.ram.len().saturating_sub(offset) {
            return Err(OutsideMemory);
        }
        let base = if memory.entry.physical == 0 { UNREACHABLE } else { memory.entry.physical };
        Ok(bulkhead_virtio::PhysicalSegment { address: base.saturating_add(offset), length })
    }
}
