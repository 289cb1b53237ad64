//! A guest's monitor that asks at random: the guest's processor runs from states that nobody would set up, its memory comes and goes, and
//! every method of both is called with whatever there is.
//!
//! The guest executes random bytes. Each run has a deadline, so that one ends that would go on for ever.

use crate::random::{ANSWERS, Random, print};
use crate::raw::{self, Answer};
use bulkhead_runtime::abi::{
    AnyMethod, Error, GuestSpaceMethod, Rights, Segment, StateGroups, Syscall, VcpuMethod, VcpuState, segment,
};
use bulkhead_runtime::mapping::GuestProcessor;
use bulkhead_runtime::plan::layout;
use bulkhead_runtime::shared::SharedMemory;
use bulkhead_runtime::{Program, println, time};
use zerocopy::IntoBytes;

/// Calls and runs together, unless the guest's command line says how many, and from which seed on.
const CALLS: u64 = 40_000;
/// Microseconds that a run may take.
const PATIENCE: u64 = 20;
/// Where the guest starts, and how many bytes there are random.
const CODE: u64 = 0x1000;
const CODE_BYTES: usize = 0x1000;
/// Where its page directory is.
const DIRECTORY: u64 = 0xf000;
/// DR7 after reset.
const NO_BREAKPOINTS: u64 = 0x400;
/// Ways a run ends: exit reasons, and one more for an error.
const ENDS: [&str; 5] = ["an exit", "a signal", "its deadline", "a refused entry", "an error"];

/// Slots by what is in them.
struct Slots {
    space: u64,
    vcpu: u64,
    memory: u64,
    notification: u64,
    free: u64,
    end: u64,
}

/// Asks so many times; what it derived is deleted in the end.
pub fn run(program: &Program) -> Result<(), &'static str> {
    let environment = program.environment();
    let entry = program.vcpus().next().ok_or("there is no guest processor")?;
    let memory = program.guest_memories().next().ok_or("there is no guest memory")?;
    let (space, _) = program.guest_space().ok_or("there is no guest space")?;
    let used = environment.entries().iter().map(|entry| entry.slot).max().unwrap_or(layout::FIRST_SLOT);
    let is_slot = |slot: &u64| raw::invoke(*slot, AnyMethod::Inspect as u64, [0; 4]) != Err(Error::SlotOutOfRange);
    let slots = Slots {
        space: space.0.0,
        vcpu: entry.vcpu.0.0,
        memory: memory.entry.slot,
        notification: layout::NOTIFICATION_SLOT,
        free: used + 1,
        end: (used + 1..).take_while(is_slot).last().unwrap_or(used) + 1,
    };
    let mut processor = entry.vcpu.map_state(entry.entry.state).map_err(|_| "the state page cannot be mapped")?;
    let bases = first_states(processor.state());
    let mut numbers = environment.text("command-line").unwrap_or_default().split(' ').map(str::parse::<u64>);
    let mut number = |otherwise| numbers.next().and_then(Result::ok).unwrap_or(otherwise);
    let (calls, seed) = (number(CALLS), number(1));
    println!("{calls} runs and calls of a monitor, seed {seed}");
    let mut random = Random::new(seed);
    let (mut answers, mut ends) = ([0u64; ANSWERS], [0u64; ENDS.len()]);
    fill(&mut random, memory.ram.memory())?;
    for index in 0..calls {
        match random.below(4) {
            0 => {
                if random.below(64) == 0 {
                    fill(&mut random, memory.ram.memory())?;
                }
                let end = run_once(&mut random, &mut processor, &bases);
                *ends.get_mut(end).ok_or("an end that is none")? += 1;
            }
            _ => {
                let code = call(&mut random, &slots).map_or_else(|error| error as usize, |_| 0);
                *answers.get_mut(code).ok_or("an answer that is none")? += 1;
            }
        }
        if (index + 1).is_multiple_of((calls / 8).max(1)) {
            println!("{} runs and calls", index + 1);
        }
    }
    raw::invoke(slots.space, GuestSpaceMethod::Unmap as u64, [slots.memory, 0, 0, 0]).ok();
    for slot in slots.free..slots.end {
        // Not all of them are used.
        let _ = raw::invoke(slot, AnyMethod::Delete as u64, [0; 4]);
    }
    print(&answers);
    for (end, count) in ENDS.iter().zip(ends) {
        println!("ran {count} times to {end}");
    }
    Ok(())
}

/// Real mode, and protected mode with paging; both flat, in the guest's RAM.
fn first_states(reset: &VcpuState) -> [VcpuState; 2] {
    let mut real = *reset;
    real.rip = CODE;
    real.rsp = CODE;
    let [_, code, ..] = &mut real.segments;
    (code.base, code.selector) = (0, 0);
    let mut protected = real;
    (protected.cr0, protected.cr3, protected.cr4) = (0x8000_0031, DIRECTORY, 0x10);
    for (index, part) in protected.segments.iter_mut().take(6).enumerate() {
        *part = Segment {
            base: 0,
            limit: u32::MAX,
            access: if index == segment::CS { 0xc09b } else { 0xc093 },
            selector: 8,
        };
    }
    [real, protected]
}

fn fill(random: &mut Random, ram: SharedMemory<'_>) -> Result<(), &'static str> {
    // Pages of 4 MiB, present and writable.
    for entry in 0..4u32 {
        let written = ram.write((DIRECTORY + 4 * u64::from(entry)) as usize, &(entry << 22 | 0x83).to_le_bytes());
        written.map_err(|_| "the guest has too little memory")?;
    }
    for offset in (0..CODE_BYTES).step_by(8) {
        let written = ram.write(CODE as usize + offset, &random.next().to_le_bytes());
        written.map_err(|_| "the guest has too little memory")?;
    }
    Ok(())
}

/// Runs the guest from a state of which some words are changed.
fn run_once(random: &mut Random, processor: &mut GuestProcessor, bases: &[VcpuState; 2]) -> usize {
    let state = processor.state_mut();
    if random.below(2) == 0 {
        *state = random.one_of(bases, *state);
    }
    let mut changes = random.below(6);
    let words = size_of::<VcpuState>() as u64 / 8;
    while changes != 0 {
        let (place, value) = (random.below(words) as usize * 8, word(random));
        if let Some(bytes) = state.as_mut_bytes().get_mut(place..place + 8) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        changes -= 1;
    }
    if random.below(512) != 0 {
        // Bochs writes a line to its log for every breakpoint that is met, and random ones are met all the time.
        state.dr7 = NO_BREAKPOINTS;
    }
    state.dirty = if random.below(2) == 0 { StateGroups::all().bits() } else { state.dirty };
    state.dirty |= StateGroups::DEADLINE.bits();
    state.deadline = time::now().saturating_add(time::microseconds(PATIENCE));
    match processor.run() {
        Ok(reason) => reason as usize,
        Err(_) => ENDS.len() - 1,
    }
}

/// A value that means something somewhere, or anything.
fn word(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => random.below(16),
        1 => 1 << random.below(64),
        2 => u64::MAX >> random.below(64),
        3 => random.one_of(&[0x8000_0000_0000, 0xffff_8000_0000_0000, 0xfee0_0000, 0x8000_0b0e, 0x8000_0202, 0xd01], 0),
        // A bit of what control registers and their like hold.
        4 => 0x8005_0033 ^ 1 << random.below(32),
        5 => random.next() & 0xffff_ffff,
        _ => random.next(),
    }
}

fn call(random: &mut Random, slots: &Slots) -> Answer {
    let free = slots.free + random.below(slots.end - slots.free);
    let any = random.one_of(&[slots.space, slots.vcpu, slots.memory, slots.notification, free], free);
    let memory = random.one_of(&[slots.memory, free, free], free);
    let guest_physical = random.one_of(
        &[
            0,
            0x10_0000,
            0x200_0000,
            0x4000_0000,
            0xfee0_0000,
            0xfee0_1000,
            1 << 45,
            (1 << 46) - 4096,
            1 << 46,
            !0xfff,
            1,
        ],
        0,
    ) + random.below(16) * 4096;
    let all = u64::from(Rights::all().bits());
    let pages = |random: &mut Random| random.below(64) * 4096;
    let (slot, method, arguments) = match random.below(14) {
        0..=1 => {
            let arguments = [free, all, pages(random), pages(random) + 4096];
            (slots.memory, AnyMethod::DeriveRange as u64, arguments)
        }
        2 => (free, AnyMethod::Delete as u64, [0; 4]),
        3..=4 => (slots.space, GuestSpaceMethod::Map as u64, [memory, guest_physical, 1 + random.below(8), 0]),
        5 => (slots.space, GuestSpaceMethod::Unmap as u64, [memory, 0, 0, 0]),
        6 => (slots.space, GuestSpaceMethod::BindDoorbell as u64, [random.below(0x1_0010), any, 0, 0]),
        7 => (slots.space, GuestSpaceMethod::UnbindDoorbell as u64, [random.below(0x1_0010), 0, 0, 0]),
        8 => (slots.space, GuestSpaceMethod::MapApicPage as u64, [0; 4]),
        9 => (slots.vcpu, VcpuMethod::Fetch as u64, [word(random), 0, 0, 0]),
        10 => {
            let msr = random.one_of(&[0x10, 0x174, 0x277, 0xc000_0080, 0xc000_0082, 0xc000_0100, 0xc000_0102], 0);
            let msr = if random.below(2) == 0 { msr } else { word(random) };
            (slots.vcpu, VcpuMethod::PassMsr as u64, [msr, random.below(5), 0, 0])
        }
        11 => (slots.vcpu, VcpuMethod::Notify as u64, [0; 4]),
        12 => (slots.vcpu, VcpuMethod::MapState as u64, [word(random) & !0xfff, 0, 0, 0]),
        _ => {
            // Never the methods that all have: of those is what the guest needs to go on.
            (any, 5 + random.below(24), core::array::from_fn(|_| word(random)))
        }
    };
    if random.below(64) == 0 {
        return raw::any(Syscall::Signal as u64, [slots.notification, 1 << random.below(63), 0, 0, 0, 0]);
    }
    raw::invoke(slot, method, arguments)
}
