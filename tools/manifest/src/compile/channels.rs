//! Channels: those of the manifest, and those that come with consoles.

use super::{Compiler, plan_name};
use crate::{
    model::{DEFAULT_CONSOLE, Subject},
    read::DEFAULT_CHANNEL_MEMORY,
};
use bulkhead_plan::{
    BindingFlags, BindingRecord, ChannelEnd, ChannelKind, ChannelRecord, EntryKind, EnvironmentEntry, Role,
};

/// One end of a channel in the making.
pub(super) struct End<'n> {
    /// Index of the partition.
    pub(super) index: usize,
    /// What the partition calls the channel.
    pub(super) name: &'n str,
    /// What it calls the partition at the other end.
    pub(super) peer: &'n str,
}

impl Compiler<'_> {
    /// Consoles first: init's, then a text channel for each partition, and a serial line for each guest.
    pub(super) fn channels(&mut self) {
        if let Some(console) = self.index_of(DEFAULT_CONSOLE) {
            self.console_channel(0, "init", "console", "init", console, DEFAULT_CONSOLE, ChannelKind::Text);
        }
        let manifest = self.manifest;
        for (index, subject) in self.numbered() {
            let Some(console) = manifest.console_of(subject).map(|console| console.name.value.as_str()) else {
                continue;
            };
            let Some(console_index) = self.index_of(console) else {
                continue;
            };
            let name = subject.name().value.as_str();
            match subject {
                Subject::Partition(_) => {
                    self.console_channel(index, name, "console", name, console_index, console, ChannelKind::Text);
                }
                Subject::Guest(_) => {
                    self.console_channel(index, name, "serial", name, console_index, console, ChannelKind::Serial);
                    let monitor = format!("{name}-vmm");
                    self.console_channel(index, name, "console", &monitor, console_index, console, ChannelKind::Text);
                }
            }
        }
        for channel in &manifest.channels {
            let (Some(first), Some(second)) = (&channel.first, &channel.second) else {
                continue;
            };
            let (Some(first_index), Some(second_index)) = (self.index_of(&first.value), self.index_of(&second.value))
            else {
                continue;
            };
            let name = channel.name.value.as_str();
            let is_guest = |name: &str| matches!(manifest.subject(name), Some(Subject::Guest(_)));
            let text = match &channel.kind {
                Some(kind) => kind.value == "text",
                None => is_guest(&first.value) || is_guest(&second.value),
            };
            let kind = match (text, channel.is_one_way()) {
                (true, _) => ChannelKind::Text,
                (false, true) => ChannelKind::OneWay,
                (false, false) => ChannelKind::Raw,
            };
            let ends = [
                End { index: first_index, name, peer: &second.value },
                End { index: second_index, name, peer: &first.value },
            ];
            self.channel(name, kind, channel.memory.value, ends);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the two ends of a channel, each with its names")]
    fn console_channel(
        &mut self,
        index: usize,
        partition: &str,
        name: &str,
        label: &str,
        console_index: usize,
        console: &str,
        kind: ChannelKind,
    ) {
        let ends = [End { index, name, peer: console }, End { index: console_index, name: label, peer: partition }];
        self.channel(label, kind, DEFAULT_CHANNEL_MEMORY, ends);
    }

    /// Adds a channel and its entries in both partitions.
    pub(super) fn channel(&mut self, name: &str, kind: ChannelKind, size: u64, ends: [End<'_>; 2]) {
        let region = self.region(size);
        let target = self.writer.channels.len() as u32;
        let mut records = [ChannelEnd { partition: 0, bit: 0, slot: 0 }; 2];
        let roles = [Role::First, Role::Second];
        for ((role, end), record) in roles.into_iter().zip(&ends).zip(&mut records) {
            if let Some(space) = self.spaces.get_mut(end.index) {
                record.bit = space.bits(kind.bits(role));
            }
        }
        let [first, second] = records.map(|record| u64::from(record.bit));
        let peers = [(ends[1].index as u64, second), (ends[0].index as u64, first)];
        let sides = roles.into_iter().zip(&ends).zip(peers);
        for (((role, end), (peer, peer_bit)), record) in sides.zip(&mut records) {
            let Some(space) = self.spaces.get_mut(end.index) else {
                continue;
            };
            let bit = record.bit;
            let slot = if kind.signals(role) { space.slot() } else { 0 };
            let address = space.address(size);
            *record = ChannelEnd { partition: end.index as u32, bit, slot };
            let entry = EnvironmentEntry {
                bit,
                slot,
                address,
                size,
                peer: plan_name(end.peer),
                parameters: [role as u64, kind as u64, peer, peer_bit],
                ..EnvironmentEntry::new(EntryKind::Channel, plan_name(end.name))
            };
            let flags = if kind.signals(role) { BindingFlags::WRITE } else { 0 };
            space.push(entry, BindingRecord { target, flags });
        }
        self.writer.channels.push(ChannelRecord { name: plan_name(name), kind: kind as u32, region, ends: records });
    }
}
