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
//! With arguments it does something else: `disk PATH MIB` writes and verifies a disk ([`storage`]), `send ADDRESS PORT` and `receive
//! PORT` pass a stream from one machine to another ([`transfer`]). With the argument `programs` it starts [`programs`] instead, for a
//! monitor that counts exits; with `reads` and the path of a disk it tells what [`reads`] cost, with `stream ADDRESS PORT` what a stream
//! to somebody there does ([`streams`]).
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod forks;
mod futexes;
mod linux;
mod mappings;
mod meter;
mod mix;
mod pipes;
mod programs;
mod reads;
mod storage;
mod streams;
mod transfer;

// Compiled code calls its functions by name.
use bulkhead_intrinsics as _;
use core::{ffi::CStr, panic::PanicInfo};
use linux::{Failure, Processors, exit};

/// A part: what it is called, and what does it. It returns how many operations it has compared.
type Part = (&'static str, fn(&Processors) -> Result<u64, Failure>);

const PARTS: [Part; 4] =
    [("pipes", pipes::run), ("futexes", futexes::run), ("forks", forks::run), ("mappings", mappings::run)];

/// Where the start-up code goes on, with the first arguments. Returns the exit status.
fn main(arguments: [Option<&'static CStr>; 3]) -> u8 {
    let processors = match Processors::of_this_process() {
        Ok(processors) => processors,
        Err(failure) => {
            println!("check: workload: {failure} FAILED");
            return 1;
        }
    };
    let text = |index: usize| arguments[index].and_then(|text| text.to_str().ok());
    let number = |index| text(index).and_then(|text| text.parse().ok());
    let port = |index| text(index).and_then(|text| text.parse().ok());
    match (text(0), arguments[1]) {
        (None, _) => check(&processors),
        (Some("programs"), _) => start_programs(&processors),
        (Some("reads"), Some(path)) => measured("reads", reads::run(&processors, path)),
        (Some("stream"), _) if let (Some(to), Some(port)) = (text(1).and_then(address), port(2)) => {
            measured("stream", streams::run(&processors, to, port))
        }
        (Some("disk"), Some(path)) if let Some(mib) = number(2) => tell("disk", storage::run(path, mib)),
        (Some("receive"), _) if let Some(port) = port(1) => tell("receive", transfer::receive(port)),
        (Some("send"), _) if let (Some(to), Some(port)) = (text(1).and_then(address), port(2)) => {
            tell("send", transfer::send(to, port))
        }
        (Some(_), _) => {
            println!("check: workload: unknown arguments FAILED");
            2
        }
    }
}

/// An IPv4 address.
fn address(text: &str) -> Option<[u8; 4]> {
    let mut bytes = [0; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        *byte = parts.next()?.parse().ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

/// Says how something went that moves bytes.
fn tell(name: &str, outcome: Result<usize, Failure>) -> u8 {
    match outcome {
        Ok(bytes) => {
            println!("check: {name} ok bytes={bytes}");
            0
        }
        Err(failure) => {
            println!("check: {name}: {failure} FAILED");
            1
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

/// Says if a measurement failed.
fn measured(name: &str, outcome: Result<(), Failure>) -> u8 {
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            println!("{name}: {failure} FAILED");
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
