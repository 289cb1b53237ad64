//! What manifests compile to, as init reads it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use bulkhead_abi::{CpuFeatures, init_slot};
use bulkhead_manifest::{Compiled, Model, Options, Tracing, compile};
use bulkhead_plan::{
    ChannelKind, End, EntryKind, MsrRead, MsrRule, MsrWrite, NO_INDEX, PartitionKind, Plan, Resource, Restart, Role,
    layout,
};
use support::{World, root};

/// Compiles, and hands the plan as init sees it to `look`.
fn compiled(text: &str, look: impl FnOnce(&Compiled, &Plan<'_>)) {
    let world = World::new();
    let path = world.manifest(text);
    let compiled = world.with_options(|options| compile(&path, options));
    let compiled = compiled.unwrap_or_else(|errors| panic!("{}", bulkhead_manifest::render(&errors)));
    parsed(&compiled, |plan| look(&compiled, plan));
}

/// Hands a plan as init sees it to `look`.
fn parsed<T>(compiled: &Compiled, look: impl FnOnce(&Plan<'_>) -> T) -> T {
    let mut words = vec![0u64; compiled.plan.len().div_ceil(8)];
    let aligned = zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice());
    aligned[..compiled.plan.len()].copy_from_slice(&compiled.plan);
    look(&Plan::parse(aligned).unwrap())
}

#[test]
fn the_default_manifest() {
    let text = std::fs::read_to_string(root().join("partitions/default.toml")).unwrap();
    compiled(&text, |compiled, plan| {
        assert_eq!(plan.name(), "first-light");
        assert_eq!(plan.end(), End::MustFinish);
        let names: Vec<_> = plan.partitions().map(|partition| partition.name()).collect();
        assert_eq!(names, ["init", "console", "block", "hello", "linux-a", "linux-b"]);
        let modules: Vec<_> = compiled.modules.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            modules,
            ["kernel/linux-a", "initrd/linux-a", "program/console", "program/block", "program/hello", "program/vmm"]
        );
        assert_eq!(compiled.needs.features, CpuFeatures::VMX);
        assert_eq!(compiled.needs.disk_bytes, Some(64 << 20));

        let checks: Vec<_> = compiled.warnings.iter().map(|warning| warning.check()).collect();
        assert_eq!(checks, ["pci::memory_is_open"], "the IDE controller reaches all memory");
        assert!(plan.bus().is_none() && plan.devices().is_empty());
        let [init, console, block, hello, linux, other] =
            [0, 1, 2, 3, 4, 5].map(|index| plan.partition(index).unwrap());
        assert_eq!(init.kind(), PartitionKind::Init);
        assert_eq!(init.environment.status_pages().count(), 5);
        assert!(init.environment.entries().iter().all(|entry| entry.slot == 0 || entry.slot >= init_slot::FIRST_FREE));
        let labels: Vec<_> = console.environment.channels().map(|channel| channel.name).collect();
        assert_eq!(labels, ["init", "block", "hello", "linux-a", "linux-a-vmm", "linux-b", "linux-b-vmm"]);
        assert_eq!(console.environment.ports_of("com1", 0).unwrap().first, 0x3f8);
        assert!(console.environment.ports_of("power", 0).is_some());
        assert_eq!(hello.environment.text("seconds"), Some("5"));
        assert_eq!(hello.restart(), Restart::Limit(3));
        assert_eq!(hello.environment.heap().unwrap().address, layout::HEAP);

        let disk = linux.environment.disks().next().unwrap();
        let served = block.environment.disks().next().unwrap();
        assert_eq!((disk.name, served.name), ("linux-a/0", "linux-a/0"));
        assert_eq!((served.first_sector, served.sectors, served.read_only), (0, 65_536, false));
        let served = block.environment.disks().nth(1).unwrap();
        assert_eq!((served.name, served.first_sector, served.sectors), ("linux-b/0", 65_536, 65_536));
        let cpus =
            |guest: &bulkhead_plan::Partition<'_>| guest.threads().iter().map(|thread| thread.cpu).collect::<Vec<_>>();
        assert_eq!((cpus(&linux), cpus(&other)), (vec![0, 1], vec![1]));
        let channel = linux.environment.channel(disk.name).unwrap();
        assert_eq!((channel.role, channel.kind, channel.peer), (Role::Second, ChannelKind::Device, "block"));
        assert_eq!(linux.environment.channel("serial").unwrap().kind, ChannelKind::Serial);
        assert_eq!(linux.environment.channel("console").unwrap().kind, ChannelKind::Text);
        assert_eq!(linux.environment.text("command-line"), Some("console=ttyS0,115200"));
        assert_eq!(linux.environment.module("initrd").unwrap().size, 5000);
        assert!(linux.must_finish());
        let shares = |partition: &bulkhead_plan::Partition<'_>| {
            partition.grants().any(|grant| {
                grant.entry.kind == EntryKind::GuestMemory as u32
                    && matches!(grant.resource, Resource::Region { physical: true, writable: true, .. })
            })
        };
        assert!(shares(&block));
        assert!(!shares(&linux));
    });
}

#[test]
fn every_manifest_of_the_project_compiles() {
    for entry in std::fs::read_dir(root().join("partitions")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") && !path.ends_with("Cargo.toml") {
            compiled(&std::fs::read_to_string(&path).unwrap(), |_, plan| assert!(plan.partitions().count() > 2));
        }
    }
}

#[test]
fn a_guest_with_processors_and_high_memory() {
    let text = r#"
        [machine]
        cpus = 2
        memory = "6 GiB"
        [guest.big]
        memory = "5 GiB"
        cpus = [0, 1]
        kernel = "vmlinuz"
    "#;
    compiled(text, |compiled, plan| {
        let big = plan.partition(1).unwrap();
        let ram: Vec<_> = big.environment.guest_memories().map(|ram| (ram.guest_physical, ram.size)).collect();
        assert_eq!(ram, [(0, 3 << 30), (4 << 30, 2 << 30)]);
        let thread = big.environment.threads().next().unwrap();
        assert_eq!((thread.index, thread.cpu), (1, 1));
        assert_eq!(big.threads()[1].slot, thread.slot);
        assert_eq!(big.environment.vcpus().map(|vcpu| (vcpu.cpu, vcpu.thread)).collect::<Vec<_>>(), [(0, 0), (1, 1)]);
        assert_eq!(compiled.needs.features, CpuFeatures::VMX);
        assert!(compiled.warnings.is_empty());
        assert_eq!(big.environment.channels().count(), 0);
    });
}

#[test]
fn paging_decides_what_a_guest_needs() {
    let guest = |line: &str, look: &dyn Fn(CpuFeatures, u32)| {
        let text = format!("[guest.one]\nmemory = \"128 MiB\"\nkernel = \"vmlinuz\"\n{line}");
        compiled(&text, |compiled, plan| {
            let (_, record) = plan.partition(1).unwrap().guest().unwrap();
            look(compiled.needs.features, record.shadow_pages);
        });
    };
    guest(r#"paging = "ept""#, &|features, _| assert_eq!(features, CpuFeatures::VMX | CpuFeatures::EPT));
    guest(r#"paging = "shadow""#, &|features, _| assert_eq!(features, CpuFeatures::VMX));
    // Memory is set aside where there may be shadow tables.
    guest("", &|features, pages| assert_eq!((features, pages), (CpuFeatures::VMX, 1024)));
    guest("cpus = [0, 0, 0, 0, 0, 0]", &|_, pages| assert_eq!(pages, 6 * 256));
    guest(r#"shadow_memory = "2 MiB""#, &|_, pages| assert_eq!(pages, 512));
}

/// Only a monitor that the manifest names gets the capability to its guest's RAM.
#[test]
fn a_guest_with_another_monitor() {
    let text = r#"
        [guest.own]
        memory = "2 MiB"
        monitor = "bench"
        [guest.usual]
        memory = "96 MiB"
        kernel = "vmlinuz"
    "#;
    compiled(text, |compiled, plan| {
        let modules: Vec<_> = compiled.modules.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(modules, ["kernel/usual", "program/bench", "program/vmm"]);
        let slots = |index| plan.partition(index).unwrap().environment.guest_memories().next().unwrap().slot;
        assert_ne!(slots(1), 0);
        assert_eq!(slots(2), 0);
    });
}

#[test]
fn guests_with_more_processors_than_there_are_cpus() {
    let text = r#"
        [machine]
        cpus = 2
        [guest.large]
        memory = "96 MiB"
        cpus = [0, 1, 0, 1, 0, 1, 0, 1]
        budget = "1 ms"
        period = "10 ms"
        kernel = "vmlinuz"
        [guest.small]
        memory = "96 MiB"
        cpus = [1]
        priority = 30
        kernel = "vmlinuz"
    "#;
    compiled(text, |compiled, plan| {
        let (large, small) = (plan.partition(1).unwrap(), plan.partition(2).unwrap());
        let vcpus: Vec<_> = large.environment.vcpus().map(|vcpu| (vcpu.cpu, vcpu.thread)).collect();
        assert_eq!(vcpus, (0..8).map(|number| (number % 2, number)).collect::<Vec<_>>());
        assert_eq!(large.threads().len(), 8);
        assert!(large.threads().iter().all(|thread| (thread.budget_us, thread.priority) == (1_000, 20)));
        assert_eq!((small.threads()[0].cpu, small.threads()[0].priority), (1, 30));
        let checks: Vec<_> = compiled.warnings.iter().map(|warning| warning.check()).collect();
        assert_eq!(checks, ["cpus::processors_share_a_cpu"]);
    });
}

#[test]
fn a_guest_with_firmware() {
    let text = r#"
        [guest.a-guest-of-24-characters]
        memory = "4 MiB"
        firmware = "builtin:firmware"
        hpet = true
    "#;
    compiled(text, |compiled, plan| {
        let guest = plan.partition(1).unwrap();
        let module = guest.guest().unwrap().1.firmware as usize;
        assert_eq!(compiled.modules[module].0, "rom/a-guest-of-24-characters");
        assert_eq!(guest.environment.module("firmware").unwrap().size, 0x2000);
        assert!(guest.environment.module("kernel").is_none());
        assert!(guest.environment.guest_space().unwrap().hpet);
    });
}

#[test]
fn channels_endpoints_and_memory() {
    let text = r#"
        [system]
        end = { partition = "client" }
        [partition.server]
        program = "bench"
        [partition.client]
        program = "bench"
        budget = "2 ms"
        period = "10 ms"
        [channel.data]
        between = { first = "server", second = "client" }
        memory = "32 KiB"
        [endpoint.calls]
        server = "server"
        clients = ["client"]
        [memory.shared]
        partitions = ["server", "client"]
        size = "8 KiB"
        physical = 0x0200_0000
        address = 0x4000_0000_0000
        read_only = true
    "#;
    compiled(text, |compiled, plan| {
        assert_eq!(plan.end(), End::Partition(2));
        assert_eq!(compiled.needs.features, CpuFeatures::empty());
        let (server, client) = (plan.partition(1).unwrap(), plan.partition(2).unwrap());
        let data = server.environment.channel("data").unwrap();
        assert_eq!((data.role, data.kind, data.size, data.peer), (Role::First, ChannelKind::Raw, 32 << 10, "client"));
        assert_eq!(data.peer_index, 2);
        let grants: Vec<_> = client.grants().collect();
        let channel = grants.iter().find_map(|grant| match grant.resource {
            Resource::Channel { other, .. } => Some(other),
            _ => None,
        });
        assert_eq!((channel.unwrap().partition, channel.unwrap().bit), (1, data.bit));
        let endpoint = client.environment.endpoint("calls").unwrap();
        assert_eq!((endpoint.peer, endpoint.badge, endpoint.server), ("server", 2, 1));
        let shared = client.environment.memory("shared").unwrap();
        assert_eq!((shared.address, shared.writable), (0x4000_0000_0000, false));
        assert!(plan.regions().iter().any(|region| region.physical == 0x200_0000));
        let thread = client.threads()[0];
        assert_eq!((thread.budget_us, thread.period_us), (2_000, 10_000));
    });
}

#[test]
fn a_channel_one_way() {
    let text = r#"
        [system]
        end = "never"
        [partition.low]
        program = "hello"
        [partition.high]
        program = "hello"
        [channel.up]
        between = { first = "low", second = "high" }
        direction = "first to second"
        [policy]
        deny = ["high -> low"]
    "#;
    compiled(text, |_, plan| {
        let end = |index: usize| plan.partition(index).unwrap().environment.channel("up").unwrap();
        let (low, high) = (end(1), end(2));
        assert_eq!((low.kind, low.role, low.bit), (ChannelKind::OneWay, Role::First, bulkhead_plan::NO_BIT));
        assert_eq!((high.kind, high.role, high.slot), (ChannelKind::OneWay, Role::Second, 0));
        assert!(low.slot != 0 && high.bit < 63);
        let sends = plan.partitions().flat_map(|partition| partition.grants().collect::<Vec<_>>());
        let sends = sends.filter_map(|grant| match grant.resource {
            Resource::Channel { sends, .. } => Some(sends),
            _ => None,
        });
        assert_eq!(sends.collect::<Vec<_>>(), [true, false]);
    });
}

#[test]
fn sizes_have_names_and_cpus_are_sets() {
    let text = r#"
        [system]
        end = "never"
        [machine]
        cpus = 4
        [sizes]
        small = "96 MiB"
        heap = "512 KiB"
        [partition.hello]
        program = "hello"
        memory = "heap"
        [guest.linux]
        memory = "small"
        kernel = "debian:linux-image-cloud-amd64"
        cpus = "1,2-3"
        [guest.linux.cpu]
        without = ["rdrand"]
        [[guest.linux.cpu.msr]]
        name = "IA32_MISC_ENABLE"
        [[guest.linux.cpu.msr]]
        number = 0xc000_0103
        read = 0x8000_0000_0000_0001
        write = "ignore"
        [[guest.linux.cpu.msr]]
        number = 0x200
        read = "emulate"
    "#;
    compiled(text, |_, plan| {
        let (hello, linux) = (plan.partition(1).unwrap(), plan.partition(2).unwrap());
        assert_eq!(hello.environment.heap().unwrap().size, 512 << 10);
        let space = linux.environment.guest_space().unwrap();
        assert_eq!((space.memory, space.withheld.count_ones()), (96 << 20, 1));
        let rules: Vec<_> = linux.environment.msr_rules().collect();
        let rule = |number, read, value, write| MsrRule { number, read, value, write };
        assert_eq!(
            rules,
            [
                rule(0x1a0, MsrRead::Deny, 0, MsrWrite::Deny),
                rule(0xc000_0103, MsrRead::Constant, 1 << 63 | 1, MsrWrite::Ignore),
                rule(0x200, MsrRead::Emulate, 0, MsrWrite::Deny),
            ]
        );
        let cpus: Vec<_> = linux.threads().iter().map(|thread| thread.cpu).collect();
        assert_eq!(cpus, [1, 2, 3]);
    });
}

/// Regions and partitions have the nodes of their manifest, and what nobody places has none.
#[test]
fn memory_has_its_nodes() {
    let text = r#"
        [system]
        end = "never"
        [machine]
        cpus = 3
        memory = "512 MiB"
        [[machine.node]]
        memory = "256 MiB"
        cpus = [0, 2]
        [[machine.node]]
        memory = "256 MiB"
        cpus = "1"
        [partition.hello]
        program = "hello"
        memory = "1 MiB"
        [partition.far]
        program = "hello"
        cpu = 1
        node = 1
        memory = "2 MiB"
        [guest.linux]
        memory = "96 MiB"
        node = 0
        monitor_memory = "3 MiB"
        kernel = "vmlinuz"
        [memory.fast]
        partitions = ["hello", "far"]
        size = "4 MiB"
        node = 0
        [memory.any]
        partitions = ["hello"]
        size = "5 MiB"
    "#;
    compiled(text, |compiled, plan| {
        let node_of = |size: u64| plan.regions().iter().find(|region| region.size == size << 20).map(|one| one.node);
        let nodes = [1, 2, 96, 3, 4, 5].map(|size| node_of(size).unwrap());
        assert_eq!(nodes, [NO_INDEX, 1, 0, 0, 0, NO_INDEX]);
        let partitions: Vec<_> = plan.partitions().map(|partition| partition.record.node).collect();
        assert_eq!(partitions, [NO_INDEX, NO_INDEX, 1, 0]);
        let needed: Vec<_> = compiled.needs.nodes.iter().map(|node| (node.memory_mib, node.cpus.clone())).collect();
        assert_eq!(needed, [(256, vec![0, 2]), (256, vec![1])]);
    });
}

#[test]
fn compiling_needs_every_file() {
    let world = World::new();
    let path = world.manifest("[guest.a]\nmemory = \"96 MiB\"\nkernel = \"debian:not-fetched#vmlinux\"\n");
    world.with_options(|options| {
        assert!(bulkhead_manifest::check(&path, options).is_ok());
        let errors = compile(&path, options).unwrap_err();
        assert_eq!(errors[0].check(), "modules::not_available");
    });
}

#[test]
fn control_of_a_disk_is_a_port() {
    let text = r#"
        [system]
        end = "never"
        [machine]
        disk = "64 MiB"
        [partition.block]
        program = "block"
        devices = ["ide0"]
        [guest.a-guest-of-24-characters]
        memory = "96 MiB"
        kernel = "builtin:guests"
        [[guest.a-guest-of-24-characters.disk]]
        service = "block"
        size = "1 MiB"
        [[guest.a-guest-of-24-characters.disk]]
        service = "block"
        offset = "1 MiB"
        size = "1 MiB"
        control = true
    "#;
    compiled(text, |_, plan| {
        let [block, guest] = [1, 2].map(|index| plan.partition(index).unwrap());
        let port = guest.environment.channel("disk1.control").unwrap();
        assert_eq!((port.role, port.kind, port.peer), (Role::Second, ChannelKind::Text, "block"));
        assert!(guest.environment.channel("disk0.control").is_none());
        let served = block.environment.disks().nth(1).unwrap();
        let name = format!("{}/{}{}", served.peer, bulkhead_plan::Disk::CONTROL, served.index);
        let control = block.environment.channel(&name).unwrap();
        assert_eq!((control.role, control.kind, control.peer), (Role::First, ChannelKind::Text, served.peer));
        assert_eq!(block.environment.channels().count(), 3);
    });
}

#[test]
fn arguments_of_the_initial_ram_disk_follow_the_command_line() {
    let text = std::fs::read_to_string(root().join("partitions/default.toml")).unwrap();
    let world = World::new();
    let path = world.manifest(&text);
    let plan = world.with_options(|options| {
        let options = Options { initrd_arguments: "bulkhead.interactive", ..*options };
        compile(&path, &options).unwrap().plan
    });
    let expected = b"console=ttyS0,115200 bulkhead.interactive";
    assert!(plan.windows(expected.len()).any(|part| part == expected));
}

#[test]
fn a_trace_has_a_ring_for_each_cpu_and_a_partition_that_reads_them() {
    let text = r#"
        [system]
        end = "never"
        [machine]
        cpus = 2
        [trace]
        memory = "64 KiB"
        totals = true
        [partition.hello]
        program = "hello"
    "#;
    compiled(text, |_, plan| {
        let (partition, regions) = plan.trace().unwrap();
        assert_eq!((partition.name(), partition.index), ("trace", 2));
        assert!(regions.clone().all(|index| plan.regions()[index].size == 64 << 10));
        assert_eq!(regions.len(), 2);
        let ring = partition.environment.memory("trace-1").unwrap();
        assert_eq!((ring.size, ring.writable), (64 << 10, false));
        assert_eq!(partition.environment.text("totals"), Some("yes"));
    });
    // Also if only the command asks for it.
    let world = World::new();
    let path = world.manifest("[system]\nend = \"never\"\n[partition.hello]\nprogram = \"hello\"\n");
    let trace = |trace| {
        world.with_options(|options| {
            let plan = compile(&path, &Options { trace, ..*options }).unwrap().plan;
            plan.windows(7).any(|part| part == b"trace-0")
        })
    };
    let wanted = Tracing { memory: Some(1 << 20), totals: false };
    assert_eq!((trace(None), trace(Some(wanted))), (false, true));
}

/// What the manifest says of the rings counts, then what the command says.
#[test]
fn rings_are_as_long_as_somebody_says() {
    let ring = |table: &str, memory: Option<u64>| {
        let world = World::new();
        let path =
            world.manifest(&format!("[system]\nend = \"never\"\n{table}\n[partition.hello]\nprogram = \"hello\"\n"));
        let trace = Some(Tracing { memory, totals: false });
        let compiled = world.with_options(|options| compile(&path, &Options { trace, ..*options })).unwrap();
        parsed(&compiled, |plan| {
            let (_, mut regions) = plan.trace().unwrap();
            plan.regions()[regions.next().unwrap()].size
        })
    };
    for (table, said) in [("", None), ("[trace]", None), ("[trace]\nmemory = \"64 KiB\"", Some(64 << 10))] {
        assert_eq!(ring(table, None), said.unwrap_or(256 << 10), "{table}");
        assert_eq!(ring(table, Some(1 << 20)), said.unwrap_or(1 << 20), "{table}");
    }
}

#[test]
fn devices_on_the_bus() {
    let text = r#"
        [system]
        end = "never"
        [machine]
        iommu = true
        [machine.device.net]
        model = "e1000e"
        vectors = 3
        [machine.device.disk]
        model = "nvme"
        disk = "8 MiB"
        [machine.device.other]
        pci = { address = "01:02.3" }
        [partition.drivers]
        program = "hello"
        devices = ["disk", "net"]
        [partition.more]
        program = "hello"
        devices = ["other"]
    "#;
    compiled(text, |compiled, plan| {
        let checks: Vec<_> = compiled.warnings.iter().map(|warning| warning.check()).collect();
        assert!(checks.is_empty(), "the IOMMU confines devices: {checks:?}");
        let needed: Vec<_> = compiled.needs.devices.iter().map(|device| (device.model, device.disk_bytes)).collect();
        assert_eq!(needed, [(Model::Nvme, Some(8 << 20)), (Model::E1000e, None)]);
        assert!(compiled.needs.iommu);

        let bus = plan.bus().unwrap();
        assert_eq!((bus.name(), bus.index), ("bus", 1));
        assert_eq!(bus.environment.ports_of("pci", 0).unwrap().first, 0xcf8);
        let init = plan.partition(0).unwrap();
        let shared = [init, bus].map(|partition| partition.environment.memory("functions").unwrap().size);
        assert_eq!(shared[0], shared[1]);

        let devices: Vec<_> = plan.devices().iter().map(|device| (device.name.as_str(), device.partition)).collect();
        assert_eq!(devices, [("disk", 2), ("net", 2), ("other", 3)]);
        assert_eq!(plan.devices()[2].values, [0x113, 0]);
        let drivers = plan.partition(2).unwrap();
        let entries =
            |wanted: EntryKind| drivers.environment.entries().iter().filter(move |entry| entry.kind() == Some(wanted));
        assert_eq!(entries(EntryKind::PciFunction).count(), 2);
        assert_eq!(entries(EntryKind::DeviceMemory).count(), 2 * layout::BARS);
        assert!(entries(EntryKind::DeviceMemory).all(|entry| entry.address.is_multiple_of(layout::DEVICE_WINDOW)));
        let messages = drivers.grants().filter(|grant| matches!(grant.resource, Resource::Message { .. })).count();
        assert_eq!(messages, 1 + 3);
    });
}

/// A channel with a guest is two byte rings, which the guest's monitor has.
#[test]
fn channels_of_guests() {
    let text = r#"
        [system]
        end = "never"
        [partition.hello]
        program = "hello"
        [guest.red]
        memory = "96 MiB"
        kernel = "debian:linux-image-cloud-amd64"
        [guest.blue]
        memory = "96 MiB"
        kernel = "debian:linux-image-cloud-amd64"
        [channel.talk]
        between = { first = "red", second = "blue" }
        [channel.echo]
        between = { first = "hello", second = "red" }
        kind = "text"
    "#;
    compiled(text, |_, plan| {
        let ends = |index, name| {
            let partition = plan.partition(index).unwrap();
            let channel = partition.environment.channel(name)?;
            Some((channel.role, channel.kind, channel.peer.to_owned()))
        };
        let end = |role, peer: &str| Some((role, ChannelKind::Text, peer.to_owned()));
        assert_eq!(ends(2, "talk"), end(Role::First, "blue"));
        assert_eq!(ends(3, "talk"), end(Role::Second, "red"));
        assert_eq!((ends(1, "echo"), ends(2, "echo")), (end(Role::First, "red"), end(Role::Second, "hello")));
        assert_eq!((ends(1, "talk"), ends(3, "echo")), (None, None));
    });
}

/// Cards in VLANs, and the uplink, which is in all.
#[test]
fn network_cards() {
    let text = r#"
        [system]
        end = "never"
        [machine]
        iommu = true
        [machine.device.net0]
        model = "e1000"
        [partition.lan]
        program = "switch"
        devices = ["net0"]
        [memory.frames]
        partitions = ["lan"]
        size = "512 KiB"
        dma = true
        [switch.lan]
        allow = ["red <-> blue", "red -> net0"]
        [guest.red]
        memory = "96 MiB"
        kernel = "debian:linux-image-cloud-amd64"
        [[guest.red.network]]
        switch = "lan"
        mac = "52:54:00:00:00:01"
        vlan = 4094
        features = { segmentation = false }
        [guest.blue]
        memory = "96 MiB"
        kernel = "debian:linux-image-cloud-amd64"
        [[guest.blue.network]]
        switch = "lan"
        mtu = 1400
        rate = "1 MiB"
    "#;
    compiled(text, |_, plan| {
        let ports = |name: &str| {
            let partition = plan.partitions().find(|partition| partition.name() == name).unwrap();
            partition.environment.network_ports().collect::<Vec<_>>()
        };
        let [red, blue, uplink] = ports("lan").try_into().unwrap();
        assert_eq!((red.peer, red.peers, red.vlan, red.mac), ("red", 0b110, 4094, [0x52, 0x54, 0, 0, 0, 1]));
        assert_eq!((blue.peer, blue.peers, blue.vlan, blue.mtu, blue.rate), ("blue", 0b001, 0, 1400, 1 << 20));
        assert!(red.checksum && !red.segmentation && blue.segmentation && !red.uplink && !blue.uplink);
        assert_eq!((uplink.name, uplink.uplink, uplink.peers, uplink.vlan), ("net0", true, 0, 0));
        let of_guest = ports("red");
        assert_eq!(of_guest.len(), 1);
        assert_eq!((of_guest[0].peer, of_guest[0].vlan, of_guest[0].index), ("lan", 4094, 0));
    });
}

/// Whoever uses a disk without sharing its memory shares memory for this disk alone, which is all that the service's device reaches.
#[test]
fn disks_of_native_partitions_and_copied_disks() {
    let text = r#"
        [system]
        end = "never"
        [machine]
        iommu = true
        [machine.device.disk]
        model = "nvme"
        disk = "8 MiB"
        [partition.block]
        program = "nvme"
        devices = ["disk"]
        [memory.dma]
        partitions = ["block"]
        size = "512 KiB"
        dma = true
        [partition.client]
        program = "drivecheck"
        [[partition.client.disk]]
        service = "block"
        size = "1 MiB"
        [[partition.client.disk]]
        service = "block"
        offset = "2 MiB"
        size = "1 MiB"
        read_only = true
        [guest.linux]
        memory = "96 MiB"
        kernel = "vmlinuz"
        [[guest.linux.disk]]
        service = "block"
        offset = "4 MiB"
        size = "4 MiB"
        data = "copy"
        features = { discard = false }
        control = true
    "#;
    compiled(text, |_, plan| {
        let named = |name| plan.partitions().find(|partition| partition.name() == name).unwrap();
        let [block, client, linux] = ["block", "client", "linux"].map(named);
        let regions = |partition: &bulkhead_plan::Partition<'_>, kind: EntryKind| -> Vec<(String, usize, bool)> {
            let grants = partition.grants().filter(|grant| grant.entry.kind() == Some(kind));
            let regions = grants.filter_map(|grant| match grant.resource {
                Resource::Region { index, physical, .. } => {
                    Some((grant.entry.name.as_str().to_owned(), index, physical))
                }
                _ => None,
            });
            regions.collect()
        };
        // The guest's RAM, and the names under which memory for disks is known.
        let ram: Vec<_> = regions(&linux, EntryKind::GuestMemory).into_iter().map(|(_, region, _)| region).collect();
        assert_eq!(ram.len(), 1);
        let served = regions(&block, EntryKind::GuestMemory);
        let names: Vec<_> = served.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["linux/0", "client/0", "client/1"]);
        assert!(served.iter().all(|(_, region, physical)| *physical && !ram.contains(region)));
        let all_of_block = block.grants().filter_map(|grant| match grant.resource {
            Resource::Region { index, .. } => Some(index),
            _ => None,
        });
        assert!(all_of_block.into_iter().all(|region| !ram.contains(&region)));
        for (owner, disks) in [(&client, vec!["client/0", "client/1"]), (&linux, vec!["linux/0"])] {
            let own = regions(owner, EntryKind::Memory);
            for name in disks {
                let find = |list: &[(String, usize, bool)]| list.iter().find(|(other, ..)| other == name).cloned();
                let (owned, there) = (find(&own).unwrap(), find(&served).unwrap());
                assert_eq!(
                    (owned.1, owned.2),
                    (there.1, false),
                    "the same memory, whose address the owner does not know"
                );
                let channel = owner.environment.channel(name).unwrap();
                assert_eq!((channel.role, channel.kind, channel.peer), (Role::Second, ChannelKind::Device, "block"));
            }
        }
        let disks: Vec<_> = block.environment.disks().map(|disk| (disk.name, disk.peer, disk.first_sector)).collect();
        assert_eq!(disks, [("linux/0", "linux", 8192), ("client/0", "client", 0), ("client/1", "client", 4096)]);
        let disk = client.environment.disks().nth(1).unwrap();
        assert_eq!((disk.peer, disk.sectors, disk.read_only), ("block", 2048, true));
        assert_eq!(linux.environment.disks().next().unwrap().withheld, bulkhead_plan::Disk::NO_DISCARD);
        assert!(linux.environment.channel("disk0.control").is_some());
        // The monitor has room for what it copies.
        assert_eq!(linux.environment.heap().unwrap().size, (1 << 20) + (256 << 10));
    });
}

#[test]
fn capabilities_to_itself_and_its_memory() {
    let text = r#"
        [system]
        end = "never"
        dump = true
        [partition.console]
        program = "console"
        devices = ["com1"]
        [partition.one]
        program = "hello"
        capabilities = true
        [partition.other]
        program = "hello"
        [memory.both]
        partitions = ["one", "other"]
        size = "4 KiB"
        read_only = true
    "#;
    compiled(text, |_, plan| {
        assert!(plan.dumps_capabilities());
        let [one, other] = [2, 3].map(|index| plan.partition(index).unwrap().environment);
        let own = one.own_partition().unwrap();
        let slots = [own.slot, own.window, one.memory("both").unwrap().slot];
        assert!(slots.is_sorted_by(|one, next| layout::FIRST_SLOT <= *one && one != next), "{slots:?}");
        assert_eq!((other.own_partition(), other.memory("both").unwrap().slot), (None, 0));
    });
}

#[test]
fn flows_by_ports_and_by_the_memory_of_a_guest() {
    let text = r#"
        [machine]
        disk = "64 MiB"
        [partition.disks]
        program = "block"
        devices = ["ide0"]
        [partition.more]
        program = "hello"
        devices = ["ide1"]
        [partition.lan]
        program = "switch"
        [memory.dma]
        partitions = ["disks"]
        size = "64 KiB"
        dma = true
        [guest.guest]
        memory = "16 MiB"
        kernel = "builtin:guests"
        [[guest.guest.disk]]
        service = "disks"
        size = "1 MiB"
        [[guest.guest.network]]
        switch = "lan"
    "#;
    let world = World::new();
    let path = world.manifest(text);
    let flows = world.with_options(|options| bulkhead_manifest::flows(&path, options)).unwrap();
    let has =
        |from: &str, to: &str, by: &str| flows.iter().any(|edge| (&*edge.from, &*edge.to, &*edge.by) == (from, to, by));
    for (one, other, by) in [
        ("disks", "more", "ports 0xcf8 to 0xcff"),
        ("disks", "lan", "memory of guest `guest`"),
        ("guest", "lan", "a network card"),
    ] {
        assert!(has(one, other, by) && has(other, one, by), "{one}, {other}: {flows:?}");
    }
}
