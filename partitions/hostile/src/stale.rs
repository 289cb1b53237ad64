//! Capabilities that were deleted or revoked, used once more.

use crate::authority::{Authority, FREE_ADDRESS};
use crate::prober::Prober;
use crate::raw::{Answer, invoke};
use bulkhead_runtime::abi::{AnyMethod, Error, MemoryMethod, PartitionMethod, Rights, SELF_TABLE};

const READ_WRITE: u64 = Rights::READ.union(Rights::WRITE).bits() as u64;

fn derive(from: u64, to: u64) -> Answer {
    invoke(from, AnyMethod::DeriveRange as u64, [to, 0x1fff, 0, 4096])
}

/// Asks all of it.
pub fn run(prober: &Prober, has: &Authority) {
    let (part, child) = (has.free, has.free + 1);
    let revoke: fn(&Authority) -> Answer = |has| invoke(has.own, AnyMethod::Revoke as u64, [0; 4]);
    let delete: fn(&Authority) -> Answer = |has| invoke(has.free, AnyMethod::Delete as u64, [0; 4]);
    for (how, end) in [("was revoked", revoke), ("was deleted", delete)] {
        let mut prepared = prober.prepared("DeriveRange", derive(has.own, part));
        prepared &= prober.prepared("DeriveRange of that", derive(part, child));
        let arguments = [part, FREE_ADDRESS, READ_WRITE, 0];
        prepared &= prober.prepared("Map", invoke(has.partition, PartitionMethod::Map as u64, arguments));
        if !prepared || !prober.prepared("the end", end(has)) {
            continue;
        }
        let gone = |asked: &str, error, answer| prober.refused(format_args!("{asked} of what {how}"), error, answer);
        gone("Inspect", Error::SlotEmpty, invoke(part, AnyMethod::Inspect as u64, [0; 4]));
        gone(
            "Derive",
            Error::SlotEmpty,
            invoke(part, AnyMethod::Derive as u64, [child + 1, READ_WRITE, 0, SELF_TABLE]),
        );
        gone("DeriveRange", Error::SlotEmpty, derive(part, child + 1));
        gone("Revoke", Error::SlotEmpty, invoke(part, AnyMethod::Revoke as u64, [0; 4]));
        gone("Delete", Error::SlotEmpty, invoke(part, AnyMethod::Delete as u64, [0; 4]));
        gone("Zero", Error::SlotEmpty, invoke(part, MemoryMethod::Zero as u64, [0, 4096, 0, 0]));
        gone("Map", Error::SlotEmpty, invoke(has.partition, PartitionMethod::Map as u64, arguments));
        gone("Unmap", Error::NotMapped, invoke(has.partition, PartitionMethod::Unmap as u64, [part, 0, 0, 0]));
        gone("Donate", Error::SlotEmpty, invoke(has.partition, PartitionMethod::Donate as u64, [part, 0, 0, 0]));
        has.tidy();
    }
    // What is derived of a part reaches no further, and has no more rights.
    let less = invoke(
        has.own,
        AnyMethod::DeriveRange as u64,
        [part, u64::from((Rights::READ | Rights::GRANT).bits()), 0, 4096],
    );
    if prober.prepared("DeriveRange", less) {
        let answer = invoke(part, AnyMethod::DeriveRange as u64, [child, 0x1fff, 4096, 4096]);
        prober.refused(format_args!("DeriveRange beyond a part"), Error::OutOfRange, answer);
        let answer = invoke(part, MemoryMethod::Zero as u64, [0, 4096, 0, 0]);
        prober.refused(format_args!("Zero of a part without WRITE"), Error::MissingRight, answer);
        let answer = invoke(part, AnyMethod::Revoke as u64, [0; 4]);
        prober.refused(format_args!("Revoke of a part without REVOKE"), Error::MissingRight, answer);
        prober.prepared("Derive of that", derive(part, child));
        let answer = invoke(child, MemoryMethod::Zero as u64, [0, 4096, 0, 0]);
        prober.refused(format_args!("Zero of a child that was asked for with all rights"), Error::MissingRight, answer);
        let answer = invoke(has.partition, PartitionMethod::Map as u64, [child, FREE_ADDRESS, READ_WRITE, 0]);
        prober.refused(format_args!("Map of that child, to write"), Error::MissingRight, answer);
        has.tidy();
    }
}
