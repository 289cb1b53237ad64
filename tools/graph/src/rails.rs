//! The rails that lead everybody's text to its console: light lines between the rows, and below everything else.

use crate::{
    geometry::Point,
    layout::Places,
    lines::Stub,
    middles::LABEL_GAP,
    scene::{Line, Scene, Text},
};

/// From a box to the first rail, and from one to the next.
const RAIL_GAP: f64 = 17.0;
pub(crate) const RAIL_DISTANCE: f64 = 8.0;
const TEXT_SIZE: f64 = 10.0;
/// How far the word beside a head reaches over its console.
pub(crate) const OVERHANG: f64 = 12.0;

/// Draws the rail of the console with this number. `above` and `below` are the stubs of both rows of boxes and where they leave; `below` has
/// one of the console itself, where the rail arrives.
pub(crate) fn draw(
    console: usize,
    number: usize,
    above: &[(Stub, f64)],
    below: &[(Stub, f64)],
    places: &Places,
    scene: &mut Scene,
) {
    let of_console = |stubs: &[(Stub, f64)]| -> Vec<_> {
        stubs.iter().filter(|(stub, _)| stub.console == console).map(|(stub, x)| (stub.subject, *x)).collect()
    };
    let (above, below) = (of_console(above), of_console(below));
    let Some((_, port)) = below.iter().copied().find(|(subject, _)| *subject == console) else { return };
    let offset = RAIL_GAP + RAIL_DISTANCE * number as f64;
    let end = Point::new(port, places.boxes[console].y);
    let low = end.y - offset;
    // Down beside the labels, or straight to the console if that is beside them.
    let down = if port >= places.rail { port } else { places.rail + RAIL_DISTANCE * number as f64 };
    for (subject, x) in above {
        let place = places.boxes[subject];
        // No step aside that is too short to be seen. It is the last line there, so there is more room on its right.
        let near = (down - LABEL_GAP..down + RAIL_DISTANCE).contains(&x) && down <= place.right() - RAIL_DISTANCE;
        let x = if near { down } else { x };
        let (bottom, high) = (place.bottom(), place.bottom() + offset);
        let mut points = vec![Point::new(x, bottom), Point::new(x, high), Point::new(down, high)];
        if down != port {
            points.extend([Point::new(down, low), Point::new(port, low)]);
        }
        points.push(end);
        scene.line(Line::Corners(points), "rail");
    }
    for (subject, x) in below.into_iter().filter(|(subject, _)| *subject != console) {
        let from = Point::new(x, places.boxes[subject].y);
        scene.line(Line::Corners(vec![from, Point::new(x, low), Point::new(port, low), end]), "rail");
    }
    scene.head(end, true, "rail-head");
    scene.text(Text::new("text", end.x + 7.0, end.y - 5.0, TEXT_SIZE, "muted"));
}
