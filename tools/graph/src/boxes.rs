//! What stands in the boxes and labels, and how large that makes them.

use bulkhead_manifest::{
    Picture,
    picture::{Device, Link, LinkKind, Subject, SubjectKind},
};

use crate::{
    geometry::Rectangle,
    scene::{Scene, Text},
    text::{self, Weight},
};

/// What separates words.
pub(crate) const DOT: &str = " · ";
const NAME_SIZE: f64 = 14.0;
const TEXT_SIZE: f64 = 12.0;
const BADGE_SIZE: f64 = 10.0;
const LABEL_SIZE: f64 = 11.0;
/// From one line of text to the next.
const LEADING: f64 = 18.0;
const PADDING: f64 = 14.0;
/// Room on both sides of a badge's text, and before the badge.
const BADGE_PADDING: f64 = 6.0;
const BADGE_GAP: f64 = 8.0;
const LEAST_WIDTH: f64 = 150.0;
/// Height of every label.
pub(crate) const LABEL_HEIGHT: f64 = 40.0;

/// What somebody is in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Guest,
    /// A program that serves others, or owns devices.
    Service,
    Program,
}

impl Role {
    fn class(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Service => "service",
            Self::Program => "program",
        }
    }
}

/// The role of each of a picture's subjects.
pub(crate) fn roles(picture: &Picture) -> Vec<Role> {
    let ends = || picture.links.iter().flat_map(|link| &link.ends);
    let serves = |index: usize, subject: &Subject| {
        let is_console = picture.subjects.iter().any(|other| other.console == Some(index));
        let serves_a_link = ends().any(|end| end.serves && end.subject == index);
        is_console || serves_a_link || !subject.devices.is_empty() || !subject.rules.is_empty()
    };
    let subjects = picture.subjects.iter().enumerate();
    let role = |(index, subject): (usize, &Subject)| match subject.kind {
        SubjectKind::Guest => Role::Guest,
        SubjectKind::Partition if serves(index, subject) => Role::Service,
        SubjectKind::Partition => Role::Program,
    };
    subjects.map(role).collect()
}

/// A partition or guest.
#[derive(Debug)]
pub(crate) struct SubjectBox {
    class: &'static str,
    name: String,
    badges: Vec<String>,
    lines: Vec<String>,
    rules: Vec<String>,
    devices: Vec<String>,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl SubjectBox {
    pub(crate) fn new(subject: &Subject, role: Role) -> Self {
        let rules: Vec<String> = subject.rules.iter().map(ToString::to_string).collect();
        let devices: Vec<String> = subject.devices.iter().map(device).collect();
        let lines = lines(subject);
        let name = text::width(&subject.name, NAME_SIZE, Weight::Bold);
        let badges: f64 = subject.badges.iter().map(|badge| BADGE_GAP + badge_width(badge)).sum();
        let texts = lines.iter().map(|line| text::width(line, TEXT_SIZE, Weight::Normal));
        // These stand in a frame of their own.
        let framed = rules.iter().chain(&devices).map(|line| text::width(line, TEXT_SIZE, Weight::Normal) + 8.0);
        let width = texts.chain(framed).fold(name + badges, f64::max) + 2.0 * PADDING;
        let rules_height = if rules.is_empty() { 0.0 } else { 10.0 + rules_height(&rules) };
        let height = 30.0 + LEADING * lines.len() as f64 + rules_height + 10.0;
        Self {
            class: role.class(),
            name: subject.name.clone(),
            badges: subject.badges.clone(),
            lines,
            rules,
            devices,
            width: width.max(LEAST_WIDTH).ceil(),
            height,
        }
    }

    /// Height of the frame with its devices.
    pub(crate) fn devices_height(&self) -> f64 {
        if self.devices.is_empty() { 0.0 } else { 12.0 + LEADING * self.devices.len() as f64 }
    }

    /// Draws it.
    pub(crate) fn draw(&self, place: Rectangle, scene: &mut Scene) {
        scene.rectangle(place, 10.0, self.class);
        let left = place.x + PADDING;
        let mut y = place.y + 24.0;
        let name = Text::new(&self.name, left, y, NAME_SIZE, "text").bold();
        let mut x = place.right() - PADDING;
        scene.text(name);
        for badge in self.badges.iter().rev() {
            let width = badge_width(badge);
            scene.rectangle(Rectangle::new(x - width, y - 12.0, width, 16.0), 8.0, "badge");
            scene.text(Text::new(badge, x - width + BADGE_PADDING, y - 0.5, BADGE_SIZE, "badge-text"));
            x -= width + BADGE_GAP;
        }
        for (index, line) in self.lines.iter().enumerate() {
            y += LEADING;
            scene.text(Text::new(line, left, y, TEXT_SIZE, if index == 0 { "muted" } else { "text" }));
        }
        if !self.rules.is_empty() {
            let frame =
                Rectangle::new(left - 4.0, y + 10.0, place.width - 2.0 * PADDING + 8.0, rules_height(&self.rules));
            scene.rectangle(frame, 6.0, "frame");
            for (index, rule) in self.rules.iter().enumerate() {
                let y = frame.y + 18.0 + LEADING * index as f64;
                scene.text(Text::new(rule, left + 4.0, y, TEXT_SIZE, "text"));
            }
        }
    }

    /// Draws the frame with its devices, from `y` on.
    pub(crate) fn draw_devices(&self, x: f64, y: f64, scene: &mut Scene) {
        scene.rectangle(Rectangle::new(x, y, self.width, self.devices_height()), 6.0, "device");
        for (index, device) in self.devices.iter().enumerate() {
            let y = y + 19.0 + LEADING * index as f64;
            scene.text(Text::new(device, x + PADDING, y, TEXT_SIZE, "text"));
        }
    }
}

fn rules_height(rules: &[String]) -> f64 {
    10.0 + LEADING * rules.len() as f64
}

fn badge_width(badge: &str) -> f64 {
    (text::width(badge, BADGE_SIZE, Weight::Normal) + 2.0 * BADGE_PADDING).ceil()
}

fn lines(subject: &Subject) -> Vec<String> {
    let mut memory = subject.memory.join(" + ");
    if memory.is_empty() {
        memory.push_str("no memory");
    }
    let mut schedule = format!("priority {}", subject.priority);
    if let Some(budget) = subject.budget {
        schedule.push_str(&format!("{DOT}{budget}"));
    }
    let what = match subject.kind {
        SubjectKind::Guest => format!("guest: {}", subject.runs),
        SubjectKind::Partition => format!("program {}", subject.runs),
    };
    let mut lines = vec![what, format!("{memory}{DOT}{}", cpus(&subject.cpus)), schedule];
    if !subject.facts.is_empty() {
        lines.push(subject.facts.join(DOT));
    }
    lines
}

/// "CPUs 0-3, 5", and how many processors that are if several are on one of them.
fn cpus(cpus: &[u64]) -> String {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for cpu in &sorted {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => ranges.push((*cpu, *cpu)),
        }
    }
    let ranges: Vec<_> = ranges
        .iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first}, {last}"),
            _ => format!("{first}-{last}"),
        })
        .collect();
    let text = format!("CPU{} {}", if sorted.len() == 1 { "" } else { "s" }, ranges.join(", "));
    if sorted.len() < cpus.len() { format!("{} processors on {text}", cpus.len()) } else { text }
}

/// A device in words.
pub(crate) fn device(device: &Device) -> String {
    std::iter::once(&device.name).chain(&device.what).map(String::as_str).collect::<Vec<_>>().join(DOT)
}

/// Classes of a label, its lines and their heads.
#[derive(Debug)]
pub(crate) struct Colours {
    label: &'static str,
    pub(crate) line: &'static str,
    pub(crate) head: &'static str,
}

const MESSAGE: Colours = Colours { label: "message", line: "message-line", head: "message-head" };
const DATA: Colours = Colours { label: "data", line: "data-line", head: "data-head" };
const NETWORK: Colours = Colours { label: "network", line: "network-line", head: "network-head" };

/// The label of something that is shared.
#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) colours: &'static Colours,
    name: String,
    details: String,
    pub(crate) width: f64,
}

impl Label {
    pub(crate) fn new(link: &Link) -> Self {
        let (colours, kind) = match link.kind {
            LinkKind::Channel => (&MESSAGE, "channel"),
            LinkKind::Endpoint => (&MESSAGE, "endpoint"),
            LinkKind::Memory => (&DATA, "memory"),
            LinkKind::Disk => (&DATA, "disk"),
            LinkKind::Card => (&NETWORK, "network card"),
        };
        let name = format!("{kind} {}", link.name).trim_end().to_owned();
        let details = link.details.join(DOT);
        let width = text::width(&name, LABEL_SIZE, Weight::Bold).max(text::width(&details, LABEL_SIZE, Weight::Normal));
        Self { colours, name, details, width: (width + 24.0).ceil().max(72.0) }
    }

    pub(crate) fn draw(&self, place: Rectangle, scene: &mut Scene) {
        scene.rectangle(place, 10.0, self.colours.label);
        let x = |text: &str, weight| (place.middle() - text::width(text, LABEL_SIZE, weight) / 2.0).round();
        let alone = if self.details.is_empty() { 8.0 } else { 0.0 };
        let at = x(&self.name, Weight::Bold);
        scene.text(Text::new(&self.name, at, place.y + 17.0 + alone, LABEL_SIZE, "text").bold());
        if !self.details.is_empty() {
            let at = x(&self.details, Weight::Normal);
            scene.text(Text::new(&self.details, at, place.y + 32.0, LABEL_SIZE, "muted"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cpus;

    #[test]
    fn cpus_in_words() {
        assert_eq!(cpus(&[2]), "CPU 2");
        assert_eq!(cpus(&[1, 0]), "CPUs 0, 1");
        assert_eq!(cpus(&[0, 1, 2, 3, 5]), "CPUs 0-3, 5");
        assert_eq!(cpus(&[1, 1]), "2 processors on CPU 1");
    }
}
