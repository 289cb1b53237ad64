//! The ACPI table DMAR: where the remapping units are (section 8.1).

use crate::MAX_UNITS;
use heapless::Vec;

/// Most bytes of the table.
pub const MAX_BYTES: usize = 4096;
/// Most I/O APICs that are remembered.
const MAX_IO_APICS: usize = 8;
/// Bytes before the first structure.
const HEADER: usize = 48;
/// Bytes of a unit's structure before its device scopes.
const UNIT_HEADER: usize = 16;
/// Type of a unit's structure (8.3), and of an I/O APIC's device scope (8.3.1).
const UNIT: u16 = 0;
const IO_APIC: u8 = 3;
/// Flag of the header: the machine can remap interrupts.
const REMAPS_INTERRUPTS: u8 = 1;

/// An I/O APIC, and as which PCI function it sends its interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    /// Its identifier in the ACPI table MADT.
    pub identifier: u8,
    /// Bus << 8 | device << 3 | function.
    pub requester: u16,
}

/// What the table says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// Whether the machine can remap interrupts.
    pub remaps_interrupts: bool,
    /// Physical addresses of the units' registers, of pages.
    pub units: Vec<u64, MAX_UNITS>,
    /// I/O APICs behind the units.
    pub io_apics: Vec<IoApic, MAX_IO_APICS>,
}

/// Why a table cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// It is not a DMAR table, or longer than [`MAX_BYTES`], or than the bytes given.
    Header,
    /// A structure does not lie in the table.
    Structure,
    /// There are too many units, or none, or one that lies nowhere; or a unit of another PCI segment.
    Units,
}

/// Bytes of the whole table, from its first eight; `None` if it is none, or too long.
pub fn length(header: &[u8; 8]) -> Option<usize> {
    let [signature @ .., l0, l1, l2, l3] = *header;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    (signature == *b"DMAR" && (HEADER..=MAX_BYTES).contains(&length)).then_some(length)
}

/// Reads the table.
pub fn parse(table: &[u8]) -> Result<Description, Malformed> {
    let bytes = table.first_chunk().and_then(length).ok_or(Malformed::Header)?;
    let table = table.get(..bytes).ok_or(Malformed::Header)?;
    let flags = table.get(37).copied().unwrap_or_default();
    let mut description =
        Description { remaps_interrupts: flags & REMAPS_INTERRUPTS != 0, units: Vec::new(), io_apics: Vec::new() };
    let mut rest = table.get(HEADER..).unwrap_or_default();
    while !rest.is_empty() {
        let [t0, t1, l0, l1] = *rest.first_chunk().ok_or(Malformed::Structure)?;
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        let (structure, behind) = rest.split_at_checked(length).filter(|_| length >= 4).ok_or(Malformed::Structure)?;
        if u16::from_le_bytes([t0, t1]) == UNIT {
            unit(structure, &mut description)?;
        }
        rest = behind;
    }
    if description.units.is_empty() { Err(Malformed::Units) } else { Ok(description) }
}

fn unit(structure: &[u8], description: &mut Description) -> Result<(), Malformed> {
    let (header, mut scopes) = structure.split_first_chunk::<UNIT_HEADER>().ok_or(Malformed::Structure)?;
    let [_, _, _, _, _, _, s0, s1, base @ ..] = *header;
    let base = u64::from_le_bytes(base);
    if (s0, s1) != (0, 0) || base == 0 || !base.is_multiple_of(crate::PAGE_BYTES as u64) {
        return Err(Malformed::Units);
    }
    description.units.push(base).map_err(|_| Malformed::Units)?;
    while !scopes.is_empty() {
        let [kind, length, _, _, identifier, bus] = *scopes.first_chunk().ok_or(Malformed::Structure)?;
        let split = scopes.split_at_checked(usize::from(length)).filter(|_| length >= 6);
        let (scope, behind) = split.ok_or(Malformed::Structure)?;
        // One behind bridges has a longer path, and sends under the bus behind them, which is not known here.
        if let (IO_APIC, [_, _, _, _, _, _, device, function]) = (kind, scope) {
            let requester = u16::from(bus) << 8 | u16::from(device & 31) << 3 | u16::from(function & 7);
            // What does not fit cannot be given away: its interrupts stay blocked.
            let _ = description.io_apics.push(IoApic { identifier, requester });
        }
        scopes = behind;
    }
    Ok(())
}
