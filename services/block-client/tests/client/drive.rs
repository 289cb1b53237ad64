//! A drive in memory, whose commands are done when the test says so, in any order.

use bulkhead_doubles::WordMemory;
use bulkhead_driver::{
    Command, Completion, Completions, Drive, DriveInformation, PhysicalSegment, RangeLimits, SECTOR, SubmitError,
};
use bulkhead_virtio::GuestMemory;
use std::cell::RefCell;
use std::rc::Rc;

/// Sectors of the medium.
pub const SECTORS: u64 = 512;
const DEPTH: u16 = 6;

type Pending = (u16, Command, Vec<PhysicalSegment>);

/// What a drive is connected to, and what it has been given. Clones are the same machine.
#[derive(Clone, Default)]
pub struct Machine {
    pub medium: Rc<RefCell<Vec<u8>>>,
    /// Memory that the drive reaches, by the number of the first terabyte.
    pub memories: Rc<RefCell<Vec<WordMemory>>>,
    pub pending: Rc<RefCell<Vec<Pending>>>,
    ends: Rc<RefCell<Vec<(u16, Completion)>>>,
}

/// Where memory `number` begins for the drive.
pub fn base(number: usize) -> u64 {
    (number as u64 + 1) << 40
}

impl Machine {
    pub fn new() -> Self {
        let machine = Self::default();
        machine.medium.borrow_mut().resize((SECTORS * SECTOR) as usize, 0);
        machine
    }

    /// Adds memory of so many bytes.
    pub fn memory(&self, bytes: usize) -> WordMemory {
        let memory = WordMemory::new(bytes, base(self.memories.borrow().len()));
        self.memories.borrow_mut().push(memory);
        memory
    }

    /// A drive that was started anew: nothing is under way.
    pub fn start(&self) -> TestDrive {
        self.pending.borrow_mut().clear();
        self.ends.borrow_mut().clear();
        TestDrive { machine: self.clone(), information: information() }
    }

    /// Does one of the pending commands; its end is told at the next interrupt.
    pub fn execute(&self, which: usize) {
        let (tag, command, segments) = self.pending.borrow_mut().remove(which);
        let mut medium = self.medium.borrow_mut();
        let (first, sectors) = match command {
            Command::Read { first_sector, sectors }
            | Command::Write { first_sector, sectors }
            | Command::Discard { first_sector, sectors }
            | Command::WriteZeroes { first_sector, sectors, .. } => (first_sector, u64::from(sectors)),
            Command::Flush => (0, 0),
        };
        let mut rest = &mut medium[(first * SECTOR) as usize..((first + sectors) * SECTOR) as usize];
        if matches!(command, Command::WriteZeroes { .. }) {
            rest.fill(0);
        }
        for segment in segments {
            let memory = self.memories.borrow()[(segment.address >> 40) as usize - 1];
            let (now, later) = rest.split_at_mut(segment.length as usize);
            let address = segment.address & ((1 << 40) - 1);
            match command {
                Command::Read { .. } => memory.write(address, now).unwrap(),
                _ => memory.read(address, now).unwrap(),
            }
            rest = later;
        }
        self.ends.borrow_mut().push((tag, Ok(())));
    }

    pub fn interrupts(&self) -> bool {
        !self.ends.borrow().is_empty()
    }
}

fn information() -> DriveInformation {
    DriveInformation {
        sectors: SECTORS,
        logical_block_size: 512,
        physical_exponent: 3,
        write_cache: true,
        flush: true,
        discard: Some(RangeLimits { sectors: 64, granularity: 8 }),
        write_zeroes: Some(RangeLimits { sectors: 64, granularity: 1 }),
        command_bytes: 8192,
        depth: DEPTH,
        queues: 2,
        model: [b' '; 40],
        serial: [b' '; 20],
        firmware: [b' '; 8],
        identify: [0; 512],
    }
}

pub struct TestDrive {
    machine: Machine,
    information: DriveInformation,
}

impl Drive for TestDrive {
    fn information(&self) -> &DriveInformation {
        &self.information
    }

    fn fitting(&self, segments: impl IntoIterator<Item = PhysicalSegment>, limit: u64) -> u64 {
        let bytes: u64 = segments.into_iter().map(|segment| segment.length).sum();
        bytes.min(limit) / SECTOR * SECTOR
    }

    fn submit(
        &mut self,
        tag: u16,
        command: Command,
        segments: impl IntoIterator<Item = PhysicalSegment>,
    ) -> Result<(), SubmitError> {
        assert!(tag < DEPTH && self.machine.pending.borrow().iter().all(|(other, ..)| *other != tag));
        self.machine.pending.borrow_mut().push((tag, command, segments.into_iter().collect()));
        Ok(())
    }

    fn on_interrupt(&mut self, completions: Completions<'_>) {
        for (tag, end) in self.machine.ends.borrow_mut().drain(..) {
            completions(tag, end);
        }
    }

    fn deadline(&self) -> Option<u64> {
        None
    }

    fn on_time(&mut self, _: Completions<'_>) {}

    fn is_dead(&self) -> bool {
        false
    }
}
