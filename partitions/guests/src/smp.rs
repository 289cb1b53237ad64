//! The guest's processors: finding them, starting them, and giving them work.

use crate::instructions::{enable_interrupts, processor_index, read_cr3, write_msr};
use crate::machine::{Ports, cpuid};
use crate::{acpi, apic, delay, interrupts};
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

global_asm!(include_str!("trampoline.s"));

/// Most processors that are used.
pub const MAXIMUM: usize = 8;
/// Pages below 1 MiB where processors may start; real-mode memory of a PC that nothing else uses.
pub const START_PAGES: [u8; 2] = [0x08, 0x09];
/// `trampoline.s` has it, too.
const STACK: usize = 32 * 1024;
/// The 8259 pair's mask registers.
const PIC_MASKS: [u16; 2] = [0x21, 0xa1];
const GS_BASE: u32 = 0xc000_0101;

#[repr(C, align(16))]
struct Stacks(UnsafeCell<[[u8; STACK]; MAXIMUM]>);
// SAFETY: each processor uses its own part, by its stack pointer alone.
unsafe impl Sync for Stacks {}
#[unsafe(no_mangle)]
static GUEST_STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK]; MAXIMUM]));
#[unsafe(no_mangle)]
static GUEST_CR3: AtomicU32 = AtomicU32::new(0);
#[unsafe(no_mangle)]
static GUEST_INDEX_OF_IDENTIFIER: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];

/// What a processor's GS base points to.
static INDICES: [AtomicU32; MAXIMUM] = [const { AtomicU32::new(0) }; MAXIMUM];
static IDENTIFIERS: [AtomicU32; MAXIMUM] = [const { AtomicU32::new(0) }; MAXIMUM];
static COUNT: AtomicUsize = AtomicUsize::new(1);

/// What a processor found when it started.
#[derive(Clone, Copy)]
pub struct Start {
    /// How often it has started.
    pub times: u32,
    /// CR0.
    pub cr0: u32,
    /// EDX: its signature.
    pub signature: u32,
    /// Everything that must be 0, combined.
    pub zero: u32,
    /// CS in the upper half, the others combined in the lower.
    pub segments: u32,
    /// What of its local APIC was not as after INIT, a bit each; all of them if the mode is wrong.
    pub apic_faults: u32,
}

static STARTS: [[AtomicU32; 6]; MAXIMUM] = [const { [const { AtomicU32::new(0) }; 6] }; MAXIMUM];
/// Grows while a processor waits for work.
static HEARTBEATS: [AtomicU32; MAXIMUM] = [const { AtomicU32::new(0) }; MAXIMUM];

/// What processors are given to do.
type Work<'a> = dyn Fn(usize) + Sync + 'a;
struct Slot(UnsafeCell<Option<&'static Work<'static>>>);
// SAFETY: the boot processor writes it while nobody reads: readers begin when the generation changes, and have read it before
// they say that they have finished.
unsafe impl Sync for Slot {}
static WORK: Slot = Slot(UnsafeCell::new(None));
static GENERATION: AtomicU32 = AtomicU32::new(0);
static FINISHED: [AtomicU32; MAXIMUM] = [const { AtomicU32::new(0) }; MAXIMUM];

/// How many processors there are.
pub fn count() -> usize {
    COUNT.load(Ordering::SeqCst)
}

/// All but the boot processor, which is 0.
pub fn others() -> core::ops::Range<usize> {
    1..count()
}

/// The local APIC identifier of a processor.
pub fn identifier(processor: usize) -> u32 {
    IDENTIFIERS[processor].load(Ordering::SeqCst)
}

/// What a processor found when it last started.
pub fn last_start(processor: usize) -> Start {
    let [times, cr0, signature, zero, segments, apic_faults] =
        STARTS[processor].each_ref().map(|x| x.load(Ordering::SeqCst));
    Start { times, cr0, signature, zero, segments, apic_faults }
}

/// Grows while a processor waits for work.
pub fn heartbeat(processor: usize) -> u32 {
    HEARTBEATS[processor].load(Ordering::SeqCst)
}

/// Finds the processors, and makes this one ready to start the others.
pub fn prepare() {
    let own = cpuid(1, 0).ebx >> 24;
    let mut count = 1;
    IDENTIFIERS[0].store(own, Ordering::SeqCst);
    acpi::processors(|identifier| {
        if identifier != own && identifier < 0xff && count < MAXIMUM {
            IDENTIFIERS[count].store(identifier, Ordering::SeqCst);
            GUEST_INDEX_OF_IDENTIFIER[identifier as usize].store(count as u8, Ordering::SeqCst);
            count += 1;
        }
    });
    COUNT.store(count, Ordering::SeqCst);
    for (index, place) in INDICES.iter().enumerate() {
        place.store(index as u32, Ordering::SeqCst);
    }
    // The loader's and this program's page tables lie in the first 4 GiB.
    GUEST_CR3.store(read_cr3() as u32, Ordering::SeqCst);
    for page in START_PAGES {
        write_start_page(page);
    }
    // Firmware may have left the timer on, at a vector that is an exception's by now.
    PIC_MASKS.into_iter().for_each(|port| Ports::write_u8(port, 0xff));
    interrupts::prepare();
    begin(0);
    enable_interrupts();
}

/// Finds and starts all processors.
pub fn start() {
    prepare();
    if count() > 1 {
        start_others(START_PAGES[0]);
    }
}

/// Starts all but the boot processor by INIT and SIPI to everybody else (SDM vol. 3, 9.4.4.1).
pub fn start_others(page: u8) {
    let times: [u32; MAXIMUM] = core::array::from_fn(|processor| last_start(processor).times);
    apic::send(apic::INIT | apic::ASSERT | apic::OTHERS, 0);
    delay::microseconds(10_000);
    apic::send(apic::STARTUP | apic::ASSERT | apic::OTHERS | u32::from(page), 0);
    delay::microseconds(200);
    let has_started = |processor: usize| last_start(processor).times != times[processor];
    // The second SIPI is for those that have missed the first; others ignore it.
    if !others().all(has_started) {
        apic::send(apic::STARTUP | apic::ASSERT | apic::OTHERS | u32::from(page), 0);
    }
    wait_until("all processors to start", || others().all(has_started));
}

/// Starts one processor, and waits until it is there.
pub fn start_one(processor: usize, page: u8) {
    let times = last_start(processor).times;
    let destination = identifier(processor);
    apic::send(apic::INIT | apic::ASSERT, destination);
    delay::microseconds(10_000);
    apic::send(apic::STARTUP | apic::ASSERT | u32::from(page), destination);
    delay::microseconds(200);
    if last_start(processor).times == times {
        apic::send(apic::STARTUP | apic::ASSERT | u32::from(page), destination);
    }
    wait_until("a processor to start", || last_start(processor).times != times);
}

/// Runs `work` on all processors, this one too, each with its index; returns when all have finished.
pub fn on_all(work: &Work<'_>) {
    // SAFETY: it is used only until all have finished, and a panic ends the machine.
    give(unsafe { core::mem::transmute::<&Work<'_>, &'static Work<'static>>(work) });
    work(0);
    wait_until("all processors to finish", || others().all(has_finished));
}

/// Runs `work` on all other processors, which have finished what they had to do, without waiting for it.
pub fn give(work: &'static Work<'static>) {
    // SAFETY: nobody reads it before the generation changes.
    unsafe { WORK.0.get().write(Some(work)) };
    GENERATION.fetch_add(1, Ordering::SeqCst);
}

/// Whether a processor has finished the last work.
pub fn has_finished(processor: usize) -> bool {
    FINISHED[processor].load(Ordering::SeqCst) == GENERATION.load(Ordering::SeqCst)
}

/// Waits for others, with an end: what never comes is an error.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    const PATIENCE: u32 = 50_000_000;
    for _ in 0..PATIENCE {
        if is_so() {
            return;
        }
        core::hint::spin_loop();
    }
    panic!("processor {}: waited in vain for {what}", processor_index());
}

/// Spins for about this many instructions.
pub fn spin(rounds: u32) {
    for round in 0..rounds {
        core::hint::black_box(round);
    }
}

/// Makes this processor one that can take interrupts.
fn begin(processor: usize) {
    write_msr(GS_BASE, &raw const INDICES[processor] as u64);
    interrupts::install(processor);
    apic::enable();
}

unsafe extern "C" {
    static guest_trampoline: u8;
    static guest_trampoline_end: u8;
    static guest_trampoline_gdt: u64;
}

/// Copies the real-mode code to a page below 1 MiB.
fn write_start_page(page: u8) {
    const POINTER: usize = 0xf00;
    let base = (usize::from(page) << 12) as *mut u8;
    let (from, end) = (&raw const guest_trampoline, &raw const guest_trampoline_end);
    let segments = &raw const guest_trampoline_gdt as u32;
    // SAFETY: the page is RAM that nobody uses, and holds code and pointer.
    unsafe {
        base.copy_from_nonoverlapping(from, end as usize - from as usize);
        base.add(POINTER).cast::<u16>().write_unaligned(4 * 8 - 1);
        base.add(POINTER + 2).cast::<u32>().write_unaligned(segments);
    }
}

/// Where the trampoline goes on, on the processor's own stack.
#[unsafe(no_mangle)]
extern "C" fn guest_processor_main(index: u32, cr0: u32, signature: u32, zero: u32, segments: u32) -> ! {
    let processor = index as usize;
    let apic_faults = apic_faults(processor);
    begin(processor);
    let mut seen = GENERATION.load(Ordering::SeqCst);
    FINISHED[processor].store(seen, Ordering::SeqCst);
    let [times, found @ ..] = &STARTS[processor];
    for (place, value) in found.iter().zip([cr0, signature, zero, segments, apic_faults]) {
        place.store(value, Ordering::SeqCst);
    }
    times.fetch_add(1, Ordering::SeqCst);
    enable_interrupts();
    loop {
        let generation = GENERATION.load(Ordering::SeqCst);
        if generation != seen {
            seen = generation;
            // SAFETY: `give` wrote it before it changed the generation.
            if let Some(work) = unsafe { WORK.0.get().read() } {
                work(processor);
            }
            FINISHED[processor].store(seen, Ordering::SeqCst);
        }
        HEARTBEATS[processor].fetch_add(1, Ordering::Relaxed);
        core::hint::spin_loop();
    }
}

/// What of the local APIC is not as INIT leaves it (SDM vol. 3, 11.4.7.1 and 11.4.7.3), in the mode that it had (11.12.5.1).
fn apic_faults(processor: usize) -> u32 {
    if !apic::is_in_chosen_mode() {
        return u32::MAX;
    }
    let entries = [apic::TIMER, apic::LINT0, apic::LINT1, apic::ERROR];
    let is_right = [
        apic::identifier() == identifier(processor),
        apic::read(apic::SPURIOUS) == apic::SPURIOUS_VECTOR,
        apic::read(apic::TASK_PRIORITY) == 0,
        entries.iter().all(|entry| apic::read(*entry) == apic::MASKED),
        apic::read(apic::INITIAL_COUNT) == 0,
        apic::is_quiet(),
        apic::is_x2apic() || apic::read(apic::DESTINATION_FORMAT) == u32::MAX,
        apic::is_x2apic() || apic::read(apic::LOGICAL_DESTINATION) == 0,
    ];
    is_right.iter().enumerate().fold(0, |faults, (bit, right)| faults | u32::from(!right) << bit)
}
