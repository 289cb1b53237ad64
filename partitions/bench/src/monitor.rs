//! A monitor of a few lines, for a guest whose only program reads and writes one page again and again: the *window*, which the
//! monitor takes away and puts back.
//!
//! The first processor runs on the main thread, for as long as that likes; each other one on a thread and a CPU of its own,
//! until it is told to halt.

use bulkhead_machine::loader::BootState;
use bulkhead_runtime::abi::{ExitReason, NO_DEADLINE, Rights, StateGroups, register};
use bulkhead_runtime::mapping::GuestProcessor;
use bulkhead_runtime::object::{Capability, GuestSpace, Memory};
use bulkhead_runtime::plan::layout;
use bulkhead_runtime::shared::SharedMemory;
use bulkhead_runtime::syscall::Slot;
use bulkhead_runtime::{Program, thread, time};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use spin::Mutex;

/// Guest-physical address of the window, which is no RAM.
const WINDOW: u64 = 0x4000_0000;
/// Where the guest's program is in its RAM.
const CODE: usize = 0x1000;
/// Its page directory, by which 4-MiB pages map the RAM and the window one to one: with paging on, processors cache
/// translations of both kinds (SDM vol. 3, 29.4.2), and need not be able to run without.
const DIRECTORY: usize = 0xf000;
/// Entry of it: present, writable, 4 MiB.
const LARGE_PAGE: u32 = 0x83;
/// CR0.PG and CR4.PSE.
const PAGING: u64 = 1 << 31;
const LARGE_PAGES: u64 = 1 << 4;
/// Where each processor tells what it does: a page each.
const RESULTS: usize = 0x2000;
/// The pages that are put into the window by turns.
const PAGES: [usize; 2] = [0x1_0000, 0x1_1000];
const PAGE: usize = 0x1000;
/// Offset of a processor's counter in the window.
const fn counter(processor: usize) -> usize {
    64 + 4 * processor
}

/// Upper half of the first word of a page that must not be read any more.
pub const GONE: u32 = 0x0bad;
/// Upper half of the first word of a page in the window.
pub const PRESENT: u32 = 0x600d;

/// The program, for 32-bit protected mode. esi: window, edi: results, ebx: offset of the own counter in the window.
const PROGRAM: [u8; 34] = [
    0x8b, 0x06, // again: mov eax, [esi]
    0x89, 0x47, 0x08, // mov [edi + 8], eax: the last content
    0x89, 0xc1, // mov ecx, eax
    0xc1, 0xe9, 0x10, // shr ecx, 16
    0x81, 0xf9, 0xad, 0x0b, 0x00, 0x00, // cmp ecx, GONE
    0x75, 0x03, // jne +3
    0xff, 0x47, 0x04, // inc dword ptr [edi + 4]: old content
    0x42, // inc edx
    0x89, 0x14, 0x1e, // mov [esi + ebx], edx: into the window
    0x89, 0x17, // mov [edi], edx: times around
    0x83, 0x7f, 0x0c, 0x00, // cmp dword ptr [edi + 12], 0
    0x74, 0xdf, // je again
    0xf4, // hlt
];

/// Basic exit reasons (SDM vol. 3, appendix C).
const HLT: u64 = 12;
const EPT_VIOLATION: u64 = 48;

/// RFLAGS.IF.
const INTERRUPTS_ON: u64 = 1 << 9;

/// Most processors of the guest.
pub const MAX_PROCESSORS: usize = 8;
/// Where further processors wait for their threads.
static WAITING: [Mutex<Option<GuestProcessor>>; MAX_PROCESSORS] = [const { Mutex::new(None) }; MAX_PROCESSORS];
/// How many of them have halted, and how many have ended otherwise.
static HALTED: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicU32 = AtomicU32::new(0);

/// What a processor has done so far.
#[derive(Clone, Copy, Debug)]
pub struct Results {
    /// Times around its loop.
    pub rounds: u32,
    /// Contents read that should have been gone.
    pub old: u32,
    /// The last content read.
    pub content: u32,
}

/// The guest.
pub struct Guest {
    ram: SharedMemory<'static>,
    space: GuestSpace,
    pages: [Memory; 2],
    first: GuestProcessor,
    /// Processors beside the first one.
    others: usize,
}

impl Guest {
    /// Builds the guest and starts its further processors, which go round as soon as something is in the window.
    pub fn start(program: &Program) -> Result<Self, &'static str> {
        let memory = program.guest_memories().next().ok_or("no guest memory")?;
        let (space, _) = program.guest_space().ok_or("no guest space")?;
        let ram = memory.ram.memory();
        ram.write(CODE, &PROGRAM).map_err(|_| "the guest memory is too small")?;
        for address in [0, WINDOW] {
            let entry = LARGE_PAGE | address as u32;
            let place = DIRECTORY + 4 * (address >> 22) as usize;
            ram.write(place, &entry.to_le_bytes()).map_err(|_| "the guest memory is too small")?;
        }
        let whole = Memory(Slot(memory.entry.slot));
        let pages = [part(whole, PAGES[0])?, part(whole, PAGES[1])?];
        let mut processors = program.vcpus().enumerate().map(|(index, entry)| {
            let processor = entry.vcpu.map_state(entry.entry.state);
            processor.map(|processor| prepare(processor, index)).map_err(|_| "a state page cannot be mapped")
        });
        let first = processors.next().ok_or("no guest processor")??;
        let mut others = 0;
        for (processor, thread) in processors.zip(program.environment().threads()) {
            let place = WAITING.get(thread.index as usize).ok_or("the guest has too many processors")?;
            *place.lock() = Some(processor?);
            thread::start(&thread, run_other).map_err(|_| "a thread does not start")?;
            others += 1;
        }
        if others == 0 {
            Err("the guest has one processor only")
        } else {
            Ok(Self { ram, space, pages, first, others })
        }
    }

    fn word(&self, offset: usize) -> &'static AtomicU32 {
        static OUTSIDE: AtomicU32 = AtomicU32::new(0);
        self.ram.atomic(offset).unwrap_or(&OUTSIDE)
    }

    /// Puts page 0 or 1 into the window, with this content.
    pub fn put(&self, page: usize, content: u32) -> Result<(), &'static str> {
        self.word(PAGES[page % 2]).store(content, Ordering::SeqCst);
        let rights = Rights::READ | Rights::WRITE;
        self.space.map(self.pages[page % 2], WINDOW, rights).map_err(|_| "a page cannot be mapped")
    }

    /// Takes page 0 or 1 out of the window.
    #[inline(always)]
    pub fn take(&self, page: usize) -> bool {
        self.space.unmap(self.pages[page % 2]).is_ok()
    }

    /// Changes the content of a page, wherever it is.
    pub fn change(&self, page: usize, content: u32) {
        self.word(PAGES[page % 2]).store(content, Ordering::SeqCst);
    }

    /// Numbers of the processors that go round by themselves.
    pub fn others(&self) -> core::ops::RangeInclusive<usize> {
        1..=self.others
    }

    /// What the processors last wrote to a page.
    pub fn written(&self, page: usize) -> [u32; MAX_PROCESSORS] {
        core::array::from_fn(|processor| self.word(PAGES[page % 2] + counter(processor)).load(Ordering::SeqCst))
    }

    /// What a processor tells.
    pub fn results(&self, processor: usize) -> Results {
        let at = |offset| self.word(RESULTS + PAGE * processor + offset).load(Ordering::SeqCst);
        Results { rounds: at(0), old: at(4), content: at(8) }
    }

    /// Runs the first processor for so many ticks.
    pub fn run_first(&mut self, ticks: u64) -> Result<(), &'static str> {
        let state = self.first.state_mut();
        state.deadline = time::now().saturating_add(ticks);
        state.dirty |= StateGroups::DEADLINE.bits();
        match self.first.run() {
            Ok(ExitReason::Deadline) => Ok(()),
            _ => Err("the first processor did not run"),
        }
    }

    /// Halts the other processors, and waits until their threads have left them.
    pub fn halt_others(&self) -> Result<(), &'static str> {
        for processor in self.others() {
            self.word(RESULTS + PAGE * processor + 12).store(1, Ordering::SeqCst);
        }
        let patience = time::now().saturating_add(time::milliseconds(1000));
        while HALTED.load(Ordering::SeqCst) < self.others as u32 {
            if time::now() > patience || FAILED.load(Ordering::SeqCst) != 0 {
                return Err("a processor does not halt");
            }
        }
        Ok(())
    }
}

/// A page of the guest's memory, as a capability in the first slot that is free.
fn part(whole: Memory, offset: usize) -> Result<Memory, &'static str> {
    static NEXT: AtomicU64 = AtomicU64::new(layout::FIRST_SLOT);
    loop {
        let slot = Slot(NEXT.fetch_add(1, Ordering::Relaxed));
        match whole.derive_range(slot, Rights::READ | Rights::WRITE, offset as u64, PAGE as u64) {
            Ok(()) => return Ok(Memory(slot)),
            Err(bulkhead_runtime::abi::Error::SlotOccupied) => {}
            Err(_) => return Err("a page of the guest's memory cannot be derived"),
        }
    }
}

/// Sets a processor to the beginning of the program.
fn prepare(mut processor: GuestProcessor, index: usize) -> GuestProcessor {
    let state = processor.state_mut();
    BootState::protected_mode(CODE as u32, 0).apply(state);
    state.cr0 |= PAGING;
    state.cr3 = DIRECTORY as u64;
    state.cr4 |= LARGE_PAGES;
    state.registers[register::RSI] = WINDOW;
    state.registers[register::RDI] = (RESULTS + PAGE * index) as u64;
    state.registers[register::RBX] = counter(index) as u64;
    // With its own interrupts on, though there are none: Bochs holds back the host's while they are off.
    state.rflags |= INTERRUPTS_ON;
    state.deadline = NO_DEADLINE;
    state.dirty |= (StateGroups::all() - StateGroups::APIC).bits();
    processor
}

/// Runs a further processor until it halts. While the window is empty it exits again and again.
fn run_other(index: usize) {
    let Some(mut processor) = WAITING.get(index).and_then(|place| place.lock().take()) else {
        return;
    };
    let ended = loop {
        match processor.run() {
            Ok(ExitReason::Hardware) if processor.state().exit_reason == EPT_VIOLATION => {}
            Ok(ExitReason::Hardware) if processor.state().exit_reason == HLT => break &HALTED,
            Ok(ExitReason::Signal | ExitReason::Deadline) => {}
            _ => break &FAILED,
        }
    };
    ended.fetch_add(1, Ordering::SeqCst);
}
