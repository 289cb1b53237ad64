//! What is drawn, and where: the picture before it is written down.

use crate::{
    geometry::{Point, Rectangle},
    text::Weight,
};

/// Everything, in the order in which it is drawn.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) title: String,
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) shapes: Vec<Shape>,
}

/// One thing that is drawn. A class names colours in `style.css`.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Rectangle {
        place: Rectangle,
        radius: f64,
        class: &'static str,
    },
    Line {
        line: Line,
        class: &'static str,
    },
    /// An arrow's head: its tip, and whether it points down.
    Head {
        tip: Point,
        down: bool,
        class: &'static str,
    },
    Text(Text),
}

/// A line.
#[derive(Debug, Clone)]
pub(crate) enum Line {
    /// From one point to another, leaving and arriving vertically.
    Curve { from: Point, to: Point },
    /// Along points, with round corners.
    Corners(Vec<Point>),
}

/// A line of text.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) text: String,
    /// Where its baseline begins.
    pub(crate) at: Point,
    pub(crate) size: f64,
    pub(crate) weight: Weight,
    pub(crate) class: &'static str,
}

impl Text {
    /// A text that begins somewhere.
    pub(crate) fn new(text: impl Into<String>, x: f64, y: f64, size: f64, class: &'static str) -> Self {
        let text = text.into();
        Self { text, at: Point::new(x, y), size, weight: Weight::Normal, class }
    }

    pub(crate) fn bold(self) -> Self {
        Self { weight: Weight::Bold, ..self }
    }

    /// What it covers, at most.
    #[cfg(test)]
    pub(crate) fn place(&self) -> Rectangle {
        let width = crate::text::width(&self.text, self.size, self.weight);
        Rectangle::new(self.at.x, self.at.y - 0.8 * self.size, width, self.size)
    }
}

impl Scene {
    pub(crate) fn rectangle(&mut self, place: Rectangle, radius: f64, class: &'static str) {
        self.shapes.push(Shape::Rectangle { place, radius, class });
    }

    pub(crate) fn line(&mut self, line: Line, class: &'static str) {
        self.shapes.push(Shape::Line { line, class });
    }

    pub(crate) fn head(&mut self, tip: Point, down: bool, class: &'static str) {
        self.shapes.push(Shape::Head { tip, down, class });
    }

    pub(crate) fn text(&mut self, text: Text) {
        self.shapes.push(Shape::Text(text));
    }
}
