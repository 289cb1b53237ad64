//! The lines between boxes and labels, and where they leave them.

use crate::{
    boxes::Colours,
    geometry::{Point, Rectangle},
    place::spread_within,
    scene::{Line, Scene},
};

/// Least distance of two lines at a box, and of a line from its corner.
const LINE_DISTANCE: f64 = 16.0;
pub(crate) const CORNER: f64 = 18.0;

/// A line between a box and a label, one of which is above the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) subject: usize,
    pub(crate) label: usize,
    /// Whether the box hears: there is a head.
    pub(crate) to_subject: bool,
    pub(crate) colours: &'static Colours,
}

/// A stub from a box to the rail of its console.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stub {
    pub(crate) subject: usize,
    pub(crate) console: usize,
}

/// Draws lines between a row of boxes and the labels above or below it. `stubs` leave on the same side, near the right corner; where they
/// do is returned, in their order.
pub(crate) fn between(
    boxes: &[Option<Rectangle>],
    labels: &[Rectangle],
    runs: &[Run],
    stubs: &[Stub],
    labels_are_below: bool,
    scene: &mut Scene,
) -> Vec<f64> {
    let mut at_box = vec![0.0; runs.len()];
    let mut at_stub = vec![0.0; stubs.len()];
    for (subject, place) in boxes.iter().enumerate() {
        let Some(place) = place else { continue };
        let mut own: Vec<_> = (0..runs.len()).filter(|run| runs[*run].subject == subject).collect();
        own.sort_by(|one, other| labels[runs[*one].label].x.total_cmp(&labels[runs[*other].label].x));
        let own_stubs: Vec<_> = (0..stubs.len()).filter(|stub| stubs[*stub].subject == subject).collect();
        let wanted = own.iter().map(|run| labels[runs[*run].label].middle());
        let wanted: Vec<_> = wanted.chain(own_stubs.iter().map(|_| f64::INFINITY)).collect();
        let places = spread_within(&wanted, LINE_DISTANCE, place.x + CORNER, place.right() - CORNER);
        for (run, at) in own.iter().zip(&places) {
            at_box[*run] = at.round();
        }
        for (stub, at) in own_stubs.iter().zip(&places[own.len()..]) {
            at_stub[*stub] = at.round();
        }
    }
    for (label, place) in labels.iter().enumerate() {
        let mut own: Vec<_> = (0..runs.len()).filter(|run| runs[*run].label == label).collect();
        own.sort_by(|one, other| at_box[*one].total_cmp(&at_box[*other]));
        let wanted: Vec<_> = own.iter().map(|run| at_box[*run]).collect();
        let places = spread_within(&wanted, LINE_DISTANCE, place.x + CORNER, place.right() - CORNER);
        for (run, at) in own.iter().zip(places) {
            let Some(subject) = boxes[runs[*run].subject] else { continue };
            let (from_y, to_y) =
                if labels_are_below { (subject.bottom(), place.y) } else { (subject.y, place.bottom()) };
            let from = Point::new(at_box[*run], from_y);
            scene.line(Line::Curve { from, to: Point::new(at.round(), to_y) }, runs[*run].colours.line);
            if runs[*run].to_subject {
                scene.head(from, !labels_are_below, runs[*run].colours.head);
            }
        }
    }
    at_stub
}
