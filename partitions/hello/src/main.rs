//! The smallest native partition.
//!
//! It greets on its console channel, says every second how long it has run, answers each line that is typed, and ends when it
//! is told to (`quit`), or after as many seconds as the text `seconds` of its environment says. What comes over the channel that the text
//! `echo` names goes back over it, and over a channel that leads one way it tells the seconds, or hears them. To show what a crash does it can be
//! made to crash: by the line `crash`, or by the text `crashes`, as many times as that says. It must never do anything that a
//! reader would not expect of a greeting.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod echo;
mod one_way;

use bulkhead_runtime::plan::StatusReport;
use bulkhead_runtime::{Program, console, die, entry, events, print, println, time};
use echo::Echo;
use one_way::OneWay;

entry!(main);

/// Seconds after which the program has done its work, unless its environment says otherwise.
const SECONDS: u64 = 3;

fn main(program: Program) {
    let seconds = number(&program, "seconds").unwrap_or(SECONDS);
    println!("hello from partition {} (generation {})", program.name(), program.environment().header().generation);

    let crashes = number(&program, "crashes").unwrap_or(0);
    if program.environment().header().generation < crashes {
        die("crash as the manifest says");
    }

    let start = time::now();
    let mut line = Line::new();
    let mut echo = Echo::new(&program);
    let mut one_way = OneWay::new(&program);
    let mut elapsed = 0;
    while elapsed < seconds {
        let next = start.saturating_add((elapsed + 1).saturating_mul(time::frequency()));
        events::wait(next);
        echo.iter_mut().for_each(Echo::answer);
        one_way.listen();
        if answer(&mut line) == Answer::Quit {
            println!("goodbye");
            program.report(StatusReport::Finished, 0, "asked to quit");
            return;
        }
        while elapsed < seconds && time::now() >= next_second(start, elapsed) {
            elapsed += 1;
            println!("{elapsed} s since start");
            one_way.tell(elapsed);
        }
    }
    program.report(StatusReport::Finished, 0, "said hello");

    // What is typed is still answered, and what is sent.
    loop {
        events::wait(bulkhead_runtime::abi::NO_DEADLINE);
        echo.iter_mut().for_each(Echo::answer);
        one_way.listen();
        if answer(&mut line) == Answer::Quit {
            println!("goodbye");
            return;
        }
    }
}

fn next_second(start: u64, elapsed: u64) -> u64 {
    start.saturating_add((elapsed + 1).saturating_mul(time::frequency()))
}

/// A number among the texts of the environment.
fn number(program: &Program, name: &str) -> Option<u64> {
    program.environment().text(name)?.parse().ok()
}

/// What a typed line asked for.
#[derive(PartialEq, Eq)]
enum Answer {
    Continue,
    Quit,
}

/// Answers all lines that have been typed.
fn answer(line: &mut Line) -> Answer {
    let mut buffer = [0; 64];
    loop {
        let length = console::receive(&mut buffer);
        if length == 0 {
            return Answer::Continue;
        }
        for byte in buffer.iter().take(length) {
            if let Some(text) = line.push(*byte) {
                match text.trim() {
                    "quit" => return Answer::Quit,
                    "crash" => die("crash as typed"),
                    "" => print!("> "),
                    text => println!("you said: {text}"),
                }
                line.clear();
            }
        }
    }
}

/// A line that is being typed; what exceeds it is dropped.
struct Line {
    bytes: [u8; 80],
    length: usize,
}

impl Line {
    const fn new() -> Self {
        Self { bytes: [0; 80], length: 0 }
    }

    /// Adds a byte; the line, once it is complete.
    fn push(&mut self, byte: u8) -> Option<&str> {
        if byte == b'\r' || byte == b'\n' {
            let bytes = self.bytes.get(..self.length)?;
            return Some(core::str::from_utf8(bytes).unwrap_or("(not UTF-8)"));
        }
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
        None
    }

    fn clear(&mut self) {
        self.length = 0;
    }
}
