//! A guest's memory and a guest's driver, for tests.
#![allow(dead_code, reason = "not every test file uses everything")]

use bulkhead_channel::QueueConfiguration;
use bulkhead_virtio::*;
use std::cell::RefCell;

/// Guest-physical address of the memory's first byte.
pub const BASE: u64 = 0x1_0000;
/// Host-physical address of it.
pub const PHYSICAL: u64 = 0x8000_0000;
/// Bytes that are contiguous in host-physical memory; then 4096 bytes are left out.
pub const CONTIGUOUS: u64 = 0x8000;

pub struct Memory(pub RefCell<Vec<u8>>);

impl Memory {
    pub fn new(bytes: usize) -> Self {
        Self(RefCell::new(vec![0; bytes]))
    }

    fn range(&self, address: u64, length: usize) -> Result<std::ops::Range<usize>, OutsideMemory> {
        let start = usize::try_from(address.checked_sub(BASE).ok_or(OutsideMemory)?).map_err(|_| OutsideMemory)?;
        let end = start.checked_add(length).ok_or(OutsideMemory)?;
        if end > self.0.borrow().len() { Err(OutsideMemory) } else { Ok(start..end) }
    }

    pub fn u16(&self, address: u64) -> u16 {
        self.load_u16(address).unwrap()
    }

    pub fn set_u16(&self, address: u64, value: u16) {
        self.store_u16(address, value).unwrap();
    }

    pub fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.read(address, &mut bytes).unwrap();
        bytes
    }

    pub fn descriptor(&self, table: u64, index: u16, segment: Segment, flags: u16, next: u16) {
        let value = u128::from(segment.address)
            | u128::from(segment.length) << 64
            | u128::from(flags) << 96
            | u128::from(next) << 112;
        self.write(table + 16 * u64::from(index), &value.to_le_bytes()).unwrap();
    }
}

impl GuestMemory for Memory {
    fn read(&self, address: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        let range = self.range(address, destination.len())?;
        destination.copy_from_slice(&self.0.borrow()[range]);
        Ok(())
    }

    fn write(&self, address: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        let range = self.range(address, source.len())?;
        self.0.borrow_mut()[range].copy_from_slice(source);
        Ok(())
    }

    fn load_u16(&self, address: u64) -> Result<u16, OutsideMemory> {
        if !address.is_multiple_of(2) {
            return Err(OutsideMemory);
        }
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), OutsideMemory> {
        if !address.is_multiple_of(2) {
            return Err(OutsideMemory);
        }
        self.write(address, &value.to_le_bytes())
    }

    fn translate(&self, address: u64, length: u64) -> Result<PhysicalSegment, OutsideMemory> {
        let length = usize::try_from(length).map_err(|_| OutsideMemory)?;
        let offset = self.range(address, length)?.start as u64;
        let piece = offset / CONTIGUOUS;
        let length = (length as u64).min((piece + 1) * CONTIGUOUS - offset);
        Ok(PhysicalSegment { address: PHYSICAL + offset + piece * 4096, length })
    }
}

pub const SIZE: u16 = 16;
pub const DESCRIPTORS: u64 = BASE;
pub const DRIVER: u64 = BASE + 0x400;
pub const DEVICE: u64 = BASE + 0x800;
/// From here on the memory is free for data.
pub const DATA: u64 = BASE + 0x1000;

pub fn configuration() -> QueueConfiguration {
    QueueConfiguration { size: SIZE, descriptors: DESCRIPTORS, driver: DRIVER, device: DEVICE }
}

/// The driver's side of the queue.
#[derive(Default)]
pub struct Driver {
    pub available: u16,
    pub used: u16,
}

impl Driver {
    pub fn make_available(&mut self, memory: &Memory, head: u16) {
        memory.set_u16(DRIVER + 4 + 2 * u64::from(self.available % SIZE), head);
        self.available = self.available.wrapping_add(1);
        memory.set_u16(DRIVER + 2, self.available);
    }

    pub fn next_used(&mut self, memory: &Memory) -> Option<(u32, u32)> {
        if memory.u16(DEVICE + 2) == self.used {
            return None;
        }
        let element = memory.bytes(DEVICE + 4 + 8 * u64::from(self.used % SIZE), 8);
        self.used = self.used.wrapping_add(1);
        let word = |at: usize| u32::from_le_bytes(element[at..at + 4].try_into().unwrap());
        Some((word(0), word(4)))
    }
}
