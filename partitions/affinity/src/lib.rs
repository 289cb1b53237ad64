//! NUMA nodes: to which of them memory and processors belong, as the ACPI table SRAT says (ACPI 6.5, 5.2.16).
//!
//! Owns: reading the table, and finding free memory on a node. Must never: trust the table, which comes from firmware; whatever it holds,
//! reading it ends with an answer. A node is what the table calls a proximity domain.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// Most bytes of the table.
pub const MAX_SRAT_BYTES: usize = 64 << 10;
/// Bytes before the first structure.
const HEADER: usize = 48;
/// Types of structures, and their bytes.
const LOCAL_APIC: (u8, usize) = (0, 16);
const MEMORY: (u8, usize) = (1, 40);
const LOCAL_X2APIC: (u8, usize) = (2, 24);
/// Flag of all of them: what the structure says counts.
const ENABLED: u32 = 1 << 0;
/// Flag of memory: it keeps its contents without power, and is nobody's RAM.
const NON_VOLATILE: u32 = 1 << 2;

/// Why a table cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// It is not an SRAT table, is longer than [`MAX_SRAT_BYTES`] or than the bytes given, or its checksum is wrong.
    Table,
    /// A structure does not lie in the table, or is shorter than its type.
    Structure,
    /// Memory wraps around, or two nodes have the same memory.
    Memory,
}

/// Why memory does not come from the node that the manifest says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misplaced {
    /// The machine has no table of nodes.
    NoTable,
    /// It has one that cannot be used.
    BadTable(Malformed),
    /// The table knows no memory of this node.
    NoNode,
    /// So many bytes in one piece, or aligned as they have to be, are not free there.
    Full(u64),
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable => write!(f, "the machine's firmware describes no nodes (ACPI table SRAT)"),
            Self::BadTable(why) => {
                write!(f, "what the machine's firmware says of nodes is wrong (ACPI table SRAT: {why:?})")
            }
            Self::NoNode => write!(f, "the machine has no memory on such a node"),
            Self::Full(bytes) => write!(f, "{} KiB of it are not free in one piece", bytes.div_ceil(1024)),
        }
    }
}

/// What the table says of the machine.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// Ascending by address, and apart. Neighbours of one node are one.
    memory: Vec<(Range<u64>, u32)>,
    /// APIC identifiers with their nodes.
    processors: Vec<(u32, u32)>,
}

/// Bytes of the whole table, from its first eight; `None` if it is none, or too long.
pub fn srat_length(header: &[u8; 8]) -> Option<usize> {
    let [signature @ .., l0, l1, l2, l3] = *header;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    (signature == *b"SRAT" && (HEADER..=MAX_SRAT_BYTES).contains(&length)).then_some(length)
}

impl Affinity {
    /// Reads the table.
    pub fn parse(table: &[u8]) -> Result<Self, Malformed> {
        let bytes = table.first_chunk().and_then(srat_length).ok_or(Malformed::Table)?;
        let table = table.get(..bytes).ok_or(Malformed::Table)?;
        if table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
            return Err(Malformed::Table);
        }
        let mut affinity = Self::default();
        let mut rest = table.get(HEADER..).unwrap_or_default();
        while !rest.is_empty() {
            let [kind, length] = *rest.first_chunk().ok_or(Malformed::Structure)?;
            let split = rest.split_at_checked(usize::from(length)).filter(|_| length >= 2);
            let (structure, behind) = split.ok_or(Malformed::Structure)?;
            affinity.add(kind, structure)?;
            rest = behind;
        }
        affinity.merge()?;
        Ok(affinity)
    }

    fn add(&mut self, kind: u8, structure: &[u8]) -> Result<(), Malformed> {
        let byte = |offset: usize| structure.get(offset).copied().unwrap_or_default();
        let word = |offset: usize| u32::from_le_bytes([0, 1, 2, 3].map(|index| byte(offset + index)));
        let long = |offset: usize| u64::from(word(offset)) | u64::from(word(offset + 4)) << 32;
        let is = |(number, bytes): (u8, usize)| -> Result<bool, Malformed> {
            match kind == number {
                true if structure.len() < bytes => Err(Malformed::Structure),
                is_it => Ok(is_it),
            }
        };
        if is(LOCAL_APIC)? {
            // The node's lowest byte stands apart from the others.
            if word(4) & ENABLED != 0 {
                self.processors.push((byte(3).into(), u32::from(byte(2)) | word(8) & !0xff));
            }
        } else if is(LOCAL_X2APIC)? {
            if word(12) & ENABLED != 0 {
                self.processors.push((word(8), word(4)));
            }
        } else if is(MEMORY)? {
            let (start, length) = (long(8), long(16));
            if word(28) & (ENABLED | NON_VOLATILE) == ENABLED && length != 0 {
                let end = start.checked_add(length).ok_or(Malformed::Memory)?;
                self.memory.push((start..end, word(2)));
            }
        }
        Ok(())
    }

    /// Sorts the memory, and makes one range of those of a node that touch.
    fn merge(&mut self) -> Result<(), Malformed> {
        self.memory.sort_by_key(|(range, _)| range.start);
        let mut merged: Vec<(Range<u64>, u32)> = Vec::with_capacity(self.memory.len());
        for (range, node) in self.memory.drain(..) {
            match merged.last_mut() {
                Some((last, other)) if *other == node && range.start <= last.end => last.end = last.end.max(range.end),
                Some((last, _)) if range.start < last.end => return Err(Malformed::Memory),
                _ => merged.push((range, node)),
            }
        }
        self.memory = merged;
        Ok(())
    }

    /// The memory of a node, in ascending order.
    pub fn memory_of(&self, node: u32) -> impl Iterator<Item = Range<u64>> + use<'_> {
        self.memory.iter().filter(move |(_, other)| *other == node).map(|(range, _)| range.clone())
    }

    /// The node of the processor with this APIC identifier, if the table says one.
    pub fn node_of_processor(&self, apic_id: u32) -> Option<u32> {
        self.processors.iter().find(|(identifier, _)| *identifier == apic_id).map(|(_, node)| *node)
    }
}

/// The lowest address at which `size` bytes, aligned to a power of two, lie in free memory and within one of `ranges`.
pub fn place(
    ranges: impl Iterator<Item = Range<u64>>,
    free: impl Iterator<Item = Range<u64>> + Clone,
    size: u64,
    alignment: u64,
) -> Option<u64> {
    let pieces =
        ranges.flat_map(|range| free.clone().map(move |free| range.start.max(free.start)..range.end.min(free.end)));
    let starts = pieces.filter_map(|piece| {
        let start = piece.start.checked_next_multiple_of(alignment)?;
        start.checked_add(size).is_some_and(|end| end <= piece.end).then_some(start)
    });
    starts.min()
}
