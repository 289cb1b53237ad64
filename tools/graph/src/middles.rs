//! Where the middles of boxes and labels are: each row moves to where the others are, until lines are short.

use crate::{
    layout::Parts,
    lines::CORNER,
    order::Rows,
    place::{Wish, spread},
};

const BOX_GAP: f64 = 28.0;
pub(crate) const LABEL_GAP: f64 = 18.0;
/// Rounds of moving.
const ROUNDS: usize = 24;
/// How much whoever shares nothing wants to be in the middle.
const LAZINESS: f64 = 0.05;

/// The middles of boxes and of labels, by their numbers.
pub(crate) fn middles(parts: &Parts<'_>) -> (Vec<f64>, Vec<f64>) {
    let box_width = |index: &usize| parts.boxes[*index].width;
    let label_width = |index: &usize| parts.labels[*index].width;
    let Rows { upper, labels, lower } = &parts.rows;
    let rows = [(upper, distances(upper, box_width, BOX_GAP)), (lower, distances(lower, box_width, BOX_GAP))];
    let label_distances = distances(labels, label_width, LABEL_GAP);
    let mut boxes = vec![0.0; parts.boxes.len()];
    let mut middles = vec![0.0; parts.labels.len()];
    for (row, distances) in &rows {
        set(&mut boxes, row, &packed(row.len(), distances));
    }
    set(&mut middles, labels, &packed(labels.len(), &label_distances));
    let connections: Vec<_> = parts.connections().collect();
    for _ in 0..ROUNDS {
        let of_label = |label: usize| {
            let ends = connections.iter().filter(|connection| connection.label == label);
            wish(ends.map(|connection| boxes[connection.subject]), 0.0)
        };
        let wishes: Vec<_> = labels.iter().map(|label| of_label(*label)).collect();
        set(&mut middles, labels, &spread(&wishes, &label_distances));
        let centre = middles.iter().sum::<f64>() / middles.len().max(1) as f64;
        for (row, distances) in &rows {
            let of_box = |subject: usize| {
                let ends = connections.iter().filter(|connection| connection.subject == subject);
                wish(ends.map(|connection| middles[connection.label]), centre)
            };
            let mut wishes: Vec<_> = row.iter().map(|subject| of_box(*subject)).collect();
            below_the_rail(parts, row, &middles, &mut wishes);
            set(&mut boxes, row, &spread(&wishes, distances));
        }
    }
    (boxes, middles)
}

/// The last console wants to be where the rail goes down, on the right of all labels.
fn below_the_rail(parts: &Parts<'_>, row: &[usize], middles: &[f64], wishes: &mut [Wish]) {
    let last = row.last().zip(wishes.last_mut());
    let Some((last, wish)) = last.filter(|(last, _)| parts.consoles.contains(last)) else { return };
    let edges = parts.labels.iter().zip(middles).map(|(label, middle)| middle + label.width / 2.0);
    if let Some(edge) = edges.reduce(f64::max) {
        let at = edge + LABEL_GAP + CORNER - parts.boxes[*last].width / 2.0;
        let weight = wish.weight + 1.0;
        *wish = Wish { at: (wish.at * wish.weight + at) / weight, weight };
    }
}

/// The least distances of the middles of neighbours.
fn distances(row: &[usize], width: impl Fn(&usize) -> f64, gap: f64) -> Vec<f64> {
    row.windows(2).map(|pair| pair.iter().map(&width).sum::<f64>() / 2.0 + gap).collect()
}

/// Places as near to one another as can be, around 0.
fn packed(count: usize, distances: &[f64]) -> Vec<f64> {
    spread(&vec![Wish { at: 0.0, weight: 1.0 }; count], distances)
}

fn set(places: &mut [f64], row: &[usize], values: &[f64]) {
    for (index, value) in row.iter().zip(values) {
        places[*index] = *value;
    }
}

/// To be in the middle of its ends; without any, somewhat near the centre of everything.
fn wish(ends: impl Iterator<Item = f64>, centre: f64) -> Wish {
    let (sum, count) = ends.fold((0.0, 0.0), |(sum, count), end| (sum + end, count + 1.0));
    if count > 0.0 { Wish { at: sum / count, weight: count } } else { Wish { at: centre, weight: LAZINESS } }
}
