//! The console: a hostile guest on one end of a channel, and whoever is at the other.

use crate::Input;
use crate::memory::{self, channel, offer, queue};
use bulkhead_channel::{Side, TextChannel};
use bulkhead_console_device::{Console, feature};
use bulkhead_virtio::GuestMemory;

/// Queues of a console with two ports.
const QUEUES: u64 = 6;

/// The guest does anything with its queues, the other ends anything with theirs.
pub fn run(input: &mut Input<'_>) {
    let memory = memory::memory(0);
    let pages = [channel(), channel()];
    let attach = |page: usize, side| TextChannel::attach(&pages[page], side).expect("there is memory");
    let mut console = Console::new(3);
    assert!(console.add("first", attach(0, Side::First)) && console.add("second", attach(1, Side::Second)));
    let mut other = attach(0, Side::Second);
    let queues = [0, 1, 2, 3, 4, 5].map(|number| Some(queue(number)));
    let mut configured = console.configure(feature::MULTIPORT, &queues, &memory).is_ok();
    let mut now = 0;
    while !input.is_empty() {
        match input.byte() % 8 {
            0 => drop(memory.write(input.below(0x1000 * QUEUES), &input.number(8).to_le_bytes())),
            1 => {
                let message = input.below(3) | input.below(9) << 32 | input.below(2) << 48;
                let _ = memory.write(0x8000, &message.to_le_bytes());
                let descriptor = 0x8000 | u128::from(7 + input.below(3)) << 64;
                let _ = memory.write(0x3000, &descriptor.to_le_bytes());
                offer(&memory, &queue(3), 0);
            }
            2 => {
                let writable = u128::from(input.byte() & 1) << 97;
                let descriptor = u128::from(0x9000 + input.below(0x1000)) | u128::from(input.below(3000)) << 64;
                let number = input.below(QUEUES);
                let _ = memory.write(0x1000 * number, &(descriptor | writable).to_le_bytes());
                offer(&memory, &queue(number), 0);
            }
            3 => {
                let index = input.below(512) as usize;
                pages[1][index].store(input.number(8), std::sync::atomic::Ordering::Relaxed);
            }
            4 => {
                let _ = other.send(&input.number(8).to_le_bytes());
                let _ = other.receive(&mut [0; 64]);
            }
            5 if input.byte().is_multiple_of(4) => {
                let features = u64::from(input.byte() % 4);
                configured = console.configure(features, &queues, &memory).is_ok();
            }
            6 => {
                let port = input.below(3) as usize;
                if input.byte().is_multiple_of(2) { console.cut(port) } else { console.connect(port) }
            }
            _ => {
                now += input.below(3);
                let served = console.serve(&memory, now);
                assert!(configured || served.interrupts == 0, "a queue is used that the driver has not set up");
                configured &= !served.broken;
            }
        }
    }
}
