//! What firmware and operating systems find beside the devices of the first PCs.

use super::*;

const HPET: u64 = 0xfed0_0000;
const ECAM: u64 = 0xfef0_0000;

fn cmos(machine: &mut Pc, index: u8) -> u32 {
    machine.write_port(0x70, Width::Byte, u32::from(index), 0);
    machine.read_port(0x71, Width::Byte, 0)
}

#[test]
fn processors_are_counted() {
    let mut machine = machine(3);
    assert_eq!(cmos(&mut machine, 0x5f), 2);
    machine.write_port(0x510, Width::Word, 5, 0);
    assert_eq!([0; 2].map(|_: u32| machine.read_port(0x511, Width::Byte, 0)), [3, 0]);
    machine.write_port(0x510, Width::Byte, 0, 0);
    assert_eq!(machine.read_port(0x511, Width::Byte, 0), 0, "a byte selects nothing");
    machine.write_port(0x510, Width::Word, 0, 0);
    assert_eq!(machine.read_port(0x511, Width::Byte, 0), u32::from(b'Q'));
}

#[test]
fn ports_and_memory_reach_the_same_configuration() {
    let mut machine = machine(1);
    machine.write_port(0xcf8, Width::Dword, 0x8000_0808, 0);
    machine.write_port(0xcfc, Width::Dword, 0x1234_5678, 0);
    assert_eq!(machine.read_memory(0, ECAM + 0x8008, Width::Dword, 0), 0x1234_5678);
    machine.write_memory(0, ECAM + 0x800b, Width::Byte, 0xaa, 0);
    assert_eq!(machine.read_port(0xcfc, Width::Dword, 0), 0xaa34_5678);
    assert_eq!(machine.read_memory(0, ECAM + 0x8100, Width::Dword, 0), 0);
    assert_eq!(machine.read_memory(0, ECAM + 0xf_8000, Width::Dword, 0), 0xffff_ffff);
}

/// The event timer takes the interval timer's line, and gives it back.
#[test]
fn event_timer_replaces_the_interval_timer() {
    const MILLISECOND: u64 = TSC / 1000;
    let mut machine = machine(1);
    out(&mut machine, &INITIALISE_PIC);
    // Channel 0: a tick each millisecond.
    out(&mut machine, &[(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)]);
    machine.advance(2 * MILLISECOND);
    assert_eq!(machine.arbitrate(0, READY).injection as u8, 0x30);
    out(&mut machine, &[(0x20, 0x20)]);

    machine.write_memory(0, HPET + 0x100, Width::Qword, 1 << 2, 2 * MILLISECOND);
    machine.write_memory(0, HPET + 0x108, Width::Qword, 14_318 * 5, 2 * MILLISECOND);
    machine.write_memory(0, HPET + 0x10, Width::Dword, 3, 2 * MILLISECOND);
    assert_eq!(machine.read_memory(0, HPET + 0xf0, Width::Qword, 3 * MILLISECOND), 14_318);
    machine.advance(6 * MILLISECOND);
    assert_eq!(machine.arbitrate(0, READY).injection, 0, "no ticks of the interval timer");
    assert!(machine.deadline() <= 7 * MILLISECOND);
    machine.advance(7 * MILLISECOND + 1);
    assert_eq!(machine.arbitrate(0, READY).injection as u8, 0x30);
    out(&mut machine, &[(0x20, 0x20)]);

    machine.write_memory(0, HPET + 0x10, Width::Dword, 0, 8 * MILLISECOND);
    machine.advance(9 * MILLISECOND + 1);
    assert_eq!(machine.arbitrate(0, READY).injection as u8, 0x30, "and the line back");
}
