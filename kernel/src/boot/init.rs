//! The first partition: init, with every capability there is.

use super::firmware::Machine;
use super::information::Information;
use crate::arch::cpu;
use crate::arch::ioapic::MAX_INTERRUPTS;
use crate::memory::boot_pages::{BootPages, Range, Ranges};
use crate::memory::layout::DIRECT_MAP;
use crate::object::engine;
use crate::object::partition::Partition;
use crate::object::thread::{State, Thread};
use crate::object::window::Window;
use crate::syscall::invoke::create::{initialise_partition, initialise_thread};
use crate::{boot_line, schedule, time};
use bulkhead_abi::{
    BOOT_INFO_ADDRESS, BOOT_INFO_MAGIC, BootInfo, BootRange, CpuFeatures, Error, ObjectType, PAGE_SIZE, Rights,
    USER_END, init_slot,
};
use bulkhead_core::engine::{install_object, install_range, object_rights};
use bulkhead_core::frames::FrameRange;
use bulkhead_core::object::ObjectHeader;
use bulkhead_core::page_table::{Attributes, Mapping, Native, PageSize, PageTable};
use bulkhead_core::phys::{HostPhysical, Ref, TypedObject};
use bulkhead_core::queue::Priority;
use bulkhead_core::slot::Slot;
use core::sync::atomic::{AtomicU64, Ordering};
use elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::{ElfBytes, file::Class};
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

/// Whether a thread is init's first.
pub fn is_init(thread: Ref<Thread>) -> bool {
    thread.address() == THREAD.load(Ordering::Relaxed)
}

const NO_MEMORY: &str = "too little memory for init";
const NO_SLOT: &str = "init's capabilities";

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
        const WRONG: &str = "init's layout is wrong";
        let length = length.checked_next_multiple_of(PAGE_SIZE).ok_or(WRONG)?;
        if contents.len() as u64 > length || address.checked_add(length).is_none_or(|end| end > USER_END) {
            return Err(WRONG);
        }
        let physical = HostPhysical(self.pages.take_bytes(length).ok_or(NO_MEMORY)?);
        let frames = engine().frames();
        let range = FrameRange::new(physical, length).map_err(|_| NO_MEMORY)?;
        frames.add_ram(range).and_then(|()| frames.add_mapping(range)).map_err(|_| NO_MEMORY)?;
        let target = (DIRECT_MAP + physical.0) as *mut u8;
        // SAFETY: the pages are fresh, and the contents fit.
        unsafe { core::ptr::copy_nonoverlapping(contents.as_ptr(), target, contents.len()) };
        let mapping = Mapping::new(address, physical, length).map_err(|_| WRONG)?;
        let attributes = Attributes { rights, uncached: false, user: true };
        let table = PageTable::<Native>::new(self.partition.root.get());
        table.map(&mapping, attributes, &self.partition.pool, PageSize::Small).map_err(|_| WRONG)
    }

    /// Maps the segments of a program; answers its first instruction. No memory is writable and executable.
    fn load(&mut self, image: &[u8]) -> Result<u64, &'static str> {
        const NOT_ELF: &str = "module \"init\" is no static 64-bit ELF program";
        let program = ElfBytes::<LittleEndian>::minimal_parse(image).map_err(|_| NOT_ELF)?;
        let header = program.ehdr;
        if header.class != Class::ELF64 || header.e_type != ET_EXEC || header.e_machine != EM_X86_64 {
            return Err(NOT_ELF);
        }
        let segments = program.segments().ok_or(NOT_ELF)?;
        for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD) {
            let rights = match segment.p_flags & (PF_X | PF_W) {
                0 => Rights::READ,
                PF_X => Rights::READ | Rights::EXECUTE,
                PF_W => Rights::READ | Rights::WRITE,
                _ => return Err("module \"init\" has a segment that is writable and executable"),
            };
            let contents = program.segment_data(&segment).map_err(|_| NOT_ELF)?;
            self.map(segment.p_vaddr, segment.p_memsz, contents, rights)?;
        }
        Ok(header.e_entry)
    }

    fn slot(&self, index: u64) -> Result<Ref<Slot>, Error> {
        self.partition.table.get().ok_or(Error::Gone)?.vacant(index)
    }

    fn install<T: TypedObject>(&self, object: Ref<T>, index: u64) -> Result<(), Error> {
        install_object(self.slot(index)?, object.header(), object_rights(T::TYPE));
        Ok(())
    }
}

/// Builds init from the module of that name, and makes its thread ready.
pub fn construct(
    boot: &Information,
    machine: &Machine,
    free: &Ranges,
    pages: &mut BootPages,
    entry_tsc: u64,
    features: CpuFeatures,
) -> Result<(), &'static str> {
    let module =
        boot.modules.iter().find(|module| module.name.starts_with(NAME)).ok_or("there is no module \"init\"")?;
    // SAFETY: the module lies in RAM that the direct map covers and nobody has been given yet.
    let image = unsafe { core::slice::from_raw_parts((DIRECT_MAP + module.base) as *const u8, module.length as usize) };
    let table_pages = SLOTS * size_of::<bulkhead_core::slot::Slot>() as u64 / PAGE_SIZE;
    let partition = object::<Partition>(pages, 2 + table_pages)?;
    initialise_partition(partition, SLOTS);
    for _ in 0..POOL_PAGES {
        partition.pool.give(HostPhysical(pages.take(1).ok_or(NO_MEMORY)?));
    }
    let mut builder = Builder { pages, partition };
    builder.install(partition, init_slot::PARTITION).map_err(|_| NO_SLOT)?;
    for number in 0..cpu::count() {
        let window = object::<Window>(builder.pages, 1)?;
        window.configure(number, Priority::HIGHEST, 0, 0);
        window.root.set(true);
        builder.install(window, init_slot::FIRST_WINDOW + u64::from(number)).map_err(|_| NO_SLOT)?;
    }
    let thread = object::<Thread>(builder.pages, 1)?;
    let table = partition.table.get().ok_or(NO_MEMORY)?;
    let window = table.lookup(init_slot::FIRST_WINDOW).map_err(|_| NO_SLOT)?;
    initialise_thread(thread, partition, window);
    builder.install(thread, init_slot::THREAD).map_err(|_| NO_SLOT)?;
    THREAD.store(thread.address(), Ordering::Relaxed);

    let entry = builder.load(image)?;
    builder.map(STACK_TOP - STACK_BYTES, STACK_BYTES, &[], Rights::READ | Rights::WRITE)?;
    let mut info = grant(&builder, boot, free, entry_tsc, features).map_err(|_| NO_SLOT)?;
    [info.mcfg, info.dmar, info.srat] = machine.tables;
    builder.map(BOOT_INFO_ADDRESS, size_of::<BootInfo>() as u64, info.as_bytes(), Rights::READ)?;

    thread.prepare(entry, STACK_TOP, BOOT_INFO_ADDRESS);
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
    install_range(builder.slot(init_slot::IO_PORTS)?, ObjectType::IoPorts, manage, 0, 1 << 16);
    install_range(builder.slot(init_slot::INTERRUPTS)?, ObjectType::Interrupt, manage, 0, u64::from(MAX_INTERRUPTS));
    let memory_rights =
        Rights::READ | Rights::WRITE | Rights::EXECUTE | Rights::DMA | Rights::CREATE | Rights::GRANT | Rights::REVOKE;
    let mut info = BootInfo::new_zeroed();
    info.magic = BOOT_INFO_MAGIC;
    info.cpus = u64::from(cpu::count());
    info.apic_ids = core::array::from_fn(|number| cpu::by_number(number as u32).map_or(0, |cpu| cpu.apic_id.get()));
    info.tsc_hz = time::frequency();
    info.tsc_at_entry = entry_tsc;
    info.features = features.bits();
    info.slots = SLOTS;
    // A range is listed in `entries` and gets the slot of the same number from `first` on.
    let list = |entries: &mut [BootRange], ranges: &mut dyn Iterator<Item = BootRange>, first: u64, rights| {
        let mut count = 0;
        for ((entry, range), slot) in entries.iter_mut().zip(ranges).zip(first..) {
            if range.length > 0 {
                let length = range.length.next_multiple_of(PAGE_SIZE);
                install_range(builder.slot(slot)?, ObjectType::Memory, rights, range.base, length);
            }
            *entry = range;
            count += 1;
        }
        Ok(count)
    };
    let nameless = |range: &Range| BootRange { base: range.start, length: range.length(), name: [0; 48] };
    let mut modules = boot.modules.iter().copied();
    info.memory_count = list(&mut info.memory, &mut free.iter().map(nameless), init_slot::FIRST_MEMORY, memory_rights)?;
    let module_rights = Rights::READ | Rights::EXECUTE | Rights::GRANT;
    info.module_count = list(&mut info.modules, &mut modules, init_slot::FIRST_MODULE, module_rights)?;
    let device_rights = Rights::READ | Rights::WRITE | Rights::GRANT | Rights::REVOKE;
    let devices = device_ranges(&boot.areas);
    let mut devices = devices.iter().map(nameless);
    list(&mut info.device_memory, &mut devices, init_slot::FIRST_DEVICE_MEMORY, device_rights)?;
    Ok(info)
}

/// Where devices' registers may be: what is neither RAM nor I/O APICs (from 0xfec0_0000) nor local APICs and messages (from
/// 0xfee0_0000). No processor of ours has more than 46 bits of physical address for devices.
fn device_ranges(areas: &Ranges) -> [Range; 3] {
    let end = |is_low: bool| {
        let areas = areas.iter().filter(|area| (area.start < 1 << 32) == is_low);
        areas.map(|area| area.end.saturating_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1)).max().unwrap_or(0)
    };
    [(end(true), 0xfec0_0000), (0xfed0_0000, 0xfee0_0000), (end(false).max(1 << 32), 1 << 46)]
        .map(|(start, end)| Range { start: start.min(end), end })
}

/// Init has faulted; nobody can restart it. If `rdi` points to a text of its own, that is its last word.
pub fn faulted(thread: Ref<Thread>) -> ! {
    let mut text = heapless::Vec::<u8, 256>::new();
    if let Some(partition) = thread.partition.get() {
        let table = PageTable::<Native>::new(partition.root.get());
        let found = (thread.registers[7].get()..USER_END).map_while(|address| table.translate(address));
        // SAFETY: init's pages are RAM in the direct map; any byte is a valid `u8`.
        let bytes = found.map(|found| unsafe { ((DIRECT_MAP + found.physical.0) as *const u8).read_volatile() });
        text.extend(bytes.take_while(|byte| *byte != 0).take(256));
    }
    crate::panic::init_fault(thread, core::str::from_utf8(&text).unwrap_or(""))
}
