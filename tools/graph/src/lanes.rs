//! The CPUs: a lane for each, with who runs there and its share of the time.

use std::cmp::Reverse;

use bulkhead_manifest::{
    Picture,
    picture::{Slot, Subject},
};

use crate::{
    boxes::{self, DOT, Role},
    geometry::Rectangle,
    scene::{Scene, Text},
    text::{self, Weight},
};

const NAME_SIZE: f64 = 14.0;
const TEXT_SIZE: f64 = 12.0;
const ROW_HEIGHT: f64 = 22.0;
const PADDING: f64 = 14.0;
const HEADING: f64 = 34.0;
/// Between two lanes.
const GAP: f64 = 24.0;
/// Lanes stand beside one another if each can be so wide.
const LEAST_WIDTH: f64 = 300.0;
const BAR_HEIGHT: f64 = 10.0;
/// Height of the bar of somebody without a limit.
const OPEN_HEIGHT: f64 = 2.0;
const LEAST_TRACK: f64 = 120.0;
/// Between names, bars and words.
const COLUMN_GAP: f64 = 14.0;

/// A CPU.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lane {
    cpu: u64,
    /// Length of its major frame in words, if it has one.
    frame: Option<String>,
    /// Highest priority first.
    rows: Vec<Row>,
}

/// Somebody who runs there.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    name: String,
    words: String,
    class: &'static str,
    /// When it may run; none: whenever nobody of a higher priority does.
    windows: Vec<Window>,
}

/// A part of the time that a lane shows, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    from: f64,
    to: f64,
    /// Others may run in it, too.
    is_shared: bool,
}

impl Window {
    fn of(slot: &Slot) -> Self {
        // Checked: a slot lies inside its frame.
        let part = |time: u64| time as f64 / slot.frame_us.max(1) as f64;
        Self { from: part(slot.start_us), to: part(slot.end_us), is_shared: slot.is_gap }
    }
}

/// The lanes of the CPUs on which somebody runs.
pub(crate) fn lanes(picture: &Picture) -> Vec<Lane> {
    let mut cpus: Vec<u64> = picture.subjects.iter().flat_map(|subject| subject.cpus.iter().copied()).collect();
    cpus.sort_unstable();
    cpus.dedup();
    let frame = |cpu| {
        let mut slots = picture.subjects.iter().flat_map(|subject| &subject.slots);
        slots.find(|slot| slot.cpu == cpu).map(Slot::frame)
    };
    cpus.into_iter().map(|cpu| Lane { cpu, frame: frame(cpu), rows: rows(picture, cpu) }).collect()
}

fn rows(picture: &Picture, cpu: u64) -> Vec<Row> {
    let all = picture.subjects.iter().zip(boxes::roles(picture));
    let mut here: Vec<_> = all.filter(|(subject, _)| subject.cpus.contains(&cpu)).collect();
    here.sort_by_key(|(subject, _)| Reverse(subject.priority));
    let row = |(subject, role): (&Subject, Role)| {
        let processors = subject.cpus.iter().filter(|on| **on == cpu).count();
        let name = if processors > 1 { format!("{} ×{processors}", subject.name) } else { subject.name.clone() };
        let share = subject.budget.map(|budget| {
            // Checked: a budget fits its period, and all of a CPU fit it.
            (budget.budget_us as f64 * processors as f64 / budget.period_us.max(1) as f64).min(1.0)
        });
        let class = match role {
            Role::Guest => "bar-guest",
            Role::Service => "bar-service",
            Role::Program => "bar-program",
        };
        let slots: Vec<_> = subject.slots.iter().filter(|slot| slot.cpu == cpu).copied().collect();
        let limit = match (slots.as_slice(), subject.budget) {
            (_, Some(budget)) => budget.to_string(),
            ([], None) => "no limit".to_owned(),
            (slots, None) => Slot::total(slots),
        };
        Row {
            name,
            words: format!("{limit}{DOT}priority {}", subject.priority),
            class,
            windows: if slots.is_empty() {
                share.map(|to| Window { from: 0.0, to, is_shared: false }).into_iter().collect()
            } else {
                slots.iter().map(Window::of).collect()
            },
        }
    };
    here.into_iter().map(row).collect()
}

impl Lane {
    fn height(&self) -> f64 {
        HEADING + ROW_HEIGHT * self.rows.len() as f64 + 8.0
    }

    fn draw(&self, place: Rectangle, scene: &mut Scene) {
        scene.rectangle(place, 10.0, "lane");
        let left = place.x + PADDING;
        let heading = format!("CPU {}", self.cpu);
        let behind = left + text::width(&heading, NAME_SIZE, Weight::Bold).ceil() + COLUMN_GAP;
        scene.text(Text::new(heading, left, place.y + 23.0, NAME_SIZE, "text").bold());
        if let Some(frame) = &self.frame {
            let words = format!("frame of {frame}");
            scene.text(Text::new(words, behind, place.y + 23.0, TEXT_SIZE, "muted"));
        }
        let track = left + self.widest(|row| &row.name) + COLUMN_GAP;
        let words = place.right() - PADDING - self.widest(|row| &row.words);
        let width = words - COLUMN_GAP - track;
        for (index, row) in self.rows.iter().enumerate() {
            let baseline = place.y + HEADING + 16.0 + ROW_HEIGHT * index as f64;
            scene.text(Text::new(&row.name, left, baseline, TEXT_SIZE, "text"));
            let y = baseline - BAR_HEIGHT + 1.0;
            scene.rectangle(Rectangle::new(track, y, width, BAR_HEIGHT), 3.0, "track");
            if row.windows.is_empty() {
                let middle = y + (BAR_HEIGHT - OPEN_HEIGHT) / 2.0;
                scene.rectangle(Rectangle::new(track, middle, width, OPEN_HEIGHT), OPEN_HEIGHT / 2.0, row.class);
            }
            for window in &row.windows {
                let (from, to) = ((track + width * window.from).round(), (track + width * window.to).round());
                let height = if window.is_shared { OPEN_HEIGHT } else { BAR_HEIGHT };
                let (y, width) = (y + (BAR_HEIGHT - height) / 2.0, (to - from).max(2.0));
                scene.rectangle(Rectangle::new(from, y, width, height), height.min(6.0) / 2.0, row.class);
            }
            scene.text(Text::new(&row.words, words, baseline, TEXT_SIZE, "muted"));
        }
    }

    /// The width of a column of words.
    fn widest(&self, words: impl Fn(&Row) -> &str) -> f64 {
        let widths = self.rows.iter().map(|row| text::width(words(row), TEXT_SIZE, Weight::Normal));
        widths.fold(0.0, f64::max).ceil()
    }

    /// How wide it must be.
    fn least_width(&self) -> f64 {
        let columns = self.widest(|row| &row.name) + self.widest(|row| &row.words);
        (columns + 2.0 * (PADDING + COLUMN_GAP) + LEAST_TRACK).max(LEAST_WIDTH)
    }
}

/// How wide two of them are beside one another, or the only one.
pub(crate) fn least_width(lanes: &[Lane]) -> f64 {
    let width = widest(lanes);
    if lanes.len() > 1 { 2.0 * width + GAP } else { width }
}

fn widest(lanes: &[Lane]) -> f64 {
    lanes.iter().map(Lane::least_width).fold(0.0, f64::max).ceil()
}

/// Draws all lanes in a place of this width, and returns their height.
pub(crate) fn draw(lanes: &[Lane], at: Rectangle, scene: &mut Scene) -> f64 {
    let columns = ((at.width + GAP) / (widest(lanes) + GAP)).floor().clamp(1.0, lanes.len().max(1) as f64) as usize;
    let width = ((at.width - GAP * (columns - 1) as f64) / columns as f64).floor();
    let mut y = at.y;
    for line in lanes.chunks(columns) {
        let height = line.iter().map(Lane::height).fold(0.0, f64::max);
        for (index, lane) in line.iter().enumerate() {
            lane.draw(Rectangle::new(at.x + (width + GAP) * index as f64, y, width, height), scene);
        }
        y += height + GAP;
    }
    y - GAP - at.y
}
