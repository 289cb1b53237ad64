//! `bulkhead check`.

use std::path::Path;

use crate::{programs, system};

/// Checks the manifest and shows everything that is wrong with it.
pub fn run(manifest: &Path) -> miette::Result<u8> {
    let programs = programs::programs();
    Ok(bulkhead_manifest::check_command(manifest, &system::options(&programs)))
}
