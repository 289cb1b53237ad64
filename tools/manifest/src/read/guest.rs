//! `[guest.NAME]` and its disks.

use super::{console, partition::inject, restart, schedule, table::TableReader};
use crate::model::{Disk, Guest, Located, MAX_SHADOW_MEMORY, Msr, MsrRead, Network, monitor_heap};
use bulkhead_plan::{Disk as PlanDisk, NetworkPort as PlanPort};

/// Most bytes behind a frame's header, unless the manifest says otherwise (IEEE 802.3, 3.2.7).
const DEFAULT_MTU: u64 = 1500;

/// Memory for shadow tables, unless the manifest says otherwise: at least, and for each processor.
const SHADOW_MEMORY: (u64, u64) = (4 << 20, 1 << 20);
/// How a disk's data are moved: copied by the guest's monitor.
const COPY: &str = "copy";

pub(super) fn guest(table: TableReader<'_, '_>) -> Guest {
    let cpus_field = table.field("cpus");
    let says_none = cpus_field.as_ref().is_some_and(|field| field.is_empty_list());
    let cpus = table.cpus("cpus");
    let cpus = if cpus.is_empty() && !says_none { vec![table.default(0)] } else { cpus };
    let shadow_memory = (SHADOW_MEMORY.1 * cpus.len() as u64).clamp(SHADOW_MEMORY.0, MAX_SHADOW_MEMORY);
    let disks: Vec<_> = table.tables("disk").into_iter().map(disk).collect();
    let monitor_heap = monitor_heap(&disks);
    let monitor = table.string("monitor");
    let firmware = table.string("firmware");
    let (without, msrs) = table.table("cpu").map(|cpu| processors(&cpu)).unwrap_or_default();
    let guest = Guest {
        name: Located::new(table.name.clone(), table.span.clone()),
        memory: table.require("memory", TableReader::size),
        node: table.integer("node"),
        cpus,
        cpus_span: cpus_field.map_or_else(|| table.span.clone(), |field| field.span),
        schedule: schedule(&table),
        // What another monitor runs is its own affair, and firmware loads what it likes.
        kernel: match monitor.as_ref().or(firmware.as_ref()) {
            Some(_) => table.string("kernel"),
            None => table.require("kernel", TableReader::string),
        },
        monitor,
        initrd: table.string("initrd"),
        command_line: table.string("command_line"),
        firmware,
        hpet: table.boolean("hpet", false),
        without,
        msrs,
        statistics: table.boolean("statistics", false),
        paging: table.string("paging"),
        shadow_memory: table.size("shadow_memory").unwrap_or_else(|| table.default(shadow_memory)),
        restart: restart(&table),
        watchdog_us: table.time("watchdog"),
        inject: table.table("inject").map(|table| inject(&table)),
        console: console(&table),
        must_finish: table.boolean("must_finish", true),
        level: table.string("level"),
        monitor_memory: table.size("monitor_memory").unwrap_or_else(|| table.default(monitor_heap)),
        disks,
        networks: table.tables("network").into_iter().map(network).collect(),
    };
    table.finish();
    guest
}

/// `cpu`: what its processors are like.
fn processors(table: &TableReader<'_, '_>) -> (Vec<Located<String>>, Vec<Msr>) {
    let without = table.strings("without");
    let msrs = table.tables("msr").into_iter().map(msr).collect();
    table.finish();
    (without, msrs)
}

fn msr(table: TableReader<'_, '_>) -> Msr {
    let is_text = table.field("read").is_some_and(|field| field.as_str().is_some());
    let read = if is_text {
        table.string("read").map(MsrRead::Word)
    } else {
        table.integer("read").map(|constant| MsrRead::Constant(constant.value))
    };
    let msr = Msr {
        span: table.span.clone(),
        name: table.string("name"),
        number: table.integer("number"),
        read,
        write: table.string("write"),
    };
    table.finish();
    msr
}

fn disk(table: TableReader<'_, '_>) -> Disk {
    let data = table.string("data");
    let disk = Disk {
        span: table.span.clone(),
        service: table.require("service", TableReader::string),
        offset: table.size("offset").unwrap_or_else(|| table.default(0)),
        size: table.require("size", TableReader::size),
        read_only: table.boolean("read_only", false),
        is_copied: data.as_ref().is_some_and(|data| data.value == COPY),
        data,
        withheld: withheld(
            &table,
            [
                ("discard", PlanDisk::NO_DISCARD),
                ("write_zeroes", PlanDisk::NO_WRITE_ZEROES),
                ("flush", PlanDisk::NO_FLUSH),
                ("queues", PlanDisk::ONE_QUEUE),
            ],
        ),
        control: table.boolean("control", false),
    };
    table.finish();
    disk
}

/// `features`: which of these are false, as bits.
fn withheld<const COUNT: usize>(table: &TableReader<'_, '_>, known: [(&'static str, u64); COUNT]) -> u64 {
    let Some(features) = table.table("features") else {
        return 0;
    };
    let bits = known.iter().filter(|(name, _)| !features.boolean(name, true)).fold(0, |bits, (_, bit)| bits | bit);
    features.finish();
    bits
}

fn network(table: TableReader<'_, '_>) -> Network {
    let withheld = withheld(&table, [("checksum", PlanPort::CHECKSUM), ("segmentation", PlanPort::SEGMENTATION)]);
    let network = Network {
        span: table.span.clone(),
        switch: table.require("switch", TableReader::string),
        mac: table.string("mac"),
        mtu: table.integer("mtu").unwrap_or_else(|| table.default(DEFAULT_MTU)),
        rate: table.size("rate"),
        vlan: table.integer("vlan"),
        checksum: withheld & PlanPort::CHECKSUM == 0,
        segmentation: withheld == 0,
    };
    table.finish();
    network
}
