//! `ipi`: interrupts between processors, a million unless the command line says otherwise, in every mode there is.
//!
//! In each mode every processor first sends a stream while all others only receive, and may halt; then all send at once.

use crate::emulators::Platform;
use crate::interrupts::{self, Watcher};
use crate::ledger::{self, Message, Sums};
use crate::modes::{BY_MODEL, Mode, Model, UNIFORM};
use crate::receiver::Receiver;
use crate::smp::{self, wait_until};
use crate::{apic, echo, halting, machine, println, priorities, timers};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A sender's vectors: one in each of these classes, so that several are under way, of several priorities.
const FIRST_CLASS: usize = 3;
const CLASSES: usize = 8;
/// Ends a stream; the sender's index is added.
const END: usize = 0xe0;

/// NMIs are left out. Bochs 2.7 needs that of guests that share a processor: one that comes right after another that was in an
/// NMI's handler is taken for one in such a handler, too.
static MASKABLE_ONLY: AtomicBool = AtomicBool::new(false);

/// Sends at least `count` interrupts in all, NMIs among them or not; exits with an error if one was lost or doubled.
pub fn run(count: u32, with_nmis: bool) {
    MASKABLE_ONLY.store(!with_nmis, Ordering::SeqCst);
    smp::start();
    println!("ipi: {} processors", smp::count());
    if smp::count() < 2 {
        println!("ipi: one processor has nobody to interrupt");
        machine::exit(2);
    }
    let has_x2apic = apic::offers_x2apic();
    // Requests and replies are one more in each mode of the APIC, and the x2APIC has one of its own.
    let of_model = |model: Model| possible(&BY_MODEL, model).count();
    let of_xapic = possible(&UNIFORM, Model::Flat).count() + 1 + of_model(Model::Flat) + of_model(Model::Cluster);
    let of_x2apic = possible(&UNIFORM, Model::X2Apic).count() + 2 + of_model(Model::X2Apic);
    let modes = of_xapic + if has_x2apic { of_x2apic } else { 0 };
    let share = count.div_ceil(modes as u32);

    let mut sums = check_apic(Model::Flat, share);
    // Flat comes last: Bochs keeps its addresses in x2APIC mode, where they happen to be right.
    for model in [Model::Cluster, Model::Flat] {
        sums.add(&check_model(model, share));
    }
    if has_x2apic {
        apic::choose_x2apic();
        smp::on_all(&|_| apic::enable());
        sums.add(&check_apic(Model::X2Apic, share));
        sums.add(&check_model(Model::X2Apic, share));
        sums.add(&measure(Mode::SelfRegister, Model::X2Apic, share));
    } else {
        println!("ipi: x2apic is not offered");
    }

    let handled: u64 = (0..smp::count()).map(interrupts::total).sum();
    assert_eq!(handled, sums.received + UNCOUNTED.load(Ordering::SeqCst) as u64, "interrupts that no ledger knows");
    println!("ipi: {} spurious interrupts", interrupts::spurious());
    println!("ipi: {} sent, {} received, {} lost, {} doubled", sums.sent, sums.received, sums.lost, sums.doubled);
    if sums.lost + sums.doubled != 0 || sums.sent < u64::from(count) {
        machine::exit(1);
    }
}

/// The modes of a list that the machine has.
fn possible(modes: &[Mode], model: Model) -> impl Iterator<Item = Mode> {
    let platform = Platform::detect();
    let left_out = MASKABLE_ONLY.load(Ordering::SeqCst);
    modes.iter().copied().filter(move |mode| platform.has(*mode, model) && !(left_out && mode.is_non_maskable()))
}

/// Interrupts of the tests that keep their own count.
static UNCOUNTED: AtomicUsize = AtomicUsize::new(0);

/// Everything that depends on the APIC's mode alone.
fn check_apic(model: Model, share: u32) -> Sums {
    let before: u64 = (0..smp::count()).map(interrupts::total).sum();
    interrupts::watch(Watcher::Priorities);
    smp::on_all(&priorities::check);
    interrupts::watch(Watcher::Nobody);
    smp::on_all(&timers::check);
    interrupts::clear();
    if !MASKABLE_ONLY.load(Ordering::SeqCst) {
        halting::check();
        interrupts::clear();
    }
    let after: u64 = (0..smp::count()).map(interrupts::total).sum();
    UNCOUNTED.fetch_add((after - before) as usize, Ordering::SeqCst);
    println!("ipi: {}: priorities, nesting, errors, timers and halting are right", apic::mode_name());

    let mut sums = Sums::default();
    for mode in possible(&UNIFORM, model) {
        sums.add(&measure(mode, model, share));
    }
    interrupts::watch(Watcher::Echo);
    smp::on_all(&|processor| echo::exchange(processor, share.div_ceil(2 * smp::count() as u32)));
    sums.add(&close("request and reply", ""));
    interrupts::watch(Watcher::Nobody);
    sums
}

/// Everything that depends on how logical destinations are understood.
fn check_model(model: Model, share: u32) -> Sums {
    let mut sums = Sums::default();
    smp::on_all(&|processor| model.set(processor));
    for mode in possible(&BY_MODEL, model) {
        sums.add(&measure(mode, model, share));
    }
    sums
}

/// Sends about `share` interrupts in one mode.
fn measure(mode: Mode, model: Model, share: u32) -> Sums {
    let example = mode.message(model, 0, 0, 0);
    let targets = if example.is_for_any { 1 } else { example.targets.count_ones() };
    let kinds = if mode.is_non_maskable() || mode.is_for_self() { 1 } else { 2 };
    let messages = share.div_ceil(targets * smp::count() as u32 * kinds);
    if !mode.is_for_self() {
        for sender in 0..smp::count() {
            let ended = AtomicUsize::new(0);
            smp::on_all(&|processor| {
                if processor == sender {
                    send_stream(mode, model, sender, messages, &ended);
                } else {
                    receive(processor, &ended);
                }
            });
        }
    }
    if !mode.is_non_maskable() {
        smp::on_all(&|processor| send_among_others(mode, model, processor, messages));
    }
    close(mode.name(), if BY_MODEL.contains(&mode) { model.name() } else { "" })
}

/// The vector for a sender's message of this number.
const fn vector(sender: usize, number: usize) -> usize {
    (FIRST_CLASS + number % CLASSES) << 4 | sender
}

/// Sends while all others only receive.
fn send_stream(mode: Mode, model: Model, sender: usize, messages: u32, ended: &AtomicUsize) {
    let send = |message: Message| {
        wait_until("an interrupt to come", || message.can_be_sent());
        ledger::send(&message);
    };
    let mut last = [None; CLASSES];
    for number in 0..messages as usize {
        let message = mode.message(model, sender, number, vector(sender, number));
        last[number % CLASSES] = Some(message);
        send(message);
    }
    for message in last.into_iter().flatten() {
        wait_until("the last interrupts to come", || message.can_be_sent());
    }
    ended.store(1, Ordering::SeqCst);
    for target in (0..smp::count()).filter(|target| *target != sender) {
        send(Message::fixed(END + sender, target));
    }
}

/// Receives until the stream has ended; the interrupt behind its end wakes whoever halts then.
fn receive(processor: usize, ended: &AtomicUsize) {
    let mut receiver = Receiver::new(processor);
    while ended.load(Ordering::SeqCst) == 0 {
        receiver.step(|| ended.load(Ordering::SeqCst) == 0);
    }
}

/// Sends while all others do, too.
fn send_among_others(mode: Mode, model: Model, sender: usize, messages: u32) {
    let mut receiver = Receiver::new(sender);
    for number in 0..messages as usize {
        let message = mode.message(model, sender, number, vector(sender, number));
        wait_until("an interrupt to come", || {
            // Nobody is sure to send another, so nobody halts.
            receiver.step(|| false);
            message.can_be_sent()
        });
        ledger::send(&message);
    }
}

/// Lets what is under way arrive, and tells the sums of a mode.
fn close(name: &str, model: &str) -> Sums {
    const SETTLE: u32 = 20_000;
    smp::on_all(&|_| smp::spin(SETTLE));
    let sums = ledger::close();
    println!("ipi: {} {name}{model}: {} sent, {} received", apic::mode_name(), sums.sent, sums.received);
    sums
}
