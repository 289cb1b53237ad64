//! Views of memory that others may be changing: channels, guest memory, what init builds.
//!
//! Rust's references promise that nobody else writes. Shared memory is therefore seen as atomics, or copied from and to by
//! string instructions, and each access is checked against the range's length.

use bulkhead_intrinsics as intrinsics;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// An access lay outside the memory, or was not aligned as its type needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutsideMemory;

/// A range of mapped memory that others may access at the same time.
#[derive(Clone, Copy, Debug)]
pub struct SharedMemory<'a> {
    base: *mut u8,
    length: usize,
    lifetime: PhantomData<&'a [AtomicU8]>,
}

// SAFETY: all access is atomic or by copies that tolerate concurrent writers.
unsafe impl Send for SharedMemory<'_> {}
// SAFETY: as for `Send`.
unsafe impl Sync for SharedMemory<'_> {}

/// Types that memory can be viewed as: any bit pattern is valid and all access is through shared references.
///
/// # Safety
/// The type must be an integer atomic.
pub unsafe trait Atomic {}
// SAFETY: an integer atomic.
unsafe impl Atomic for AtomicU8 {}
// SAFETY: an integer atomic.
unsafe impl Atomic for AtomicU16 {}
// SAFETY: an integer atomic.
unsafe impl Atomic for AtomicU32 {}
// SAFETY: an integer atomic.
unsafe impl Atomic for AtomicU64 {}

impl<'a> SharedMemory<'a> {
    /// The memory at an address.
    ///
    /// # Safety
    /// The range must stay mapped for `'a`, and no Rust object may lie in it.
    pub(crate) const unsafe fn at(address: u64, length: u64) -> Self {
        Self { base: address as usize as *mut u8, length: length as usize, lifetime: PhantomData }
    }

    /// Writes all of it back from the processors' caches to memory, for a device that reads past them (SDM vol. 2A, CLFLUSH: lines are of
    /// at least 32 bytes wherever there are IOMMUs).
    pub fn write_back(self) {
        for offset in (0..self.length).step_by(32) {
            let line = self.base.wrapping_add(offset);
            // SAFETY: the line lies in the mapped range; what memory holds does not change for anybody.
            unsafe { core::arch::asm!("clflush [{}]", in(reg) line, options(nostack, preserves_flags)) };
        }
        // SAFETY: orders the flushes before what follows.
        unsafe { core::arch::asm!("mfence", options(nostack, preserves_flags)) };
    }

    /// Bytes of it.
    pub const fn len(self) -> usize {
        self.length
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.length == 0
    }

    /// The address at which this program sees it.
    pub fn address(self) -> u64 {
        self.base as u64
    }

    /// `length` bytes from `offset` on.
    pub fn part(self, offset: usize, length: usize) -> Result<Self, OutsideMemory> {
        let base = self.check(offset, length)?;
        Ok(Self { base, length, lifetime: PhantomData })
    }

    fn check(self, offset: usize, length: usize) -> Result<*mut u8, OutsideMemory> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(self.base.wrapping_add(offset)),
            _ => Err(OutsideMemory),
        }
    }

    /// The memory from `offset` on as `count` atomics.
    pub fn atomics<T: Atomic>(self, offset: usize, count: usize) -> Result<&'a [T], OutsideMemory> {
        let bytes = count.checked_mul(size_of::<T>()).ok_or(OutsideMemory)?;
        let pointer = self.check(offset, bytes)?.cast::<T>();
        if !pointer.is_aligned() {
            return Err(OutsideMemory);
        }
        // SAFETY: the range is inside memory that is mapped for 'a and holds no Rust object, aligned, and every bit pattern
        // is a value of an integer atomic.
        Ok(unsafe { core::slice::from_raw_parts(pointer, count) })
    }

    /// One atomic at `offset`.
    pub fn atomic<T: Atomic>(self, offset: usize) -> Result<&'a T, OutsideMemory> {
        self.atomics(offset, 1)?.first().ok_or(OutsideMemory)
    }

    /// All of it as byte atomics.
    pub fn bytes(self) -> &'a [AtomicU8] {
        // SAFETY: as in `atomics`; bytes are always aligned.
        unsafe { core::slice::from_raw_parts(self.base.cast::<AtomicU8>(), self.length) }
    }

    /// Copies from the memory at `offset`.
    pub fn read(self, offset: usize, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        let source = self.check(offset, destination.len())?;
        // SAFETY: the source range is mapped, the destination is borrowed mutably and cannot overlap it.
        unsafe { intrinsics::copy_up(destination.as_mut_ptr(), source, destination.len()) };
        Ok(())
    }

    /// Copies to the memory at `offset`.
    pub fn write(self, offset: usize, source: &[u8]) -> Result<(), OutsideMemory> {
        let destination = self.check(offset, source.len())?;
        // SAFETY: the destination range is mapped and holds no Rust object.
        unsafe { intrinsics::copy_up(destination, source.as_ptr(), source.len()) };
        Ok(())
    }

    /// Copies to the memory at `offset` from other shared memory.
    pub fn write_from(self, offset: usize, source: SharedMemory<'_>) -> Result<(), OutsideMemory> {
        let destination = self.check(offset, source.length)?;
        // SAFETY: both ranges are mapped and hold no Rust object; if they overlap, the bytes are merely not what was meant.
        unsafe { intrinsics::copy_up(destination, source.base, source.length) };
        Ok(())
    }

    /// Fills `length` bytes at `offset`.
    pub fn fill(self, offset: usize, byte: u8, length: usize) -> Result<(), OutsideMemory> {
        let destination = self.check(offset, length)?;
        // SAFETY: the range is mapped and holds no Rust object.
        unsafe { intrinsics::fill(destination, byte, length) };
        Ok(())
    }
}

/// A guest's memory, mapped in this program, by guest-physical address.
///
/// The memory starts at guest-physical `start`; guests' low memory starts at 0.
#[derive(Clone, Copy, Debug)]
pub struct GuestRam<'a> {
    memory: SharedMemory<'a>,
    start: u64,
}

macro_rules! integers {
    ($($read:ident, $write:ident: $type:ty;)*) => { $(
        /// Reads a little-endian integer at a guest-physical address of any alignment.
        pub fn $read(self, guest_physical: u64) -> Result<$type, OutsideMemory> {
            let mut bytes = [0; size_of::<$type>()];
            self.read(guest_physical, &mut bytes)?;
            Ok(<$type>::from_le_bytes(bytes))
        }

        /// Writes a little-endian integer at a guest-physical address of any alignment.
        pub fn $write(self, guest_physical: u64, value: $type) -> Result<(), OutsideMemory> {
            self.write(guest_physical, &value.to_le_bytes())
        }
    )* };
}

impl<'a> GuestRam<'a> {
    /// Guest memory that starts at guest-physical `start`.
    pub const fn new(memory: SharedMemory<'a>, start: u64) -> Self {
        Self { memory, start }
    }

    /// First guest-physical address.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Bytes.
    pub const fn len(self) -> u64 {
        self.memory.len() as u64
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.memory.is_empty()
    }

    /// The memory itself.
    pub const fn memory(self) -> SharedMemory<'a> {
        self.memory
    }

    fn offset(self, guest_physical: u64) -> Result<usize, OutsideMemory> {
        let offset = guest_physical.checked_sub(self.start).ok_or(OutsideMemory)?;
        usize::try_from(offset).map_err(|_| OutsideMemory)
    }

    /// The part of the memory at a guest-physical range.
    pub fn part(self, guest_physical: u64, length: usize) -> Result<SharedMemory<'a>, OutsideMemory> {
        self.memory.part(self.offset(guest_physical)?, length)
    }

    /// Copies from guest memory.
    pub fn read(self, guest_physical: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        self.memory.read(self.offset(guest_physical)?, destination)
    }

    /// Copies to guest memory.
    pub fn write(self, guest_physical: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        self.memory.write(self.offset(guest_physical)?, source)
    }

    /// Fills guest memory.
    pub fn fill(self, guest_physical: u64, byte: u8, length: usize) -> Result<(), OutsideMemory> {
        self.memory.fill(self.offset(guest_physical)?, byte, length)
    }

    /// An aligned integer in guest memory, as an atomic.
    pub fn atomic<T: Atomic>(self, guest_physical: u64) -> Result<&'a T, OutsideMemory> {
        self.memory.atomic(self.offset(guest_physical)?)
    }

    integers! {
        read_u8, write_u8: u8;
        read_u16, write_u16: u16;
        read_u32, write_u32: u32;
        read_u64, write_u64: u64;
    }
}
