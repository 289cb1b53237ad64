//! The switch: a hostile guest, one that it may talk to, one that it may not, one in another VLAN, and the outside, which is as hostile.

use crate::Input;
use crate::card::{Arriving, Card};
use crate::memory::{channel, memory, offer, queue};
use bulkhead_channel::{Configuration, MonitorSide};
use bulkhead_doubles::Time;
use bulkhead_net_device::{CardOffer, Mac, Policy, Port, Switch, Uplink, Vlan, feature};
use bulkhead_virtio::GuestMemory;

const FEATURES: u64 = feature::CHECKSUM
    | feature::GUEST_CHECKSUM
    | feature::HOST_TSO4
    | feature::GUEST_TSO4
    | feature::MERGED_BUFFERS
    | feature::INDIRECT_DESCRIPTORS
    | feature::EVENT_INDEX;

/// Types that a frame may have: two of tags, and one of a protocol.
const TYPES: [[u8; 2]; 3] = [[0x81, 0x00], [0x88, 0xa8], [0x08, 0x00]];

fn is_tagged(frame: &[u8]) -> bool {
    frame.get(12..14).is_some_and(|kind| kind == TYPES[0] || kind == TYPES[1])
}

/// The first guest does anything with its queues and its channel. The policy keeps it from the third, its VLAN from the fourth.
pub fn run(input: &mut Input<'_>) {
    let memories = [0, 1, 2, 3].map(memory);
    let pages = [channel(), channel(), channel(), channel()];
    let words = pages.each_ref().map(Vec::as_slice);
    let own = Vlan::new([0, 5][usize::from(input.byte() & 1)]);
    let vlans = [own, own, own, Vlan::new(6)];
    let mut policy = Policy::NONE;
    policy.allow(0, 1 << 1 | 1 << 3 | 1 << 4);
    policy.allow(1, 1 << 0);
    policy.allow(4, 1 << 0 | 1 << 1);
    let arriving = Arriving::default();
    let leaving = |frame: &[u8]| match own {
        None => assert!(!is_tagged(frame), "a guest chose a VLAN"),
        Some(_) => {
            assert_eq!(frame.get(12..16), Some(&[0x81, 0, 0, 5][..]), "a frame left its VLAN");
            assert!(!is_tagged(&frame[4..]), "a guest put a tag behind its VLAN's");
        }
    };
    let mut card = Card { arriving: arriving.clone(), leaving };
    let mut frame = vec![0; 70_000];
    let time = Time::default();
    let mut switch = Switch::new(time.clone(), policy, &mut frame);
    let mut configuration = Configuration { features: FEATURES, ..Default::default() };
    configuration.queues[0] = Some(queue(0));
    configuration.queues[1] = Some(queue(1));
    let mut monitors = Vec::new();
    for ((number, memory), words) in (0u8..).zip(&memories).zip(words) {
        let vlan = vlans[usize::from(number)];
        let mac = Mac([2, 0, 0, 0, 0, number]);
        let offer_of = CardOffer { mac, mtu: 1500, checksum: true, segmentation: true, link: true };
        let port = Port::publish(words, memory.clone(), offer_of, 0).expect("there is memory");
        assert!(switch.add(port.in_vlan(vlan)).is_ok());
        let mut monitor = MonitorSide::attach(words).expect("there is memory");
        monitor.configure(&configuration);
        monitors.push(monitor);
        for index in 0..16u16 {
            let descriptor = u128::from(0x4000 + u64::from(index) * 0x800) | 0x800 << 64 | 2 << 96;
            let _ = memory.write(16 * u64::from(index), &descriptor.to_le_bytes());
            offer(memory, &queue(0), index);
        }
    }
    assert!(switch.set_uplink(Uplink::new(&mut card)).is_ok());
    let mut monitor = monitors.swap_remove(0);
    while !input.is_empty() {
        match input.byte() % 7 {
            0 => drop(memories[0].write(input.below(0x2000), &input.number(8).to_le_bytes())),
            1 => drop(memories[0].write(0x3000 + input.below(256), &input.number(8).to_le_bytes())),
            2 => {
                let descriptor = u128::from(0x3000 + input.below(16) / 15) | u128::from(input.below(2000)) << 64;
                let _ = memories[0].write(0x1000, &descriptor.to_le_bytes());
                // Header, destination, source: most frames are the guest's own, to one of the others or outside, and some have tags.
                let _ = memories[0].write(0x300c, &[2, 0, 0, 0, 0, input.byte() % 5, 2, 0, 0, 0, 0, 0]);
                let _ = memories[0].write(0x3018, &TYPES[usize::from(input.byte() % 3)]);
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
            5 => {
                let mut frame = vec![2, 0, 0, 0, 0, input.byte() % 5, 2, 0, 0, 0, 0, input.byte() % 5];
                for _ in 0..input.byte() % 3 {
                    frame.extend(TYPES[usize::from(input.byte() % 3)]);
                    frame.extend([0, input.byte() % 8]);
                }
                frame.resize(12 + input.below(1600) as usize, 0);
                arriving.borrow_mut().push_back(frame);
            }
            _ => {
                time.0.set(time.0.get() + 1);
                let _ = switch.work();
                switch.take_signals(|_, _| {});
            }
        }
    }
    let [_, _, forbidden, elsewhere] = switch.ports() else { panic!("there are four ports") };
    assert_eq!(forbidden.statistics().received, 0, "a frame reached a port that the policy does not allow");
    assert_eq!(elsewhere.statistics().received, 0, "a frame reached another VLAN");
}
