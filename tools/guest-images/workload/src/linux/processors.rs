//! The processors that this process may use.

#![allow(unsafe_code)]

use super::{
    Failure,
    call::{GETCPU, SCHED_GETAFFINITY, SCHED_SETAFFINITY, call},
};

/// Bits of Linux' processor masks.
const MASK_BITS: usize = 8192;
type Mask = [u64; MASK_BITS / 64];

/// Processors by Linux' numbers; at least one.
pub struct Processors {
    numbers: [u32; Self::MAX],
    count: usize,
}

impl Processors {
    /// Processors that the workload uses at most.
    pub const MAX: usize = 64;

    pub fn of_this_process() -> Result<Self, Failure> {
        let mut mask: Mask = [0; MASK_BITS / 64];
        // SAFETY: the kernel writes the mask.
        unsafe {
            call("sched_getaffinity", SCHED_GETAFFINITY, [0, size_of::<Mask>(), mask.as_mut_ptr().addr(), 0, 0, 0])
        }?;
        let mut processors = Self { numbers: [0; Self::MAX], count: 0 };
        let usable = (0..MASK_BITS as u32).filter(|number| mask[(number / 64) as usize] >> (number % 64) & 1 != 0);
        for (place, number) in processors.numbers.iter_mut().zip(usable) {
            *place = number;
            processors.count += 1;
        }
        if processors.count == 0 { Err(Failure::wrong("number of processors:", 0)) } else { Ok(processors) }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// One of them; they repeat.
    pub fn nth(&self, number: usize) -> u32 {
        self.numbers[number % self.count]
    }
}

/// Pins this process or thread to a processor, and checks that it runs there.
pub fn pin(processor: u32) -> Result<(), Failure> {
    let mut mask: Mask = [0; MASK_BITS / 64];
    mask[(processor / 64) as usize] = 1 << (processor % 64);
    // SAFETY: the kernel reads the mask.
    unsafe { call("sched_setaffinity", SCHED_SETAFFINITY, [0, size_of::<Mask>(), mask.as_ptr().addr(), 0, 0, 0]) }?;
    let mut current = u32::MAX;
    // SAFETY: the kernel writes the number.
    unsafe { call("getcpu", GETCPU, [core::ptr::from_mut(&mut current).addr(), 0, 0, 0, 0, 0]) }?;
    if current == processor { Ok(()) } else { Err(Failure::wrong("processor", current.into())) }
}
