//! A driver of the controller, its interrupts and its time.

use super::Bus;
use bulkhead_ahci::AhciDrive;
use bulkhead_driver::{Command, Completion, Drive, PhysicalSegment};

pub type TestDrive = AhciDrive<'static, Bus, Bus>;
pub const SECTORS: u64 = 0x2000_0000;

pub fn start(bus: &Bus) -> TestDrive {
    let drive = AhciDrive::start(bus.clone(), bus.clone(), &mut bus.dma()).unwrap();
    assert!(!bus.0.borrow().interrupts());
    bus.0.borrow_mut().commands.clear();
    drive
}

/// A drive without native command queuing.
pub fn start_simple(bus: &Bus) -> TestDrive {
    bus.0.borrow_mut().identify[76] = 0;
    start(bus)
}

pub fn segment(address: u64, length: u64) -> PhysicalSegment {
    PhysicalSegment { address, length }
}

/// The ends that interrupts tell, as long as there are interrupts.
pub fn interrupt(drive: &mut TestDrive, bus: &Bus) -> Vec<(u16, Completion)> {
    let mut ends = Vec::new();
    for _ in 0..100 {
        if !bus.0.borrow().interrupts() {
            break;
        }
        drive.on_interrupt(&mut |tag, completion| ends.push((tag, completion)));
    }
    ends
}

/// Lets time pass until so many commands have ended, or the drive waits for nothing.
pub fn pass_time(drive: &mut TestDrive, bus: &Bus, count: usize) -> Vec<(u16, Completion)> {
    let mut ends = interrupt(drive, bus);
    for _ in 0..100_000 {
        let Some(deadline) = drive.deadline() else { break };
        if ends.len() >= count {
            break;
        }
        let now = bus.0.borrow().now.max(deadline);
        bus.0.borrow_mut().now = now;
        drive.on_time(&mut |tag, completion| ends.push((tag, completion)));
        ends.extend(interrupt(drive, bus));
    }
    ends
}

pub const READ: Command = Command::Read { first_sector: 8, sectors: 8 };
pub const DATA: [PhysicalSegment; 1] = [PhysicalSegment { address: 0x10_0000, length: 4096 }];
