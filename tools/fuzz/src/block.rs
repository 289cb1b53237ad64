//! The emulator of disks, over a drive in memory: two guests, of which the first is hostile.

use crate::Input;
use crate::memory::{BYTES, channel, memory, offer, queue};
use bulkhead_block_device::{Bounce, Disk, DiskRange, Service, Withheld};
use bulkhead_channel::{Configuration, MonitorSide};
use bulkhead_doubles::Time;
use bulkhead_driver::*;
use bulkhead_virtio::{GuestMemory, OutsideMemory, feature};
use std::cell::RefCell;
use std::rc::Rc;

const SECTORS: u64 = 64;
const DEPTH: u16 = 4;
const BOUNCE: u64 = 0x9000_0000;
/// Where the drive finds the guests' memories.
const BASES: [u64; 2] = [0x1000_0000, 0x2000_0000];

/// A drive that moves nothing, and looks at what it is asked for.
struct TestDrive {
    information: DriveInformation,
    busy: Rc<RefCell<Vec<u16>>>,
}

impl Drive for TestDrive {
    fn information(&self) -> &DriveInformation {
        &self.information
    }

    fn fitting(&self, segments: impl IntoIterator<Item = PhysicalSegment>, limit: u64) -> u64 {
        let mut bytes = 0;
        for segment in segments {
            if segment.address % 4 != 0 || segment.length % 4 != 0 {
                break;
            }
            bytes += segment.length;
        }
        bytes.min(limit) / SECTOR * SECTOR
    }

    fn submit(
        &mut self,
        tag: u16,
        command: Command,
        segments: impl IntoIterator<Item = PhysicalSegment>,
    ) -> Result<(), SubmitError> {
        assert!(tag < DEPTH && !self.busy.borrow().contains(&tag), "the tag is not free");
        let (first, sectors) = match command {
            Command::Read { first_sector, sectors }
            | Command::Write { first_sector, sectors }
            | Command::Discard { first_sector, sectors }
            | Command::WriteZeroes { first_sector, sectors, .. } => (first_sector, u64::from(sectors)),
            Command::Flush => (0, 1),
        };
        assert!(sectors != 0 && first + sectors <= 2 * SECTORS, "the command leaves the drive");
        for segment in segments {
            let guest = usize::from(first >= SECTORS);
            let within =
                |base: u64, length: u64| segment.address >= base && segment.address + segment.length <= base + length;
            let own = BASES.get(guest).is_some_and(|base| within(*base, BYTES));
            assert!(own || within(BOUNCE, 4096), "memory that is not the guest's");
        }
        self.busy.borrow_mut().push(tag);
        Ok(())
    }

    fn on_interrupt(&mut self, completions: Completions<'_>) {
        for tag in self.busy.take() {
            completions(tag, if tag == 3 { Err(CommandError::Drive) } else { Ok(()) });
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

struct Buffer;

impl Bounce for Buffer {
    fn segment(&self) -> PhysicalSegment {
        PhysicalSegment { address: BOUNCE, length: 4096 }
    }

    fn read(&self, offset: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        assert!(offset + destination.len() as u64 <= 4096);
        Ok(())
    }

    fn write(&self, offset: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        assert!(offset + source.len() as u64 <= 4096);
        Ok(())
    }
}

fn drive(busy: &Rc<RefCell<Vec<u16>>>) -> TestDrive {
    let limits = Some(RangeLimits { sectors: 16, granularity: 1 });
    let information = DriveInformation {
        sectors: 2 * SECTORS,
        logical_block_size: 512,
        physical_exponent: 0,
        write_cache: true,
        flush: true,
        discard: limits,
        write_zeroes: limits,
        command_bytes: 8 * SECTOR,
        depth: DEPTH,
        queues: 2,
        model: [b' '; 40],
        serial: [b' '; 20],
        firmware: [b' '; 8],
        identify: [0; IDENTIFY_BYTES],
    };
    TestDrive { information, busy: busy.clone() }
}

const FEATURES: u64 =
    feature::INDIRECT_DESCRIPTORS | feature::BLOCK_FLUSH | feature::BLOCK_DISCARD | feature::BLOCK_WRITE_ZEROES;

/// A guest and its monitor do anything, and the service is started anew in between.
pub fn run(input: &mut Input<'_>) {
    let busy = Rc::new(RefCell::new(Vec::new()));
    let memories = BASES.map(memory);
    let pages = [channel(), channel()];
    let words = pages.each_ref().map(Vec::as_slice);
    let start = || {
        busy.take();
        let mut service = Service::new(drive(&busy), Time::default(), Buffer);
        for ((memory, words), first_sector) in memories.iter().zip(words).zip([0, SECTORS]) {
            let range = DiskRange {
                name: "disk",
                first_sector,
                sectors: SECTORS,
                read_only: false,
                withheld: Withheld::default(),
            };
            let disk =
                Disk::publish(words, memory.clone(), range, service.information()).expect("the range is on the drive");
            service.add(disk).expect("there is room");
        }
        service
    };
    let mut service = start();
    let mut configuration = Configuration { features: FEATURES, ..Default::default() };
    configuration.queues[0] = Some(queue(0));
    configuration.queues[1] = Some(queue(1));
    let mut monitor = MonitorSide::attach(words[0]).expect("there is memory");
    monitor.configure(&configuration);
    while !input.is_empty() {
        match input.byte() % 8 {
            0 => drop(memories[0].write(input.below(0x2000), &input.number(8).to_le_bytes())),
            1 => drop(memories[0].write(0x3000 + input.below(64), &input.number(4).to_le_bytes())),
            2 | 3 => offer(&memories[0], &queue(u64::from(input.byte() % 2)), (input.byte() % 20).into()),
            4 => {
                let index = input.below(170) as usize;
                words[0][index].store(input.number(8), std::sync::atomic::Ordering::Relaxed);
            }
            5 => service.on_interrupt(),
            6 => match input.byte() % 4 {
                0 => monitor.reset(),
                1 => monitor.configure(&configuration),
                2 => monitor.resume(&configuration),
                _ => service = start(),
            },
            _ => {
                let _ = service.work();
                service.take_signals(|_, _| {});
            }
        }
    }
}
