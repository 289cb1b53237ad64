//! System calls with wrong numbers, slots, types, methods, and without the rights that they need.

use crate::authority::Authority;
use crate::prober::Prober;
use crate::raw::{any, invoke};
use bulkhead_runtime::abi::{
    AnyMethod, Error, InterruptMethod, MemoryMethod, ObjectType, PartitionMethod, Rights, SELF_TABLE, Syscall,
    ThreadMethod, WindowMethod,
};

/// The system calls that name a slot, but for `Invoke`.
const CALLS: [(&str, Syscall, &str); 5] = [
    ("Call", Syscall::Call, "Endpoint"),
    ("ReplyReceive", Syscall::ReplyReceive, "Endpoint"),
    ("Signal", Syscall::Signal, "Notification"),
    ("Wait", Syscall::Wait, "Notification"),
    ("Run", Syscall::Run, "Vcpu"),
];

/// Asks all of it.
pub fn run(prober: &Prober, has: &Authority) {
    numbers(prober, has);
    slots(prober, has);
    types(prober, has);
    methods(prober, has);
    rights(prober, has);
    seal(prober, has);
}

fn numbers(prober: &Prober, has: &Authority) {
    for number in [7, 8, 0xff, 1 << 31, 1 << 32, (1 << 32) + Syscall::Invoke as u64, u64::MAX] {
        let answer = any(number, [has.own, AnyMethod::Inspect as u64, 0, 0, 0, 0]);
        prober.refused(format_args!("system call {number:#x}"), Error::UnknownSyscall, answer);
    }
}

fn slots(prober: &Prober, has: &Authority) {
    let outside = [has.slots, 1 << 16, (1 << 32) + has.own, 1 << 57, u64::MAX];
    for (name, call, _) in CALLS {
        for slot in outside {
            let answer = any(call as u64, [slot, 0, 0, 0, 0, 0]);
            prober.refused(format_args!("{name} with slot {slot:#x}"), Error::SlotOutOfRange, answer);
        }
        let answer = any(call as u64, [has.free, 0, 0, 0, 0, 0]);
        prober.refused(format_args!("{name} with an empty slot"), Error::SlotEmpty, answer);
    }
    for slot in outside {
        let answer = invoke(slot, AnyMethod::Inspect as u64, [0; 4]);
        prober.refused(format_args!("Invoke with slot {slot:#x}"), Error::SlotOutOfRange, answer);
    }
    for method in 0..=5 {
        let error = if method == 5 { Error::UnknownMethod } else { Error::SlotEmpty };
        let answer = invoke(has.free, method, [has.free + 1, 0, 0, SELF_TABLE]);
        prober.refused(format_args!("method {method} of an empty slot"), error, answer);
    }
    for method in [MemoryMethod::Create as u64, ThreadMethod::ReadFault as u64, u64::MAX] {
        let answer = invoke(has.free, method, [0; 4]);
        prober.refused(format_args!("method {method:#x} of an empty slot"), Error::SlotEmpty, answer);
    }
}

fn types(prober: &Prober, has: &Authority) {
    for (name, call, needs) in CALLS {
        for (object, slot) in has.each().into_iter().filter(|(object, _)| *object != needs) {
            let answer = any(call as u64, [slot, 0, 0, 0, 0, 0]);
            prober.refused(format_args!("{name} with a {object}"), Error::WrongType, answer);
        }
    }
    // Slots in arguments.
    let notifies = [
        ("BindNotification", ThreadMethod::BindNotification),
        ("SetFaultNotification", ThreadMethod::SetFaultNotification),
    ];
    for (name, method) in notifies {
        for (object, slot) in has.each().into_iter().filter(|(object, _)| *object != "Notification") {
            let answer = invoke(has.thread, method as u64, [slot, 0, 0, 0]);
            prober.refused(format_args!("{name} with a {object}"), Error::WrongType, answer);
        }
    }
    let read = u64::from(Rights::READ.bits());
    for (object, slot) in has.each().into_iter().filter(|(object, _)| *object != "Memory") {
        let answer =
            invoke(has.partition, PartitionMethod::Map as u64, [slot, crate::authority::FREE_ADDRESS, read, 0]);
        prober.refused(format_args!("Map of a {object}"), Error::WrongType, answer);
        let answer = invoke(has.partition, PartitionMethod::Donate as u64, [slot, 0, 0, 0]);
        prober.refused(format_args!("Donate of a {object}"), Error::WrongType, answer);
    }
    for (object, slot) in has.each().into_iter().filter(|(object, _)| *object != "IoPorts") {
        let answer = invoke(has.partition, PartitionMethod::MapPorts as u64, [slot, 0, 0, 0]);
        prober.refused(format_args!("MapPorts of a {object}"), Error::WrongType, answer);
    }
    for (object, slot) in has.each().into_iter().filter(|(object, _)| *object != "Partition") {
        let answer = invoke(has.own, AnyMethod::Derive as u64, [has.free, read, 0, slot]);
        prober.refused(format_args!("Derive into the table of a {object}"), Error::WrongType, answer);
    }
}

fn methods(prober: &Prober, has: &Authority) {
    for (object, slot) in has.each() {
        for method in [5, 15, 32, (1 << 32) + AnyMethod::Inspect as u64, u64::MAX] {
            // What of a window needs a right that is not there is not looked at further.
            let error = if object == "Window" && method > 15 { Error::MissingRight } else { Error::UnknownMethod };
            prober.refused(format_args!("method {method:#x} of a {object}"), error, invoke(slot, method, [0; 4]));
        }
    }
}

fn rights(prober: &Prober, has: &Authority) {
    let lacks = |asked: &str, answer| prober.refused(format_args!("{asked}"), Error::MissingRight, answer);
    lacks("Wait for the neighbour's notification", any(Syscall::Wait as u64, [has.peer, 0, 0, 0, 0, 0]));
    lacks("ReplyReceive at the neighbour's endpoint", any(Syscall::ReplyReceive as u64, [has.calls, 0, 0, 0, 0, 0]));
    lacks("Call of its own endpoint", any(Syscall::Call as u64, [has.serves, 0, 0, 0, 0, 0]));
    for (name, slot) in [
        ("Partition", has.partition),
        ("Thread", has.thread),
        ("Notification", has.notification),
        ("neighbour's Notification", has.peer),
        ("Endpoint", has.calls),
        ("own Endpoint", has.serves),
    ] {
        let answer = invoke(slot, AnyMethod::Derive as u64, [has.free, 0x1fff, 0, SELF_TABLE]);
        prober.refused(format_args!("Derive of its {name} without GRANT"), Error::MissingRight, answer);
        let answer = invoke(slot, AnyMethod::Revoke as u64, [0; 4]);
        prober.refused(format_args!("Revoke of its {name} without REVOKE"), Error::MissingRight, answer);
    }
    lacks("Revoke of its ports", invoke(has.ports, AnyMethod::Revoke as u64, [0; 4]));
    lacks("Revoke of its interrupt", invoke(has.interrupt, AnyMethod::Revoke as u64, [0; 4]));
    lacks("Revoke of its window", invoke(has.window, AnyMethod::Revoke as u64, [0; 4]));
    lacks("Start of its own thread", invoke(has.thread, ThreadMethod::Start as u64, [0; 4]));
    lacks("Stop of its own thread", invoke(has.thread, ThreadMethod::Stop as u64, [0; 4]));
    lacks("ReadFault of its own thread", invoke(has.thread, ThreadMethod::ReadFault as u64, [0; 4]));
    lacks(
        "BindNotification of the neighbour's",
        invoke(has.thread, ThreadMethod::BindNotification as u64, [has.peer, 0, 0, 0]),
    );
    for slot in [0, 1, has.slots, u64::MAX] {
        let answer = invoke(has.partition, PartitionMethod::InspectSlot as u64, [slot, 0, 0, 0]);
        prober.refused(format_args!("InspectSlot {slot:#x} of its own partition"), Error::MissingRight, answer);
    }
    lacks("Configure of its window", invoke(has.window, WindowMethod::Configure as u64, [0, 63, 0, 0]));
    lacks("Seal with its window", invoke(has.window, WindowMethod::Seal as u64, [0; 4]));
    lacks("AddSlot of its window", invoke(has.window, WindowMethod::AddSlot as u64, [0, 1 << 20, 1 << 30, 0]));
    lacks("Trace of its CPU", invoke(has.own, MemoryMethod::Trace as u64, [has.window, 0, 0, 0]));
    lacks("Zero of memory that nobody writes", invoke(has.law, MemoryMethod::Zero as u64, [0, 4096, 0, 0]));
    let map = |slot, rights: Rights| {
        let arguments = [slot, crate::authority::FREE_ADDRESS, u64::from(rights.bits()), 0];
        invoke(has.partition, PartitionMethod::Map as u64, arguments)
    };
    lacks("Map of memory that nobody writes, to write", map(has.law, Rights::READ | Rights::WRITE));
    lacks("Map of its memory, to execute", map(has.own, Rights::READ | Rights::EXECUTE));
    lacks("Donate of its memory", invoke(has.partition, PartitionMethod::Donate as u64, [has.own, 0, 0, 0]));
}

/// What nobody can do any more.
fn seal(prober: &Prober, has: &Authority) {
    let sealed = [("ports", has.ports), ("an interrupt", has.interrupt), ("a window", has.window)];
    for (what, slot) in sealed {
        let answer = invoke(slot, AnyMethod::Derive as u64, [has.free, 0x1fff, 0, SELF_TABLE]);
        prober.refused(format_args!("Derive of {what} after the seal"), Error::Sealed, answer);
    }
    for (what, slot) in sealed.into_iter().filter(|(_, slot)| *slot != has.window) {
        let answer = invoke(slot, AnyMethod::DeriveRange as u64, [has.free, 0x1fff, 0, 1]);
        prober.refused(format_args!("DeriveRange of {what} after the seal"), Error::Sealed, answer);
    }
    let create =
        |object: u64, argument: u64| invoke(has.own, MemoryMethod::Create as u64, [object, has.free, 0, argument]);
    for (object, argument) in [
        (ObjectType::Partition, 16),
        (ObjectType::Partition, 1 << 16),
        (ObjectType::Endpoint, 0),
        (ObjectType::Notification, 0),
    ] {
        let answer = create(object as u64, argument);
        prober.refused(format_args!("Create a {object:?} ({argument}) after the seal"), Error::Sealed, answer);
    }
    let thread = has.partition | has.window << 32;
    for (object, argument, error) in [
        (ObjectType::Thread as u64, thread, Error::MissingRight),
        (ObjectType::Thread as u64, has.own | has.window << 32, Error::WrongType),
        (ObjectType::Thread as u64, has.partition | 0xffff_ffff << 32, Error::SlotOutOfRange),
        (ObjectType::Vcpu as u64, has.partition, Error::WrongType),
        (ObjectType::Window as u64, has.window, Error::MissingRight),
        (ObjectType::GuestSpace as u64, 7, Error::BadArgument),
        (ObjectType::Partition as u64, 0, Error::BadArgument),
        (ObjectType::Partition as u64, (1 << 16) + 1, Error::BadArgument),
        (ObjectType::Partition as u64, u64::MAX, Error::BadArgument),
        (ObjectType::Partition as u64 | 1 << 8, 16, Error::OutOfRange),
        (ObjectType::Endpoint as u64, 0xffff_ffff, Error::WrongCpu),
        (ObjectType::Memory as u64, 0, Error::BadArgument),
        (ObjectType::IoPorts as u64, 0, Error::BadArgument),
        (ObjectType::Interrupt as u64, 0, Error::BadArgument),
        (ObjectType::None as u64, 0, Error::BadArgument),
        (0xff, 0, Error::BadArgument),
    ] {
        let answer = create(object, argument);
        prober.refused(format_args!("Create object {object:#x} with {argument:#x}"), error, answer);
    }
    let bind = |slot, cpu, flags| invoke(has.interrupt, InterruptMethod::Bind as u64, [slot, cpu, flags, 0]);
    for (what, slot, cpu, flags, error) in [
        ("CPU 64", has.notification, 64, 0, Error::WrongCpu),
        ("CPU 2^32", has.notification, 1 << 32, 0, Error::WrongCpu),
        ("unknown flags", has.notification, 0, 8, Error::BadArgument),
        ("all flags", has.notification, 0, u64::MAX, Error::BadArgument),
        ("a thread", has.thread, 0, 0, Error::WrongType),
        ("an empty slot", has.free, 0, 0, Error::SlotEmpty),
    ] {
        prober.refused(format_args!("Bind of its interrupt to {what}"), error, bind(slot, cpu, flags));
    }
}
