//! Interrupts of all processors: what comes in is counted by processor and vector, and passed to the test that watches.

use crate::instructions::processor_index;
use crate::smp::MAXIMUM;
use crate::{apic, echo, priorities};
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

global_asm!(include_str!("interrupts.s"));

/// Vectors of a processor.
pub const VECTORS: usize = 256;
/// The vector of NMIs.
pub const NMI: usize = 2;
const SPURIOUS: usize = apic::SPURIOUS_VECTOR as usize;
/// The first vector that is no exception.
const FIRST_INTERRUPT: usize = 32;
/// The vector whose handler takes the time first; `interrupts.s` has it, too.
pub const MEASURED: usize = 0xf1;

/// How often each vector came, by processor, since the last [`clear`].
static COUNTS: [[AtomicU32; VECTORS]; MAXIMUM] = [const { [const { AtomicU32::new(0) }; VECTORS] }; MAXIMUM];
/// Spurious interrupts of all processors.
static SPURIOUS_COUNT: AtomicU32 = AtomicU32::new(0);
/// All others of a processor since the start: a count that knows nothing of vectors.
static TOTALS: [AtomicU64; MAXIMUM] = [const { AtomicU64::new(0) }; MAXIMUM];
/// Where the last interrupt of a processor hit.
static INTERRUPTED: [AtomicU64; MAXIMUM] = [const { AtomicU64::new(0) }; MAXIMUM];
/// The low half of the counter at the first instruction of the measured vector's handler.
#[unsafe(no_mangle)]
static GUEST_ENTERED: AtomicU32 = AtomicU32::new(0);

/// What a handler does beside counting.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Watcher {
    /// Nothing.
    Nobody,
    /// Answers requests.
    Echo,
    /// Keeps a record of the order.
    Priorities,
}

static WATCHER: AtomicU8 = AtomicU8::new(Watcher::Nobody as u8);

/// Chooses what handlers do, on all processors.
pub fn watch(watcher: Watcher) {
    WATCHER.store(watcher as u8, Ordering::SeqCst);
}

/// How often a vector came to a processor.
pub fn count(processor: usize, vector: usize) -> u32 {
    count_place(processor, vector).load(Ordering::SeqCst)
}

/// Where that is counted.
pub fn count_place(processor: usize, vector: usize) -> &'static AtomicU32 {
    &COUNTS[processor][vector]
}

/// How many interrupts a processor had since the start, spurious ones aside.
pub fn total(processor: usize) -> u64 {
    TOTALS[processor].load(Ordering::SeqCst)
}

/// How many spurious interrupts there were.
pub fn spurious() -> u32 {
    SPURIOUS_COUNT.load(Ordering::SeqCst)
}

/// Where the last interrupt of a processor hit.
pub fn interrupted(processor: usize) -> u64 {
    INTERRUPTED[processor].load(Ordering::SeqCst)
}

/// When the measured vector's last handler began: the low half of the counter.
pub fn entered() -> u32 {
    GUEST_ENTERED.load(Ordering::SeqCst)
}

/// Forgets the counts by vector.
pub fn clear() {
    for count in COUNTS.iter().flatten() {
        count.store(0, Ordering::SeqCst);
    }
}

#[unsafe(no_mangle)]
extern "C" fn guest_interrupt(vector: usize, first: u64, second: u64) {
    let processor = processor_index();
    if vector < FIRST_INTERRUPT && vector != NMI {
        // RIP is the second word where there is an error code.
        panic!("processor {processor}: exception {vector}, {first:#x} {second:#x}");
    }
    if vector == SPURIOUS {
        // What was asked for is held back again by now: nothing is in service (SDM vol. 3, 11.9).
        SPURIOUS_COUNT.fetch_add(1, Ordering::SeqCst);
        return;
    }
    INTERRUPTED[processor].store(first, Ordering::SeqCst);
    TOTALS[processor].fetch_add(1, Ordering::SeqCst);
    match WATCHER.load(Ordering::SeqCst) {
        watcher if watcher == Watcher::Echo as u8 => echo::on_interrupt(processor, vector),
        watcher if watcher == Watcher::Priorities as u8 => priorities::on_interrupt(processor, vector),
        _ => {}
    }
    if vector != NMI {
        apic::end_of_interrupt();
    }
    // Last, since whoever waits for it may send the vector again.
    COUNTS[processor][vector].fetch_add(1, Ordering::SeqCst);
}

unsafe extern "C" {
    fn guest_interrupt_entries();
    fn guest_measured_entry();
}

/// An NMI that hits the first instructions of another handler is dealt with on that one's stack.
const STACK_WORDS: usize = 512;

/// What one processor needs for its interrupts: segments, the task state with its stacks, and those stacks.
#[repr(C, align(16))]
struct Own {
    segments: [u64; 5],
    task: [u32; 26],
    interrupt_stack: [u64; STACK_WORDS],
    nmi_stack: [u64; STACK_WORDS],
}

struct Table<T>(UnsafeCell<T>);
// SAFETY: written by one processor, before it uses it: each has an `Own` of its own, and the boot processor alone writes the
// gates, before it starts others.
unsafe impl<T> Sync for Table<T> {}

static GATES: Table<[[u64; 2]; VECTORS]> = Table(UnsafeCell::new([[0; 2]; VECTORS]));
static OWN: [Table<Own>; MAXIMUM] = [const {
    let stack = [0; STACK_WORDS];
    Table(UnsafeCell::new(Own { segments: [0; 5], task: [0; 26], interrupt_stack: stack, nmi_stack: stack }))
}; MAXIMUM];

/// Operand of LGDT and LIDT.
#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

impl Pointer {
    fn to<T>(table: *const T) -> Self {
        Self { limit: (size_of::<T>() - 1) as u16, base: table as u64 }
    }
}

/// Fills the table of handlers. Only the boot processor does, once.
pub fn prepare() {
    const CODE: u64 = 0x08;
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e << 40;
    let mut gates = [[0; 2]; VECTORS];
    for (vector, gate) in gates.iter_mut().enumerate() {
        let handler = match vector {
            MEASURED => guest_measured_entry as *const () as u64,
            _ => guest_interrupt_entries as *const () as u64 + 16 * vector as u64,
        };
        // An NMI may come while a frame is still on the stack of the others.
        let stack = if vector == NMI { 2 } else { 1 };
        let low = handler & 0xffff | CODE << 16 | stack << 32 | PRESENT_INTERRUPT_GATE | (handler >> 16 & 0xffff) << 48;
        *gate = [low, handler >> 32];
    }
    // SAFETY: no other processor runs yet.
    unsafe { GATES.0.get().write(gates) };
}

/// Loads this processor's tables, so that it can take interrupts.
pub fn install(processor: usize) {
    const CODE: u64 = 0x00af_9b00_0000_ffff;
    const DATA: u64 = 0x00cf_9300_0000_ffff;
    /// Type 9, present: a 64-bit task state.
    const TASK_STATE: u64 = 0x89 << 40;
    const TASK_SELECTOR: u16 = 0x18;
    let own = OWN[processor].0.get();
    // SAFETY: this is the processor's own, and nothing of it is in use before the instructions below.
    unsafe {
        let interrupt_stack = (&raw const (*own).interrupt_stack).add(1) as u64;
        let nmi_stack = (&raw const (*own).nmi_stack).add(1) as u64;
        // The stacks of the interrupt stack table, at 36 and 44 (SDM vol. 3, 8.7).
        let mut task = [0; 26];
        (task[9], task[10]) = (interrupt_stack as u32, (interrupt_stack >> 32) as u32);
        (task[11], task[12]) = (nmi_stack as u32, (nmi_stack >> 32) as u32);
        (*own).task = task;
        let base = &raw const (*own).task as u64;
        let limit = size_of_val(&(*own).task) as u64 - 1;
        let low = limit | (base & 0xff_ffff) << 16 | TASK_STATE | (base >> 24 & 0xff) << 56;
        (*own).segments = [0, CODE, DATA, low, base >> 32];
        asm!("lgdt [{}]", in(reg) &Pointer::to(&raw const (*own).segments), options(readonly, nostack, preserves_flags));
        asm!("ltr {:x}", in(reg) TASK_SELECTOR, options(nostack, preserves_flags));
        asm!("lidt [{}]", in(reg) &Pointer::to(GATES.0.get()), options(readonly, nostack, preserves_flags));
    }
}
