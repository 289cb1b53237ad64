//! Tests of the local APIC.

use super::*;
use crate::devices::message::Destination;
use proptest::prelude::*;

fn enabled() -> LocalApic {
    let mut apic = LocalApic::new(0, 0);
    apic.write_memory(0xf0, 0x1ff, 0);
    apic
}

#[test]
fn reset_values() {
    let mut apic = LocalApic::new(3, 0);
    assert_eq!(apic.read_memory(0x20, 0), 3 << 24);
    assert_eq!(apic.read_memory(0x30, 0), 0x0005_0014);
    assert_eq!(apic.read_memory(0xf0, 0), 0xff);
    assert_eq!(apic.read_memory(0xe0, 0), u32::MAX);
    assert_eq!(apic.read_memory(0x320, 0), 0x1_0000);
    assert_eq!(apic.base(), 0xfee0_0800);
    assert!(!apic.has_work());
}

#[test]
fn priorities_and_end_of_interrupt() {
    let mut apic = enabled();
    apic.accept(0x51, false);
    apic.accept(0x52, false);
    assert_eq!(apic.pending(), Pending::Vector(0x52));
    assert_eq!(apic.acknowledge(), 0x52);
    assert_eq!(apic.pending(), Pending::None, "same class waits");
    apic.accept(0x60, false);
    assert_eq!(apic.acknowledge(), 0x60);
    assert_eq!(apic.read_memory(0xa0, 0), 0x60);
    assert_eq!(apic.write_memory(0xb0, 0, 0), LapicEffect::None);
    assert_eq!(apic.pending(), Pending::None);
    apic.write_memory(0xb0, 0, 0);
    assert_eq!(apic.pending(), Pending::Vector(0x51));
    apic.write_memory(0x80, 0x50, 0);
    assert_eq!(apic.pending(), Pending::None);
    assert_eq!(apic.cr8(), 5);
    apic.set_cr8(4);
    assert_eq!(apic.pending(), Pending::Vector(0x51));
}

#[test]
fn level_triggered_end_is_broadcast() {
    let mut apic = enabled();
    apic.accept(0x41, true);
    assert_eq!(apic.read_memory(0x1a0, 0), 2);
    apic.acknowledge();
    assert_eq!(apic.write_memory(0xb0, 0, 0), LapicEffect::EndOfInterrupt(0x41));
}

#[test]
fn software_disable_masks_and_ignores() {
    let mut apic = enabled();
    apic.write_memory(0x350, 0x700, 0);
    apic.set_lint0(true);
    assert_eq!(apic.pending(), Pending::External);
    apic.write_memory(0xf0, 0xff, 0);
    assert_eq!(apic.pending(), Pending::None);
    apic.accept(0x41, false);
    assert_eq!(apic.pending(), Pending::None);
    apic.write_memory(0x350, 0x700, 0);
    assert_eq!(apic.read_memory(0x350, 0), 0x1_0700, "stays masked while disabled");
}

#[test]
fn pins() {
    let mut apic = LocalApic::new(0, 0);
    apic.set_virtual_wire();
    apic.set_lint0(true);
    assert_eq!(apic.pending(), Pending::External);
    apic.set_lint0(false);
    assert_eq!(apic.pending(), Pending::None);
    apic.pulse_lint1();
    assert!(apic.take_nmi());
    assert!(!apic.take_nmi());
    // Linux's check_timer() may use LINT0 as an ordinary interrupt.
    apic.write_memory(0x350, 0x31, 0);
    apic.set_lint0(true);
    assert_eq!(apic.pending(), Pending::Vector(0x31));
}

#[test]
fn timer_interrupts() {
    let mut apic = enabled();
    apic.write_memory(0x3e0, 0xb, 0);
    apic.write_memory(0x320, 0xec, 0);
    apic.write_memory(0x380, 1000, 500);
    assert_eq!(apic.deadline(), 1500);
    apic.advance(1499);
    assert!(!apic.has_work());
    apic.advance(1500);
    assert_eq!(apic.acknowledge(), 0xec);
    assert_eq!(apic.deadline(), u64::MAX);
    apic.write_memory(0x320, 0x400ec, 1600);
    apic.set_tsc_deadline(5000, 1600);
    assert_eq!(apic.tsc_deadline(), 5000);
    assert_eq!(apic.deadline(), 5000);
    apic.write_memory(0x320, 0x500ec, 1700);
    assert_eq!(apic.deadline(), u64::MAX, "masked");
    apic.write_memory(0x320, 0x400ec, 1700);
    apic.write_memory(0xb0, 0, 1700);
    apic.advance(6000);
    assert_eq!(apic.tsc_deadline(), 0);
    assert_eq!(apic.pending(), Pending::Vector(0xec));
}

#[test]
fn commands() {
    let mut apic = enabled();
    apic.write_memory(0x310, 0x0200_0000, 0);
    let effect = apic.write_memory(0x300, 0x0000_4500, 0);
    let LapicEffect::Send(message) = effect else { panic!("{effect:?}") };
    assert_eq!((message.mode, message.destination), (DeliveryMode::Init, Destination::Physical(2)));
    assert_eq!(apic.write_memory(0x300, 0x0000_8500, 0), LapicEffect::None, "INIT de-assert");
    let LapicEffect::Send(startup) = apic.write_memory(0x300, 0x0000_069a, 0) else { panic!() };
    assert!(LocalApic::new(2, 0).address().matches(2, startup.destination, false));
    assert_eq!((startup.mode, startup.vector), (DeliveryMode::Startup, 0x9a));
    let LapicEffect::Send(others) = apic.write_memory(0x300, 0x000c_00f8, 0) else { panic!() };
    assert_eq!(others.destination, Destination::Others);
    assert!(!apic.address().matches(0, others.destination, true));
    assert_eq!(apic.write_memory(0x300, 0x0000_0005, 0), LapicEffect::None);
    apic.write_memory(0x280, 0, 0);
    assert_eq!(apic.read_memory(0x280, 0), 0x20, "illegal vector");
}

#[test]
fn logical_destinations() {
    let mut apic = enabled();
    apic.write_memory(0xd0, 0x0400_0000, 0);
    assert!(apic.address().matches(0, Destination::Logical(0x06), false));
    assert!(!apic.address().matches(0, Destination::Logical(0x03), false));
    apic.write_memory(0xe0, 0x0fff_ffff, 0);
    apic.write_memory(0xd0, 0x2100_0000, 0);
    assert!(apic.address().matches(0, Destination::Logical(0x21), false));
    assert!(apic.address().matches(0, Destination::Logical(0xff), false));
    assert!(!apic.address().matches(0, Destination::Logical(0x11), false));
    let mut wide = LocalApic::new(0x25, 0);
    wide.set_x2apic();
    assert_eq!(wide.read_x2apic(0xd, 0), Ok(0x0002_0020));
    assert!(wide.address().matches(0x25, Destination::Logical(0x0002_0030), false));
    assert!(!wide.address().matches(0x25, Destination::Logical(0x0001_0020), false));
}

#[test]
fn x2apic_mode() {
    let mut apic = LocalApic::new(1, 0);
    assert_eq!(apic.read_x2apic(2, 0), Err(RegisterFault));
    assert_eq!(apic.write_base(0xfee0_0c00, false), Err(RegisterFault));
    assert_eq!(apic.write_base(0xfee0_0c00, true), Ok(()));
    assert_eq!(apic.page(), None);
    assert_eq!(apic.read_x2apic(2, 0), Ok(1));
    assert_eq!(apic.read_x2apic(0xe, 0), Err(RegisterFault));
    assert_eq!(apic.write_x2apic(2, 0, 0), Err(RegisterFault));
    assert_eq!(apic.write_x2apic(0xb, 1, 0), Err(RegisterFault));
    assert_eq!(apic.write_x2apic(0xf, 0x1ff, 0), Ok(LapicEffect::Moved));
    assert_eq!(apic.write_x2apic(0x3f, 0x45, 0), Ok(LapicEffect::None));
    assert_eq!(apic.pending(), Pending::Vector(0x45));
    let Ok(LapicEffect::Send(message)) = apic.write_x2apic(0x30, 0x0000_0030_0000_00fb, 0) else { panic!() };
    assert_eq!(message.destination, Destination::Physical(0x30));
    assert_eq!(apic.write_base(0xfee0_0800, true), Err(RegisterFault), "only by way of disabled");
    assert_eq!(apic.write_base(0xfee0_0000, true), Ok(()));
    assert_eq!(apic.write_base(0xfee0_0c00, true), Err(RegisterFault));
    assert_eq!(apic.write_base(0xfee0_0800, true), Ok(()));
    assert_eq!(apic.write_base(1 << 52, true), Err(RegisterFault));
}

proptest! {
    #[test]
    fn any_sequence_is_survived(
        x2apic: bool,
        steps in proptest::collection::vec((0u8..8, any::<u16>(), any::<u32>(), 0u64..1 << 40), 0..300),
    ) {
        let mut apic = enabled();
        if x2apic { apic.set_x2apic(); }
        let mut now = 0u64;
        for (action, place, value, step) in steps {
            now += step;
            match action {
                0 => { apic.read_memory(u64::from(place & 0xfff), now); }
                1 => { apic.write_memory(u64::from(place & 0xff0), value, now); }
                2 => { let _ = apic.read_x2apic(u32::from(place & 0x3ff), now); }
                3 => { let _ = apic.write_x2apic(u32::from(place & 0x3f), u64::from(value), now); }
                4 => { apic.accept(value as u8, place & 1 != 0); }
                5 => apic.set_tsc_deadline(now.wrapping_add(u64::from(value)), now),
                6 => apic.set_lint0(place & 1 != 0),
                _ => if let Pending::Vector(vector) = apic.pending() {
                    prop_assert!(vector >> 4 > apic.processor_priority() >> 4);
                    prop_assert_eq!(apic.acknowledge(), vector);
                }
            }
            apic.advance(now);
            prop_assert!(apic.deadline() > now);
            let waits = apic.pending() != Pending::None || apic.is_nmi_pending();
            prop_assert_eq!(apic.has_work(), waits);
            prop_assert_eq!(Address::from_word(apic.address().to_word()), apic.address());
        }
    }
}
