//! The order of interrupts on one processor: task priority, nesting, merging, and errors (SDM vol. 3, 11.5.3 and 11.8).

use crate::emulators::Platform;
use crate::instructions::{disable_interrupts, enable_interrupts, read_cr8, without_interrupts, write_cr8};
use crate::smp::{self, MAXIMUM};
use crate::{apic, interrupts};
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Vectors of three classes.
const LOW: u8 = 0x31;
const MIDDLE: u8 = 0x41;
const HIGH: u8 = 0x51;
/// Its handler sends others and lets them in.
const NESTING: u8 = 0x45;
/// In the class of [`NESTING`].
const SAME_CLASS: u8 = 0x46;
/// Stands in the record for the end of [`NESTING`]'s handler.
const END: u8 = 1;
const ERRORS: u8 = 0x61;
/// Error status: a message was sent, or one received, with a vector below 16.
const SENT_ILLEGAL: u32 = 1 << 5;
const RECEIVED_ILLEGAL: u32 = 1 << 6;

/// Vectors in the order in which they came, by processor.
static RECORD: [[AtomicU8; 16]; MAXIMUM] = [const { [const { AtomicU8::new(0) }; 16] }; MAXIMUM];
static LENGTH: [AtomicUsize; MAXIMUM] = [const { AtomicUsize::new(0) }; MAXIMUM];

/// Records a vector, and is interrupted if that is its part.
pub fn on_interrupt(processor: usize, vector: usize) {
    record(processor, vector as u8);
    assert!(vector == interrupts::NMI || apic::is_in_service(vector as u32), "{vector:#x} is not in service");
    if vector == usize::from(NESTING) {
        assert_eq!(apic::read(apic::PROCESSOR_PRIORITY) >> 4, u32::from(NESTING >> 4));
        for vector in [LOW, SAME_CLASS, HIGH] {
            send(vector);
        }
        enable_interrupts();
        smp::spin(1000);
        disable_interrupts();
        assert!(apic::is_requested(LOW.into()) && apic::is_requested(SAME_CLASS.into()));
        record(processor, END);
    }
}

fn record(processor: usize, vector: u8) {
    let place = LENGTH[processor].fetch_add(1, Ordering::SeqCst);
    RECORD[processor][place % 16].store(vector, Ordering::SeqCst);
}

fn send(vector: u8) {
    apic::send(apic::ASSERT | apic::MYSELF | u32::from(vector), 0);
}

/// Checks that exactly these have come, in this order, and forgets them.
#[track_caller]
fn expect(processor: usize, vectors: &[u8]) {
    // What was let in comes within a few instructions.
    smp::spin(1000);
    let record: [u8; 16] = RECORD[processor].each_ref().map(|place| place.load(Ordering::SeqCst));
    let length = LENGTH[processor].swap(0, Ordering::SeqCst).min(16);
    assert_eq!(&record[..length], vectors, "processor {processor}: the order of interrupts");
}

/// Checks all of it on this processor.
pub fn check(processor: usize) {
    expect(processor, &[]);
    check_task_priority(processor);
    check_order(processor);
    check_merging(processor);
    send(NESTING);
    expect(processor, &[NESTING, HIGH, END, SAME_CLASS, LOW]);
    check_errors(processor);
    check_disabled(processor);
    assert!(apic::is_quiet(), "processor {processor}: something is in service or waits");
}

/// The task priority holds interrupts of its class and below back, by both ways to set it.
fn check_task_priority(processor: usize) {
    write_cr8(u64::from(HIGH >> 4));
    assert_eq!(apic::read(apic::TASK_PRIORITY), u32::from(HIGH & 0xf0), "CR8 is the task priority's upper half");
    assert_eq!(apic::read(apic::PROCESSOR_PRIORITY), u32::from(HIGH & 0xf0));
    for vector in [LOW, MIDDLE, HIGH, ERRORS] {
        send(vector);
    }
    expect(processor, &[ERRORS]);
    assert!([LOW, MIDDLE, HIGH].into_iter().all(|vector| apic::is_requested(vector.into())));
    write_cr8(u64::from(HIGH >> 4) - 1);
    expect(processor, &[HIGH]);
    apic::write(apic::TASK_PRIORITY, u32::from(LOW));
    assert_eq!(read_cr8(), u64::from(LOW >> 4));
    expect(processor, &[MIDDLE]);
    apic::write(apic::TASK_PRIORITY, 0);
    expect(processor, &[LOW]);
}

/// What waits comes in the order of priority, whatever the order in which it was sent.
fn check_order(processor: usize) {
    without_interrupts(|| {
        for vector in [LOW, HIGH, MIDDLE] {
            send(vector);
        }
        smp::spin(1000);
    });
    expect(processor, &[HIGH, MIDDLE, LOW]);
}

/// Interrupts of one vector merge while they wait, but not with the one in service.
fn check_merging(processor: usize) {
    without_interrupts(|| {
        for _ in 0..3 {
            send(MIDDLE);
        }
        smp::spin(1000);
    });
    expect(processor, &[MIDDLE]);
}

/// Illegal vectors are errors, which the error register tells and an interrupt reports.
fn check_errors(processor: usize) {
    let platform = Platform::detect();
    if platform == Platform::Qemu {
        return;
    }
    apic::take_errors();
    assert_eq!(apic::take_errors(), 0, "errors that nobody made");
    apic::write(apic::ERROR, u32::from(ERRORS));
    send(5);
    smp::spin(1000);
    let errors = apic::take_errors();
    assert!(errors & (SENT_ILLEGAL | RECEIVED_ILLEGAL) != 0, "processor {processor}: errors {errors:#x}");
    apic::write(apic::ERROR, apic::MASKED);
    expect(processor, if platform == Platform::Bare { &[] } else { &[ERRORS] });
}

/// An APIC that software has disabled keeps its local vectors masked (SDM vol. 3, 11.4.7.2).
fn check_disabled(processor: usize) {
    if Platform::detect() == Platform::Qemu {
        return;
    }
    apic::write(apic::ERROR, u32::from(ERRORS));
    apic::disable();
    assert_eq!(apic::read(apic::ERROR), u32::from(ERRORS) | apic::MASKED, "processor {processor}: vectors are masked");
    apic::write(apic::ERROR, u32::from(ERRORS));
    assert_eq!(apic::read(apic::ERROR), u32::from(ERRORS) | apic::MASKED, "processor {processor}: vectors stay masked");
    apic::enable();
    expect(processor, &[]);
}
