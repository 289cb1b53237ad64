//! The control channels of the disks that have one.

use crate::range;
use bulkhead_block_device::{Answers, Control, MAX_DISKS};
use bulkhead_driver::DriveInformation;
use bulkhead_runtime::program::Channel;
use bulkhead_runtime::{Program, println};
use heapless::Vec;

/// The service's ends.
pub(crate) struct Controls(Vec<(Channel, Control<'static>), MAX_DISKS>);

impl Controls {
    /// Takes the service's ends. A disk has a control channel if there is one of its name.
    pub(crate) fn new(program: &Program, drive: &DriveInformation) -> Self {
        let mut controls = Vec::new();
        for entry in program.environment().disks() {
            let name = alloc::format!("{}/{}{}", entry.peer, bulkhead_runtime::plan::Disk::CONTROL, entry.index);
            let Some(channel) = program.channel(&name) else { continue };
            let control = channel.text().map(|text| Control::attach(text, Answers::new(&range(&entry), drive)));
            if control.is_none_or(|control| controls.push((channel, control)).is_err()) {
                println!("disk {} of {} has no control channel", entry.name, entry.peer);
            }
        }
        Self(controls)
    }

    /// Gives each of them its turn. Returns whether there is more to do at once.
    pub(crate) fn serve(&mut self) -> bool {
        let mut more = false;
        for (channel, control) in &mut self.0 {
            let served = control.serve();
            if served.signal {
                channel.signal_peer();
            }
            more |= served.more;
        }
        more
    }
}
