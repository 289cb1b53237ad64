//! Units are turned on in order, and say what they refused.

mod common;

use bulkhead_driver::{Clock, DmaMemory};
use bulkhead_iommu::{
    Allowed, Fault, InterruptTable, PAGE_BYTES, QUEUE_BYTES, Refused, Unit, Unusable, message_address,
};
use common::{CAPABILITY, EXTENDED, MEMORY, Model, memory};
use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;

/// Where the fault recording registers are.
const FAULTS: u32 = 0x220;

/// A clock that goes on at every look.
#[derive(Default)]
struct Ticks(Cell<u64>);

impl Clock for Ticks {
    fn milliseconds(&self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
}

#[test]
fn tables_are_written_back_and_caches_empty_before_anything_is_translated() {
    let words = memory(2);
    let model = Model::new(&words);
    // As firmware may leave it.
    model.set(0x1c, 1 << 31 | 1 << 25 | 1 << 23);
    let mut rest = DmaMemory::new(&words, MEMORY);
    let interrupts = InterruptTable::new(&mut rest, false).unwrap();
    let queue = rest.take(QUEUE_BYTES, PAGE_BYTES as u64).unwrap();
    let unit = Unit::new(&model, 4096).unwrap();
    assert!(unit.needs_write_back());
    let write_back = || model.log.borrow_mut().push("write back");
    unit.turn_on(&Ticks::default(), 0x77_7000, Some(&interrupts), &queue, write_back).unwrap();
    let expected = [
        "write back",
        "root",
        "table",
        "queue",
        "forget contexts",
        "forget translations",
        "forget interrupts",
        "wait",
        "interrupts",
        "translate",
    ];
    assert_eq!(*model.log.borrow(), expected);
    assert_eq!(model.get64(0x20), 0x77_7000);
    assert_eq!(model.get64(0xb8), MEMORY | 7);
    assert_eq!(model.get(0x1c) >> 23 & 1, 0, "messages of the old format are blocked");
}

#[test]
fn an_interrupt_has_the_entry_of_its_vector() {
    let words = memory(1);
    let table = InterruptTable::new(&mut DmaMemory::new(&words, MEMORY), false).unwrap();
    table.allow(Allowed { vector: 0x61, apic_id: 3, requester: 0x0103, level: true });
    for (index, pair) in words.chunks(2).enumerate() {
        let (low, high) = (pair[0].load(Relaxed), pair[1].load(Relaxed));
        let expected = if index == 0x61 { (3 << 40 | 0x61 << 16 | 0x11, 0x4_0103) } else { (0, 0) };
        assert_eq!((low, high), expected, "{index}");
    }
    assert_eq!(message_address(0x61), 0xfee0_0c30);
}

#[test]
fn faults_are_told_once_and_their_places_freed() {
    let words = memory(1);
    let model = Model::new(&words);
    let unit = Unit::new(&model, 4096).unwrap();
    unit.signal_faults(0x1_fee0_1000, 0x45);
    assert_eq!((model.get(0x3c), model.get64(0x40), model.get(0x38)), (0x45, 0x1_fee0_1000, 0));
    model.set64(FAULTS, 0x1234_5000);
    model.set64(FAULTS + 8, 1 << 63 | 1 << 62 | 6 << 32 | 0x80);
    model.set64(FAULTS + 16, 0x25 << 48);
    model.set64(FAULTS + 24, 1 << 63 | 0x25 << 32 | 0x88);
    model.set(0x34, 3);
    let faults = Cell::new(Vec::new());
    let take = |fault| {
        let mut all = faults.take();
        all.push(fault);
        faults.set(all);
    };
    assert!(unit.take_faults(take));
    assert!(!unit.take_faults(take));
    let all = faults.take();
    let expected = [
        Fault { requester: 0x80, refused: Refused::Read(0x1234_5000), reason: 6 },
        Fault { requester: 0x88, refused: Refused::Interrupt(0x25), reason: 0x25 },
    ];
    assert_eq!(all, expected);
    assert_eq!(all[0].to_string(), "read of 0x12345000 refused (reason 0x6)");
}

#[test]
fn what_cannot_be_used_is_said() {
    let words = memory(2);
    let with = |version, capability, extended| {
        let model = Model::new(&words);
        model.set(0, version);
        model.set64(8, capability);
        model.set64(0x10, extended);
        model
    };
    let refused = |model: Model<'_>| Unit::new(&model, 4096).err();
    assert_eq!(refused(with(0, CAPABILITY, EXTENDED)), Some(Unusable::Absent));
    assert_eq!(refused(with(u32::MAX, u64::MAX, u64::MAX)), Some(Unusable::Absent));
    assert_eq!(refused(with(0x10, CAPABILITY & !(3 << 9), EXTENDED)), Some(Unusable::Levels));
    assert_eq!(refused(with(0x10, CAPABILITY, 0)), Some(Unusable::Queue));
    assert_eq!(refused(with(0x10, CAPABILITY | 0x3ff << 24, EXTENDED)), Some(Unusable::FaultRegisters));
    let mut stuck = with(0x10, CAPABILITY, EXTENDED);
    stuck.stuck = true;
    let mut rest = DmaMemory::new(&words, MEMORY);
    let x2apic = InterruptTable::new(&mut rest, true).unwrap();
    let unit = Unit::new(&stuck, 4096).unwrap();
    assert_eq!(unit.turn_on(&Ticks::default(), 0, Some(&x2apic), &rest, || ()), Err(Unusable::X2apic));
    assert_eq!(unit.turn_on(&Ticks::default(), 0, None, &rest, || ()), Err(Unusable::Stuck));
}
