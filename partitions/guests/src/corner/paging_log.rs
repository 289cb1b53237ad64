//! `paging-log`: a log of what every kind of access meets under every combination of rights, and of the accessed and dirty bits
//! that it leaves. Nobody judges it: it is to be the same however the guest's memory is translated.

use super::bits::{CR0_WP, CR4_SMAP, CR4_SMEP};
use super::memory::{self, NO_EXECUTE, PRESENT, Target, USER, WRITABLE};
use super::registers::{self, EFER, NXE};
use super::run::register::RDI;
use super::run::{ALIGNMENT, Code, Run};
use super::{apic, descriptors};
use crate::{code, println};

/// Where data and a RET are in the page.
const DATA: u64 = 0x400;
const RETURN: u64 = 0x380;

/// A hash of what was seen (FNV-1a, by words).
struct Log {
    hash: u64,
    accesses: u32,
    faults: u32,
}

impl Log {
    fn add(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

/// An access: its code, and where in the page.
fn accesses() -> [(Code, u64); 4] {
    [
        (code!("mov eax, [rdi]"), DATA),
        (code!("mov [rdi], eax"), DATA),
        (code!("or [rdi], eax"), DATA),
        (code!("jmp rdi"), RETURN),
    ]
}

/// Rights of an entry by the bits of a number: writable, user, not executable.
fn rights(number: u64) -> u64 {
    let pick = |bit: u64, right: u64| if number >> bit & 1 != 0 { right } else { 0 };
    pick(0, WRITABLE) | pick(1, USER) | pick(2, NO_EXECUTE)
}

/// Makes the log, a line for each mode of the processor, size of page, and rights of the upper entry.
pub fn run() {
    descriptors::install();
    memory::install();
    apic::install();
    let (cr0, cr4, efer) = (registers::cr0(), registers::cr4(), registers::msr(EFER));
    registers::set_msr(EFER, efer | NXE);
    let has = registers::cpuid(7, 0, 1);
    let modes = [(CR4_SMEP, 7), (CR4_SMAP, 20)].map(|(bit, feature)| if has >> feature & 1 != 0 { bit } else { 0 });
    let targets = [("4 KiB", memory::small_target()), ("2 MiB", memory::large_target())];
    for mode in 0..8 {
        registers::set_cr0(if mode & 1 != 0 { cr0 | CR0_WP } else { cr0 & !CR0_WP });
        let on = |bit: usize| if mode >> (bit + 1) & 1 != 0 { modes[bit] } else { 0 };
        registers::set_cr4(cr4 | on(0) | on(1));
        for (what, target) in &targets {
            for upper in 0..8 {
                let mut log = Log { hash: 0xcbf2_9ce4_8422_2325, accesses: 0, faults: 0 };
                for leaf in 0..64 {
                    under(
                        target,
                        PRESENT | rights(upper),
                        leaf & 1 | rights(leaf >> 1) | (leaf >> 4 & 3) << 5,
                        &mut log,
                    );
                }
                let Log { hash, accesses, faults } = log;
                println!(
                    "paging-log: mode {mode}, {what}, upper {upper}: {accesses} accesses, {faults} faults, {hash:016x}"
                );
            }
            target.set(PRESENT | WRITABLE | USER, 0);
        }
    }
    registers::set_cr4(cr4);
    registers::set_cr0(cr0);
    registers::set_msr(EFER, efer);
}

/// Accesses of all kinds under these entries.
fn under(target: &Target, upper: u64, leaf: u64, log: &mut Log) {
    memory::write_u64(target.frame + RETURN, 0xc3);
    for (code, offset) in accesses() {
        for variant in 0..4 {
            target.set(upper, leaf);
            let run =
                Run::new(code).with(RDI, target.page + offset).flags(if variant & 1 != 0 { ALIGNMENT } else { 0 });
            let end = if variant & 2 != 0 { run.user() } else { run }.go().end();
            let (upper, leaf) = target.get();
            for word in [end.vector.into(), end.error.into(), end.cr2, end.offset as u64, upper, leaf] {
                log.add(word);
            }
            log.accesses += 1;
            log.faults += u32::from(end.vector != 255);
        }
    }
}
