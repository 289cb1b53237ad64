//! The loop: events at instruction boundaries, fetch, decode, execute.

use super::event::Event;
use super::{Break, Environment, Fault, InstructionCache, Stopped, entry, needed, vector};
use crate::arbitration::Readiness;
use crate::emulate::decode::DecodeError;
use crate::emulate::fetch::{Fetched, LONGEST, fetch};
use crate::emulate::operand::Machine;
use crate::emulate::registers::{self, flags, mask};
use crate::emulate::strings::BATCH;
use crate::emulate::{Mode, Paging};
use crate::memory::{GuestMemory, GuestPhysical};
use bulkhead_abi::{Segment, StateGroups, VcpuState, segment};

/// What the interpreter may change.
const CHANGED: StateGroups = StateGroups::RIP
    .union(StateGroups::RFLAGS)
    .union(StateGroups::RSP)
    .union(StateGroups::INTERRUPTIBILITY)
    .union(StateGroups::CONTROL_REGISTERS)
    .union(StateGroups::SEGMENTS)
    .union(StateGroups::XCR0);

/// RFLAGS.TF.
const TRAP: u64 = 1 << 8;

/// Interruptibility state (SDM vol. 3, 25.4.2).
pub mod interruptibility {
    pub const STI: u32 = 1 << 0;
    pub const MOV_SS: u32 = 1 << 1;
    pub const NMI: u32 = 1 << 3;
}

/// How an instruction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// RIP moves to [`Interpreter::next`].
    Next,
    /// A repeated instruction has iterations left.
    Partial,
    /// HLT.
    Halt,
    /// An interrupt was delivered; RIP is at its handler.
    Delivered,
}

/// One guest processor and what is around it.
pub struct Interpreter<'a, M, E> {
    pub machine: Machine<'a, M, E>,
    /// RIP after the instruction at hand.
    pub next: u64,
    /// Blocking of events by the instruction at hand, until the next one is complete.
    pub shadow: u32,
}

/// What an instruction that faults leaves as it was. Memory is not taken back: what is written last is checked before.
pub struct Snapshot {
    registers: [u64; 16],
    rsp: u64,
    rflags: u64,
    segments: [Segment; 8],
}

/// Runs the guest until something of [`Stopped`] happens; at the latest when it has executed `limit` instructions, where a part of a
/// long repeated one counts as 1024. All groups of `state` are valid.
pub fn run<M: GuestMemory, E: Environment>(
    state: &mut VcpuState,
    memory: &M,
    environment: &mut E,
    cache: &mut InstructionCache,
    limit: u32,
) -> Stopped {
    let mode = Mode::new(state);
    let paging = Paging::new(state);
    let machine = Machine { state, memory, device: environment, paging, mode, hint: None };
    let mut interpreter = Interpreter { machine, next: 0, shadow: 0 };
    let stopped = interpreter.run(cache, limit);
    state.dirty |= CHANGED.bits();
    stopped
}

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    fn run(&mut self, cache: &mut InstructionCache, limit: u32) -> Stopped {
        let mut left = limit;
        loop {
            if !needed(self.machine.state) {
                entry::conform(self.machine.state);
                return Stopped::Hardware;
            }
            if self.machine.state.rflags & flags::VM != 0 || self.privilege() != 0 {
                return Stopped::Unsupported { bytes: [0; LONGEST] };
            }
            if let Err(stop) = self.inject() {
                return self.stopped(stop, &[0; LONGEST]);
            }
            if self.window_is_open() {
                return Stopped::Window;
            }
            if self.machine.device.attention() {
                return Stopped::Attention;
            }
            if left == 0 {
                return Stopped::Limit;
            }
            match self.step(cache) {
                Ok(Completion::Halt) => return Stopped::Halted,
                Ok(Completion::Partial) => left = left.saturating_sub(BATCH),
                Ok(_) => left -= 1,
                Err(stopped) => return stopped,
            }
        }
    }

    fn privilege(&self) -> u32 {
        // In real mode the level is 0 whatever SS holds.
        if self.is_protected() { registers::privilege(self.machine.state) } else { 0 }
    }

    /// Whether CR0.PE is set.
    pub fn is_protected(&self) -> bool {
        self.machine.state.cr0 & 1 != 0
    }

    fn window_is_open(&self) -> bool {
        let state = &*self.machine.state;
        let readiness = Readiness { rflags: state.rflags, interruptibility: state.interruptibility, occupied: false };
        state.interrupt_window != 0 && readiness.interrupts() || state.nmi_window != 0 && readiness.nmi()
    }

    fn stopped(&self, stop: Break, bytes: &[u8; LONGEST]) -> Stopped {
        match stop {
            Break::Shutdown => Stopped::Shutdown,
            _ => Stopped::Unsupported { bytes: *bytes },
        }
    }

    /// Executes one instruction, and delivers the exception that it ends with.
    fn step(&mut self, cache: &mut InstructionCache) -> Result<Completion, Stopped> {
        self.machine.mode = Mode::new(self.machine.state);
        let fetched = self.fetch();
        let single_step = self.machine.state.rflags & TRAP != 0;
        // RF holds for one instruction; an IRET may set it again.
        self.machine.state.rflags &= !flags::RF;
        self.shadow = 0;
        let result = self.execute_at_rip(cache, &fetched).and_then(|completion| {
            self.complete(completion);
            // A trap waits until after the instruction behind MOV SS, where the stack is whole again; the handler of an interrupt
            // starts with TF clear.
            let trapped = completion != Completion::Delivered && self.shadow & interruptibility::MOV_SS == 0;
            if single_step && trapped {
                self.single_step()?;
                return Ok(Completion::Delivered);
            }
            Ok(completion)
        });
        match result {
            Ok(completion) => Ok(completion),
            Err(Break::Again) => Ok(Completion::Next),
            Err(Break::Fault(fault)) => match self.raise(Event::exception(fault)) {
                Ok(()) => Ok(Completion::Delivered),
                Err(stop) => Err(self.stopped(stop, &fetched.bytes)),
            },
            Err(stop) => Err(self.stopped(stop, &fetched.bytes)),
        }
    }

    fn complete(&mut self, completion: Completion) {
        let state = &mut *self.machine.state;
        if matches!(completion, Completion::Next | Completion::Halt) {
            state.rip = self.next;
        }
        state.interruptibility =
            state.interruptibility & !(interruptibility::STI | interruptibility::MOV_SS) | self.shadow;
    }

    fn single_step(&mut self) -> Result<(), Break> {
        let fault = Fault { vector: vector::DEBUG, code: None };
        if needed(self.machine.state) {
            return self.raise(Event::trap(fault));
        }
        // The instruction has switched paging on: the hardware delivers the trap.
        self.machine.state.injection = Event::injection(fault);
        self.machine.state.dirty |= StateGroups::INJECTION.bits();
        Ok(())
    }

    fn execute_at_rip(&mut self, cache: &mut InstructionCache, fetched: &Fetched) -> Result<Completion, Break> {
        let limit = u64::from(self.machine.state.segments[segment::CS].limit);
        let rip = self.machine.state.rip;
        if rip > limit {
            return Err(Break::PROTECTION);
        }
        let instruction = match cache.decode(rip, fetched, self.machine.mode) {
            Ok(instruction) => instruction,
            Err(DecodeError::Invalid) => return Err(Break::UNDEFINED),
            Err(DecodeError::Unsupported) => return Err(Break::Unsupported),
            // More than 15 bytes: all that can be read without paging was read.
            Err(DecodeError::Incomplete) => return Err(Break::PROTECTION),
        };
        let end = rip + instruction.len() as u64;
        if end - 1 > limit {
            return Err(Break::PROTECTION);
        }
        self.next = end & mask(4);
        let before = self.snapshot();
        let result = self.execute(&instruction);
        // The iterations of a string instruction before the faulting one are done.
        if result.is_err() && !Self::is_string(&instruction) {
            self.restore(&before);
        }
        result
    }

    /// The bytes at RIP; what is not RAM is read as a processor reads a ROM.
    fn fetch(&mut self) -> Fetched {
        let machine = &mut self.machine;
        let mut fetched = fetch(machine.memory, &machine.paging, machine.state, machine.mode);
        if usize::from(fetched.length) < LONGEST {
            let start = machine.state.segments[segment::CS].base.wrapping_add(machine.state.rip);
            let done = usize::from(fetched.length);
            for (offset, byte) in (0..).zip(&mut fetched.bytes).skip(done) {
                let address = GuestPhysical(start.wrapping_add(offset) & mask(4));
                *byte = machine.memory.read_u8(address).unwrap_or_else(|_| machine.device.read(address, 1) as u8);
            }
            fetched.length = LONGEST as u8;
        }
        fetched
    }

    /// Takes down what [`Self::restore`] brings back.
    pub fn snapshot(&self) -> Snapshot {
        let state = &*self.machine.state;
        Snapshot { registers: state.registers, rsp: state.rsp, rflags: state.rflags, segments: state.segments }
    }

    /// Undoes what an instruction did before it faulted.
    pub fn restore(&mut self, before: &Snapshot) {
        let state = &mut *self.machine.state;
        state.registers = before.registers;
        state.rsp = before.rsp;
        state.rflags = before.rflags;
        state.segments = before.segments;
    }
}
