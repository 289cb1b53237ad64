//! From reset to running, and why that may fail.

mod common;

use bulkhead_driver::{Drive, Nic};
use bulkhead_virtio_driver::{Place, Structures, Unusable, VirtioBlk, VirtioNet};
use common::{Bus, Fault, INDIRECT, VERSION_1, WINDOW};

fn blk(bus: &Bus) -> Result<VirtioBlk<'static, Bus, Bus>, Unusable> {
    VirtioBlk::start(bus.clone(), WINDOW, &bus.structures(), bus.clone(), &mut bus.dma())
}

fn net(bus: &Bus) -> Result<VirtioNet<'static, Bus, Bus>, Unusable> {
    VirtioNet::start(bus.clone(), WINDOW, &bus.structures(), bus.clone(), &mut bus.dma())
}

#[test]
fn only_known_features_are_accepted() {
    let bus = Bus::blk(512, 1000);
    blk(&bus).unwrap();
    assert_eq!(bus.0.borrow().accepted, VERSION_1 | INDIRECT | 1 << 33 | 0x6646);
    let bus = Bus::net(1400);
    net(&bus).unwrap();
    assert_eq!(bus.0.borrow().accepted, VERSION_1 | 1 << 33 | 0x829 | 1 << 16);
    // An MTU for which there is no room is not agreed on.
    let bus = Bus::net(9000);
    assert_eq!(net(&bus).unwrap().information().mtu, 1500);
    assert_eq!(bus.0.borrow().accepted & 8, 0);
}

#[test]
fn needed_features_are_needed() {
    for missing in [VERSION_1, INDIRECT] {
        let bus = Bus::blk(512, 1000);
        bus.0.borrow_mut().offered &= !missing;
        assert_eq!(blk(&bus).err(), Some(Unusable::Features));
    }
    for missing in [VERSION_1, 1 << 5] {
        let bus = Bus::net(1500);
        bus.0.borrow_mut().offered &= !missing;
        assert_eq!(net(&bus).err(), Some(Unusable::Features));
    }
}

#[test]
fn what_a_disk_says_is_offered() {
    let bus = Bus::blk(4096, 1003);
    let drive = blk(&bus).unwrap();
    let information = drive.information();
    assert_eq!((information.sectors, information.logical_block_size), (1000, 4096));
    assert_eq!((information.physical_exponent, information.depth, information.queues), (3, 64, 1));
    assert!(information.flush && information.write_cache);
    assert_eq!(information.command_bytes, 1 << 20);
    let (discard, zeroes) = (information.discard.unwrap(), information.write_zeroes.unwrap());
    assert_eq!((discard.sectors, discard.granularity, zeroes.sectors), (0x3f_fff8, 8, 0x3f_fff8));
    assert_eq!(information.model(), "Virtio block device");
    assert_eq!(&information.serial, b"SERIAL              ");
    assert_eq!(information.identify[..60], bus.0.borrow().configuration[..]);
    assert!(information.identify[60..].iter().all(|byte| *byte == 0));
}

#[test]
fn what_a_disk_does_not_say_is_not_offered() {
    let bus = Bus::blk(4096, 1003);
    bus.0.borrow_mut().offered = VERSION_1 | INDIRECT;
    let drive = blk(&bus).unwrap();
    let information = drive.information();
    assert_eq!((information.sectors, information.logical_block_size, information.physical_exponent), (1003, 512, 0));
    assert!(!information.flush && !information.write_cache);
    assert_eq!((information.discard, information.write_zeroes), (None, None));
    // An identifier that the device refuses to tell.
    let bus = Bus::blk(512, 1000);
    bus.0.borrow_mut().fault = Fault::Status(2);
    assert_eq!(blk(&bus).unwrap().information().serial, [b' '; 20]);
    // Short queues, and no more of the configuration than the capacity.
    let bus = Bus::blk(512, 1000);
    bus.0.borrow_mut().most_entries = 16;
    assert_eq!(blk(&bus).unwrap().information().depth, 16);
    let bus = Bus::blk(512, 1000);
    bus.0.borrow_mut().offered = VERSION_1 | INDIRECT;
    bus.0.borrow_mut().configuration.truncate(8);
    assert_eq!(blk(&bus).unwrap().information().sectors, 1000);
}

#[test]
fn what_a_card_says_is_offered() {
    let bus = Bus::net(1400);
    let card = net(&bus).unwrap();
    let information = card.information();
    assert_eq!((information.mac, information.mtu, information.queues), (common::net::MAC, 1400, 1));
    assert!(information.transmit_checksum && information.segmentation && !information.receive_checksum);
    assert!(card.link().up);
    for (missing, checksum) in [(1 << 0, false), (1 << 11, true)] {
        let bus = Bus::net(1400);
        bus.0.borrow_mut().offered &= !missing;
        let card = net(&bus).unwrap();
        assert_eq!((card.information().transmit_checksum, card.information().segmentation), (checksum, false));
        assert_eq!(bus.0.borrow().accepted & 1 << 11, 0);
    }
    // Without a say on the link there is one.
    let bus = Bus::net(1400);
    bus.0.borrow_mut().offered &= !(1 << 16);
    bus.0.borrow_mut().configuration[6] = 0;
    assert!(net(&bus).unwrap().link().up);
}

#[test]
fn devices_that_do_not_answer_are_refused() {
    let faults = [
        (Fault::Gone, Unusable::Absent),
        (Fault::NeverResets, Unusable::Timeout),
        (Fault::RefusesFeatures, Unusable::Features),
        (Fault::NoVector, Unusable::Interrupts),
        (Fault::Restless, Unusable::Configuration),
        (Fault::FarDoorbells, Unusable::Queue),
    ];
    for (fault, error) in faults {
        for bus in [Bus::blk(512, 1000), Bus::net(1500)] {
            bus.0.borrow_mut().fault = fault;
            let found = if bus.0.borrow().queues.len() == 2 { net(&bus).err() } else { blk(&bus).err() };
            assert_eq!(found, Some(error), "{fault:?}");
            assert!(bus.0.borrow().now < 11_000 && !bus.0.borrow().is_going());
        }
    }
    let faults = [
        (Fault::Silent, Unusable::Timeout),
        (Fault::Unwritten, Unusable::Broken),
        (Fault::Number(1), Unusable::Broken),
        (Fault::Number(0x1_0000), Unusable::Broken),
        (Fault::Length(22), Unusable::Broken),
        (Fault::Ahead(200), Unusable::Broken),
    ];
    for (fault, error) in faults {
        let bus = Bus::blk(512, 1000);
        bus.0.borrow_mut().fault = fault;
        assert_eq!(blk(&bus).err(), Some(error), "{fault:?}");
        assert!(bus.0.borrow().now < 11_000 && !bus.0.borrow().is_going(), "it is stopped");
    }
}

#[test]
fn devices_that_make_no_sense_are_refused() {
    let refuse = |bus: Bus, at: usize, value: &[u8], error| {
        bus.0.borrow_mut().configuration[at..at + value.len()].copy_from_slice(value);
        let found = if bus.0.borrow().queues.len() == 2 { net(&bus).err() } else { blk(&bus).err() };
        assert_eq!(found, Some(error));
        assert!(!bus.0.borrow().is_going());
    };
    for block in [0u32, 256, 513, 8192, u32::MAX] {
        refuse(Bus::blk(512, 1000), 20, &block.to_le_bytes(), Unusable::Configuration);
    }
    for sectors in [0, 1 << 55, u64::MAX] {
        refuse(Bus::blk(512, 1000), 0, &sectors.to_le_bytes(), Unusable::Configuration);
    }
    refuse(Bus::blk(4096, 7), 0, &[7], Unusable::Configuration);
    // No segments, or of no bytes, or too short for a block.
    refuse(Bus::blk(512, 1000), 12, &[0; 4], Unusable::Configuration);
    refuse(Bus::blk(512, 1000), 8, &[0; 4], Unusable::Configuration);
    refuse(Bus::blk(4096, 1000), 8, &[8, 0, 0, 0], Unusable::Configuration);
    refuse(Bus::net(1500), 0, &[0; 6], Unusable::Configuration);
    refuse(Bus::net(1500), 0, &[1], Unusable::Configuration);
    refuse(Bus::net(1500), 10, &[60, 0], Unusable::Configuration);
    let bus = Bus::blk(512, 1000);
    bus.0.borrow_mut().offered |= 1 << 5;
    assert_eq!(blk(&bus).err(), Some(Unusable::ReadOnly));
    for entries in [0, 2, 100] {
        let bus = Bus::blk(512, 1000);
        bus.0.borrow_mut().most_entries = entries;
        assert_eq!(blk(&bus).err(), Some(Unusable::Queue));
    }
    let bus = Bus::net(1500);
    bus.0.borrow_mut().queues.pop();
    assert_eq!(net(&bus).err(), Some(Unusable::Queue));
}

#[test]
fn structures_are_checked() {
    let usual = Bus::blk(512, 1000).structures();
    let place = |bar, offset, length| Place { bar, offset, length };
    let wrong = [
        Structures { notify: place(2, 0x3000, 0x1000), ..usual },
        Structures { isr: Some(place(2, 0x1000, 0x1000)), ..usual },
        Structures { device: place(2, 0x2000, 60), ..usual },
        Structures { common: place(4, 0, 0x37), ..usual },
        Structures { common: place(4, 2, 0x38), ..usual },
        Structures { common: place(4, 0x3fcc, 0x38), ..usual },
        Structures { common: place(4, u32::MAX - 3, 0x38), ..usual },
        Structures { notify: place(4, 0x3000, 0x1001), ..usual },
        Structures { notify: place(4, 0x3001, 0x10), ..usual },
        Structures { notify: place(4, 0x3000, 1), ..usual },
        Structures { notify_multiplier: 1, ..usual },
        Structures { notify_multiplier: 6, ..usual },
        Structures { device: place(4, 0x2002, 60), ..usual },
        Structures { isr: Some(place(4, 0x4000, 1)), ..usual },
    ];
    for structures in wrong {
        let bus = Bus::blk(512, 1000);
        let started = VirtioBlk::start(bus.clone(), WINDOW, &structures, bus.clone(), &mut bus.dma());
        assert_eq!(started.err(), Some(Unusable::Structures), "{structures:?}");
        assert_eq!(bus.0.borrow().resets, 0);
    }
    let bus = Bus::blk(512, 1000);
    let usual = Structures { isr: None, ..usual };
    assert!(VirtioBlk::start(bus.clone(), WINDOW, &usual, bus.clone(), &mut bus.dma()).is_ok());
}

#[test]
fn too_little_memory_is_refused() {
    for bus in [Bus::blk(512, 1000), Bus::net(1500)] {
        let dma = bus.dma();
        let mut less = dma.part(0, dma.len() - 4096).unwrap();
        let started = if bus.0.borrow().queues.len() == 2 {
            VirtioNet::start(bus.clone(), WINDOW, &bus.structures(), bus.clone(), &mut less).err()
        } else {
            VirtioBlk::start(bus.clone(), WINDOW, &bus.structures(), bus.clone(), &mut less).err()
        };
        assert_eq!(started, Some(Unusable::Memory));
    }
}
