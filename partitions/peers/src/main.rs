//! A server and its clients, which check each other's answers and notice each other's new lives.
//!
//! The endpoint `calls` of the environment says which of them the program is. A server answers every call with words that are computed
//! from those it got; what comes over a text channel goes back over it. A client calls, sends lines over the text channel `talk` if it has
//! one, and has done its work after as many seconds as the text `seconds` says. It fails if an answer is wrong, or if the server, in the
//! life that it is in then, has answered too little. It must never go on with a new life of its peer without saying so.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod client;
mod server;
mod talk;

use bulkhead_runtime::calls::{Client, Server};
use bulkhead_runtime::plan::StatusReport;
use bulkhead_runtime::syscall::Words;
use bulkhead_runtime::{Program, entry, println};

entry!(main);

/// Name of the endpoint.
const CALLS: &str = "calls";
/// Label of a call that is answered at once, and of one that is answered after a while.
const SOON: u16 = 1;
const LATE: u16 = 2;

fn main(program: Program) {
    println!("generation {}", program.environment().header().generation);
    let outcome = if let Some(client) = Client::new(&program, CALLS) {
        client::run(&program, client)
    } else if let Some(server) = Server::new(&program, CALLS) {
        server::run(&program, server)
    } else {
        Err("there is no endpoint")
    };
    match outcome {
        Ok(()) => program.report(StatusReport::Finished, 0, "all answers were right"),
        Err(text) => {
            println!("{text}");
            program.report(StatusReport::Failed, 1, text);
        }
    }
}

/// What a server answers to these words.
fn answer([first, second, third, fourth]: Words) -> Words {
    // The constant is that of the 64-bit linear congruential generator of Knuth's MMIX.
    let mix = |word: u64| word.wrapping_mul(6_364_136_223_846_793_005).rotate_left(23);
    [mix(first) ^ second, mix(second) ^ third, mix(third) ^ fourth, mix(fourth) ^ first]
}

/// A number among the texts of the environment.
fn number(program: &Program, name: &str) -> Option<u64> {
    program.environment().text(name)?.parse().ok()
}
