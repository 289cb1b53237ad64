//! The manifest as a whole, and its tables that are no partitions and no guests.

use super::{
    Key, Kind, MAX, Table,
    parts::{CPUS, FLOWS, NAMES, NODES},
    subjects::{GUEST, PARTITION},
};
use crate::model::ONE_WAY;

/// The manifest.
pub(crate) const ROOT: Table = Table::new(
    "",
    "A manifest of Bulkhead: which partitions and guests a system has, and what each of them may touch.",
    &[
        Key::new(
            "include",
            Kind::List(&Kind::Form("path", "^.+$")),
            "none",
            "further files of the manifest, relative to this one, whose keys hold where this one does not say otherwise",
        )
        .example(r#"["common.toml"]"#),
        Key::new("sizes", Kind::Sizes, "none", "names for sizes: wherever a size is expected, the name will do"),
        Key::new("system", Kind::Table(&SYSTEM), "", "the system as a whole"),
        Key::new("machine", Kind::Table(&MACHINE), "", "what the manifest counts on"),
        Key::new("cpu", Kind::Numbered(&CPU), "", "cyclic major frames of CPUs"),
        Key::new("partition", Kind::Named(&PARTITION), "", "native programs"),
        Key::new("guest", Kind::Named(&GUEST), "", "unmodified operating systems"),
        Key::new("switch", Kind::Named(&SWITCH), "", "who may talk to whom on a switch"),
        Key::new("channel", Kind::Named(&CHANNEL), "", "shared memory and a signal each way"),
        Key::new("endpoint", Kind::Named(&ENDPOINT), "", "calls from partition to partition"),
        Key::new("memory", Kind::Named(&MEMORY), "", "memory of its own, or shared"),
        Key::new("policy", Kind::Table(&POLICY), "", "flows that must not be"),
        Key::new("trace", Kind::Table(&TRACE), "", "what happens on the CPUs is recorded"),
    ],
);

const SYSTEM: Table = Table::new(
    "system",
    "The system as a whole.",
    &[
        Key::new("name", Kind::Text, "the file's name", "for the log"),
        Key::new(
            "end",
            Kind::Either(&[Kind::Word(&["guests-off", "never"]), Kind::Table(&END)]),
            "`\"guests-off\"`",
            "when the system ends, see below",
        ),
        Key::new(
            "dump",
            Kind::Boolean,
            "`false`",
            "whether init prints every capability of every partition after the seal and at the end, in lines that begin with `cap` \
             ([what they say](../partitions/init/src/dump.rs))",
        ),
    ],
);

const END: Table = Table::choice(&[
    Key::new("partition", Kind::Name, "", "it ends when this partition or guest has finished"),
    Key::new("after", Kind::Time, "", "it ends after this time").example(r#""30 s""#),
]);

const MACHINE: Table = Table::new(
    "machine",
    "What the manifest counts on. `bulkhead run` starts an emulator that has it.",
    &[
        Key::new("cpus", Kind::Integer(1, 64), "1", "number of CPUs; they are numbered from 0"),
        Key::new("memory", Kind::Size, "`\"512 MiB\"`", "main memory, at most 16 TiB"),
        Key::new("disk", Kind::Size, "no disk", "size of the disk on the first IDE channel"),
        Key::new(
            "iommu",
            Kind::Boolean,
            "`false`",
            "whether the machine must have an IOMMU (VT-d): without one, no device on the PCI bus is handed out. `run` starts a \
             machine that has it. A machine's IOMMU is used in any case",
        ),
        Key::new("node", Kind::Tables(&NODE), "one of all CPUs and all memory", "NUMA nodes, numbered from 0"),
        Key::new("device", Kind::Named(&DEVICE), "", "devices that are not built in, or described otherwise"),
    ],
);

const NODE: Table = Table::new(
    "machine.node",
    "A NUMA node: memory, and the CPUs that are near to it.",
    &[
        Key::required("memory", Kind::Size, "its memory, in whole MiB; behind that of the node before"),
        Key::new("cpus", CPUS, "none", "its CPUs").example("[0]"),
    ],
);

const DEVICE: Table = Table::new(
    "machine.device",
    "A device by its logical name: one with fixed ports and interrupt lines, or one on the PCI bus.",
    &[
        Key::new("ports", Kind::Tables(&PORTS), "none", "ranges of I/O ports"),
        Key::new("interrupts", Kind::Tables(&INTERRUPTS), "none", "interrupt lines"),
        Key::new(
            "model",
            Kind::Word(&["ahci", "nvme", "e1000", "e1000e", "virtio-blk", "virtio-net", "edu"]),
            "",
            "a device on the PCI bus that `bulkhead run` puts into the emulated machine, and how the bus is searched for it; `edu` is \
             QEMU's device for teaching, to try how devices are confined",
        ),
        Key::new("pci", Kind::Table(&PCI), "", "instead of a model: how the bus of a real machine is searched"),
        Key::new(
            "vectors",
            Kind::Integer(1, 8),
            "1",
            "message interrupts that its owner wants, of a device on the PCI bus",
        ),
        Key::new(
            "disk",
            Kind::Size,
            "`\"64 MiB\"`",
            "size of its disk in an emulated machine, for the models that have one",
        ),
    ],
);

const PORTS: Table = Table::part(&[
    Key::required("first", Kind::Integer(0, 0xffff), "number of the first port").example("0x300"),
    Key::required("count", Kind::Integer(1, 0x1_0000), "how many they are").example("8"),
]);

const INTERRUPTS: Table = Table::part(&[
    Key::required("line", Kind::Integer(0, 239), "global system interrupt"),
    Key::new("trigger", Kind::Word(&["edge", "level"]), "`\"edge\"`", "how it is signalled"),
    Key::new("polarity", Kind::Word(&["high", "low"]), "`\"high\"`", "what is active"),
]);

const PCI: Table = Table::whole(&[
    Key::new("vendor", Kind::Integer(0, 0xffff), "", "its vendor, together with `device`"),
    Key::new("device", Kind::Integer(0, 0xffff), "", "the vendor's number of it"),
    Key::new("class", Kind::Word(&["ahci", "nvme", "ethernet"]), "", "any device of this class"),
    Key::new(
        "address",
        Kind::Form("address such as `00:03.0`", "^[0-9a-fA-F]{1,2}:[0-9a-fA-F]{1,2}\\.[0-7]$"),
        "",
        "bus, device and function in hexadecimal",
    ),
]);

const CPU: Table = Table::new(
    "cpu",
    "The cyclic major frame of a CPU: who runs in which window of it.",
    &[
        Key::required("frame", Kind::Time, "how long the frame is, after which it begins anew: 200 us to 10 s"),
        Key::new(
            "windows",
            Kind::Tables(&WINDOW),
            "none",
            "the frame's windows; whoever has none runs in the gaps, init too",
        ),
    ],
);

const WINDOW: Table = Table::part(&[
    Key::required("partitions", NAMES, "who runs in it: partitions and guests of this CPU"),
    Key::required("start", Kind::Time, "when it begins, from the beginning of the frame on").example(r#""0 ms""#),
    Key::required("length", Kind::Time, "how long it is, at least 50 us").example(r#""2 ms""#),
]);

const TRACE: Table = Table::new(
    "trace",
    "Has the kernel record what happens on the CPUs.",
    &[
        Key::new("memory", Kind::Size, "`\"256 KiB\"`", "of each CPU's ring, a power of two from 4 KiB to 16 MiB"),
        Key::new("totals", Kind::Boolean, "`false`", "whether records are only counted"),
    ],
);

const SWITCH: Table = Table::new(
    "switch",
    "Who may talk to whom on a partition with program `switch`.",
    &[Key::new("allow", FLOWS, "nobody", "who may send to whom; what no line allows does not happen")
        .example(r#"["red <-> blue"]"#)],
);

const CHANNEL: Table = Table::new(
    "channel",
    "Shared memory and a signal each way between two partitions or guests.",
    &[
        Key::required("between", Kind::Table(&BETWEEN), "its two ends"),
        Key::new("memory", Kind::Size, "`\"16 KiB\"`", "size of the memory, at most 64 MiB"),
        Key::new(
            "kind",
            Kind::Word(&["raw", "text"]),
            "`\"raw\"`; `\"text\"` with a guest at an end",
            "what the memory holds: two byte rings, or what the two programs agree on",
        ),
        Key::new(
            "direction",
            Kind::Word(&["both", ONE_WAY]),
            "`\"both\"`",
            "which way it leads; where it is one way, the second end has the memory read-only, and cannot signal the first one",
        ),
    ],
);

const BETWEEN: Table = Table::part(&[
    Key::required("first", Kind::Name, "a native partition or a guest"),
    Key::required("second", Kind::Name, "another one"),
]);

const ENDPOINT: Table = Table::new(
    "endpoint",
    "Calls: from clients to a server, all of them on one CPU.",
    &[
        Key::required("server", Kind::Name, "the native partition that receives and replies"),
        Key::required("clients", NAMES, "the native partitions that call it"),
        Key::new(
            "worst_case",
            Kind::Time,
            "not known",
            "the longest time that a call takes, 1 us to 500 ms, with all calls that the server makes meanwhile: where the CPU has a \
             frame, no call begins that would not end in its client's window or gap. It is more than that of each endpoint that the server \
             itself calls",
        )
        .example(r#""50 us""#),
    ],
);

const POLICY: Table = Table::new(
    "policy",
    "Flows of information that must not be.",
    &[
        Key::new("deny", FLOWS, "none", "who must have no way to tell whom anything").example(r#"["red -> black"]"#),
        Key::new("trusted", NAMES, "none", "partitions and guests that are known to pass on nothing that they hear, or only what they should"),
        Key::new(
            "levels",
            NAMES,
            "none",
            "levels of assurance, from the lowest to the highest: nobody must have a way to tell anybody of a lower level",
        )
        .example(r#"["low", "high"]"#),
    ],
);

const MEMORY: Table = Table::new(
    "memory",
    "Memory of a partition's own, or shared.",
    &[
        Key::required("partitions", NAMES, "the native partitions that have it"),
        Key::required("size", Kind::Size, "how much it is, at most 64 GiB"),
        Key::new("read_only", Kind::Boolean, "`false`", "whether it is mapped read-only"),
        Key::new("dma", Kind::Boolean, "`false`", "whether they learn its physical address, to give it to a device"),
        Key::new("node", NODES, "any", "the NUMA node that it comes from"),
        Key::new(
            "physical",
            Kind::Integer(0, MAX),
            "any",
            "the physical address that it must have, from 0x100_0000 up",
        )
        .example("0x5000_0000"),
        Key::new(
            "address",
            Kind::Integer(0, MAX),
            "any",
            "the virtual address that it must have, from 0x4000_0000_0000 up",
        )
        .example("0x4000_0000_0000"),
    ],
);
