//! The note below: flows that must not be, and devices that nobody has.

use bulkhead_manifest::Picture;

use crate::{
    boxes,
    geometry::Rectangle,
    scene::{Scene, Text},
    text,
};

const TEXT_SIZE: f64 = 12.0;
const LEADING: f64 = 18.0;
const PADDING: f64 = 14.0;

/// A heading with what it is about.
fn parts(picture: &Picture) -> Vec<(&'static str, Vec<String>)> {
    let denied: Vec<_> = picture.denied.iter().map(ToString::to_string).collect();
    let unowned: Vec<_> = picture.unowned.iter().map(boxes::device).collect();
    let parts = [("No way for information (checked):", denied), ("Devices that nobody has:", unowned)];
    parts.into_iter().filter(|(_, words)| !words.is_empty()).collect()
}

/// Draws it at the top of a place of this width, and returns its height: 0 if there is nothing to say.
pub(crate) fn draw(picture: &Picture, at: Rectangle, scene: &mut Scene) -> f64 {
    let parts = parts(picture);
    if parts.is_empty() {
        return 0.0;
    }
    let mut texts = Vec::new();
    let mut y = at.y + 8.0;
    for (heading, words) in parts {
        y += LEADING;
        texts.push(Text::new(heading, at.x + PADDING, y - 3.0, TEXT_SIZE, "text").bold());
        for line in text::wrap(&words, ",   ", TEXT_SIZE, at.width - 2.0 * PADDING) {
            y += LEADING;
            texts.push(Text::new(line, at.x + PADDING, y - 3.0, TEXT_SIZE, "text"));
        }
    }
    let height = y + 8.0 - at.y;
    scene.rectangle(Rectangle::new(at.x, at.y, at.width, height), 10.0, "note");
    texts.into_iter().for_each(|text| scene.text(text));
    height
}
