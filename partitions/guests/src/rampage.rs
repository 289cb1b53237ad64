//! `rampage SEED MILLIONS`: whatever comes to mind, in random order, for so many million ticks: exits, ports, device registers, MSRs,
//! control registers, the local APIC, and the rings of every virtio device. The test is who else is harmed.

use crate::exceptions::{self, FORBIDDEN};
use crate::hostile::{self, Random};
use crate::machine::{Ports, cpuid, read_register, ticks, write_register};
use crate::println;

/// Guest-physical memory that nothing of this program uses, with which devices may do what they like.
const PLAYGROUND: core::ops::Range<u64> = 8 << 20..16 << 20;
/// Configuration ports of PCI (PCI Local Bus Specification 3.0, 3.2.2.3.2).
const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
/// Vendor of virtio devices; vendor capability; types of its structures (virtio 1.2, 4.1.4).
const VIRTIO: u32 = 0x1af4;
const VENDOR_CAPABILITY: u32 = 9;
const COMMON: u32 = 1;
const NOTIFY: u32 = 2;
/// Offsets in the common structure (virtio 1.2, 4.1.4.3).
const DRIVER_FEATURE_SELECT: u32 = 8;
const STATUS: u32 = 20;
const QUEUE_SELECT: u32 = 22;
const QUEUE_ADDRESSES: u32 = 32;
/// Descriptors of a queue.
const QUEUE: u32 = 16;
/// Most virtio devices that are looked at.
const DEVICES: usize = 8;
/// The local APIC's registers, and the one that starts processors.
const APIC: u32 = 0xfee0_0000;
const APIC_COMMAND: u32 = 0x300;

/// Where a virtio device has what.
#[derive(Clone, Copy, Default)]
struct Virtio {
    common: u32,
    notify: u32,
    notify_is_port: bool,
    /// Bytes between the places of two queues' notifications.
    multiplier: u32,
}

/// Rages until so many ticks have passed.
pub fn run(seed: u64, millions: u64) {
    let mut random = Random::new(seed);
    let mut devices = [Virtio::default(); DEVICES];
    let count = find(&mut devices);
    let start = ticks();
    let mut deeds = 0u64;
    while ticks().wrapping_sub(start) < millions.saturating_mul(1_000_000) {
        deed(&mut random, devices.get(..count).unwrap_or_default());
        deeds += 1;
    }
    println!("rampage: {deeds} deeds, {} exceptions, {count} virtio devices", exceptions::count());
}

fn deed(random: &mut Random, devices: &[Virtio]) {
    let value = random.next();
    match value % 16 {
        0 => {
            cpuid((value >> 8) as u32, (value >> 40) as u32);
        }
        1 | 2 => {
            hostile::random_port(random);
        }
        3 => {
            let register = (0xfec0_0000 | (value >> 8) as u32 & 0x00ff_fffc).min(0xfff0_0000);
            if register & !0xff != APIC | APIC_COMMAND {
                write_register(register, (value >> 32) as u32);
            }
            read_register(register);
        }
        4 => {
            let register = (value >> 8) as u32 & 0xff0;
            if register & 0xf00 != APIC_COMMAND {
                write_register(APIC + register, (value >> 32) as u32);
            }
        }
        5 | 6 => hostile::random_msr(random),
        7 => {
            let (_, attempt) = FORBIDDEN[(value >> 8) as usize % FORBIDDEN.len()];
            attempt();
        }
        8 => exceptions::disturb_control_registers(random.next()),
        9 => {
            // Configuration space of any function, but for the bases of devices.
            let register = (value >> 8) as u32 & 0xfc;
            select((value >> 16) as u32 & 0x1f, register);
            if !(0x10..0x28).contains(&register) {
                Ports::write_u32(DATA, (value >> 32) as u32);
            }
            Ports::read_u32(DATA);
        }
        _ => {
            let index = (value >> 8) % (devices.len() as u64).max(1);
            if let Some(device) = devices.get(index as usize) {
                corrupt(index, *device, random);
            }
        }
    }
}

fn select(slot: u32, register: u32) {
    Ports::write_u32(ADDRESS, 1 << 31 | slot << 11 | register);
}

fn configuration(slot: u32, register: u32) -> u32 {
    select(slot, register);
    Ports::read_u32(DATA)
}

/// Looks for virtio devices, lets them decode and master the bus, and answers how many there are.
fn find(devices: &mut [Virtio; DEVICES]) -> usize {
    let mut places = devices.iter_mut();
    let mut count = 0;
    for slot in (0..32).filter(|slot| configuration(*slot, 0) & 0xffff == VIRTIO) {
        let Some(device) = places.next() else { break };
        select(slot, 4);
        Ports::write_u32(DATA, 7);
        let base = |bar: u32| configuration(slot, 0x10 + 4 * (bar % 6));
        let mut at = configuration(slot, 0x34) & 0xfc;
        for _ in 0..48 {
            let head = configuration(slot, at);
            let bar = configuration(slot, at + 4) & 0xff;
            let offset = configuration(slot, at + 8);
            match (head & 0xff, head >> 24) {
                (VENDOR_CAPABILITY, COMMON) => device.common = (base(bar) & !0xf) + offset,
                (VENDOR_CAPABILITY, NOTIFY) => {
                    device.notify_is_port = base(bar) & 1 != 0;
                    device.notify = (base(bar) & !0xf) + offset;
                    device.multiplier = configuration(slot, at + 16);
                }
                _ => {}
            }
            at = head >> 8 & 0xfc;
            if at == 0 {
                break;
            }
        }
        count += 1;
    }
    count
}

/// Writes to a device's register, or to the playground.
fn store<T>(address: u32, value: T) {
    // SAFETY: nothing of this program lies there.
    unsafe { (address as usize as *mut T).write_volatile(value) }
}

/// An address for a queue or a buffer: in the playground, somewhere behind all memory, or nonsense.
fn address(random: &mut Random) -> u64 {
    let value = random.next();
    let length = PLAYGROUND.end - PLAYGROUND.start;
    match value >> 60 {
        0 => value,
        1 => PLAYGROUND.end - (value & 0xfff),
        2 => PLAYGROUND.start + (value & (length - 1)),
        _ => PLAYGROUND.start + (value & (length - 1) & !0xfff),
    }
}

/// Pages of a queue: descriptors, and the rings of driver and device.
fn queue_pages(index: u64, queue: u64) -> [u64; 3] {
    [0, 1, 2].map(|page| PLAYGROUND.start + 4096 * (32 * index + 4 * queue + page))
}

/// One step against device number `index`: its state, its queues, what is in them, or a kick.
fn corrupt(index: u64, device: Virtio, random: &mut Random) {
    let value = random.next();
    let queue = value >> 8 & 3;
    match value % 16 {
        0 | 1 => bring_up(index, device, random),
        2 => store(device.common + STATUS, (value >> 16) as u8),
        3 => store(device.common + (value >> 16) as u32 % 64, (value >> 32) as u8),
        4..8 => {
            let [descriptors, driver, _] = queue_pages(index, queue).map(|page| page as u32);
            for number in 0..QUEUE {
                // Address; then length, flags, and the next one of the chain.
                store(descriptors + 16 * number, address(random));
                store(descriptors + 16 * number + 8, random.next() & 0x001f_0007_0000_1fff);
                store(driver + 4 + 2 * number, (random.next() & 0x1f) as u16);
            }
            // How many are available.
            store(driver + 2, (value >> 16) as u16 & if value >> 63 == 0 { 0x1f } else { 0xffff });
            kick(device, queue as u32, value as u16);
        }
        8 => {
            // A request as a disk's driver makes it: sort and sector, data, status.
            let header = PLAYGROUND.start + (value >> 16 & 0xff) * 4096;
            store(header as u32, value >> 40 & 15);
            store(header as u32 + 8, random.next() & 0x3fff);
            let [descriptors, driver, _] = queue_pages(index, queue).map(|page| page as u32);
            let parts = [
                (header, 16, 1),
                (address(random), random.next() & 0x1fff, 1 | random.next() & 2),
                (address(random), 1, 2),
            ];
            for (number, (address, length, flags)) in (0u32..).zip(parts) {
                store(descriptors + 16 * number, address);
                store(descriptors + 16 * number + 8, length | flags << 32 | u64::from(number + 1) << 48);
            }
            store(driver + 4, 0u64);
            store(driver + 2, (value >> 16) as u16);
            kick(device, queue as u32, value as u16);
        }
        _ => kick(device, queue as u32, value as u16),
    }
}

/// What a driver does, with random features, and now and then a wrong size or address of a queue.
fn bring_up(index: u64, device: Virtio, random: &mut Random) {
    for status in [0u8, 1, 3] {
        store(device.common + STATUS, status);
    }
    for half in 0..2u32 {
        store(device.common + DRIVER_FEATURE_SELECT, half);
        // Of the second half, only that it is a modern device.
        store(
            device.common + DRIVER_FEATURE_SELECT + 4,
            if half == 1 { 1 } else { offered(device) & random.next() as u32 },
        );
    }
    store(device.common + STATUS, 11u8);
    for queue in 0..4 {
        let value = random.next();
        store(device.common + QUEUE_SELECT, queue as u16);
        store(
            device.common + QUEUE_SELECT + 2,
            if value.is_multiple_of(8) { (value >> 16) as u16 } else { QUEUE as u16 },
        );
        for (part, page) in (0..).zip(queue_pages(index, queue)) {
            let address = if value >> 8 & 15 == part { address(random) } else { page };
            store(device.common + QUEUE_ADDRESSES + 8 * part as u32, address as u32);
            store(device.common + QUEUE_ADDRESSES + 8 * part as u32 + 4, (address >> 32) as u32);
        }
        store(device.common + QUEUE_SELECT + 6, 1u16);
    }
    store(device.common + STATUS, 15u8);
}

/// The first 32 features that the device offers.
fn offered(device: Virtio) -> u32 {
    store(device.common, 0u32);
    read_register(device.common + 4)
}

fn kick(device: Virtio, queue: u32, value: u16) {
    let place = device.notify + queue * device.multiplier;
    if device.notify_is_port { Ports::write_u16(place as u16, value) } else { store(place, value) }
}
