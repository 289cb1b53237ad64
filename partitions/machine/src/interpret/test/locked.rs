//! Locked instructions when other processors are at the same word.

use super::*;
use crate::memory::{MemoryLayout, OutOfGuest};
use core::cell::Cell;

/// RAM whose words another processor changes in between: the next `lost` replacements fail.
struct Contended<'a> {
    memory: &'a VecMemory,
    lost: Cell<u32>,
}

impl GuestMemory for Contended<'_> {
    fn layout(&self) -> MemoryLayout {
        self.memory.layout()
    }

    fn read(&self, address: GuestPhysical, buffer: &mut [u8]) -> Result<(), OutOfGuest> {
        self.memory.read(address, buffer)
    }

    fn write(&self, address: GuestPhysical, bytes: &[u8]) -> Result<(), OutOfGuest> {
        self.memory.write(address, bytes)
    }

    fn replace_u32(&self, address: GuestPhysical, expected: u32, new: u32) -> Result<bool, OutOfGuest> {
        if self.lost.get() == 0 {
            return self.memory.replace_u32(address, expected, new);
        }
        self.lost.set(self.lost.get() - 1);
        self.memory.write(address, &expected.wrapping_add(0x100).to_le_bytes())?;
        Ok(false)
    }
}

fn run_contended(guest: &mut Guest, lost: u32, limit: u32) -> Stopped {
    let memory = Contended { memory: &guest.memory, lost: Cell::new(lost) };
    run(&mut guest.state, &memory, &mut guest.world, &mut guest.cache, limit)
}

#[test]
fn nothing_that_others_write_is_lost() {
    // lock inc byte [0x2000]; xchg [0x2001], ax
    for code in [&[0xf0, 0xfe, 0x06, 0, 0x20][..], &[0x87, 0x06, 1, 0x20]] {
        let mut guest = Guest::real(code);
        guest.state.registers[RAX] = 0x5555;
        assert_eq!(run_contended(&mut guest, 5, 1), Stopped::Limit);
        assert_eq!(guest.state.rip, CODE + code.len() as u64);
        if code[0] == 0xf0 {
            assert_eq!(guest.memory.u32(0x2000), 0x501);
        } else {
            assert_eq!((guest.memory.u32(0x2000), guest.state.registers[RAX]), (0x55_5500, 5));
        }
    }
}

#[test]
fn a_lock_that_cannot_be_had_is_tried_again() {
    let mut guest = Guest::real(&[0xf0, 0xfe, 0x06, 0, 0x20]);
    guest.state.rflags |= 0x40;
    assert_eq!(run_contended(&mut guest, u32::MAX, 100), Stopped::Limit);
    assert_eq!((guest.state.rip, guest.state.rflags), (CODE, 0x42));
    guest.step(1);
    assert_eq!(guest.memory.bytes(0x2000, 1), [1]);
}

#[test]
fn a_segment_is_loaded_even_if_its_accessed_bit_cannot_be_set() {
    // mov ds, ax
    let mut guest = Guest::protected(&[0x8e, 0xd8]);
    guest.memory.write_u64(guest.state.gdtr.base + 0x18, 0x0040_9200_0000_ffff);
    guest.state.registers[RAX] = 0x18;
    assert_eq!(run_contended(&mut guest, u32::MAX, 1), Stopped::Limit);
    assert_eq!((guest.state.rip, guest.state.segments[segment::DS].access), (CODE + 2, 0x4093));
}
