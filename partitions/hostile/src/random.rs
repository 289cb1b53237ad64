//! System calls with random numbers, slots, methods and arguments.
//!
//! Two things are left out, since they would end the trial by design: to delete what the program needs to go on, and to wait for what
//! never comes.

use crate::authority::{Authority, FREE_ADDRESS};
use crate::raw;
use bulkhead_runtime::abi::{
    AnyMethod, Error, MemoryMethod, MessageInfo, PartitionMethod, SELF_TABLE, Syscall, USER_END,
};
use bulkhead_runtime::{Program, println, time};

/// Calls of a run that does not say how many.
const CALLS: u64 = 200_000;
/// Lines that tell how far it is.
const REPORTS: u64 = 10;
/// Errors are numbered from 1; 0 is success.
pub const ANSWERS: usize = 21;

/// Numbers that look random (xorshift64*, Marsaglia 2003, Vigna 2016).
pub struct Random(u64);

impl Random {
    /// The numbers that belong to a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below another.
    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end.max(1)
    }

    /// One of a list; `otherwise`, if that is empty.
    pub fn one_of<T: Copy>(&mut self, choices: &[T], otherwise: T) -> T {
        choices.get(self.below(choices.len() as u64) as usize).copied().unwrap_or(otherwise)
    }
}

/// Makes the calls; what it derived is deleted in the end.
pub fn run(program: &Program) -> Result<(), &'static str> {
    let has = Authority::find(program).ok_or("the manifest gives too little to try with")?;
    let number = |name| program.environment().text(name).and_then(|text| text.parse().ok());
    let (calls, seed): (u64, u64) = (number("calls").unwrap_or(CALLS), number("seed").unwrap_or(1));
    println!("{calls} system calls, seed {seed}");
    let mut random = Random::new(seed);
    let mut answers = [0u64; ANSWERS];
    let mut emptied = 0;
    for index in 0..calls {
        let (number, registers) = choose(&mut random, &has);
        if number == Syscall::ReplyReceive as u64 {
            // Otherwise it would wait for a call that nobody makes.
            let signal = [has.notification, 1, 0, 0, 0, 0];
            raw::any(Syscall::Signal as u64, signal).map_err(|_| "it cannot signal itself")?;
        }
        let code = raw::any(number, registers).map_or_else(|error| error as usize, |_| 0);
        *answers.get_mut(code).ok_or("an answer that is none")? += 1;
        if random.below(4096) == 0 {
            emptied += has.tidy();
        }
        if (index + 1).is_multiple_of((calls / REPORTS).max(1)) {
            println!("{} system calls", index + 1);
        }
    }
    emptied += has.tidy();
    has.unmap();
    print(&answers);
    println!("{emptied} capabilities derived and deleted");
    Ok(())
}

/// Prints what was answered how often.
pub fn print(answers: &[u64; ANSWERS]) {
    for (code, count) in (0u64..).zip(answers.iter().copied()).filter(|(_, count)| *count != 0) {
        match Error::from_number(code) {
            Some(error) => println!("answered {count} times: {error:?}"),
            None => println!("answered {count} times: done"),
        }
    }
}

/// A call: number and registers.
fn choose(random: &mut Random, has: &Authority) -> (u64, [u64; 6]) {
    if random.below(2) == 0 {
        return plausible(random, has);
    }
    let number = match random.below(100) {
        0..=1 => Syscall::Call as u64,
        2..=3 => Syscall::ReplyReceive as u64,
        4..=7 => Syscall::Signal as u64,
        8..=10 => Syscall::Wait as u64,
        11..=12 => Syscall::Run as u64,
        13 => Syscall::Yield as u64,
        14..=15 => random.next() >> random.below(64),
        _ => Syscall::Invoke as u64,
    };
    let mut registers: [u64; 6] = core::array::from_fn(|_| argument(random, has));
    let [slot, first, ..] = &mut registers;
    *slot = any_slot(random, has);
    match number {
        number if number == Syscall::Invoke as u64 => {
            *first = match random.below(8) {
                0..=2 => random.below(6),
                3..=6 => 16 + random.below(8),
                _ => random.next() >> random.below(64),
            };
            if *first == AnyMethod::Delete as u64 && *slot < has.free {
                *slot = has.free + random.below(has.slots - has.free);
            }
        }
        number if number == Syscall::Wait as u64 => *first = random.one_of(&[0, 1, time::now(), time::now() + 100], 0),
        number if number == Syscall::Call as u64 && random.below(2) == 0 => {
            *first = MessageInfo::new(random.below(3) as u32).with_capability(*first as u16).0;
        }
        _ => {}
    }
    (number, registers)
}

/// A call that has a chance: memory is derived, mapped, zeroed, passed on, unmapped, revoked and deleted.
fn plausible(random: &mut Random, has: &Authority) -> (u64, [u64; 6]) {
    let pages = has.own_bytes / 4096;
    let free = has.free + random.below(has.slots - has.free);
    let first = random.below(pages);
    let (from, bytes) = (first * 4096, (1 + random.below(pages - first)) * 4096);
    let memory = if random.below(2) == 0 { random.one_of(&[has.own, has.law], has.own) } else { free };
    let rights = random.next() & 0x1fff | 0x21;
    let address = FREE_ADDRESS + random.below(1 << 8) * 4096;
    let (slot, method, arguments) = match random.below(16) {
        0..=3 => (memory, AnyMethod::DeriveRange as u64, [free, rights, from & 0xf000, bytes & 0xf000]),
        4..=5 => (memory, AnyMethod::Derive as u64, [free, rights, random.below(3), SELF_TABLE]),
        6..=8 => (has.partition, PartitionMethod::Map as u64, [memory, address, random.one_of(&[1, 3], 1), 0]),
        9..=10 => (has.partition, PartitionMethod::Unmap as u64, [memory, 0, 0, 0]),
        11 => (memory, MemoryMethod::Zero as u64, [from & 0xf000, bytes & 0xf000, 0, 0]),
        12 => (if random.below(16) == 0 { memory } else { free }, AnyMethod::Revoke as u64, [0; 4]),
        13 => (free, AnyMethod::Delete as u64, [0; 4]),
        14 => (memory, AnyMethod::Inspect as u64, [0; 4]),
        _ => {
            let message = MessageInfo::new(random.below(3) as u32).with_capability(memory as u16);
            return (Syscall::Call as u64, [has.calls, message.0, 0, 0, 0, 0]);
        }
    };
    let [a, b, c, d] = arguments;
    (Syscall::Invoke as u64, [slot, method, a, b, c, d])
}

fn any_slot(random: &mut Random, has: &Authority) -> u64 {
    match random.below(16) {
        0..=8 => random.below(has.slots + 1),
        9..=12 => random.one_of(&has.each(), ("", 0)).1,
        13..=14 => has.free + random.below(has.slots - has.free),
        _ => random.next() >> random.below(64),
    }
}

/// An argument: small numbers, slots, pages, addresses, rights, the ends of ranges, anything.
fn argument(random: &mut Random, has: &Authority) -> u64 {
    match random.below(12) {
        0..=2 => random.below(8),
        3..=4 => any_slot(random, has),
        5 => random.below(80) * 4096,
        6 => FREE_ADDRESS + random.below(1 << 12) * 4096,
        7 => random.one_of(
            &[u64::MAX, 1 << 63, USER_END, USER_END - 4096, 0x8000_0000_0000, !0xfff, 1 << 32, 0xffff_ffff, 0x40_0000],
            0,
        ),
        8 => random.next() & 0x1fff,
        9 => 1 << random.below(64),
        10 => (1 << random.below(64)) - 1,
        _ => random.next(),
    }
}
