//! Major frames: who runs in which slots of which CPU.

use super::{Compiler, plan_name, without_target};
use bulkhead_plan::{EntryKind, EnvironmentEntry, SlotRecord};
use std::collections::BTreeSet;

impl Compiler<'_> {
    /// The slots of init, which runs on CPU 0, and of everybody who has threads on a CPU with a frame.
    pub(super) fn frames(&mut self) {
        let manifest = self.manifest;
        for frame in &manifest.frames {
            let (Some(cpu), Some(length)) = (frame.number(), &frame.length_us) else { continue };
            if cpu == 0 {
                self.slots(0, 0, length.value, frame.slots(""), false);
            }
            for (index, subject) in self.numbered() {
                let cpus: BTreeSet<_> = subject.cpus().iter().map(|cpu| cpu.value).collect();
                if cpus.contains(&cpu) {
                    let name = subject.name().value.as_str();
                    let quiet = frame.names(name)
                        && manifest.partition(name).is_none_or(|partition| manifest.interrupts_of(partition).is_none());
                    self.slots(index, cpu, length.value, frame.slots(name), quiet);
                }
            }
        }
    }

    fn slots(&mut self, partition: usize, cpu: u64, frame_us: u64, slots: Vec<(u64, u64)>, quiet: bool) {
        for (number, (start_us, end_us)) in slots.into_iter().enumerate() {
            self.writer.slots.push(SlotRecord {
                partition: partition as u32,
                cpu: cpu as u32,
                frame_us,
                start_us,
                end_us,
                quiet: quiet.into(),
                reserved: 0,
            });
            if let Some(space) = self.spaces.get_mut(partition) {
                let name = plan_name(&format!("cpu{cpu}-{number}"));
                let parameters = [frame_us, start_us, end_us, cpu];
                space.push(
                    EnvironmentEntry { parameters, ..EnvironmentEntry::new(EntryKind::FrameSlot, name) },
                    without_target(),
                );
            }
        }
    }
}
