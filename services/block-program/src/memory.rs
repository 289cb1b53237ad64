//! Memory of the service's own that the device reaches.

use bulkhead_block_device::Bounce;
use bulkhead_driver::{DmaMemory, PhysicalSegment};
use bulkhead_runtime::Program;
use bulkhead_runtime::channel::AtomicU64;
use bulkhead_runtime::shared::SharedMemory;
use bulkhead_virtio::OutsideMemory;

/// Name of the memory for DMA.
const DMA: &str = "dma";

/// Memory to bounce data.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    memory: SharedMemory<'static>,
    physical: u64,
}

/// The memory for DMA that the environment names: the driver's part of so many bytes, in whole pages, and the rest as a buffer. `None` if
/// there is none, its physical address is not known, or nothing is left for the buffer.
pub fn dma_memory(program: &Program, drivers_part: usize) -> Option<(DmaMemory<'static>, Buffer)> {
    let (memory, entry) = program.memory(DMA)?;
    if entry.physical == 0 || !entry.writable {
        return None;
    }
    let own: &[AtomicU64] = memory.atomics(0, drivers_part / size_of::<AtomicU64>()).ok()?;
    let rest = memory.part(drivers_part, memory.len().checked_sub(drivers_part)?).ok()?;
    let physical = entry.physical.checked_add(drivers_part as u64)?;
    (!rest.is_empty()).then_some((DmaMemory::new(own, entry.physical), Buffer { memory: rest, physical }))
}

fn offset(offset: u64) -> Result<usize, OutsideMemory> {
    usize::try_from(offset).map_err(|_| OutsideMemory)
}

impl Bounce for Buffer {
    fn segment(&self) -> PhysicalSegment {
        PhysicalSegment { address: self.physical, length: self.memory.len() as u64 }
    }

    fn read(&self, at: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        self.memory.read(offset(at)?, destination).map_err(|_| OutsideMemory)
    }

    fn write(&self, at: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        self.memory.write(offset(at)?, source).map_err(|_| OutsideMemory)
    }
}
