//! The client of a block service, in front of a guest's memory: the service writes whatever it likes.

use crate::Input;
use crate::memory::channel;
use bulkhead_block_client::{BlockClient, CopyDrive, DEPTH, Doorbell, MEMORY_BYTES};
use bulkhead_channel::{AtomicU64, Command as Order, DeviceDescription, DeviceKind, EmulatorSide, Interrupts};
use bulkhead_doubles::FlatMemory;
use bulkhead_driver::{Command, Drive, PhysicalSegment, SECTOR};
use bulkhead_virtio::{BlockConfiguration, GuestMemory, feature};
use std::sync::atomic::Ordering::Relaxed;

const SECTORS: u64 = 64;
/// Each tag's data are here in the guest's memory, one after the other; below and between is nothing of the client's.
const BUFFERS: u64 = 0x1_0000;
const BUFFER: u64 = 0x1000;
/// Most sectors of a command: half a buffer's.
const MOST: u64 = BUFFER / 2 / SECTOR;
/// Words of the shared memory: the driver's half of the queue, the device's half, the requests.
const DEVICE_HALF: usize = 512;
const SLOTS: usize = 1024;
const RING_WORDS: u64 = 2048;

struct Bell;

impl Doorbell for Bell {
    fn ring(&self) {}
}

fn description() -> DeviceDescription {
    let configuration = BlockConfiguration {
        sectors: SECTORS,
        segments: 16,
        logical_block_size: 512,
        physical_block_exponent: 0,
        queues: 1,
        discard: [16, 1],
        write_zeroes: 16,
        write_zeroes_unmaps: true,
    };
    DeviceDescription {
        kind: DeviceKind::Block,
        features: feature::INDIRECT_DESCRIPTORS | feature::BLOCK_FLUSH | feature::BLOCK_DISCARD,
        queues: 1,
        queue_size: 64,
        configuration: configuration.to_bytes(),
    }
}

/// Obeys like a correct service that does nothing else.
fn obey(emulator: &mut EmulatorSide<'_>) {
    while let Some(order) = emulator.next_command() {
        emulator.acknowledge(!matches!(order, Order::Refused(_)));
    }
}

/// Gives a request back as a correct service does, though perhaps one that it does not have.
fn give_back(words: &[AtomicU64], number: u64, length: u64) {
    let index = words[DEVICE_HALF].load(Relaxed) >> 16 & 0xffff;
    // Elements of 8 bytes begin behind flags and index, which are half a word.
    let at = DEVICE_HALF + (index % u64::from(DEPTH)) as usize;
    let (low, high) = (words[at].load(Relaxed) & 0xffff_ffff, words[at + 1].load(Relaxed) & !0xffff_ffff);
    words[at].store(low | number << 32, Relaxed);
    words[at + 1].store(high | length & 0xffff_ffff, Relaxed);
    let first = words[DEVICE_HALF].load(Relaxed) & !0xffff_0000;
    words[DEVICE_HALF].store(first | ((index + 1) & 0xffff) << 16, Relaxed);
}

fn command(input: &mut Input<'_>) -> (Command, u64) {
    let (first_sector, sectors) = (input.below(SECTORS), 1 + input.below(MOST) as u32);
    match input.byte() % 6 {
        0 | 1 => (Command::Write { first_sector, sectors }, u64::from(sectors) * SECTOR),
        2 | 3 => (Command::Read { first_sector, sectors }, u64::from(sectors) * SECTOR),
        4 => (Command::Flush, 0),
        _ => (Command::Discard { first_sector, sectors }, 0),
    }
}

/// The guest has requests, and the service does anything.
pub fn run(input: &mut Input<'_>) {
    let page = channel();
    let words: Vec<AtomicU64> = (0..MEMORY_BYTES / 8).map(|_| AtomicU64::new(0)).collect();
    let ram = FlatMemory::new((BUFFERS + u64::from(DEPTH) * BUFFER) as usize, 0);
    let mut emulator = EmulatorSide::publish(&page, description()).expect("there is memory");
    let mut client = BlockClient::attach(&page, &words, Bell).expect("there is memory");
    for _ in 0..3 {
        obey(&mut emulator);
        client.poll(&mut |_, _| unreachable!("nothing was asked for"));
    }
    let buffers = client.buffers();
    let mut drive = CopyDrive::new(client, buffers, ram.clone()).expect("the disk is offered");
    let mut open = [false; DEPTH as usize];
    while !input.is_empty() {
        match input.byte() % 8 {
            0 => words[input.below(RING_WORDS) as usize].store(input.number(8), Relaxed),
            1 => page[input.below(170) as usize].store(input.number(8), Relaxed),
            2 | 3 => {
                let tag = (input.byte() % 18).into();
                let (command, length) = command(input);
                let segment = PhysicalSegment { address: BUFFERS + u64::from(tag) * BUFFER, length };
                if drive.submit(tag, command, (length != 0).then_some(segment)).is_ok() {
                    assert!(!std::mem::replace(&mut open[usize::from(tag)], true), "the tag was not free");
                }
            }
            4 => {
                let number = input.byte() % 18;
                // Its status, in the request's own part: not the one that means none.
                let status = SLOTS + 8 * usize::from(number % 16) + 4;
                words[status].store((input.byte() % 4).into(), Relaxed);
                give_back(&words, number.into(), input.below(5000));
                let _ = emulator.raise(Interrupts::queue(0));
            }
            5 | 6 => drive.on_interrupt(&mut |tag, _| {
                assert!(std::mem::replace(&mut open[usize::from(tag)], false), "the end of nothing");
            }),
            _ if input.byte().is_multiple_of(8) => {
                emulator = EmulatorSide::publish(&page, description()).expect("there is memory");
            }
            _ => obey(&mut emulator),
        }
    }
    let mut below = vec![0; BUFFERS as usize];
    ram.read(0, &mut below).expect("there is memory");
    assert!(below.iter().all(|byte| *byte == 0), "memory that no request named");
}
