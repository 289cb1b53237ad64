//! Memory that a program maps into its own space: with the view on it, so that no address has to be trusted.

use crate::object::{Capability, Memory, Partition, Table, Thread, Vcpu};
use crate::shared::SharedMemory;
use crate::syscall::{self, Slot};
use bulkhead_abi::{
    BootInfo, Error, ExitReason, FaultReport, MAP_UNCACHED, ObjectType, PAGE_SIZE, Rights, StateGroups, ThreadMethod,
    VcpuMethod, VcpuState, init_slot,
};
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use zerocopy::FromBytes;

/// Addresses at which [`Mapping`] may put memory: nothing of the program itself lies there (see the linker script, and the
/// environment for stack and heap).
pub const MAPPING_ADDRESSES: Range<u64> = 0x4000_0000..0x7000_0000_0000;

/// Memory that is mapped in this program until the mapping is dropped.
#[derive(Debug)]
pub struct Mapping {
    partition: Partition,
    memory: Memory,
    address: u64,
    length: u64,
}

impl Mapping {
    /// Maps all of `memory` at a free address inside [`MAPPING_ADDRESSES`]; `partition` must be this program's own.
    ///
    /// `attributes`: 0 or [`MAP_UNCACHED`]. Writing through the view of a mapping without the write right faults.
    pub fn new(
        partition: Partition,
        memory: Memory,
        address: u64,
        rights: Rights,
        attributes: u64,
    ) -> Result<Self, Error> {
        let inspection = memory.inspect()?;
        if inspection.object != ObjectType::Memory {
            return Err(Error::WrongType);
        }
        if attributes & !MAP_UNCACHED != 0 {
            return Err(Error::BadArgument);
        }
        let end = address.checked_add(inspection.size).ok_or(Error::OutOfRange)?;
        if address < MAPPING_ADDRESSES.start || end > MAPPING_ADDRESSES.end {
            return Err(Error::OutOfRange);
        }
        partition.map(memory, address, rights, attributes)?;
        Ok(Self { partition, memory, address, length: inspection.size })
    }

    /// The memory.
    pub fn view(&self) -> SharedMemory<'_> {
        // SAFETY: the kernel mapped so many bytes at the address, which was free until then and is set apart for mappings;
        // the mapping lives as long as the borrow.
        unsafe { SharedMemory::at(self.address, self.length) }
    }

    /// Keeps the memory mapped for good.
    pub fn leak(self) -> SharedMemory<'static> {
        // SAFETY: as in `view`; the mapping is never undone, since it is forgotten.
        let view = unsafe { SharedMemory::at(self.address, self.length) };
        core::mem::forget(self);
        view
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // It fails only if the memory is no longer mapped there, which is what was wanted.
        let _ = self.partition.unmap(self.memory);
    }
}

/// Maps boot module `index` for good, read-only, at an address inside [`MAPPING_ADDRESSES`]: for init, whose own partition
/// it names. `slot` receives the capability that is mapped.
///
/// Modules' memory is never writable for anybody, hence the plain bytes.
pub fn map_module(boot: &BootInfo, index: usize, slot: Slot, address: u64) -> Result<&'static [u8], Error> {
    let count = usize::try_from(boot.module_count).unwrap_or(0);
    let module = boot.modules.get(..count).and_then(|modules| modules.get(index));
    let length = module.ok_or(Error::OutOfRange)?.length;
    let root = Memory(Slot(init_slot::FIRST_MODULE + index as u64));
    root.derive(slot, Rights::READ, 0, Table::Own)?;
    let own = Partition(Slot(init_slot::PARTITION));
    let view = Mapping::new(own, Memory(slot), address, Rights::READ, 0)?.leak();
    let length = usize::try_from(length).map_err(|_| Error::OutOfRange)?;
    if length > view.len() {
        return Err(Error::OutOfRange);
    }
    // SAFETY: so many bytes are mapped there for good, and nobody can write to them.
    Ok(unsafe { core::slice::from_raw_parts(address as usize as *const u8, length) })
}

/// Where [`Thread::read_fault`] has the kernel write.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct FaultPage([u8; PAGE_SIZE as usize]);

impl FaultPage {
    /// An empty page.
    pub const fn new() -> Self {
        Self([0; PAGE_SIZE as usize])
    }

    pub(crate) fn read(&mut self, thread: Thread) -> Result<FaultReport, Error> {
        let address = self.0.as_mut_ptr() as u64;
        // SAFETY: the kernel writes one report to the page, which is borrowed mutably, and any bytes are valid in it.
        unsafe { syscall::invoke(thread.0, ThreadMethod::ReadFault as u64, [address, 0, 0, 0])? };
        FaultReport::read_from_prefix(&self.0).map(|(report, _)| report).map_err(|_| Error::BadArgument)
    }
}

impl Default for FaultPage {
    fn default() -> Self {
        Self::new()
    }
}

/// A guest processor with its state page and its virtual-APIC page.
///
/// The kernel changes the page during [`GuestProcessor::run`] and [`GuestProcessor::fetch`] only, which both need the handle
/// mutably, so that plain references to the state are sound at all other times.
#[derive(Debug)]
pub struct GuestProcessor {
    vcpu: Vcpu,
    state: NonNull<VcpuState>,
}

// SAFETY: the page belongs to the handle alone, which is not `Clone`.
unsafe impl Send for GuestProcessor {}

impl GuestProcessor {
    pub(crate) fn map(vcpu: Vcpu, address: u64) -> Result<Self, Error> {
        let last = MAPPING_ADDRESSES.end - 2 * PAGE_SIZE;
        if !(MAPPING_ADDRESSES.start..=last).contains(&address) || !address.is_multiple_of(PAGE_SIZE) {
            return Err(Error::OutOfRange);
        }
        claim(address)?;
        // SAFETY: the address is set apart for mappings; the kernel refuses if something is mapped there.
        let mapped = unsafe { syscall::invoke(vcpu.0, VcpuMethod::MapState as u64, [address, 0, 0, 0]) };
        match mapped {
            Ok(_) => {}
            // The program's former life mapped the page; the environment gives each page the same address in all lives.
            Err(Error::AlreadyMapped) if RESTARTED.load(Ordering::Relaxed) => {}
            Err(error) => return Err(error),
        }
        let state = NonNull::new(address as usize as *mut VcpuState).ok_or(Error::OutOfRange)?;
        Ok(Self { vcpu, state })
    }

    /// The state at the last exit.
    #[inline(always)]
    pub fn state(&self) -> &VcpuState {
        // SAFETY: the kernel mapped the vCPU's state page there (it maps the page at most once) and never unmaps it while the
        // program runs; any bytes are a valid state; the kernel writes only while the handle is borrowed mutably.
        unsafe { self.state.as_ref() }
    }

    /// The state, to change before the next run; changed groups must be named in its `dirty` word.
    #[inline(always)]
    pub fn state_mut(&mut self) -> &mut VcpuState {
        // SAFETY: as in `state`.
        unsafe { self.state.as_mut() }
    }

    /// The virtual-APIC page: 1,024 words, which the hardware uses during [`GuestProcessor::run`].
    pub fn apic_page(&self) -> &'static [AtomicU32] {
        let page = self.state.as_ptr() as usize + PAGE_SIZE as usize;
        // SAFETY: the kernel mapped the page right behind the state page, for as long as the program runs; it is only ever
        // used as atomics.
        unsafe { core::slice::from_raw_parts(page as *const AtomicU32, PAGE_SIZE as usize / 4) }
    }

    /// Runs the guest processor until an exit that the kernel does not handle, a signal or the deadline.
    #[inline(always)]
    pub fn run(&mut self) -> Result<ExitReason, Error> {
        let reason = syscall::run(self.vcpu.0)?;
        ExitReason::from_number(reason).ok_or(Error::WrongState)
    }

    /// Brings state groups up to date in the state page.
    pub fn fetch(&mut self, groups: StateGroups) -> Result<(), Error> {
        // SAFETY: the kernel writes to the state page only, which is borrowed mutably with `self`.
        unsafe { syscall::invoke(self.vcpu.0, VcpuMethod::Fetch as u64, [groups.bits(), 0, 0, 0])? };
        Ok(())
    }

    /// The handle.
    pub const fn vcpu(&self) -> Vcpu {
        self.vcpu
    }

    /// The slot of the handle.
    pub const fn slot(&self) -> Slot {
        self.vcpu.0
    }
}

/// Whether the program has been started before: its address space is older than it.
static RESTARTED: AtomicBool = AtomicBool::new(false);
/// Addresses of state pages that have a handle; 0 for a free place.
static CLAIMED: [AtomicU64; MAX_PROCESSORS] = [const { AtomicU64::new(0) }; MAX_PROCESSORS];
/// Most guest processors of a program.
const MAX_PROCESSORS: usize = 64;

/// Set once, at the program's entry.
pub(crate) fn set_restarted(restarted: bool) {
    RESTARTED.store(restarted, Ordering::Relaxed);
}

/// Sees to it that there is one handle to a state page at most.
fn claim(address: u64) -> Result<(), Error> {
    for place in &CLAIMED {
        match place.compare_exchange(0, address, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Ok(()),
            Err(other) if other == address => return Err(Error::AlreadyMapped),
            Err(_) => {}
        }
    }
    Err(Error::OutOfRange)
}

// The state fits the one page that the kernel maps.
const _: () = assert!(size_of::<VcpuState>() <= PAGE_SIZE as usize);
