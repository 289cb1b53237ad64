//! The first partition: init, with every capability there is.

use super::elf::Program;
use super::information::Information;
use crate::arch::cpu;
use crate::arch::ioapic::MAX_INTERRUPTS;
use crate::memory::boot_pages::{BootPages, Ranges};
use crate::memory::layout::DIRECT_MAP;
use crate::object::engine;
use crate::object::partition::Partition;
use crate::object::thread::{State, Thread};
use crate::object::window::Window;
use crate::syscall::invoke::create::{initialise_partition, initialise_thread};
use crate::{boot_line, schedule, time};
use bulkhead_abi::{
    BOOT_INFO_ADDRESS, BOOT_INFO_MAGIC, BootInfo, BootRange, CpuFeatures, Error, MAX_BOOT_MEMORY, MAX_BOOT_MODULES,
    ObjectType, PAGE_SIZE, Rights, init_slot,
};
use bulkhead_core::engine::object_rights;
use bulkhead_core::frames::FrameRange;
use bulkhead_core::object::ObjectHeader;
use bulkhead_core::page_table::{Attributes, Mapping, Native, PageSize, PageTable};
use bulkhead_core::phys::{HostPhysical, KernelObject, Ref, TypedObject};
use bulkhead_core::queue::Priority;
use core::sync::atomic::{AtomicU64, Ordering};
use zerocopy::{FromZeros, IntoBytes};

/// Slots of init's table.
const SLOTS: u64 = 4096;
/// Pages for init's page tables.
const POOL_PAGES: u64 = 256;
/// Where init's stack ends.
const STACK_TOP: u64 = 0x2000_0000;
const STACK_BYTES: u64 = 128 << 10;
const NAME: &[u8] = b"init\0";

/// Address of init's first thread.
static THREAD: AtomicU64 = AtomicU64::new(0);

/// Init's first thread.
pub fn thread() -> Option<Ref<Thread>> {
    // SAFETY: written once with the address of a thread that is never destroyed: init holds its capability, and nobody else
    // can revoke it.
    unsafe { Ref::from_address(THREAD.load(Ordering::Relaxed)) }
}

const NO_MEMORY: &str = "too little memory for init";

/// Pages for an object that the kernel makes itself.
fn object<T: TypedObject>(pages: &mut BootPages, count: u64) -> Result<Ref<T>, &'static str> {
    let place = HostPhysical(pages.take(count).ok_or(NO_MEMORY)?);
    // SAFETY: fresh zeroed pages.
    let header: Ref<ObjectHeader> = unsafe { place.object() };
    engine().initialise_object(header, T::TYPE, count as u32);
    header.downcast().ok_or(NO_MEMORY)
}

struct Builder<'a> {
    pages: &'a mut BootPages,
    partition: Ref<Partition>,
}

impl Builder<'_> {
    /// Maps fresh memory in init's space, with contents.
    fn map(&mut self, address: u64, length: u64, contents: &[u8], rights: Rights) -> Result<(), &'static str> {
        let physical = HostPhysical(self.pages.take_bytes(length).ok_or(NO_MEMORY)?);
        let frames = engine().frames();
        let range = FrameRange::new(physical, length.next_multiple_of(PAGE_SIZE)).map_err(|_| NO_MEMORY)?;
        frames.add_ram(range).and_then(|()| frames.add_mapping(range)).map_err(|_| NO_MEMORY)?;
        let target = (DIRECT_MAP + physical.0) as *mut u8;
        // SAFETY: the pages are fresh, and the contents fit: lengths were compared when the program was parsed.
        unsafe { core::ptr::copy_nonoverlapping(contents.as_ptr(), target, contents.len().min(length as usize)) };
        let mapping =
            Mapping::new(address, physical, length.next_multiple_of(PAGE_SIZE)).map_err(|_| "init's layout")?;
        let attributes = Attributes { rights, uncached: false, user: true };
        let table = PageTable::<Native>::new(self.partition.root());
        table.map(&mapping, attributes, &self.partition.pool, PageSize::Small).map_err(|_| "init's layout overlaps")
    }

    fn range(&self, kind: ObjectType, rights: Rights, first: u64, count: u64, slot: u64) -> Result<(), Error> {
        let table = self.partition.table.get().ok_or(Error::Gone)?;
        engine().install_range(kind, rights, first, count, table, slot).map(|_| ())
    }

    fn install<T: TypedObject + KernelObject>(&self, object: Ref<T>, slot: u64) -> Result<(), Error> {
        let table = self.partition.table.get().ok_or(Error::Gone)?;
        engine().install_object(object.header(), object_rights(T::TYPE), table, slot).map(|_| ())
    }
}

/// Builds init from the module of that name, and makes its thread ready.
pub fn construct(
    boot: &Information,
    free: &Ranges,
    pages: &mut BootPages,
    entry_tsc: u64,
    features: CpuFeatures,
) -> Result<(), &'static str> {
    let module =
        boot.modules.iter().find(|module| module.name.starts_with(NAME)).ok_or("there is no module \"init\"")?;
    // SAFETY: the module lies in RAM that the direct map covers and nobody has been given yet.
    let image = unsafe {
        core::slice::from_raw_parts((DIRECT_MAP + module.range.start) as *const u8, module.range.length() as usize)
    };
    let program = Program::parse(image).ok_or("module \"init\" is no static 64-bit ELF program")?;

    let table_pages = SLOTS * size_of::<bulkhead_core::slot::Slot>() as u64 / PAGE_SIZE;
    let partition = object::<Partition>(pages, 2 + table_pages)?;
    initialise_partition(partition, SLOTS);
    for _ in 0..POOL_PAGES {
        partition.pool.give(HostPhysical(pages.take(1).ok_or(NO_MEMORY)?));
    }
    let mut builder = Builder { pages, partition };
    builder.install(partition, init_slot::PARTITION).map_err(|_| "init's capabilities")?;
    for number in 0..cpu::count() {
        let window = object::<Window>(builder.pages, 1)?;
        window.configure(number, Priority::HIGHEST, 0, 0);
        window.root.set(true);
        builder.install(window, init_slot::FIRST_WINDOW + u64::from(number)).map_err(|_| "init's capabilities")?;
    }
    let thread = object::<Thread>(builder.pages, 1)?;
    let table = partition.table.get().ok_or(NO_MEMORY)?;
    let window = table.lookup(init_slot::FIRST_WINDOW).map_err(|_| "init's capabilities")?;
    initialise_thread(thread, partition, window);
    builder.install(thread, init_slot::THREAD).map_err(|_| "init's capabilities")?;
    THREAD.store(thread.address(), Ordering::Relaxed);

    for segment in program.segments() {
        let segment = segment.ok_or("module \"init\" has a malformed segment")?;
        builder.map(segment.address, segment.length, segment.contents, segment.rights)?;
    }
    builder.map(STACK_TOP - STACK_BYTES, STACK_BYTES, &[], Rights::READ | Rights::WRITE)?;
    let info = grant(&builder, boot, free, entry_tsc, features).map_err(|_| "init's capabilities")?;
    builder.map(BOOT_INFO_ADDRESS, size_of::<BootInfo>() as u64, info.as_bytes(), Rights::READ)?;

    thread.prepare(program.entry, STACK_TOP, BOOT_INFO_ADDRESS);
    thread.state.set(State::Ready);
    schedule::make_ready(thread);
    boot_line!("init starts, {} modules", boot.modules.len());
    Ok(())
}

/// Gives init ports, interrupts, free memory and modules, and tells it of them.
fn grant(
    builder: &Builder<'_>,
    boot: &Information,
    free: &Ranges,
    entry_tsc: u64,
    features: CpuFeatures,
) -> Result<BootInfo, Error> {
    let manage = Rights::READ | Rights::CONTROL | Rights::GRANT | Rights::REVOKE;
    builder.range(ObjectType::IoPorts, manage, 0, 1 << 16, init_slot::IO_PORTS)?;
    builder.range(ObjectType::Interrupt, manage, 0, u64::from(MAX_INTERRUPTS), init_slot::INTERRUPTS)?;
    let memory_rights =
        Rights::READ | Rights::WRITE | Rights::EXECUTE | Rights::DMA | Rights::CREATE | Rights::GRANT | Rights::REVOKE;
    let mut info = BootInfo::new_zeroed();
    info.magic = BOOT_INFO_MAGIC;
    info.cpus = u64::from(cpu::count());
    info.tsc_hz = time::frequency();
    info.tsc_at_entry = entry_tsc;
    info.features = features.bits();
    info.slots = SLOTS;
    for (index, range) in free.iter().take(MAX_BOOT_MEMORY).enumerate() {
        let slot = init_slot::FIRST_MEMORY + index as u64;
        builder.range(ObjectType::Memory, memory_rights, range.start, range.length(), slot)?;
        if let Some(entry) = info.memory.get_mut(index) {
            *entry = BootRange { base: range.start, length: range.length(), name: [0; 48] };
        }
        info.memory_count = index as u64 + 1;
    }
    for (index, module) in boot.modules.iter().take(MAX_BOOT_MODULES).enumerate() {
        let slot = init_slot::FIRST_MODULE + index as u64;
        let length = module.range.length();
        if length > 0 {
            let pages = length.next_multiple_of(PAGE_SIZE);
            builder.range(ObjectType::Memory, memory_rights, module.range.start, pages, slot)?;
        }
        if let Some(entry) = info.modules.get_mut(index) {
            *entry = BootRange { base: module.range.start, length, name: module.name };
        }
        info.module_count = index as u64 + 1;
    }
    Ok(info)
}

/// Init has faulted; nobody can restart it. If `rdi` points to a text of its own, that is its last word.
pub fn faulted(thread: Ref<Thread>) -> ! {
    let registers = thread.registers.each_ref().map(core::cell::Cell::get);
    let mut buffer = [0u8; 256];
    let length = copy_text(thread, registers[7], &mut buffer);
    let text = core::str::from_utf8(buffer.get(..length).unwrap_or(&[])).unwrap_or("");
    crate::panic::init_fault(
        thread.fault_vector.get(),
        thread.fault_error.get(),
        thread.rip.get(),
        thread.fault_address.get(),
        &registers,
        text,
    )
}

/// Copies a NUL-terminated text out of init's space; returns its length.
fn copy_text(thread: Ref<Thread>, address: u64, buffer: &mut [u8]) -> usize {
    let Some(partition) = thread.partition.get() else {
        return 0;
    };
    let table = PageTable::<Native>::new(partition.root());
    for (index, place) in buffer.iter_mut().enumerate() {
        let at = address.wrapping_add(index as u64);
        if at >= bulkhead_abi::USER_END {
            return index;
        }
        let Some(found) = table.translate(at) else {
            return index;
        };
        // SAFETY: init's pages are RAM in the direct map; any byte is a valid `u8`.
        *place = unsafe { ((DIRECT_MAP + found.physical.0) as *const u8).read_volatile() };
        if *place == 0 {
            return index;
        }
    }
    buffer.len()
}
