//! Plans and environments survive any bytes: `parse` answers, and what it accepts can be walked without a surprise.

use bulkhead_plan::writer::{EnvironmentWriter, PlanWriter};
use bulkhead_plan::{
    BindingFlags, BindingRecord, ChannelEnd, ChannelKind, ChannelRecord, DEVICE_INTERRUPTS, DeviceRecord,
    DeviceSelector, EndKind, EntryKind, Environment, EnvironmentCopy, EnvironmentEntry, EnvironmentError, GuestRecord,
    ModuleRecord, NO_BIT, NO_INDEX, Name, Paging, PartitionKind, PartitionRecord, Plan, PlanError, RegionRecord,
    Resource, TableName, ThreadRecord, layout,
};
use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

/// Bytes at an address that is a multiple of 8.
struct Aligned {
    words: Vec<u64>,
    length: usize,
}

impl Aligned {
    fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Self { words, length: bytes.len() }
    }

    fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.length]
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn thread(slot: u64, number: u64) -> ThreadRecord {
    ThreadRecord {
        cpu: number as u32,
        priority: 20,
        budget_us: 2_000,
        period_us: 10_000,
        stack_top: layout::STACK_TOP + number * layout::STACK_STRIDE,
        stack_bytes: layout::STACK_BYTES,
        slot,
        notification_slot: slot - 1,
    }
}

/// Init, a service, and a guest with two processors and a disk.
fn sample() -> Vec<u8> {
    let (service, guest) = ((0, 8), (3, 9));
    sample_of(ChannelKind::Device, service, guest)
}

/// The same, with a channel of this kind between service and guest, whose ends have these bits and slots.
fn sample_of(kind: ChannelKind, (bit, slot): (u32, u64), (guest_bit, guest_slot): (u32, u64)) -> Vec<u8> {
    let page = bulkhead_abi::PAGE_SIZE;
    let mut plan = PlanWriter::default();
    plan.header.name = name("sample");
    plan.header.end = EndKind::MustFinish as u32;
    plan.header.end_partition = NO_INDEX;
    plan.header.cpus = 2;
    for module in ["program/block", "program/vmm", "kernel/linux"] {
        plan.modules.push(ModuleRecord { name: name(module), digest: [9; 32], length: 12_345 });
    }
    plan.modules.push(ModuleRecord { name: name("rom/linux"), digest: [9; 32], length: 2 * page });
    let status = plan.region(RegionRecord { size: page, alignment: page, physical: 0, node: NO_INDEX, reserved: 0 });
    let channel = plan.region(RegionRecord { size: page, alignment: page, physical: 0, node: NO_INDEX, reserved: 0 });
    let ram = plan.region(RegionRecord { size: 16 << 20, alignment: 2 << 20, physical: 0, node: 1, reserved: 0 });
    plan.channels.push(ChannelRecord {
        name: name("linux/0"),
        kind: kind as u32,
        region: channel,
        ends: [ChannelEnd { partition: 1, bit, slot }, ChannelEnd { partition: 2, bit: guest_bit, slot: guest_slot }],
    });
    plan.guests.push(GuestRecord {
        partition: 2,
        paging: Paging::Ept as u32,
        vcpus: 2,
        low_memory: ram,
        high_memory: NO_INDEX,
        pool_pages: 40,
        shadow_pages: 0,
        firmware: 3,
    });

    let new = |kind, text: &str| EnvironmentEntry::new(kind, name(text));
    let target = |target| BindingRecord { target, flags: BindingFlags::WRITE };
    let address = layout::SHARED;
    let mut init = EnvironmentWriter::default();
    let peer = name("block");
    init.push(
        EnvironmentEntry { bit: 0, address, size: page, peer, ..new(EntryKind::Status, "status") },
        target(status),
    );

    let mut block = EnvironmentWriter::default();
    let parameters = [0, kind as u64, 0, guest_bit.into()];
    let disk = EnvironmentEntry { bit, slot, address, size: page, parameters, ..new(EntryKind::Channel, "linux/0") };
    block.push(disk, target(0));
    let memory =
        EnvironmentEntry { address: layout::GUEST_RAM, size: 16 << 20, ..new(EntryKind::GuestMemory, "linux") };
    block.push(memory, BindingRecord { target: ram, flags: BindingFlags::WRITE | BindingFlags::PHYSICAL });
    let interrupt =
        EnvironmentEntry { bit: 1, slot: 10, parameters: [14, 0, 0, 0], ..new(EntryKind::Interrupt, "ide0") };
    block.push(interrupt, BindingRecord { target: NO_INDEX, flags: 0 });
    let parameters = [0, 2048, 0, 0];
    block.push(
        EnvironmentEntry { parameters, ..new(EntryKind::Disk, "linux/0") },
        BindingRecord { target: NO_INDEX, flags: 0 },
    );
    plan.header.bus = 1;
    plan.devices.push(DeviceRecord {
        name: name("net0"),
        partition: 1,
        selector: DeviceSelector::Identifier as u32,
        values: [0x10d3_8086; 2],
        vectors: 2,
        reserved: 0,
    });
    let of_device = BindingRecord { target: 0, flags: 0 };
    block.push(new(EntryKind::PciFunction, "net0"), of_device);
    let (address, size) = (2 * layout::SHARED, layout::DEVICE_WINDOW);
    block.push(
        EnvironmentEntry { address, size, parameters: [5, size, 0, 0], ..new(EntryKind::DeviceMemory, "net0") },
        of_device,
    );
    block.push(EnvironmentEntry { slot: 11, parameters: [0, 1, 5, 0], ..new(EntryKind::IoPorts, "net0") }, of_device);
    block.push(
        EnvironmentEntry { bit: 2, slot: 12, parameters: [0, 0, 1, 0], ..new(EntryKind::Interrupt, "net0") },
        of_device,
    );
    block.push_text(name("note"), "größer");

    let mut linux = EnvironmentWriter::default();
    let parameters = [1, kind as u64, 0, bit.into()];
    let (bit, slot) = (guest_bit, guest_slot);
    let disk = EnvironmentEntry { bit, slot, address, size: page, parameters, ..new(EntryKind::Channel, "linux/0") };
    linux.push(disk, target(0));
    linux.push(memory, target(ram));
    linux.push(
        EnvironmentEntry { slot: 11, parameters: [1, 16 << 20, 0, 0], ..new(EntryKind::GuestSpace, "linux") },
        target(0),
    );
    for vcpu in 0..2 {
        let address = layout::SHARED + page * (2 + vcpu);
        let entry = EnvironmentEntry {
            slot: 12 + vcpu,
            address,
            size: page,
            parameters: [vcpu, vcpu, vcpu, 0],
            ..new(EntryKind::Vcpu, "vcpu")
        };
        linux.push(entry, target(0));
    }
    let second = thread(15, 1);
    let entry = EnvironmentEntry {
        slot: second.slot,
        address: second.stack_top,
        size: second.stack_bytes,
        parameters: [1, second.notification_slot, 1, 0],
        ..new(EntryKind::Thread, "thread1")
    };
    linux.push(entry, target(1));
    let kernel =
        EnvironmentEntry { address: layout::SHARED + (1 << 20), size: 12_345, ..new(EntryKind::Module, "kernel") };
    linux.push(kernel, BindingRecord { target: 2, flags: 0 });
    let rule = EnvironmentEntry { parameters: [0x1a0, 2, 5, 1], ..new(EntryKind::MsrRule, "msr") };
    linux.push(rule, BindingRecord { target: NO_INDEX, flags: 0 });

    let record = |text: &str, kind: PartitionKind, program, guest, init_bit| PartitionRecord {
        name: name(text),
        kind: kind as u32,
        program,
        guest,
        table_slots: 64,
        pool_pages: 32,
        init_bit,
        program_bytes: if program == NO_INDEX { 0 } else { 0x3000 },
        ..PartitionRecord::new_zeroed()
    };
    plan.partition(record("init", PartitionKind::Init, NO_INDEX, NO_INDEX, NO_BIT), &[], init);
    plan.partition(record("block", PartitionKind::Native, 0, NO_INDEX, 0), &[thread(2, 0)], block);
    plan.partition(record("linux", PartitionKind::Guest, 1, 0, 1), &[thread(2, 0), thread(15, 1)], linux);
    plan.finish()
}

/// Uses everything that a plan offers.
fn walk(plan: &Plan<'_>) -> usize {
    let mut count = plan.regions().len() + plan.channels().len() + plan.endpoints().len() + plan.guests().len();
    let _ = (plan.name(), plan.end());
    for partition in plan.partitions() {
        assert_eq!(partition.grants().count(), partition.environment.entries().len());
        for grant in partition.grants() {
            if let Resource::Channel { region, other, .. } = grant.resource {
                assert!(region < plan.regions().len() && other.bit < 64);
                assert!((other.partition as usize) < plan.partitions().count());
            }
            match grant.resource {
                Resource::PciFunction { device } => {
                    assert_eq!(plan.devices()[device].partition as usize, partition.index)
                }
                Resource::DeviceMemory { device, bar } | Resource::DevicePorts { device, bar } => {
                    assert!(device < plan.devices().len() && bar < layout::BARS);
                }
                Resource::Message { device, index } => assert!(index < plan.devices()[device].vectors as usize),
                _ => {}
            }
            count += 1;
        }
        let _ = (partition.environment.pci_function("net0"), partition.environment.device_memories().count());
        let environment = partition.environment;
        count += environment.channels().count() + environment.vcpus().count() + environment.disks().count();
        count += environment.msr_rules().count();
        let _ =
            (environment.heap(), environment.text("note"), partition.guest(), partition.program(), partition.restart());
        if partition.kind() != PartitionKind::Init {
            assert!(!partition.threads().is_empty() && partition.program().is_some());
        }
    }
    count
}

#[test]
fn the_sample_is_a_plan() {
    let bytes = Aligned::new(&sample());
    let plan = Plan::parse(bytes.bytes()).expect("a plan");
    assert_eq!(plan.partitions().count(), 3);
    assert!(walk(&plan) > 10);
    let block = plan.partition(1).expect("block");
    assert_eq!(block.environment.text("note"), Some("größer"));
    let mut copy = vec![0u64; 4096];
    let target = copy.as_mut_bytes();
    let mut filled = EnvironmentCopy::new(&block.environment, target).expect("room");
    filled.set_clock(1_000_000, 2);
    filled.set_physical(1, 0x120_0000);
    filled.set_physical(1000, 1);
    let environment = Environment::parse(copy.as_bytes()).expect("an environment");
    assert_eq!((environment.header().tsc_hz, environment.header().generation), (1_000_000, 2));
    assert_eq!(environment.guest_memories().next().map(|memory| memory.physical), Some(0x120_0000));
    assert!(EnvironmentCopy::new(&block.environment, &mut [0; 64]).is_none());
}

/// The receiver of a one-way channel has nothing to signal by, and its sender nothing to be signalled by.
#[test]
fn one_way_channels_are_one_way() {
    let parsed = |first, second| {
        let bytes = Aligned::new(&sample_of(ChannelKind::OneWay, first, second));
        let plan = Plan::parse(bytes.bytes()).ok()?;
        let sends = plan.partitions().flat_map(|partition| {
            let channels = partition.grants().filter_map(|grant| match grant.resource {
                Resource::Channel { sends, .. } => Some(sends),
                _ => None,
            });
            channels.collect::<Vec<_>>()
        });
        Some(sends.collect::<Vec<_>>())
    };
    assert_eq!(parsed((NO_BIT, 8), (3, 0)), Some(vec![true, false]));
    for (first, second) in
        [((0, 8), (3, 0)), ((NO_BIT, 8), (3, 9)), ((NO_BIT, 0), (3, 0)), ((NO_BIT, 8), (NO_BIT, 0)), ((64, 8), (3, 0))]
    {
        assert_eq!(parsed(first, second), None, "{first:?} {second:?}");
    }
    let bytes = Aligned::new(&sample_of(ChannelKind::Raw, (NO_BIT, 8), (3, 0)));
    assert!(Plan::parse(bytes.bytes()).is_err());
    // A monitor has bits for interrupts behind the channel's.
    let last = layout::SIGNAL_BITS - 1 - DEVICE_INTERRUPTS;
    for (bit, fits) in [(last, true), (last + 1, false)] {
        let bytes = Aligned::new(&sample_of(ChannelKind::Device, (0, 8), (bit, 9)));
        assert_eq!(Plan::parse(bytes.bytes()).is_ok(), fits, "{bit}");
    }
}

#[test]
fn devices_belong_to_their_owners() {
    let good = sample();
    let devices = std::mem::offset_of!(bulkhead_plan::PlanHeader, devices);
    let offset = u32::from_le_bytes(good[devices..devices + 4].try_into().expect("four bytes")) as usize;
    let changed = |field: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[offset + field] = value;
        Plan::parse(Aligned::new(&bytes).bytes()).map(|plan| walk(&plan))
    };
    let entries = |entry| Err(PlanError::BadEntry { partition: 1, entry });
    assert_eq!(changed(std::mem::offset_of!(DeviceRecord, partition), 2), entries(4), "of another partition");
    assert_eq!(changed(std::mem::offset_of!(DeviceRecord, vectors), 1), entries(7), "more messages than wanted");
    let record = Err(PlanError::BadRecord(TableName::Devices, 0));
    assert_eq!(changed(std::mem::offset_of!(DeviceRecord, vectors), 9), record);
    assert_eq!(changed(std::mem::offset_of!(DeviceRecord, selector), 3), record);
    let mut without_bus = good.clone();
    without_bus[std::mem::offset_of!(bulkhead_plan::PlanHeader, bus)] = 0;
    assert_eq!(Plan::parse(Aligned::new(&without_bus).bytes()).err(), Some(PlanError::BadHeader));
}

#[test]
fn errors_name_what_is_wrong() {
    let good = sample();
    let parse = |bytes: &[u8]| Plan::parse(Aligned::new(bytes).bytes()).map(|plan| walk(&plan));
    assert_eq!(parse(&good[..100]), Err(PlanError::Truncated));
    assert_eq!(parse(&good[..good.len() - 8]), Err(PlanError::Truncated));
    let mut version = good.clone();
    version[8] = 99;
    assert_eq!(parse(&version), Err(PlanError::WrongVersion));
    let header = bulkhead_plan::PlanHeader::new_zeroed();
    let modules = std::mem::offset_of!(bulkhead_plan::PlanHeader, modules);
    assert!(modules < header.as_bytes().len());
    let mut table = good.clone();
    table[modules + 4..modules + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(parse(&table), Err(PlanError::BadTable(TableName::Modules)));
    let mut firmware = good.clone();
    let offset = u32::from_le_bytes(good[modules..modules + 4].try_into().expect("four bytes")) as usize;
    firmware[offset + 3 * size_of::<ModuleRecord>() + std::mem::offset_of!(ModuleRecord, length)] = 1;
    assert_eq!(parse(&firmware), Err(PlanError::BadRecord(TableName::Guests, 0)), "not whole pages");
    let unaligned = Aligned::new(&[&[0], good.as_slice()].concat());
    assert!(Plan::parse(&unaligned.bytes()[1..]).is_err());
    assert_eq!(Environment::parse(&[]).err(), Some(EnvironmentError::Truncated));
}

#[test]
fn names() {
    assert_eq!(Name::new("linux").expect("a name").as_str(), "linux");
    assert!(Name::new(&"x".repeat(31)).is_some());
    assert!(Name::new(&"x".repeat(32)).is_none());
    assert!(Name::new("a\nb").is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let bytes = Aligned::new(&bytes);
        let _ = Plan::parse(bytes.bytes());
        let _ = Environment::parse(bytes.bytes());
    }

    #[test]
    fn a_damaged_plan_is_refused_or_harmless(
        damages in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        words in proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![0u32, 1, 2, 7, 63, 64, 4096, u32::MAX])), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = sample();
        for (index, value) in damages {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        for (index, value) in words {
            let index = index.index(bytes.len() / 4) * 4;
            bytes[index..index + 4].copy_from_slice(&value.to_le_bytes());
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let bytes = Aligned::new(&bytes);
        if let Ok(plan) = Plan::parse(bytes.bytes()) {
            walk(&plan);
        }
    }

    #[test]
    fn one_damaged_word_is_refused_or_harmless(index in any::<prop::sample::Index>(), value in any::<u32>(), small in 0u32..70, choose in any::<bool>()) {
        let mut bytes = sample();
        let index = index.index(bytes.len() / 4) * 4;
        let value = if choose { value } else { small };
        bytes[index..index + 4].copy_from_slice(&value.to_le_bytes());
        let bytes = Aligned::new(&bytes);
        if let Ok(plan) = Plan::parse(bytes.bytes()) {
            walk(&plan);
        }
    }
}
