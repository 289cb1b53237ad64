//! Who had a CPU from when to when: records in order, made into slices of time without gaps.

use bulkhead_abi::{EXIT_KEPT, Syscall, TraceKind, TraceRecord};

/// What a CPU did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activity {
    /// Nothing.
    Idle,
    /// A thread ran, or the kernel for it. Its guest's slices lie within this one.
    Thread,
    /// The guest of the thread ran, or the kernel for it.
    Guest,
}

/// A stretch of time of a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slice {
    /// What it did.
    pub activity: Activity,
    /// Of this partition; 0 if idle.
    pub partition: u16,
    /// Of this thread; 0 if idle.
    pub thread: u32,
    /// When it began.
    pub start: u64,
    /// When it ended.
    pub end: u64,
}

/// What is known of a CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timeline {
    /// Who has it, and since when. Nothing before the first record, and after records that were lost.
    current: Option<(u16, u32, u64)>,
    /// Since when it is in the guest.
    guest: Option<u64>,
    last: u64,
}

impl Timeline {
    /// Takes the next record; hands on what has ended with it.
    pub fn push(&mut self, record: &TraceRecord, mut ended: impl FnMut(Slice)) {
        if self.current.is_none_or(|(_, thread, _)| thread != record.thread) {
            self.cut(record.tsc, &mut ended);
            self.current = Some((record.partition, record.thread, record.tsc));
        }
        self.last = record.tsc;
        let [first, second] = record.arguments;
        match TraceKind::from_number(u64::from(record.kind)) {
            // A run may have ended without an exit: whatever the monitor does next shows it.
            Some(TraceKind::Syscall) => {
                self.leave(record.tsc, &mut ended);
                self.guest = (first == Syscall::Run as u64).then_some(record.tsc);
            }
            Some(TraceKind::Enter) => self.guest = self.guest.or(Some(record.tsc)),
            Some(TraceKind::Exit) if second < EXIT_KEPT => self.leave(record.tsc, &mut ended),
            _ => {}
        }
    }

    /// Records are missing here: nobody knows who had the CPU.
    pub fn lost(&mut self, mut ended: impl FnMut(Slice)) {
        self.cut(self.last, &mut ended);
        self.current = None;
    }

    fn leave(&mut self, now: u64, ended: &mut impl FnMut(Slice)) {
        if let (Some(start), Some((partition, thread, _))) = (self.guest.take(), self.current) {
            ended(Slice { activity: Activity::Guest, partition, thread, start, end: now });
        }
    }

    fn cut(&mut self, now: u64, ended: &mut impl FnMut(Slice)) {
        self.leave(now, ended);
        if let Some((partition, thread, start)) = self.current {
            let activity = if thread == 0 { Activity::Idle } else { Activity::Thread };
            ended(Slice { activity, partition, thread, start, end: now });
        }
    }
}
