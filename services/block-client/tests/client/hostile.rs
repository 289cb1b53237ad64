//! A service that writes whatever it likes, wherever it can.

use crate::drive::Machine;
use crate::{Server, Share, bytes};
use bulkhead_block_client::{CopyDrive, MEMORY_BYTES};
use bulkhead_doubles::FlatMemory;
use bulkhead_driver::{Command, Drive, PhysicalSegment};
use proptest::prelude::*;
use std::sync::atomic::Ordering::SeqCst;

const RAM: usize = 1 << 20;
/// Where the guest has its buffers: nothing else of its memory may change.
const BUFFERS: u64 = 0x8_0000;
/// Words of the memory that hold rings, requests and tables.
const RING_WORDS: usize = 16384 / 8;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A word of the shared memory; of the used ring, often.
    Memory {
        word: usize,
        value: u64,
    },
    /// A word of the channel's page.
    Channel {
        word: usize,
        value: u64,
    },
    /// The client has a request.
    Submit {
        tag: u16,
        write: bool,
        sectors: u32,
    },
    Poll,
    /// The service does what it should, once.
    Work,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // The used ring begins behind the half that the driver writes: its index, then elements of number and length.
    let word = prop_oneof![4096 / 8..4096 / 8 + 20usize, 0..RING_WORDS, 0..MEMORY_BYTES / 8];
    let value = prop_oneof![
        any::<u64>(),
        (0..40u64, 0..70_000u64).prop_map(|(low, high)| low | high << 32),
        (0..40u64).prop_map(|index| index << 16),
    ];
    let channel_value = prop_oneof![any::<u64>(), 0..8u64, (0..8u64, 0..4u64).prop_map(|(low, high)| low | high << 32)];
    let step = prop_oneof![
        4 => (word, value).prop_map(|(word, value)| Step::Memory { word, value }),
        2 => (0..76usize, channel_value).prop_map(|(word, value)| Step::Channel { word, value }),
        4 => (0..16u16, any::<bool>(), 1..=128u32).prop_map(|(tag, write, sectors)| Step::Submit { tag, write, sectors }),
        6 => Just(Step::Poll),
        4 => Just(Step::Work),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_hostile_service_reaches_nothing_but_what_it_has(steps in steps()) {
        let machine = Machine::new();
        let share = Share::new(&machine, 8, 400, false);
        let mut server = Server::new(&machine, std::slice::from_ref(&share));
        let mut client = share.client();
        for _ in 0..4 {
            server.work();
            client.poll(&mut |_, _| {});
        }
        let ram = FlatMemory::new(RAM, 0);
        let buffers = client.buffers();
    let mut drive = CopyDrive::new(client, buffers, ram.clone()).unwrap();
        let mut open = [false; 16];
        for step in steps {
            match step {
                Step::Memory { word, value } => share.memory.words()[word].store(value, SeqCst),
                Step::Channel { word, value } => share.channel[word].store(value, SeqCst),
                Step::Submit { tag, write, sectors } => {
                    let segment =
                        PhysicalSegment { address: BUFFERS + u64::from(tag) * 0x4000, length: u64::from(sectors) * 512 };
                    let command = if write {
                        Command::Write { first_sector: 0, sectors }
                    } else {
                        Command::Read { first_sector: 0, sectors }
                    };
                    if drive.submit(tag, command, [segment]).is_ok() {
                        prop_assert!(!core::mem::replace(&mut open[usize::from(tag)], true));
                    }
                }
                Step::Poll => drive.on_interrupt(&mut |tag, _| {
                    assert!(core::mem::replace(&mut open[usize::from(tag)], false), "an end of nothing");
                }),
                Step::Work => {
                    let _ = server.service.work();
                    if !machine.pending.borrow().is_empty() {
                        machine.execute(0);
                        server.service.on_interrupt();
                    }
                }
                Step::Restart => server.restart(),
            }
        }
        let end = BUFFERS as usize + 15 * 0x4000 + 0x1_0000;
        prop_assert!(bytes(&ram, 0, BUFFERS as usize).iter().all(|byte| *byte == 0));
        prop_assert!(bytes(&ram, end as u64, RAM - end).iter().all(|byte| *byte == 0));
    }
}
