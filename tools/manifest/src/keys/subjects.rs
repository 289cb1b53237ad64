//! `[partition.NAME]`, and `[guest.NAME]` with its disks and network cards.

use super::{
    Key, Kind, MAX, Table,
    parts::{BUDGET, CONSOLE, CONSOLE_DEFAULT, CPUS, LEVEL, NAMES, NODES, PERIOD, PRIORITY, RESTART},
};
use bulkhead_machine::policy::listed;

pub(super) const PARTITION: Table = Table::new(
    "partition",
    "A native program.",
    &[
        Key::required("program", Kind::Program, "what it runs"),
        Key::new("cpu", Kind::Integer(0, 63), "0", "the CPU that it runs on"),
        PRIORITY,
        BUDGET,
        PERIOD,
        Key::new("memory", Kind::Size, "`\"256 KiB\"`", "size of its heap, at most 256 MiB"),
        Key::new(
            "node",
            NODES,
            "any",
            "the NUMA node that all its memory comes from, but for channels and what `[memory]` gives it",
        ),
        Key::new("stack", Kind::Size, "`\"64 KiB\"`", "size of its stack, less than 16 MiB").example(r#""64 KiB""#),
        Key::new("devices", NAMES, "none", "devices that it owns; a device has one owner").example(r#"["com1"]"#),
        RESTART,
        Key::new(
            "watchdog",
            Kind::Time,
            "none",
            "a time of at least 100 ms, and of more than twice the longest time that the partition is without a window of a frame or without \
             budget: it is started anew if it shows no sign of life for so long; its program shows one whenever it waits for events",
        )
        .example(r#""1 s""#),
        Key::new("inject", Kind::Table(&INJECT), "none", "a fault, to try what then happens"),
        Key::new("console", CONSOLE, CONSOLE_DEFAULT, "the partition that shows its text, or `false`"),
        Key::new("must_finish", Kind::Boolean, "`false`", "whether the end `\"guests-off\"` waits for it"),
        LEVEL,
        Key::new(
            "capabilities",
            Kind::Boolean,
            "`false`",
            "whether it gets capabilities to itself and to what it has in `[memory]`, to map, derive and revoke: for programs that try \
             the kernel, as `hostile` does. What it has it can then also pass on over endpoints",
        ),
        Key::new("settings", Kind::Texts, "none", "texts for the program, at most 2048 bytes each, by names that it knows")
            .example(r#"{ seconds = "5" }"#),
        Key::new("disk", Kind::Tables(&PARTITION_DISK), "none", "ranges of drives"),
    ],
);

const PARTITION_DISK: Table = Table::new(
    "partition.disk",
    "A range of the drive behind a block service.",
    &[
        Key::required("service", Kind::Name, "the partition that serves it, as for guests"),
        Key::required("size", Kind::Size, "how much it is"),
        Key::new("offset", Kind::Size, "`\"0 B\"`", "where it begins on the drive").example(r#""0 MiB""#),
        Key::new("read_only", Kind::Boolean, "`false`", "whether writes are refused"),
    ],
);

const INJECT: Table = Table::part(&[
    Key::required(
        "fault",
        Kind::Word(&["kill", "hang", "crash", "loop", "exhaust", "flood"]),
        "what [the partition does](#faults)",
    ),
    Key::new("after", Kind::Time, "`\"1 s\"`", "when it happens first"),
    Key::new("every", Kind::Time, "`\"1 s\"`", "how long until the next one, at least 10 ms"),
    Key::new("times", Kind::Integer(1, 1_000_000), "1", "how often it happens"),
]);

pub(super) const GUEST: Table = Table::new(
    "guest",
    "An unmodified operating system.",
    &[
        Key::required("memory", Kind::Size, "size of its RAM: what its kernel needs, 1 MiB to 256 GiB"),
        Key::new(
            "node",
            NODES,
            "any",
            "the NUMA node that its RAM comes from, and all memory of its virtual machine monitor but for channels",
        ),
        Key::new(
            "monitor",
            Kind::Name,
            "`vmm`",
            "the native program that runs it, with a capability to its RAM, instead of the virtual machine monitor",
        ),
        Key::required("kernel", FILE, "a file, see below")
            .unless(&["monitor", "firmware"])
            .example(r#""debian:linux-image-cloud-amd64""#),
        Key::new("initrd", FILE, "none", "a file").example(r#""builtin:checks""#),
        Key::new("command_line", Kind::Text, "none", "what its kernel is told, at most 2048 bytes"),
        Key::new(
            "firmware",
            FILE,
            "none",
            "a file that starts the guest at the reset vector, instead of `kernel`, see below",
        )
        .example(r#""debian:seabios""#),
        Key::new("cpu", Kind::Table(&CPU), "", "what its processors are like"),
        Key::new("hpet", Kind::Boolean, "`false`", "whether the guest has a high precision event timer"),
        Key::new(
            "cpus",
            CPUS,
            "`[0]`",
            "CPUs, one for each of its processors, at most 16",
        )
        .example("[0]"),
        PRIORITY,
        BUDGET,
        PERIOD,
        Key::new(
            "paging",
            Kind::Word(&["auto", "ept", "shadow"]),
            "`\"auto\"`",
            "how its memory is translated: by extended page tables, by shadow tables of the kernel, or by extended page tables where \
             the processor has them and by shadow tables elsewhere",
        ),
        Key::new(
            "shadow_memory",
            Kind::Size,
            "`\"4 MiB\"`, or 1 MiB for each processor if that is more",
            "memory for shadow tables, taken only if the guest is translated by such; at least 768 KiB for each processor, and at most \
             12 MiB; when it is used up, tables are replaced, and the guest gets slower",
        ),
        Key::new("console", CONSOLE, CONSOLE_DEFAULT, "the partition that its serial port is connected to, or `false`"),
        Key::new("must_finish", Kind::Boolean, "`true`", "whether the end `\"guests-off\"` waits for it"),
        LEVEL,
        RESTART,
        Key::new(
            "watchdog",
            Kind::Time,
            "none",
            "a time of at least 100 ms: the guest is started anew if a thread of its virtual machine monitor shows no sign of life for so \
             long, [whatever the guest does](#watchdogs)",
        )
        .example(r#""1 s""#),
        Key::new(
            "inject",
            Kind::Table(&INJECT),
            "none",
            "a fault of its virtual machine monitor, to try what then happens",
        ),
        Key::new(
            "statistics",
            Kind::Boolean,
            "`false`",
            "whether its virtual machine monitor counts its exits, and prints the counts at its end; `bulkhead run --stats` has all of \
             them do so, and shows the counts as a table",
        ),
        Key::new(
            "monitor_memory",
            Kind::Size,
            "`\"1 MiB\"`, and 256 KiB more for each disk that is copied",
            "size of the heap of its virtual machine monitor, at most 256 MiB",
        )
        .example(r#""1 MiB""#),
        Key::new("disk", Kind::Tables(&DISK), "none", "virtio disks"),
        Key::new("network", Kind::Tables(&NETWORK), "none", "virtio network cards"),
    ],
);

const CPU: Table = Table::part(&[
    Key::new(
        "without",
        Kind::List(&Kind::Feature),
        "none",
        "features that the guest's processors are not to have, though the machine's have them",
    ),
    Key::new(
        "msr",
        Kind::Tables(&MSR),
        "none",
        "model-specific registers of which accesses do something else than by default",
    )
    .example(r#"[{ name = "IA32_MISC_ENABLE" }]"#),
]);

const MSR: Table = Table::new(
    "guest.cpu.msr",
    "What accesses of the guest to a model-specific register do.",
    &[
        Key::new("name", Kind::Word(&listed::NAMES), "", "the register, by the name that the manuals give it"),
        Key::new("number", Kind::Integer(0, 0xffff_ffff), "", "or by its number").example("0x1a0"),
        Key::new(
            "read",
            Kind::Either(&[Kind::Word(&["deny", "emulate"]), Kind::Integer(0, MAX)]),
            "`\"deny\"`",
            "what RDMSR does: #GP, as if the register were not listed, or it reads this constant",
        ),
        Key::new(
            "write",
            Kind::Word(&["deny", "ignore", "emulate"]),
            "`\"deny\"`",
            "what WRMSR does: #GP, nothing, or as if the register were not listed",
        ),
    ],
);

/// A file of a guest's.
const FILE: Kind = Kind::Form("file", "^.+$");

const DISK: Table = Table::new(
    "guest.disk",
    "A virtio disk, which is a range of the drive behind a block service. The first one is `/dev/vda`.",
    &[
        Key::required(
            "service",
            Kind::Name,
            "the partition that serves it: program `block` with `ide0`, whose drive is the machine's disk; or `ahci`, `nvme` or \
             `virtio-blk` with such a device on the PCI bus",
        ),
        Key::required("size", Kind::Size, "how much it is"),
        Key::new("offset", Kind::Size, "`\"0 B\"`", "where it begins on the drive").example(r#""0 MiB""#),
        Key::new("read_only", Kind::Boolean, "`false`", "whether writes are refused"),
        Key::new(
            "features",
            Kind::Table(&DISK_FEATURES),
            "all it has",
            "what of the drive the guest is not to have; what the drive lacks is not offered anyhow",
        ),
        Key::new(
            "control",
            Kind::Boolean,
            "`false`",
            "whether the guest's programs can ask for the drive's serial number, model and identify data, over \
             [a port](devices.md#control) with the name `diskN.control`",
        ),
        Key::new(
            "data",
            Kind::Word(&["shared", "copy"]),
            "`\"shared\"`",
            "`\"shared\"`: the service works on the guest's memory, and sees all of it; `\"copy\"`: the guest's monitor \
             [copies](devices.md#copied-disks) between the guest's memory and 1 MiB and 16 KiB that it shares with the service for \
             this disk",
        ),
    ],
);

const DISK_FEATURES: Table = Table::part(&[
    Key::new("discard", Kind::Boolean, "`true`", "discards"),
    Key::new("write_zeroes", Kind::Boolean, "`true`", "write-zeroes requests"),
    Key::new("flush", Kind::Boolean, "`true`", "flushes"),
    Key::new("queues", Kind::Boolean, "`true`", "more than one queue"),
]);

const NETWORK: Table = Table::new(
    "guest.network",
    "A virtio network card on a switch. The first one is `eth0`.",
    &[
        Key::required(
            "switch",
            Kind::Name,
            "a native partition with `program = \"switch\"`, which sees the guest's memory",
        ),
        Key::new(
            "mac",
            Kind::Form("address", "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$"),
            "one of its own",
            "its address, as in `\"52:54:00:00:00:01\"`",
        )
        .example(r#""52:54:00:00:00:01""#),
        Key::new("mtu", Kind::Integer(68, 1500), "1500", "most bytes behind a frame's header"),
        Key::new("rate", Kind::Size, "no limit", "so many bytes a second may be sent, at least 1 KiB"),
        Key::new("vlan", Kind::Integer(1, 4094), "none", "the VLAN that the card is in").example("5"),
        Key::new("features", Kind::Table(&NETWORK_FEATURES), "all", "what the guest is not to have"),
    ],
);

const NETWORK_FEATURES: Table = Table::part(&[
    Key::new("checksum", Kind::Boolean, "`true`", "checksum offload"),
    Key::new("segmentation", Kind::Boolean, "`true`", "TCP segmentation offload"),
]);
