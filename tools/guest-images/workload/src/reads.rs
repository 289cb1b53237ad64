//! What reading a disk costs: instructions that the machine would not have executed otherwise.
//!
//! They are told as [`Meter`] says. Then the same requests are made without it, between checkpoints for a monitor that counts exits,
//! and last nothing at all, so that what a guest exits for anyhow can be taken off.

use core::{ffi::CStr, time::Duration};

use crate::{
    linux::{Checkpoints, Disk, Failure, Processors, sleep, ticks},
    meter::{Meter, print},
    println,
};

const KIB: usize = 1024;
const MIB: usize = KIB * KIB;
/// Requests of 1 MiB, one behind the other; requests of 4 KiB at random places; the same with [`DEPTH`] of them at a time.
const LARGE: usize = 16;
const SMALL: usize = 256;
const DEEP: usize = 1024;
const DEPTH: usize = 32;
/// Part of the disk that is read.
const AREA: usize = 32 * MIB;
/// What an idle machine exits for, such as its clock, is counted in this time.
const IDLE: Duration = Duration::from_secs(1);
/// Requests before the first that counts.
const WARM_UP: usize = 8;

/// What is read at a time.
#[derive(Clone, Copy)]
enum Request {
    Large,
    Small,
    /// [`DEEP`] small ones.
    Deep,
}

struct Reader {
    disk: Disk,
    random: u32,
}

impl Reader {
    fn read(&mut self, request: Request, number: usize) -> Result<(), Failure> {
        match request {
            Request::Large => self.disk.read(number * MIB % AREA, MIB),
            Request::Small => {
                let place = next_place(&mut self.random);
                self.disk.read(place, 4 * KIB)
            }
            Request::Deep => self.disk.read_many(DEPTH, DEEP, 4 * KIB, || next_place(&mut self.random)),
        }
    }

    /// Makes a request for each sample, and notes what it cost.
    fn measure(&mut self, request: Request, meter: &Meter, samples: &mut [u64]) -> Result<(), Failure> {
        for number in 0..WARM_UP {
            self.read(request, number)?;
        }
        meter.measure(samples, |number| self.read(request, WARM_UP + number))
    }
}

/// A multiple of 4 KiB in the area (a linear congruential generator; Numerical Recipes, 7.1).
fn next_place(random: &mut u32) -> usize {
    *random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*random >> 8) as usize * 4 * KIB % AREA
}

/// Reads the disk at `path`, and prints the figures.
pub fn run(processors: &Processors, path: &CStr) -> Result<(), Failure> {
    let checkpoints = Checkpoints::permit()?;
    let mut reader = Reader { disk: Disk::open(path, MIB)?, random: 1 };
    let meter = Meter::start(processors)?;
    let mut samples = [0; SMALL];
    let (large, deep) = (&mut [0; LARGE], &mut [0]);
    reader.measure(Request::Large, &meter, large)?;
    print("block.read_1m", large);
    reader.measure(Request::Small, &meter, &mut samples)?;
    print("block.read_4k", &mut samples);
    reader.measure(Request::Deep, &meter, deep)?;
    print("block.read_4k.qd32", &mut deep.map(|sample| sample / DEEP as u64));
    meter.stop()?;

    let phases = [
        ("large", Some((Request::Large, LARGE))),
        ("small", Some((Request::Small, SMALL))),
        ("deep", Some((Request::Deep, 1))),
        ("idle", None),
    ];
    for (number, (name, requests)) in (0u32..).zip(phases) {
        checkpoints.set(2 * number);
        let start = ticks();
        match requests {
            Some((request, count)) => (0..count).try_for_each(|number| reader.read(request, number))?,
            None => sleep(IDLE)?,
        }
        let elapsed = ticks().wrapping_sub(start);
        checkpoints.set(2 * number + 1);
        println!("reads: {name} ticks={elapsed}");
    }
    println!("reads: ok, exits of {LARGE} large, {SMALL} small and {DEEP} deep requests counted");
    Ok(())
}
