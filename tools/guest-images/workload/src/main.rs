//! A parallel workload for Linux guests, on every processor that the guest has.
//!
//! Each part computes something twice: by processes or threads that are pinned to the guest's processors and need one
//! another through the kernel, and alone. A difference, a process that does not end well, or a wait that lasts too long is a
//! failure. The lines begin with `check:`; the exit status is 0 if all parts went well.
//!
//! - [`pipes`]: messages go round through processes on all processors, each of which changes them;
//! - [`futexes`]: threads count under a lock, and hand a baton round;
//! - [`forks`]: processes find their parent's memory, change their copy, and leave the parent's alone;
//! - [`mappings`]: a page is replaced while threads on the other processors read it.
//!
//! With the argument `programs` it starts [`programs`] instead, for a monitor that counts exits; with `reads` and the path of a disk it
//! tells what [`reads`] cost.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod forks;
mod futexes;
mod linux;
mod mappings;
mod mix;
mod pipes;
mod programs;
mod reads;

// Compiled code calls its functions by name.
use bulkhead_intrinsics as _;
use core::{ffi::CStr, panic::PanicInfo};
use linux::{Failure, Processors, exit};

/// A part: what it is called, and what does it. It returns how many operations it has compared.
type Part = (&'static str, fn(&Processors) -> Result<u64, Failure>);

const PARTS: [Part; 4] =
    [("pipes", pipes::run), ("futexes", futexes::run), ("forks", forks::run), ("mappings", mappings::run)];

/// Where the start-up code goes on, with the first two arguments. Returns the exit status.
fn main([what, path]: [Option<&'static CStr>; 2]) -> u8 {
    let processors = match Processors::of_this_process() {
        Ok(processors) => processors,
        Err(failure) => {
            println!("check: workload: {failure} FAILED");
            return 1;
        }
    };
    match (what.map(CStr::to_bytes), path) {
        (None, _) => check(&processors),
        (Some(b"programs"), _) => start_programs(&processors),
        (Some(b"reads"), Some(path)) => read_disk(&processors, path),
        (Some(_), _) => {
            println!("check: workload: unknown arguments FAILED");
            2
        }
    }
}

/// All parts.
fn check(processors: &Processors) -> u8 {
    let mut status = 0;
    for (name, run) in PARTS {
        match run(processors) {
            Ok(operations) => println!("check: {name} ok processors={} operations={operations}", processors.count()),
            Err(failure) => {
                println!("check: {name}: {failure} FAILED");
                status = 1;
            }
        }
    }
    status
}

fn read_disk(processors: &Processors, path: &CStr) -> u8 {
    match reads::run(processors, path) {
        Ok(()) => 0,
        Err(failure) => {
            println!("reads: {failure} FAILED");
            1
        }
    }
}

fn start_programs(processors: &Processors) -> u8 {
    match programs::run(processors) {
        Ok(count) => println!("check: programs ok count={count}"),
        Err(failure) => {
            println!("check: programs: {failure} FAILED");
            return 1;
        }
    }
    0
}

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    println!("check: workload: {information} FAILED");
    exit(101)
}
