//! `bulkhead symbolize`: a saved log, with the lines of the source at each place in code.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

use miette::{IntoDiagnostic, WrapErr};

use crate::places::Places;

/// Prints the log in the file, or the one that comes over standard input.
pub fn run(log: Option<&Path>) -> miette::Result<u8> {
    let mut bytes = Vec::new();
    match log {
        Some(path) => bytes = fs::read(path).into_diagnostic().wrap_err_with(|| path.display().to_string())?,
        None => _ = io::stdin().read_to_end(&mut bytes).into_diagnostic().wrap_err("standard input")?,
    }
    let mut places = Places::default();
    let mut shown = places.pass(&bytes);
    shown.extend(places.rest().bytes());
    // A reader of standard output that has gone away wants no more.
    let _ = io::stdout().write_all(&shown);
    Ok(0)
}
