//! The switch: a hostile guest, one that it may talk to, and one that it may not.

use crate::Input;
use crate::memory::{Memory, Time, channel, offer, queue};
use bulkhead_channel::{Configuration, MonitorSide};
use bulkhead_net_device::{CardOffer, Mac, Policy, Port, Switch, feature};
use bulkhead_virtio::GuestMemory;

const FEATURES: u64 = feature::CHECKSUM
    | feature::GUEST_CHECKSUM
    | feature::HOST_TSO4
    | feature::GUEST_TSO4
    | feature::MERGED_BUFFERS
    | feature::INDIRECT_DESCRIPTORS
    | feature::EVENT_INDEX;

/// The first guest does anything with its queues and its channel.
pub fn run(input: &mut Input<'_>) {
    let memories = [0, 1, 2].map(Memory::new);
    let pages = [channel(), channel(), channel()];
    let words = pages.each_ref().map(Vec::as_slice);
    let mut policy = Policy::NONE;
    policy.allow(0, 1 << 1);
    policy.allow(1, 1 << 0);
    let mut frame = vec![0; 70_000];
    let time = Time::default();
    let mut switch = Switch::new(time.clone(), policy, &mut frame);
    let mut configuration = Configuration { features: FEATURES, ..Default::default() };
    configuration.queues[0] = Some(queue(0));
    configuration.queues[1] = Some(queue(1));
    for ((number, memory), words) in (0u8..).zip(&memories).zip(words) {
        let mac = Mac([2, 0, 0, 0, 0, number]);
        let offer_of = CardOffer { mac, mtu: 1500, checksum: true, segmentation: true, link: true };
        let port = Port::publish(words, memory.clone(), offer_of, 0).expect("there is memory");
        assert!(switch.add(port).is_ok());
        MonitorSide::attach(words).expect("there is memory").configure(&configuration);
        for index in 0..16u16 {
            let descriptor = u128::from(0x4000 + u64::from(index) * 0x800) | 0x800 << 64 | 2 << 96;
            let _ = memory.write(16 * u64::from(index), &descriptor.to_le_bytes());
            offer(memory, &queue(0), index);
        }
    }
    let mut monitor = MonitorSide::attach(words[0]).expect("there is memory");
    while !input.is_empty() {
        match input.byte() % 6 {
            0 => drop(memories[0].write(input.below(0x2000), &input.number(8).to_le_bytes())),
            1 => drop(memories[0].write(0x3000 + input.below(256), &input.number(8).to_le_bytes())),
            2 => {
                let descriptor = u128::from(0x3000 + input.below(16) / 15) | u128::from(input.below(2000)) << 64;
                let _ = memories[0].write(0x1000, &descriptor.to_le_bytes());
                // Header, destination, source: most frames are the guest's own, to one of the two others.
                let _ = memories[0].write(0x300c, &[2, 0, 0, 0, 0, input.byte() % 4, 2, 0, 0, 0, 0, 0]);
                offer(&memories[0], &queue(1), 0);
            }
            3 => {
                let index = input.below(170) as usize;
                words[0][index].store(input.number(8), std::sync::atomic::Ordering::Relaxed);
            }
            4 => match input.byte() % 3 {
                0 => monitor.reset(),
                1 => monitor.configure(&configuration),
                _ => monitor.resume(&configuration),
            },
            _ => {
                time.0.set(time.0.get() + 1);
                let _ = switch.work();
                switch.take_signals(|_| {});
            }
        }
    }
    let forbidden = switch.ports()[2].statistics();
    assert_eq!(forbidden.received, 0, "a frame reached a port that the policy does not allow");
}
