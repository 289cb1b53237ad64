//! What a manifest is completed by before it is checked: partitions, and words that the command adds.

use super::{Located, Manifest, Partition};
use crate::{
    Tracing,
    diagnostic::Span,
    pci::{BUS, CONFIGURATION},
};
use std::path::PathBuf;

/// `[trace]`.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Its place, if the manifest has it.
    pub(crate) span: Span,
    /// Memory of each CPU's ring, if somebody says how much.
    pub(crate) memory: Option<Located<u64>>,
    /// Records are only counted.
    pub(crate) totals: bool,
}

/// Memory of each CPU's trace ring, if nobody says how much.
const DEFAULT_TRACE_MEMORY: u64 = 256 << 10;

impl Trace {
    /// Memory of each CPU's ring, in bytes.
    pub(crate) fn ring_bytes(&self) -> u64 {
        self.memory.as_ref().map_or(DEFAULT_TRACE_MEMORY, |memory| memory.value)
    }
}

/// Priority of the bus service, which runs alone, before the seal.
const BUS_PRIORITY: u64 = 20;

/// Name and program of the partition that writes out trace rings.
pub(crate) const TRACE: &str = "trace";
/// Its priority: it counts records before they are overwritten, whoever else is busy.
const TRACE_PRIORITY: u64 = 62;

/// The initial RAM disk that checks its machine, and what tells it the kernel that it is for.
const CHECKS: &str = "builtin:checks";

impl Manifest {
    /// The checks are for the guest's own kernel, whose modules they bring, if that is of a package.
    pub(crate) fn choose_checks(&mut self) {
        for guest in &mut self.guests {
            let kernel = guest.kernel.as_ref().and_then(|kernel| kernel.value.strip_prefix("debian:"));
            if let (Some(kernel), Some(initrd)) = (kernel, &mut guest.initrd)
                && initrd.value == CHECKS
            {
                let package = kernel.split_once('#').map_or(kernel, |(package, _)| package);
                initrd.value = format!("{CHECKS}#{package}");
            }
        }
    }

    /// Makes the paths of guests' files relative to the manifest: in a file that is included they are relative to that one.
    pub(crate) fn locate_files(&mut self, directory: impl Fn(&Span) -> PathBuf) {
        for guest in &mut self.guests {
            for file in guest.kernel.iter_mut().chain(&mut guest.initrd).chain(&mut guest.firmware) {
                if !file.value.is_empty() && !file.value.contains(':') {
                    file.value = directory(&file.span).join(&file.value).to_string_lossy().into_owned();
                }
            }
        }
    }

    /// Adds the partition of the bus service, before all others, if there is a device on the PCI bus.
    pub(crate) fn add_bus(&mut self) {
        let Some(span) =
            self.machine.devices.iter().filter(|device| device.pci.is_some()).find_map(|device| device.span.clone())
        else {
            return;
        };
        let devices = vec![Located::new(CONFIGURATION.to_owned(), span.clone())];
        self.partitions.insert(0, Partition { devices, ..Partition::added(BUS, BUS_PRIORITY, span) });
    }

    /// Adds the partition that writes out trace rings, behind all others, if the manifest or somebody else wants it.
    pub(crate) fn add_trace(&mut self, wanted: Option<Tracing>) {
        if let Some(wanted) = wanted {
            let trace = self.trace.get_or_insert(Trace { span: 0..0, memory: None, totals: false });
            let memory = wanted.memory.map(|memory| Located::new(memory, trace.span.clone()));
            trace.memory = trace.memory.take().or(memory);
        }
        let totals = wanted.is_some_and(|wanted| wanted.totals);
        if let Some(trace) = &self.trace {
            let span = trace.span.clone();
            let setting = (Located::new("totals".to_owned(), span.clone()), "yes".to_owned());
            let settings = if trace.totals || totals { vec![setting] } else { Vec::new() };
            self.partitions.push(Partition { settings, ..Partition::added(TRACE, TRACE_PRIORITY, span) });
        }
    }

    /// Appends words to the command line of each guest that has an initial RAM disk.
    pub(crate) fn append_initrd_arguments(&mut self, arguments: &str) {
        if arguments.is_empty() {
            return;
        }
        for guest in &mut self.guests {
            let Some(initrd) = &guest.initrd else {
                continue;
            };
            let span = initrd.span.clone();
            let line = guest.command_line.get_or_insert_with(|| Located::new(String::new(), span));
            if !line.value.is_empty() {
                line.value.push(' ');
            }
            line.value.push_str(arguments);
        }
    }
}
