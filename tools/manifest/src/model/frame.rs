//! Cyclic major frames: who runs in which slots of a CPU.

use super::Located;
use crate::diagnostic::Span;

/// Shortest window, in microseconds: a shorter one is mostly switching, and so is a shorter gap.
pub(crate) const MIN_WINDOW_US: u64 = 50;

/// `[cpu.N]`: a CPU's cyclic major frame.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The CPU's number as it is written.
    pub(crate) cpu: Located<String>,
    pub(crate) length_us: Option<Located<u64>>,
    pub(crate) windows: Vec<FrameWindow>,
}

/// A window of a major frame.
#[derive(Debug)]
pub(crate) struct FrameWindow {
    pub(crate) span: Span,
    pub(crate) partitions: Vec<Located<String>>,
    pub(crate) start_us: Option<Located<u64>>,
    pub(crate) length_us: Option<Located<u64>>,
}

impl FrameWindow {
    /// First microsecond and end.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        let (start, length) = (self.start_us.as_ref()?.value, self.length_us.as_ref()?.value);
        Some((start, start.checked_add(length)?))
    }
}

impl Frame {
    /// The CPU, if its name is a number as it is usually written: `0` has no other name, such as `00`.
    pub(crate) fn number(&self) -> Option<u64> {
        self.cpu.value.parse().ok().filter(|number: &u64| number.to_string() == self.cpu.value)
    }

    /// The slots in which somebody runs, in ascending order, those that touch joined: the windows that name it, or, for whom none
    /// does, the gaps between all windows that are long enough.
    pub(crate) fn slots(&self, name: &str) -> Vec<(u64, u64)> {
        let of = |window: &&FrameWindow| window.partitions.iter().any(|partition| partition.value == name);
        let own: Vec<_> = self.windows.iter().filter(of).filter_map(FrameWindow::range).collect();
        if own.is_empty() { self.gaps() } else { joined(own) }
    }

    /// The longest time from one slot of somebody's to the next, in microseconds; none if there is no slot.
    pub(crate) fn longest_pause(&self, name: &str) -> Option<u64> {
        let slots = self.slots(name);
        let (first, last) = (slots.first()?.0, slots.last()?.1);
        let around = self.length_us.as_ref()?.value.saturating_sub(last).saturating_add(first);
        let between = slots.windows(2).filter_map(|pair| Some(pair.last()?.0.saturating_sub(pair.first()?.1)));
        between.chain([around]).max()
    }

    /// Whether a window names somebody.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.windows.iter().any(|window| window.partitions.iter().any(|partition| partition.value == name))
    }

    fn gaps(&self) -> Vec<(u64, u64)> {
        let length = self.length_us.as_ref().map_or(0, |length| length.value);
        let mut gaps = Vec::new();
        let mut end = 0;
        for (start, next) in joined(self.windows.iter().filter_map(FrameWindow::range).collect()) {
            gaps.push((end, start));
            end = next;
        }
        gaps.push((end, length));
        gaps.retain(|(start, end)| end.saturating_sub(*start) >= MIN_WINDOW_US);
        gaps
    }
}

/// Ranges in ascending order, those that touch made one.
fn joined(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (start, end) in ranges {
        match joined.last_mut() {
            Some(last) if last.1 >= start => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}
