//! Runs a piece of code with chosen registers, at CPL 0 or 3, and tells what events it met.

use super::descriptors;
use super::global::Global;
use super::memory;
use core::arch::global_asm;

global_asm!(include_str!("entry.s"));

/// A piece of code, and a place in it.
#[derive(Clone, Copy)]
pub struct Code {
    /// Address of its first instruction.
    pub start: u64,
    /// The marked place: where the interesting instruction is.
    pub mark: u64,
    /// Address behind its last instruction, a RET.
    pub end: u64,
}

/// Assembles a piece of code that no function holds: `code!("mov eax, 1"; "cpuid")`. The mark is at the semicolon, or at the
/// start. A RET follows.
#[macro_export]
macro_rules! code {
    ($($before:expr),* ; $($line:expr),*) => {{
        let (start, mark, end): (u64, u64, u64);
        // SAFETY: assembles code into another section; only its addresses are computed here.
        unsafe {
            core::arch::asm!(
                ".pushsection .corner, \"a\", @progbits", "771:", $($before,)* "773:", $($line,)* "ret", "772:", ".popsection",
                "lea {start}, [rip + 771b]", "lea {mark}, [rip + 773b]", "lea {end}, [rip + 772b]",
                start = out(reg) start, mark = out(reg) mark, end = out(reg) end, options(nomem, nostack, preserves_flags),
            );
        }
        $crate::corner::run::Code { start, mark, end }
    }};
    ($($line:expr),*) => { $crate::code!(; $($line),*) };
}

/// Index of a register in [`Run::registers`] and [`Frame::registers`], in the order of instruction encoding.
pub mod register {
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R8: usize = 8;
}

/// RFLAGS.TF.
pub const TRAP: u64 = 1 << 8;
/// RFLAGS.IF.
pub const INTERRUPTS: u64 = 1 << 9;
/// RFLAGS.RF.
pub const RESUME: u64 = 1 << 16;
/// RFLAGS.AC.
pub const ALIGNMENT: u64 = 1 << 18;

/// What an event finds on the stack, by the stubs in `entry.s` and by the processor.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Frame {
    /// General registers.
    pub registers: [u64; 16],
    /// The event's number.
    pub vector: u64,
    /// Its error code, or 0.
    pub error: u64,
    /// Where it happened.
    pub rip: u64,
    /// Code segment.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

/// An exception or interrupt that a piece of code met.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Event {
    /// Vector.
    pub vector: u8,
    /// Error code, or 0.
    pub error: u32,
    /// RIP that was pushed, from the code's mark.
    pub offset: i64,
    /// RFLAGS that was pushed.
    pub rflags: u64,
    /// CR2 if it is a page fault.
    pub cr2: u64,
    /// DR6 if it is a debug exception; what the handler leaves there is 0xffff_0ff0.
    pub dr6: u64,
    /// RCX: how far a repeated instruction has got.
    pub rcx: u64,
}

/// None.
const NO_EVENT: Event = Event { vector: 255, error: 0, offset: 0, rflags: 0, cr2: 0, dr6: 0, rcx: 0 };
/// Most events that are kept.
const MOST: usize = 32;

/// What a run is like.
#[derive(Clone, Copy)]
pub struct Run {
    code: Code,
    registers: [u64; 16],
    rflags: u64,
    user: bool,
    resume: u32,
    hook: Option<fn(&mut Frame)>,
}

/// What came of a run.
#[derive(Clone, Copy)]
pub struct Outcome {
    /// General registers at the end.
    pub registers: [u64; 16],
    /// RFLAGS at the end.
    pub rflags: u64,
    /// How many events happened.
    pub count: usize,
    /// The last of them ended the run; otherwise the code came to its end.
    pub stopped: bool,
}

static CURRENT: Global<Option<(Run, Outcome)>> = Global::new(None);
static EVENTS: Global<[Event; MOST]> = Global::new([NO_EVENT; MOST]);

/// Vector by which code ends.
pub const END: u8 = 0x80;
/// DR6 without an event.
pub const DR6_CLEAR: u64 = 0xffff_0ff0;

unsafe extern "C" {
    fn corner_enter(frame: *mut Frame);
    static corner_end: u8;
}

#[unsafe(no_mangle)]
static mut CORNER_STACK: u64 = 0;

impl Run {
    /// A run of `code` at CPL 0, with all registers 0 and interrupts off.
    #[inline(never)]
    pub const fn new(code: Code) -> Self {
        Self { code, registers: [0; 16], rflags: 2, user: false, resume: 0, hook: None }
    }

    /// With a register set.
    #[inline(never)]
    pub const fn with(mut self, register: usize, value: u64) -> Self {
        self.registers[register] = value;
        self
    }

    /// With flags set.
    pub const fn flags(mut self, flags: u64) -> Self {
        self.rflags |= flags;
        self
    }

    /// At CPL 3.
    pub const fn user(mut self) -> Self {
        self.user = true;
        self
    }

    /// Exceptions with these vectors do not end the run.
    pub fn resume(mut self, vectors: &[u32]) -> Self {
        self.resume |= vectors.iter().fold(0, |mask, vector| mask | 1 << vector);
        self
    }

    /// Calls a function at each event, on the event's stack.
    pub const fn hook(mut self, hook: fn(&mut Frame)) -> Self {
        self.hook = Some(hook);
        self
    }

    /// Runs. The events are kept until the next run.
    #[inline(never)]
    pub fn go(self) -> Outcome {
        let end = (&raw const corner_end) as u64;
        let mut frame =
            Frame { registers: self.registers, rip: self.code.start, rflags: self.rflags, ..Frame::default() };
        let top = memory::stack_top() - 8;
        let (cs, ss) = if self.user {
            memory::write_u64(top, memory::user_view(end));
            frame.rip = memory::user_view(frame.rip);
            frame.rsp = memory::user_view(top);
            (descriptors::USER_CODE, descriptors::USER_DATA)
        } else {
            memory::write_u64(top, end);
            frame.rsp = top;
            (descriptors::KERNEL_CODE, descriptors::KERNEL_DATA)
        };
        (frame.cs, frame.ss) = (u64::from(cs), u64::from(ss));
        let outcome = Outcome { registers: self.registers, rflags: self.rflags, count: 0, stopped: false };
        CURRENT.set(Some((self, outcome)));
        // SAFETY: the frame starts a piece of this program's code on a stack of its own; `corner_event` ends it.
        unsafe { corner_enter(&mut frame) };
        CURRENT.take().map_or(outcome, |(_, outcome)| outcome)
    }

    /// Where a RET of code of CPL 0 leads to, from the mark.
    pub fn distance_of_end(&self) -> i64 {
        ((&raw const corner_end) as u64).wrapping_sub(self.code.mark) as i64
    }
}

impl Outcome {
    /// The events of the last run.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        (0..self.count.min(MOST)).map(|index| self.event(index))
    }

    /// One of the events.
    #[inline(never)]
    pub fn event(&self, index: usize) -> Event {
        EVENTS.get().get(index).copied().filter(|_| index < self.count).unwrap_or(NO_EVENT)
    }

    /// The event that ended the run; one with vector 255 if the code came to its end.
    pub fn end(&self) -> Event {
        if self.stopped { self.event(self.count.wrapping_sub(1)) } else { NO_EVENT }
    }
}

/// Called for every event. 1: the interrupted code goes on; 0: the run is over.
#[unsafe(no_mangle)]
extern "C" fn corner_event(frame: &mut Frame) -> u32 {
    let Some((run, mut outcome)) = CURRENT.get() else {
        panic!("vector {} error {:#x} at {:#x}", frame.vector, frame.error, frame.rip);
    };
    let vector = frame.vector as u8;
    outcome.registers = frame.registers;
    outcome.rflags = frame.rflags;
    if vector == END {
        CURRENT.set(Some((run, outcome)));
        return 0;
    }
    let view = |address: u64| if frame.cs & 3 == 3 { memory::user_view(address) } else { address };
    let event = Event {
        vector,
        error: frame.error as u32,
        offset: frame.rip.wrapping_sub(view(run.code.mark)) as i64,
        rflags: frame.rflags,
        cr2: if vector == 14 { super::registers::cr2() } else { 0 },
        dr6: if vector == 1 { super::registers::take_dr6() } else { 0 },
        rcx: frame.registers[register::RCX],
    };
    if vector == 1 && !(view(run.code.start)..view(run.code.end)).contains(&frame.rip) {
        // What follows the code is not stepped through.
        frame.rflags &= !TRAP;
    }
    let goes_on = vector >= 32 || run.resume >> vector & 1 != 0;
    let mut events = EVENTS.get();
    if let Some(place) = events.get_mut(outcome.count) {
        *place = event;
        EVENTS.set(events);
    }
    outcome.count += 1;
    outcome.stopped = !goes_on;
    CURRENT.set(Some((run, outcome)));
    if vector >= 32 {
        super::apic::end_of_interrupt();
    }
    if let Some(hook) = run.hook {
        hook(frame);
    }
    u32::from(goes_on)
}
