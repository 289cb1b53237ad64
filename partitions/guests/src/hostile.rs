//! What no well-behaved guest does. The test is that monitor, kernel and the other partitions take it, and that this guest
//! gets an exception or nonsense, and goes on.

use crate::exceptions::{self, FORBIDDEN};
use crate::machine::{Ports, cpuid, read_register, write_register};
use crate::println;

/// Ports that end or restart the machine when they are written: PM1a, the exit port, port A, the keyboard controller and the
/// reset control register.
const FATAL_PORTS: [core::ops::Range<u16>; 5] = [0x600..0x610, 0xf4..0xf8, 0x92..0x93, 0x60..0x65, 0xcf0..0xd00];
/// Guest-physical addresses of devices and of nothing.
const REGISTERS: [(u32, u32); 5] =
    [(0xfec0_0000, 0x1000), (0xfee0_0000, 0x1000), (0xfed0_0000, 0x1000), (0xe000_0000, 0x1000), (0xfff0_0000, 0x1000)];
/// MSRs that decide how this program itself runs: EFER and the FS and GS bases.
const OWN_MSRS: [u32; 3] = [0xc000_0080, 0xc000_0100, 0xc000_0101];
/// Where there are MSRs.
const MSRS: [core::ops::Range<u32>; 4] =
    [0..0x2000, 0x4000_0000..0x4000_0200, 0xc000_0000..0xc000_2000, 0xc001_0000..0xc001_0400];
/// Register of the local APIC whose write starts other processors, or resets this one.
const APIC_COMMAND: u32 = 0xfee0_0300;

/// A generator of numbers without meaning (xorshift64, Marsaglia 2003).
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Does it all; the seed decides the values.
pub fn run(seed: u64) {
    let mut random = Random::new(seed);
    ports(&mut random);
    registers(&mut random);
    msrs(&mut random);
    for leaf in (0..0x40).chain(0x4000_0000..0x4000_0100).chain(0x8000_0000..0x8000_0040) {
        for subleaf in 0..4 {
            core::hint::black_box(cpuid(leaf, subleaf));
        }
    }
    println!("hostile: CPUID done");
    for (name, attempt) in FORBIDDEN {
        let outcome = if attempt() { "did nothing" } else { "raised an exception" };
        println!("hostile: {name} {outcome}");
    }
    println!("hostile: alive, {} exceptions", exceptions::count());
}

fn ports(random: &mut Random) {
    let mut reads = 0u32;
    for port in 0..=u16::MAX {
        core::hint::black_box(Ports::read_u8(port));
        if port % 64 == 1 {
            core::hint::black_box((Ports::read_u16(port), Ports::read_u32(port)));
        }
        reads += 1;
    }
    let mut writes = 0u32;
    for _ in 0..20_000 {
        writes += u32::from(random_port(random));
    }
    println!("hostile: {reads} port reads, {writes} port writes");
}

/// Writes to a port, unless that would end the test; whether it did.
pub fn random_port(random: &mut Random) -> bool {
    let value = random.next();
    let port = (value >> 32) as u16;
    let touches = |range: &core::ops::Range<u16>| port.saturating_add(4) > range.start && port < range.end;
    // COM1 carries the results of the test.
    if FATAL_PORTS.iter().any(touches) || touches(&(0x3f8..0x400)) {
        return false;
    }
    match value >> 60 & 3 {
        0 => Ports::write_u16(port, value as u16),
        1 => Ports::write_u32(port, value as u32),
        _ => Ports::write_u8(port, value as u8),
    }
    true
}

fn registers(random: &mut Random) {
    let mut accesses = 0u32;
    for (base, length) in REGISTERS {
        for offset in (0..length).step_by(4) {
            core::hint::black_box(read_register(base + offset));
            if (base + offset) & !0xff != APIC_COMMAND {
                write_register(base + offset, random.next() as u32);
            }
            accesses += 2;
        }
    }
    println!("hostile: {accesses} device register accesses");
}

fn msrs(random: &mut Random) {
    let (mut readable, mut writable) = (0u32, 0u32);
    for msr in MSRS.into_iter().flatten() {
        let [read, written] = change_msr(msr, random);
        readable += u32::from(read);
        writable += u32::from(written);
    }
    println!("hostile: {readable} MSRs could be read, {writable} written");
}

/// Reads and changes an MSR of those that may be there.
pub fn random_msr(random: &mut Random) {
    let value = random.next();
    let range = &MSRS[value as usize % MSRS.len()];
    change_msr(range.start + (value >> 32) as u32 % (range.end - range.start), random);
}

/// Whether it could be read and written.
fn change_msr(msr: u32, random: &mut Random) -> [bool; 2] {
    let value = exceptions::read_msr(msr);
    // The x2APIC's command register starts processors; the APIC base moves what the test has just used.
    if OWN_MSRS.contains(&msr) || msr == 0x830 || msr == 0x1b {
        return [value.is_some(), false];
    }
    let change = value.unwrap_or(0) ^ random.next();
    [value.is_some(), exceptions::write_msr(msr, change).is_some()]
}
