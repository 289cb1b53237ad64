//! Frames that were not passed on, told on the console: the first one of a port, and then each time that there are twice as many.

use bulkhead_net_device::{Drops, MAX_PORTS, PortStatistics};
use bulkhead_runtime::println;

/// What has been told.
pub struct Report {
    /// By port: how many drops there have to be before they are told again.
    next: [u64; MAX_PORTS],
}

impl Report {
    /// Nothing has been told.
    pub const fn new() -> Self {
        Self { next: [1; MAX_PORTS] }
    }

    /// Tells what is new of the ports, which have these names.
    pub fn tell<'a>(
        &mut self,
        ports: impl Iterator<Item = PortStatistics>,
        mut name: impl FnMut(usize) -> Option<&'a str>,
    ) {
        for (index, (statistics, next)) in ports.zip(&mut self.next).enumerate() {
            let Drops { length, header, source, tag, destination, receiver } = statistics.dropped;
            let total = statistics.dropped.total();
            if total < *next {
                continue;
            }
            *next = total.saturating_mul(2);
            let name = name(index).unwrap_or_default();
            println!(
                "port {name}: {total} frames dropped: length {length}, header {header}, source {source}, tag {tag}, \
                 destination {destination}, receiver {receiver}"
            );
        }
    }
}
