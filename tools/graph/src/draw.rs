//! Writes a scene as an SVG document.

use svg::{
    Document,
    node::element::{Path, Rectangle, Style, Text, Title, path::Data},
};

use crate::{
    geometry::Point,
    scene::{Line, Scene, Shape},
    text::Weight,
};

/// Colours, for light and for dark pages.
const STYLE: &str = include_str!("style.css");
/// Radius of a line's corners, and size of an arrow's head.
const RADIUS: f64 = 7.0;
const HEAD_LENGTH: f64 = 8.0;
const HEAD_WIDTH: f64 = 7.0;

pub(crate) fn document(scene: &Scene) -> String {
    let document = Document::new()
        .set("viewBox", (0, 0, scene.width, scene.height))
        .set("width", scene.width)
        .set("height", scene.height)
        .add(Title::new(scene.title.as_str()))
        .add(Style::new(STYLE))
        .add(Rectangle::new().set("width", scene.width).set("height", scene.height).set("class", "page"));
    let document = scene.shapes.iter().fold(document, add);
    format!("{document}\n")
}

fn add(document: Document, shape: &Shape) -> Document {
    match shape {
        Shape::Rectangle { place, radius, class } => document.add(
            Rectangle::new()
                .set("x", place.x)
                .set("y", place.y)
                .set("width", place.width)
                .set("height", place.height)
                .set("rx", *radius)
                .set("class", *class),
        ),
        Shape::Line { line, class } => document.add(Path::new().set("d", path(line)).set("class", *class)),
        Shape::Head { tip, down, class } => {
            let back = if *down { -HEAD_LENGTH } else { HEAD_LENGTH };
            let data =
                Data::new().move_to((tip.x, tip.y)).line_by((-HEAD_WIDTH / 2.0, back)).line_by((HEAD_WIDTH, 0)).close();
            document.add(Path::new().set("d", data).set("class", *class))
        }
        Shape::Text(text) => {
            let mut element = Text::new(text.text.as_str())
                .set("x", text.at.x)
                .set("y", text.at.y)
                .set("font-size", text.size)
                .set("class", text.class);
            if text.weight == Weight::Bold {
                element = element.set("font-weight", "bold");
            }
            document.add(element)
        }
    }
}

fn path(line: &Line) -> Data {
    match line {
        Line::Curve { from, to } if from.x == to.x => Data::new().move_to((from.x, from.y)).vertical_line_to(to.y),
        Line::Curve { from, to } => {
            let middle = (from.y + to.y) / 2.0;
            Data::new().move_to((from.x, from.y)).cubic_curve_to((from.x, middle, to.x, middle, to.x, to.y))
        }
        Line::Corners(points) => corners(points),
    }
}

fn corners(points: &[Point]) -> Data {
    let mut data = Data::new();
    for (index, point) in points.iter().enumerate() {
        let neighbours = index.checked_sub(1).and_then(|before| points.get(before)).zip(points.get(index + 1));
        data = match neighbours {
            None if index == 0 => data.move_to((point.x, point.y)),
            None => data.line_to((point.x, point.y)),
            Some((before, behind)) => {
                let radius = RADIUS.min(distance(before, point) / 2.0).min(distance(point, behind) / 2.0);
                let (from, to) = (towards(point, before, radius), towards(point, behind, radius));
                data.line_to((from.x, from.y)).quadratic_curve_to((point.x, point.y, to.x, to.y))
            }
        };
    }
    data
}

/// Of points on a horizontal or vertical line.
fn distance(one: &Point, other: &Point) -> f64 {
    (one.x - other.x).abs() + (one.y - other.y).abs()
}

/// A point on the way from one to another.
fn towards(from: &Point, to: &Point, by: f64) -> Point {
    let step = |from: f64, to: f64| if from == to { 0.0 } else { (to - from).signum() * by };
    Point::new(from.x + step(from.x, to.x), from.y + step(from.y, to.y))
}
