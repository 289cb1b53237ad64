//! What tests of emulators have in the place of a guest's memory ([`FlatMemory`], [`WordMemory`], [`Watched`]) and of the time ([`Time`]).
//!
//! Owns: memory that behaves as [`GuestMemory`] demands, and a clock that is set. Must never: be part of a program.
#![forbid(unsafe_code)]

use bulkhead_driver::Clock;
use bulkhead_virtio::{GuestMemory, OutsideMemory, PhysicalSegment};
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Memory from guest-physical 0 on, all in one piece. Clones are the same memory.
#[derive(Clone, Debug)]
pub struct FlatMemory {
    bytes: Rc<RefCell<Vec<u8>>>,
    /// Where a device finds its first byte.
    base: u64,
}

impl FlatMemory {
    /// So many bytes of zeroes, which a device finds from `base` on.
    pub fn new(bytes: usize, base: u64) -> Self {
        Self { bytes: Rc::new(RefCell::new(vec![0; bytes])), base }
    }

    fn range(&self, address: u64, length: u64) -> Result<Range<usize>, OutsideMemory> {
        let end = address.checked_add(length).ok_or(OutsideMemory)?;
        if end > self.bytes.borrow().len() as u64 {
            return Err(OutsideMemory);
        }
        // Both are at most the length of a vector.
        Ok(address as usize..end as usize)
    }
}

impl GuestMemory for FlatMemory {
    fn read(&self, address: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        let range = self.range(address, destination.len() as u64)?;
        destination.copy_from_slice(&self.bytes.borrow()[range]);
        Ok(())
    }

    fn write(&self, address: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        let range = self.range(address, source.len() as u64)?;
        self.bytes.borrow_mut()[range].copy_from_slice(source);
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
        self.range(address, length)?;
        Ok(PhysicalSegment { address: self.base + address, length })
    }
}

/// Memory from guest-physical 0 on in words that others see, too: what a client and a service share. Clones are the same memory.
#[derive(Clone, Copy, Debug)]
pub struct WordMemory {
    words: &'static [AtomicU64],
    /// Where a device finds its first byte.
    base: u64,
}

impl WordMemory {
    /// So many bytes of zeroes, in whole words, which a device finds from `base` on.
    pub fn new(bytes: usize, base: u64) -> Self {
        Self { words: Box::leak((0..bytes / 8).map(|_| AtomicU64::new(0)).collect()), base }
    }

    /// The words.
    pub fn words(&self) -> &'static [AtomicU64] {
        self.words
    }

    fn check(&self, address: u64, length: u64) -> Result<usize, OutsideMemory> {
        let end = address.checked_add(length).ok_or(OutsideMemory)?;
        // At most the bytes of a slice.
        if end > 8 * self.words.len() as u64 { Err(OutsideMemory) } else { Ok(address as usize) }
    }
}

impl GuestMemory for WordMemory {
    fn read(&self, address: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        let first = self.check(address, destination.len() as u64)?;
        for (at, byte) in (first..).zip(destination) {
            *byte = self.words[at / 8].load(SeqCst).to_le_bytes()[at % 8];
        }
        Ok(())
    }

    fn write(&self, address: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        let first = self.check(address, source.len() as u64)?;
        for (at, byte) in (first..).zip(source) {
            let shift = 8 * (at % 8);
            let word = self.words[at / 8].load(SeqCst) & !(0xff << shift);
            self.words[at / 8].store(word | u64::from(*byte) << shift, SeqCst);
        }
        Ok(())
    }

    fn load_u16(&self, address: u64) -> Result<u16, OutsideMemory> {
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), OutsideMemory> {
        self.write(address, &value.to_le_bytes())
    }

    fn translate(&self, address: u64, length: u64) -> Result<PhysicalSegment, OutsideMemory> {
        self.check(address, length)?;
        Ok(PhysicalSegment { address: self.base + address, length })
    }
}

/// Memory of whose every use somebody is told first: who counts uses, or does meanwhile what a guest or its monitor could.
pub struct Watched<M, F> {
    /// The memory.
    pub memory: M,
    /// Is told.
    pub watch: F,
}

impl<M: GuestMemory, F: Fn()> GuestMemory for Watched<M, F> {
    fn read(&self, address: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        (self.watch)();
        self.memory.read(address, destination)
    }

    fn write(&self, address: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        (self.watch)();
        self.memory.write(address, source)
    }

    fn load_u16(&self, address: u64) -> Result<u16, OutsideMemory> {
        (self.watch)();
        self.memory.load_u16(address)
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), OutsideMemory> {
        (self.watch)();
        self.memory.store_u16(address, value)
    }

    fn translate(&self, address: u64, length: u64) -> Result<PhysicalSegment, OutsideMemory> {
        (self.watch)();
        self.memory.translate(address, length)
    }
}

/// A clock that is set. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct Time(pub Rc<Cell<u64>>);

impl Clock for Time {
    fn milliseconds(&self) -> u64 {
        self.0.get()
    }
}
