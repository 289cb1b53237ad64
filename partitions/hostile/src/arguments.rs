//! Ranges and addresses that are not aligned, too large, or wrap around; destinations that are not free; unknown rights.

use crate::authority::{Authority, FREE_ADDRESS};
use crate::prober::Prober;
use crate::raw::invoke;
use bulkhead_runtime::abi::{
    AnyMethod, Error, MAP_UNCACHED, MemoryMethod, PartitionMethod, Rights, SELF_TABLE, ThreadMethod, USER_END,
};
use bulkhead_runtime::plan::layout;

/// The last page address that is a multiple of a page.
const LAST_PAGE: u64 = !0xfff;
const READ: u64 = Rights::READ.bits() as u64;
const WRITE: u64 = Rights::WRITE.bits() as u64;
const EXECUTE: u64 = Rights::EXECUTE.bits() as u64;

/// Asks all of it.
pub fn run(prober: &Prober, has: &Authority) {
    derive(prober, has);
    ranges(prober, has);
    mappings(prober, has);
    threads(prober, has);
}

fn derive(prober: &Prober, has: &Authority) {
    let derive =
        |destination, rights, table| invoke(has.own, AnyMethod::Derive as u64, [destination, rights, 0, table]);
    for rights in [1 << 13, 1 << 15, 1 << 16, 1 << 32, u64::MAX] {
        prober.refused(
            format_args!("Derive with rights {rights:#x}"),
            Error::BadArgument,
            derive(has.free, rights, SELF_TABLE),
        );
    }
    for destination in [has.slots, 1 << 32, u64::MAX] {
        let answer = derive(destination, READ, SELF_TABLE);
        prober.refused(format_args!("Derive to slot {destination:#x}"), Error::SlotOutOfRange, answer);
    }
    for destination in [has.notification, has.thread, has.own, has.partition] {
        let answer = derive(destination, READ, SELF_TABLE);
        prober.refused(format_args!("Derive to slot {destination}, which is used"), Error::SlotOccupied, answer);
    }
    for (table, error) in
        [(has.free, Error::SlotEmpty), (has.slots, Error::SlotOutOfRange), (u64::MAX - 1, Error::SlotOutOfRange)]
    {
        prober.refused(format_args!("Derive into table {table:#x}"), error, derive(has.free, READ, table));
    }
}

fn ranges(prober: &Prober, has: &Authority) {
    let size = has.own_bytes;
    for (first, count, error) in [
        (1, 4096, Error::Misaligned),
        (0, 1, Error::Misaligned),
        (0, 4095, Error::Misaligned),
        (0, 0, Error::Misaligned),
        (2048, 2048, Error::Misaligned),
        (0, size + 4096, Error::OutOfRange),
        (size, 4096, Error::OutOfRange),
        (size + 4096, 4096, Error::OutOfRange),
        (4096, size, Error::OutOfRange),
        (4096, LAST_PAGE, Error::OutOfRange),
        (LAST_PAGE, 4096, Error::OutOfRange),
        (LAST_PAGE, LAST_PAGE, Error::OutOfRange),
        (0, 1 << 63, Error::OutOfRange),
    ] {
        let answer = invoke(has.own, AnyMethod::DeriveRange as u64, [has.free, READ, first, count]);
        prober.refused(format_args!("DeriveRange of {count:#x} bytes from {first:#x}"), error, answer);
        // Memory is zeroed by the same rules.
        let answer = invoke(has.own, MemoryMethod::Zero as u64, [first, count, 0, 0]);
        prober.refused(format_args!("Zero of {count:#x} bytes from {first:#x}"), error, answer);
    }
    for (destination, error) in [(has.slots, Error::SlotOutOfRange), (has.own, Error::SlotOccupied)] {
        let answer = invoke(has.own, AnyMethod::DeriveRange as u64, [destination, READ, 0, 4096]);
        prober.refused(format_args!("DeriveRange to slot {destination}"), error, answer);
    }
    let answer = invoke(has.window, AnyMethod::DeriveRange as u64, [has.free, READ, 0, 4096]);
    prober.refused(format_args!("DeriveRange of a window"), Error::WrongType, answer);
}

fn mappings(prober: &Prober, has: &Authority) {
    let map = |slot, address, rights| invoke(has.partition, PartitionMethod::Map as u64, [slot, address, rights, 0]);
    for (rights, what) in [
        (0, "no rights"),
        (WRITE, "WRITE alone"),
        (EXECUTE, "EXECUTE alone"),
        (READ | WRITE | EXECUTE, "WRITE and EXECUTE"),
        (READ | 1 << 4, "CREATE"),
        (READ | 1 << 13, "an unknown right"),
        (READ | MAP_UNCACHED << 1, "an unknown attribute"),
        (u64::MAX, "everything"),
    ] {
        prober.refused(format_args!("Map with {what}"), Error::BadArgument, map(has.own, FREE_ADDRESS, rights));
    }
    for address in [1, FREE_ADDRESS + 1, FREE_ADDRESS + 2048, USER_END + 1] {
        prober.refused(format_args!("Map at {address:#x}"), Error::Misaligned, map(has.own, address, READ));
    }
    for address in [
        USER_END,
        USER_END - 4096,
        USER_END - has.own_bytes + 4096,
        0x8000_0000_0000,
        0xffff_7fff_ffff_f000,
        0xffff_8000_0000_0000,
        0xffff_c000_0000_0000,
        0xffff_ffff_8000_0000,
        LAST_PAGE,
    ] {
        prober.refused(format_args!("Map at {address:#x}"), Error::OutOfRange, map(has.own, address, READ));
    }
    for (what, address) in [
        ("its code", layout::PROGRAM),
        ("its environment", layout::ENVIRONMENT),
        ("its stack", layout::STACK_TOP - 4096),
        ("its heap", layout::HEAP),
        ("its memory", layout::SHARED),
        ("what lies before its code", layout::PROGRAM - 4096),
    ] {
        prober.refused(format_args!("Map over {what}"), Error::AlreadyMapped, map(has.own, address, READ));
    }
    for (slot, error) in
        [(has.free, Error::SlotEmpty), (has.slots, Error::SlotOutOfRange), (u64::MAX, Error::SlotOutOfRange)]
    {
        prober.refused(format_args!("Map of slot {slot:#x}"), error, map(slot, FREE_ADDRESS, READ));
    }
    let unmap = |slot| invoke(has.partition, PartitionMethod::Unmap as u64, [slot, 0, 0, 0]);
    for (slot, error) in [
        (has.own, Error::NotMapped),
        (has.law, Error::NotMapped),
        (has.free, Error::NotMapped),
        (has.thread, Error::NotMapped),
        (has.slots, Error::SlotOutOfRange),
    ] {
        prober.refused(format_args!("Unmap of slot {slot}"), error, unmap(slot));
    }
    let mapped = map(has.own, FREE_ADDRESS, READ | WRITE);
    if prober.prepared("Map of its memory", mapped) {
        let answer = map(has.own, FREE_ADDRESS, READ | WRITE);
        prober.refused(format_args!("Map again of what is mapped"), Error::AlreadyMapped, answer);
        let answer = map(has.own, FREE_ADDRESS + (1 << 30), READ);
        prober.refused(format_args!("Map elsewhere of what is mapped"), Error::AlreadyMapped, answer);
        prober.prepared("Unmap of its memory", unmap(has.own));
        prober.refused(format_args!("Unmap of what was unmapped"), Error::NotMapped, unmap(has.own));
    }
}

fn threads(prober: &Prober, has: &Authority) {
    for (rip, rsp) in [(layout::PROGRAM, layout::STACK_TOP), (0xffff_ffff_8000_0000, 0), (USER_END, 0)] {
        let answer = invoke(has.thread, ThreadMethod::SetRegisters as u64, [rip, rsp, 0, 0]);
        prober.refused(format_args!("SetRegisters to {rip:#x} while it runs"), Error::WrongState, answer);
    }
    for slot in [0xffff, 1 << 32, u64::MAX] {
        let answer = invoke(has.thread, ThreadMethod::SetReceiveSlot as u64, [slot, 0, 0, 0]);
        prober.refused(format_args!("SetReceiveSlot {slot:#x}"), Error::SlotOutOfRange, answer);
    }
}
