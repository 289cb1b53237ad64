//! Draws the system that a manifest describes, as one SVG.
//!
//! Owns: what is shown of a manifest, and where. Must never: draw the same manifest in two ways (there are no times, paths or hash maps
//! here), or draw anything over a text.
//!
//! The picture has rows: whoever uses something above, whoever serves or owns a device below, and between them a label for each thing that
//! they share, with a line to everybody who shares it. So a line never passes a row, and labels have places of their own; what is left to
//! choose is the order in each row (`order`) and where in it everybody stands (`middles`). Libraries that lay out general graphs choose
//! the rows themselves, and put labels on lines. Below are the CPUs as lanes (`lanes`).
//!
//! Everything is laid out as a `Scene` first, which the tests look at, and then written by the crate `svg`.
#![forbid(unsafe_code)]

mod boxes;
mod draw;
mod geometry;
mod lanes;
mod layout;
mod lines;
mod middles;
mod note;
mod order;
mod place;
mod rails;
mod scene;
mod text;

use bulkhead_manifest::Picture;

/// The picture as an SVG document.
pub fn svg(picture: &Picture) -> String {
    draw::document(&layout::scene(picture))
}

#[cfg(test)]
mod tests;
