//! The modules that the boot loader loads, each file once.

use crate::{diagnostic::Reporter, files::Program};
use blake2::{Blake2b, Digest, digest::consts::U32};
use bulkhead_plan::{ModuleRecord, writer::PlanWriter};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Modules in the order of their index.
#[derive(Debug, Default)]
pub(super) struct Modules(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    name: String,
    path: PathBuf,
    length: u64,
}

impl Modules {
    /// Index of a program's module.
    pub(super) fn program(&mut self, name: &str, program: &Program) -> u32 {
        self.file(&format!("program/{name}"), &program.path, program.length)
    }

    /// Index of a file's module; the name is that of the first who asks for the file.
    pub(super) fn file(&mut self, name: &str, path: &Path, length: u64) -> u32 {
        let index = self.0.iter().position(|entry| entry.path == path);
        index.unwrap_or_else(|| {
            self.0.push(Entry { name: name.to_owned(), path: path.to_owned(), length });
            self.0.len() - 1
        }) as u32
    }

    /// Hashes the files and writes the table. `None` if one cannot be read any more, or has changed, which is reported.
    pub(super) fn finish(self, writer: &mut PlanWriter, reporter: &Reporter) -> Option<Vec<(String, PathBuf)>> {
        let mut modules = Vec::new();
        for Entry { name, path, length } in self.0 {
            let bytes = match fs::read(&path) {
                Ok(bytes) if bytes.len() as u64 == length => bytes,
                Ok(_) => {
                    changed(reporter, &path, "its length has changed");
                    return None;
                }
                Err(error) => {
                    changed(reporter, &path, &error.to_string());
                    return None;
                }
            };
            let digest = Blake2b::<U32>::digest(&bytes).into();
            writer.modules.push(ModuleRecord { name: super::plan_name(&name), digest, length });
            modules.push((name, path));
        }
        Some(modules)
    }
}

fn changed(reporter: &Reporter, path: &Path, reason: &str) {
    reporter
        .error("modules::changed", &(0..0), format!("{} changed while it was compiled: {reason}", path.display()))
        .help("run the command again");
}
