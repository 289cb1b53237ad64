//! `storm KIND`: one thing for ever, as fast as it goes, to see that whoever shares the CPU does not notice.

use crate::instructions::{enable_interrupts, halt, read_cr3, read_msr};
use crate::machine::{Ports, SELF_TEST, cpuid, read_register};
use crate::{apic, println, shadow_bench, smp};

/// Register select of the I/O APIC.
const IO_APIC: u32 = 0xfec0_0000;
/// A register that every processor has, and that a monitor keeps for itself.
const APIC_BASE: u32 = 0x1b;
/// Vectors of the timer and of interrupts to itself.
const TIMER: u32 = 0xd0;
const OWN: u32 = 0xd1;
const PERIODIC: u32 = 1 << 17;
/// Ticks of the timer between two interrupts.
const PERIOD: u32 = 2_000;
/// Pages that are mapped and touched.
const PAGES: u64 = 64;

/// Rages for ever.
pub fn run(kind: &str) -> ! {
    println!("storm: {kind}");
    match kind {
        "cpuid" => repeat(|_| {
            cpuid(0, 0);
        }),
        "ports" => repeat(|_| Ports::write_u8(SELF_TEST, 0)),
        "registers" => repeat(|_| {
            read_register(IO_APIC);
        }),
        "msrs" => repeat(|_| {
            read_msr(APIC_BASE);
        }),
        "interrupts" => {
            smp::start();
            enable_interrupts();
            repeat(|_| apic::send(OWN | apic::MYSELF, 0))
        }
        "halts" => {
            smp::start();
            apic::write(apic::DIVIDE, 0b1011);
            apic::write(apic::TIMER, TIMER | PERIODIC);
            apic::write(apic::INITIAL_COUNT, PERIOD);
            repeat(|_| halt())
        }
        "pages" => pages(),
        other => panic!("there is no storm of {other}"),
    }
}

fn repeat(mut something: impl FnMut(u64)) -> ! {
    let mut turn = 0u64;
    loop {
        something(turn);
        turn = turn.wrapping_add(1);
    }
}

/// Changes page tables, uses what they map, and switches between two address spaces.
fn pages() -> ! {
    let old = read_cr3() & !0xfff;
    let spaces = [0, 8].map(|first| (first, shadow_bench::build(first, old, PAGES, shadow_bench::MAPPED)));
    repeat(|turn| {
        let (first, root) = spaces[turn as usize % spaces.len()];
        shadow_bench::load_cr3(root);
        for number in 0..PAGES {
            let page = shadow_bench::page(number + turn) | shadow_bench::MAPPED;
            shadow_bench::write(shadow_bench::table(first + 3), number, page);
            shadow_bench::invalidate(number);
            shadow_bench::read(number);
        }
    })
}
