//! `smp`: starting processors in every way, and what must have no effect.

use crate::emulators::Platform;
use crate::instructions::stop;
use crate::smp::{self, START_PAGES};
use crate::{apic, delay, machine, println};
use core::sync::atomic::{AtomicU32, Ordering};

/// CR0 after INIT: CD, NW and ET (SDM vol. 3, table 10-1).
const CR0_AFTER_INIT: u32 = 0x6000_0010;

static VISITS: AtomicU32 = AtomicU32::new(0);

/// Does it all, first with the xAPIC, then with the x2APIC.
pub fn run() {
    smp::prepare();
    println!("smp: {} processors", smp::count());
    for processor in 0..smp::count() {
        println!("smp: processor {processor} has APIC identifier {}", smp::identifier(processor));
    }
    assert_eq!(apic::identifier(), smp::identifier(0));
    if smp::count() > 1 {
        all_ways();
    }
    if apic::offers_x2apic() {
        apic::choose_x2apic();
        apic::enable();
        // Those that start from now on find their APIC in the mode that it was in; `enable` brings it to this one.
        for processor in smp::others() {
            smp::start_one(processor, START_PAGES[0]);
        }
        if smp::count() > 1 {
            all_ways();
        }
    } else {
        println!("smp: x2apic is not offered");
    }
    println!("smp: all started");
}

fn all_ways() {
    let mode = apic::mode_name();
    for processor in smp::others() {
        smp::start_one(processor, START_PAGES[0]);
        check(processor, START_PAGES[0]);
    }
    check_work();
    println!("smp: {mode}: each started by itself");

    for processor in smp::others() {
        let before = smp::last_start(processor).times;
        apic::send(apic::STARTUP | apic::ASSERT | u32::from(START_PAGES[1]), smp::identifier(processor));
        delay::microseconds(1000);
        assert_eq!(smp::last_start(processor).times, before, "a running processor took a SIPI");
    }
    check_work();
    println!("smp: {mode}: a SIPI to a running processor is ignored");

    if !apic::is_x2apic() {
        // What older start-up code sends, and newer processors ignore (SDM vol. 3, 11.6.1).
        apic::send(apic::INIT | apic::LEVEL | apic::OTHERS, 0);
        check_work();
        println!("smp: {mode}: INIT level de-assert has no effect");
    }

    for processor in smp::others() {
        apic::send(apic::INIT | apic::ASSERT, smp::identifier(processor));
        delay::microseconds(10_000);
        let before = smp::heartbeat(processor);
        // Neither is it woken by what wakes a halted processor: its APIC is disabled.
        if Platform::detect() != Platform::Bare {
            apic::send(apic::ASSERT | 0x40, smp::identifier(processor));
        }
        delay::microseconds(1000);
        assert_eq!(smp::heartbeat(processor), before, "a processor runs after INIT");
        smp::start_one(processor, START_PAGES[1]);
        check(processor, START_PAGES[1]);
    }
    check_work();
    println!("smp: {mode}: INIT stops a processor, which starts again at another vector");

    smp::give(&|_| stop());
    delay::microseconds(1000);
    for processor in smp::others() {
        smp::start_one(processor, START_PAGES[0]);
        check(processor, START_PAGES[0]);
    }
    check_work();
    println!("smp: {mode}: INIT gets through to a processor that is halted without interrupts");

    for page in START_PAGES {
        smp::start_others(page);
        for processor in smp::others() {
            check(processor, page);
        }
    }
    check_work();
    println!("smp: {mode}: all started at once");
}

/// What a processor found when it started.
fn check(processor: usize, page: u8) {
    let start = smp::last_start(processor);
    assert_eq!(start.segments, u32::from(page) << 24, "processor {processor}: segments at the start");
    assert_eq!(start.cr0 & !0x10, CR0_AFTER_INIT & !0x10, "processor {processor}: CR0 at the start");
    assert_eq!(start.zero, 0, "processor {processor}: registers at the start");
    let is_bare = Platform::detect() == Platform::Bare;
    if !is_bare {
        assert_eq!(start.signature, machine::cpuid(1, 0).eax, "processor {processor}: EDX at the start");
    }
    if is_bare && apic::is_x2apic() {
        return;
    }
    assert_eq!(start.apic_faults, 0, "processor {processor}: its APIC at the start");
}

/// Everybody works, once.
fn check_work() {
    VISITS.store(0, Ordering::SeqCst);
    smp::on_all(&|_| {
        VISITS.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(VISITS.load(Ordering::SeqCst) as usize, smp::count());
}
