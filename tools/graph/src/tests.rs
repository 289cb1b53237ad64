//! Nothing is drawn over a text, boxes stand apart, and lines pass none: for every manifest of the project, and for random ones.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use bulkhead_manifest::{
    Options, Picture, picture,
    picture::{Budget, Device, Direction, Link, LinkEnd, LinkKind, Subject, SubjectKind},
};
use proptest::prelude::*;

use crate::{
    geometry::{Point, Rectangle},
    layout,
    scene::{Line, Scene, Shape},
};

fn manifests() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let directories = ["partitions", "partitions/examples", "tests/manifests"].map(|name| root.join(name));
    let entries = directories.iter().flat_map(|directory| fs::read_dir(directory).unwrap());
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

/// How much of one is in the other, in both directions.
fn overlap(one: &Rectangle, other: &Rectangle) -> (f64, f64) {
    let width = one.right().min(other.right()) - one.x.max(other.x);
    let height = one.bottom().min(other.bottom()) - one.y.max(other.y);
    (width, height)
}

fn overlaps(one: &Rectangle, other: &Rectangle) -> bool {
    let (width, height) = overlap(one, other);
    width > 0.01 && height > 0.01
}

fn is_inside(one: &Rectangle, other: &Rectangle) -> bool {
    let (width, height) = overlap(one, other);
    width > one.width - 0.01 && height > one.height - 0.01
}

/// Points of a line, one for each few pixels.
fn points(line: &Line) -> Vec<Point> {
    match line {
        Line::Curve { from, to } => {
            let middle = (from.y + to.y) / 2.0;
            let steps = 200;
            (0..=steps)
                .map(|step| {
                    let t = f64::from(step) / f64::from(steps);
                    let weights = [(1.0 - t).powi(3), 3.0 * t * (1.0 - t).powi(2), 3.0 * t * t * (1.0 - t), t.powi(3)];
                    let sum = |values: [f64; 4]| weights.iter().zip(values).map(|(weight, value)| weight * value).sum();
                    Point::new(sum([from.x, from.x, to.x, to.x]), sum([from.y, middle, middle, to.y]))
                })
                .collect()
        }
        Line::Corners(corners) => {
            let pairs = corners.windows(2);
            pairs
                .flat_map(|pair| {
                    let (from, to) = (pair[0], pair[1]);
                    let steps = ((from.x - to.x).abs() + (from.y - to.y).abs()).ceil();
                    (0..=steps as usize).map(move |step| {
                        let part = if steps > 0.0 { step as f64 / steps } else { 0.0 };
                        Point::new(from.x + (to.x - from.x) * part, from.y + (to.y - from.y) * part)
                    })
                })
                .collect()
        }
    }
}

fn contains(place: &Rectangle, point: &Point) -> bool {
    point.x > place.x + 0.5
        && point.x < place.right() - 0.5
        && point.y > place.y + 0.5
        && point.y < place.bottom() - 0.5
}

/// Everything that makes a picture hard to read.
fn faults(scene: &Scene) -> Vec<String> {
    let page = Rectangle::new(0.0, 0.0, scene.width, scene.height);
    let mut places = Vec::new();
    let mut texts = Vec::new();
    let mut lines = Vec::new();
    for shape in &scene.shapes {
        match shape {
            Shape::Rectangle { place, .. } => places.push(*place),
            Shape::Text(text) => texts.push((text.place(), text.text.as_str())),
            Shape::Line { line, .. } => lines.push(points(line)),
            Shape::Head { .. } => {}
        }
    }
    let mut faults = Vec::new();
    for place in places.iter().chain(texts.iter().map(|(place, _)| place)) {
        if !is_inside(place, &page) {
            faults.push(format!("{place:?} is not on the page"));
        }
    }
    for (index, (place, text)) in texts.iter().enumerate() {
        for (other, other_text) in &texts[index + 1..] {
            if overlaps(place, other) {
                faults.push(format!("`{text}` is over `{other_text}`"));
            }
        }
        for other in places.iter().filter(|other| overlaps(place, other) && !is_inside(place, other)) {
            faults.push(format!("`{text}` reaches over the edge of {other:?}"));
        }
        if lines.iter().flatten().any(|point| contains(place, point)) {
            faults.push(format!("a line is over `{text}`"));
        }
    }
    for (index, place) in places.iter().enumerate() {
        for other in &places[index + 1..] {
            if overlaps(place, other) && !is_inside(place, other) && !is_inside(other, place) {
                faults.push(format!("{place:?} is over {other:?}"));
            }
        }
        if lines.iter().flatten().any(|point| contains(place, point)) {
            faults.push(format!("a line is over {place:?}"));
        }
    }
    faults
}

#[test]
fn every_manifest_is_legible_and_drawn_the_same_each_time() {
    let files = manifests();
    assert!(files.len() > 40);
    for path in files {
        let picture = picture(&path, &Options::default());
        let picture = picture.unwrap_or_else(|errors| panic!("{}", bulkhead_manifest::render_plain(&errors)));
        let found = faults(&layout::scene(&picture));
        assert!(found.is_empty(), "{}:\n{}", path.display(), found.join("\n"));
        let svg = crate::svg(&picture);
        assert_eq!(svg, crate::svg(&picture));
        let document = roxmltree::Document::parse(&svg).unwrap();
        let texts: String = document.descendants().filter_map(|node| node.text()).collect();
        for subject in &picture.subjects {
            assert!(texts.contains(&subject.name), "{} is not in {}", subject.name, path.display());
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,23}"
}

fn direction() -> impl Strategy<Value = Direction> {
    (name(), name(), any::<bool>()).prop_map(|(from, to, both_ways)| Direction { from, to, both_ways })
}

fn device() -> impl Strategy<Value = Device> {
    (name(), proptest::collection::vec("[a-z0-9]{1,8}", 0..3)).prop_map(|(name, what)| Device { name, what })
}

fn subject(count: usize) -> impl Strategy<Value = Subject> {
    let words = || proptest::collection::vec("[a-z0-9 ]{1,12}", 0..3);
    let budget = proptest::option::of((1u64..10_000, 10_000u64..20_000));
    let devices = proptest::collection::vec(device(), 0..3);
    let rules = proptest::collection::vec(direction(), 0..4);
    let cpus = proptest::collection::vec(0u64..6, 1..4);
    (name(), any::<bool>(), words(), words(), budget, devices, rules, cpus, proptest::option::of(0..count)).prop_map(
        |(name, is_guest, facts, badges, budget, devices, rules, cpus, console)| Subject {
            runs: name.clone(),
            name,
            kind: if is_guest { SubjectKind::Guest } else { SubjectKind::Partition },
            memory: vec!["128 MiB".to_owned()],
            facts,
            badges,
            cpus,
            priority: 20,
            slots: Vec::new(),
            budget: budget.map(|(budget_us, period_us)| Budget { budget_us, period_us }),
            devices,
            rules,
            console,
        },
    )
}

fn link(count: usize) -> impl Strategy<Value = Link> {
    use LinkKind::{Card, Channel, Disk, Endpoint, Memory};
    let end = (0..count, any::<bool>(), any::<bool>());
    let ends = proptest::collection::vec(end, 0..4);
    let kind = proptest::sample::select(vec![Channel, Endpoint, Memory, Disk, Card]);
    (kind, name(), proptest::collection::vec("[a-z0-9]{1,8}", 0..3), ends).prop_map(|(kind, name, details, ends)| {
        let mut ends: Vec<_> =
            ends.into_iter().map(|(subject, hears, serves)| LinkEnd { subject, hears, serves }).collect();
        ends.sort_by_key(|end| end.subject);
        ends.dedup_by_key(|end| end.subject);
        Link { kind, name, details, ends }
    })
}

fn any_picture() -> impl Strategy<Value = Picture> {
    (1usize..12).prop_flat_map(|count| {
        let subjects = proptest::collection::vec(subject(count), count);
        let links = proptest::collection::vec(link(count), 0..12);
        let denied = proptest::collection::vec(direction(), 0..12);
        (subjects, links, denied, proptest::collection::vec(device(), 0..3)).prop_map(
            |(mut subjects, links, denied, unowned)| {
                for (index, subject) in subjects.iter_mut().enumerate() {
                    // Guests show nobody's text, and nobody shows its own.
                    subject.console = subject.console.filter(|console| *console != index);
                }
                let guests: Vec<_> = subjects.iter().map(|subject| subject.kind == SubjectKind::Guest).collect();
                for subject in &mut subjects {
                    subject.console = subject.console.filter(|console| !guests[*console]);
                    if subject.kind == SubjectKind::Guest {
                        (subject.devices, subject.rules) = (Vec::new(), Vec::new());
                    }
                }
                let machine = vec!["6 CPUs".to_owned()];
                Picture { name: "random".to_owned(), machine, subjects, links, unowned, denied, warnings: Vec::new() }
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_picture_is_legible(picture in any_picture()) {
        let found = faults(&layout::scene(&picture));
        prop_assert!(found.is_empty(), "{}", found.join("\n"));
    }
}
