//! Double faults: a second exception while a first is delivered, by the pairs of SDM vol. 3, table 6-5.

use super::bits::{DE, DF, GP, NP, PF};
use super::checks::Checks;
use super::descriptors::{self, BEYOND, Gate};
use super::memory::{self, page};
use super::registers;
use super::run::Run;
use super::run::register::RDI;
use crate::code;

pub fn run(checks: &mut Checks) {
    contributory(checks);
    table_in_absent_page(checks);
    device(checks);
}

/// A gate whose use raises #GP.
fn to_no_segment(vector: u8) -> Gate {
    let [low, high] = descriptors::gate(vector);
    [low & !0xffff_0000 | u64::from(BEYOND) << 16, high]
}

/// A gate whose use raises #NP.
fn absent(vector: u8) -> Gate {
    let [low, high] = descriptors::gate(vector);
    [low & !descriptors::GATE_PRESENT, high]
}

fn contributory(checks: &mut Checks) {
    let divide = Run::new(code!("nop"; "div ecx"));
    descriptors::with_gate(DE, to_no_segment(DE), || checks.raises("#GP in #DE", divide, DF, 0));
    descriptors::with_gate(DE, absent(DE), || checks.raises("#NP in #DE", divide, DF, 0));
    let protect = Run::new(code!("nop"; "mov rax, [rdi]")).with(RDI, 1 << 47);
    descriptors::with_gate(GP, absent(GP), || checks.raises("#NP in #GP", protect, DF, 0));
    descriptors::with_gate(GP, to_no_segment(GP), || checks.raises("#GP in #GP", protect, DF, 0));
    // An unknown register: the exception that a monitor injects is one like any other.
    let unknown = Run::new(code!("nop", "mov ecx, 0x12345"; "rdmsr"));
    descriptors::with_gate(GP, absent(GP), || checks.raises("#NP in #GP by RDMSR", unknown, DF, 0));
    memory::map(0, 0);
    let fault = Run::new(code!("nop"; "mov rax, [rdi]")).with(RDI, page(0));
    descriptors::with_gate(PF, absent(PF), || checks.raises("#NP in #PF", fault, DF, 0));
    descriptors::with_gate(PF, to_no_segment(PF), || checks.raises("#GP in #PF", fault, DF, 0));
    // #UD is benign: the second exception is delivered by itself.
    let undefined = Run::new(code!("nop"; "ud2"));
    descriptors::with_gate(6, absent(6), || checks.raises("#NP in #UD", undefined, NP, 6 * 8 + 3));
}

/// Gates from page 1 on, such that those from `first` on lie in page 2.
fn table(first: u8) -> u64 {
    memory::map_ram(1);
    memory::map_ram(2);
    let base = page(2) - 16 * u64::from(first);
    for vector in 0..=0x80 {
        let [low, high] = descriptors::gate(vector);
        memory::write_u64(base + 16 * u64::from(vector), low);
        memory::write_u64(base + 16 * u64::from(vector) + 8, high);
    }
    base
}

fn table_in_absent_page(checks: &mut Checks) {
    memory::map(0, 0);
    let fault = Run::new(code!("nop"; "mov rax, [rdi]")).with(RDI, page(0));
    let divide = Run::new(code!("nop"; "div ecx"));
    // Page faults have no gate, double faults do.
    let base = table(PF);
    memory::map(2, 0);
    descriptors::load_gates(base);
    // The handler ends the run by the same table: only vectors below 14 are used.
    let run = fault.go();
    descriptors::restore_gates();
    checks.equal("#PF in #PF", run.end().vector.into(), DF.into());
    checks.equal("CR2 of the second", registers::cr2(), base + 16 * u64::from(PF));
    // Division has no gate, page faults do: both are handled, one after the other.
    let base = table(8);
    memory::map(1, 0);
    descriptors::load_gates(base);
    let run = divide.go();
    descriptors::restore_gates();
    checks.equal("#PF in #DE", run.end().vector.into(), PF.into());
    checks.equal("its CR2", run.end().cr2, base);
    checks.equal("its RIP", run.end().offset as u64, 0);
    memory::map(1, 0);
    memory::map(2, 0);
}

/// The first exception comes from an instruction that accesses a device.
fn device(checks: &mut Checks) {
    memory::map(0, memory::APIC | memory::PRESENT | memory::WRITABLE);
    memory::map(1, 0);
    let copy = Run::new(code!("nop"; "movsd")).with(RDI, page(1)).with(super::run::register::RSI, page(0) + 0x380);
    descriptors::with_gate(PF, absent(PF), || checks.raises("#NP in #PF by MOVS from a device", copy, DF, 0));
    memory::map(0, 0);
}
