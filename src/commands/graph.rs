//! `bulkhead graph`.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use crate::{
    arguments::GraphArguments,
    programs,
    system::{self, file_error},
};

/// Draws the manifest's system, unless there are errors, which are shown as by `check`.
pub fn run(arguments: &GraphArguments) -> miette::Result<u8> {
    let programs = programs::programs();
    let picture = match bulkhead_manifest::picture(&arguments.manifest, &system::options(&programs)) {
        Ok(picture) => picture,
        Err(diagnostics) => {
            eprint!("{}", bulkhead_manifest::render(&diagnostics));
            return Ok(crate::SETUP_ERROR);
        }
    };
    if !picture.warnings.is_empty() {
        eprint!("{}", bulkhead_manifest::render(&picture.warnings));
    }
    let svg = bulkhead_graph::svg(&picture);
    match &arguments.output {
        Some(output) => fs::write(output, svg).map_err(file_error(output))?,
        None => io::stdout().write_all(svg.as_bytes()).map_err(file_error(Path::new("standard output")))?,
    }
    Ok(0)
}
