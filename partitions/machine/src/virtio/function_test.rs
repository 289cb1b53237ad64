//! A driver's dialogue with a virtio function.

use super::*;
use crate::virtio::{DriverConfiguration, QueueAddresses};
use alloc::vec::Vec;
use proptest::prelude::*;

const PORTS: u16 = 0xc000;
const MEMORY: u32 = 0xfe00_0000;

fn device() -> Device {
    let mut configuration = [0; CONFIGURATION_BYTES];
    configuration[..8].copy_from_slice(&2048u64.to_le_bytes());
    Device { device_type: 2, class: 0x01_8000, features: 1 << 9 | 1 << 28, queues: 2, queue_size: 128, configuration }
}

fn function() -> VirtioPci {
    VirtioPci::new(device(), BarPlaces { ports: PORTS, memory: MEMORY })
}

fn enabled() -> VirtioPci {
    let mut function = function();
    function.write_config(4, Width::Word, 7);
    while function.take_event().is_some() {}
    function
}

type Function = VirtioPci;

fn read(function: &mut Function, offset: u64, width: Width) -> u64 {
    let place = function.decode(Space::Memory, u64::from(MEMORY) + offset).unwrap();
    function.read_bar(place, width)
}

fn write(function: &mut Function, offset: u64, width: Width, value: u64) {
    let place = function.decode(Space::Memory, u64::from(MEMORY) + offset).unwrap();
    function.write_bar(place, width, value);
}

/// Everything up to DRIVER_OK, with vector 1 for queue 0 and vector 0 for the configuration.
fn bring_up(function: &mut Function) {
    write(function, 0x14, Width::Byte, 0);
    write(function, 0x14, Width::Byte, 3);
    write(function, 0x08, Width::Dword, 1);
    write(function, 0x0c, Width::Dword, 1);
    write(function, 0x08, Width::Dword, 0);
    write(function, 0x0c, Width::Dword, 1 << 9);
    write(function, 0x14, Width::Byte, 11);
    assert_eq!(read(function, 0x14, Width::Byte), 11);
    write(function, 0x10, Width::Word, 0);
    write(function, 0x16, Width::Word, 0);
    write(function, 0x18, Width::Word, 64);
    write(function, 0x1a, Width::Word, 1);
    write(function, 0x20, Width::Dword, 0x1000);
    write(function, 0x24, Width::Dword, 1);
    write(function, 0x28, Width::Qword, 0x2000);
    write(function, 0x30, Width::Qword, 0x3000);
    write(function, 0x1c, Width::Word, 1);
    write(function, 0x14, Width::Byte, 15);
}

#[test]
fn configuration_space() {
    let mut function = function();
    assert_eq!(function.read_config(0, Width::Dword), 0x1042_1af4);
    assert_eq!(function.read_config(8, Width::Dword), 0x0180_0001);
    assert_eq!(function.read_config(0x0e, Width::Byte), 0);
    assert_eq!(function.read_config(0x3d, Width::Byte), 1);
    // Walk the capabilities: one MSI-X, and all five of virtio.
    let mut kinds = Vec::new();
    let mut at = function.read_config(0x34, Width::Byte) as u8;
    while at != 0 {
        let head = function.read_config(at, Width::Dword);
        kinds.push((head as u8, if head as u8 == 9 { head >> 24 } else { 0 }));
        at = (head >> 8) as u8;
    }
    assert_eq!(kinds, [(0x11, 0), (9, 1), (9, 3), (9, 4), (9, 2), (9, 5)]);
    // Sizes of the windows.
    function.write_config(0x10, Width::Dword, u32::MAX);
    assert_eq!(function.read_config(0x10, Width::Dword), 0xffff_fff9);
    function.write_config(0x14, Width::Dword, u32::MAX);
    assert_eq!(function.read_config(0x14, Width::Dword), 0xffff_c000);
    assert_eq!(function.read_config(0x18, Width::Dword), 0);
}

#[test]
fn doorbells_follow_the_port_window() {
    let mut function = function();
    assert_eq!(function.take_event(), None);
    function.write_config(4, Width::Word, 1);
    assert_eq!(function.take_event(), Some(Event::DoorbellMoved { queue: 0, old: None, new: Some(PORTS) }));
    assert_eq!(function.take_event(), Some(Event::DoorbellMoved { queue: 1, old: None, new: Some(PORTS + 4) }));
    assert_eq!(function.take_event(), None);
    function.write_config(0x10, Width::Dword, 0xd001);
    let (old, new) = (Some(PORTS), Some(0xd000));
    assert_eq!(function.take_event(), Some(Event::DoorbellMoved { queue: 0, old, new }));
    assert!(function.take_event().is_some());
    function.write_config(4, Width::Word, 0);
    assert_eq!(function.take_event(), Some(Event::DoorbellMoved { queue: 0, old: new, new: None }));
    assert!(function.take_event().is_some());
    // A port beyond 16 bits is not reachable.
    function.write_config(0x10, Width::Dword, 0x1_0001);
    function.write_config(4, Width::Word, 1);
    assert_eq!(function.take_event(), None);
}

#[test]
fn a_driver_brings_the_device_up() {
    let mut function = enabled();
    assert_eq!(read(&mut function, 0x04, Width::Dword), 1 << 9 | 1 << 28);
    write(&mut function, 0x00, Width::Dword, 1);
    assert_eq!(read(&mut function, 0x04, Width::Dword), 1);
    assert_eq!(read(&mut function, 0x12, Width::Word), 2);
    assert_eq!(read(&mut function, 0x2000, Width::Qword), 2048);
    bring_up(&mut function);
    let mut queues = [None; MAX_QUEUES];
    queues[0] = Some(QueueAddresses { size: 64, descriptors: 0x1_0000_1000, driver: 0x2000, device: 0x3000 });
    let features = 1 << 9 | 1 << 32;
    assert_eq!(function.take_event(), Some(Event::DriverReady(DriverConfiguration { features, queues })));
    assert_eq!(function.take_event(), Some(Event::MessagesMoved));
    // What is running cannot be changed.
    write(&mut function, 0x20, Width::Dword, 0x5000);
    assert_eq!(read(&mut function, 0x20, Width::Qword), 0x1_0000_1000);
    // A notification that no doorbell took.
    let place = function.decode(Space::Ports, u64::from(PORTS) + 4).unwrap();
    function.write_bar(place, Width::Word, 1);
    assert_eq!(function.take_event(), Some(Event::Notified { queue: 1 }));
    // Reset is over when the emulator says so.
    write(&mut function, 0x14, Width::Byte, 0);
    assert_eq!(function.take_event(), Some(Event::Reset));
    assert_eq!((function.take_event(), function.message(0)), (Some(Event::MessagesMoved), None));
    assert_eq!(read(&mut function, 0x14, Width::Byte), 15);
    function.reset_done();
    assert_eq!(read(&mut function, 0x14, Width::Byte), 0);
    assert_eq!(read(&mut function, 0x1c, Width::Word), 0);
}

#[test]
fn features_must_be_offered() {
    let mut function = enabled();
    write(&mut function, 0x14, Width::Byte, 3);
    write(&mut function, 0x0c, Width::Dword, 1 << 9);
    write(&mut function, 0x14, Width::Byte, 11);
    assert_eq!(read(&mut function, 0x14, Width::Byte), 3, "without VERSION_1");
    write(&mut function, 0x08, Width::Dword, 1);
    write(&mut function, 0x0c, Width::Dword, 3);
    write(&mut function, 0x14, Width::Byte, 15);
    assert_eq!(read(&mut function, 0x14, Width::Byte), 3, "with one that is not offered");
    assert_eq!(function.take_event(), None);
}

#[test]
fn interrupts_by_message() {
    let mut function = enabled();
    bring_up(&mut function);
    function.write_config(0x42, Width::Word, 0x8000);
    write(&mut function, 0x3010, Width::Dword, 0xfee0_0000);
    write(&mut function, 0x3018, Width::Dword, 0x55);
    function.raise(0);
    assert_eq!(function.take_message(), None);
    assert_eq!(read(&mut function, 0x3800, Width::Dword), 2);
    write(&mut function, 0x301c, Width::Dword, 0);
    assert_eq!(function.take_message(), Some(MsiMessage { address: 0xfee0_0000, data: 0x55 }));
    assert_eq!(function.take_message(), None);
    assert!(!function.interrupt_asserted());
    function.raise(1);
    assert_eq!(function.take_message(), None, "queue 1 has no vector");
}

#[test]
fn another_device_has_no_more_queues_than_there_are_ports() {
    let mut function = enabled();
    function.set_device(Device { queues: 8, ..device() });
    assert_eq!(read(&mut function, 0x12, Width::Word), 2);
    write(&mut function, 0x16, Width::Word, 2);
    assert_eq!(read(&mut function, 0x18, Width::Word), 0, "there is no third queue");
    function.set_device(Device { queues: 1, ..device() });
    assert_eq!(read(&mut function, 0x12, Width::Word), 1);
    function.set_device(device());
    assert_eq!(read(&mut function, 0x12, Width::Word), 2);
}

#[test]
fn interrupts_by_pin() {
    let mut function = enabled();
    function.raise(0);
    function.set_needs_reset();
    assert!(!function.interrupt_asserted(), "no driver");
    assert_eq!(read(&mut function, 0x14, Width::Byte), 0);
    bring_up(&mut function);
    function.raise(0);
    assert!(function.interrupt_asserted());
    assert_eq!(function.read_config(6, Width::Word), 0x18);
    function.write_config(4, Width::Word, 0x407);
    assert!(!function.interrupt_asserted());
    function.write_config(4, Width::Word, 7);
    function.set_needs_reset();
    assert_eq!(read(&mut function, 0x14, Width::Byte), 15 | 64);
    assert_eq!(read(&mut function, 0x1000, Width::Byte), 3);
    assert!(!function.interrupt_asserted());
    function.set_needs_reset();
    function.raise(2);
    assert!(!function.interrupt_asserted(), "no news, no such queue");
}

#[test]
fn access_through_configuration_space() {
    let mut function = function();
    function.write_config(0x98, Width::Byte, 1);
    function.write_config(0x9c, Width::Dword, 0x2000);
    function.write_config(0xa0, Width::Dword, 4);
    assert_eq!(function.read_config(0xa4, Width::Dword), 2048);
    function.write_config(0x9c, Width::Dword, 0x14);
    function.write_config(0xa0, Width::Dword, 1);
    function.write_config(0xa4, Width::Dword, 1);
    assert_eq!(function.read_config(0xa4, Width::Dword), 1);
    function.write_config(0x9c, Width::Dword, u32::MAX);
    assert_eq!(function.read_config(0xa4, Width::Dword), 0);
}

fn any_width() -> impl Strategy<Value = Width> {
    prop::sample::select(std::vec![Width::Byte, Width::Word, Width::Dword, Width::Qword])
}

proptest! {
    #[test]
    fn no_access_panics(
        accesses in prop::collection::vec((0u8..6, any::<u64>(), any_width(), any::<u64>()), 0..200),
    ) {
        let mut function = enabled();
        for (kind, offset, width, value) in accesses {
            let small = if width == Width::Qword { Width::Dword } else { width };
            let register = offset as u8 & !(small.bytes() as u8 - 1);
            let memory = BarOffset { bar: 1, offset: offset % u64::from(MEMORY_SIZE) };
            match kind {
                0 => { function.read_config(register, small); }
                1 => function.write_config(register, small, value as u32),
                2 => { function.read_bar(memory, width); }
                3 => function.write_bar(memory, width, value),
                4 => function.write_bar(BarOffset { bar: 1, offset: offset % 0x40 }, width, value % 16),
                _ => function.write_bar(BarOffset { bar: 0, offset: offset % 8 }, width, value),
            }
            function.raise(value as u16 % 4);
            while function.take_event().is_some() {}
            while function.take_message().is_some() {}
            if value & 0x100 != 0 {
                function.reset_done();
            }
            function.decode(Space::Memory, offset);
        }
    }
}
