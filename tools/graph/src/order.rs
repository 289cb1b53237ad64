//! The order in each row: with few crossings, then with short lines, then as in the manifest.

/// Boxes above and below, labels between them, as numbers; and which box has a line to which label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) upper: Vec<usize>,
    pub(crate) labels: Vec<usize>,
    pub(crate) lower: Vec<usize>,
}

/// A line from a box to a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) subject: usize,
    pub(crate) label: usize,
}

/// Rows longer than this, or more lines than that, are ordered by averages alone.
const MOST_MOVED: usize = 24;
const MOST_LINES: usize = 80;
/// Rounds of averages.
const ROUNDS: usize = 8;

/// Orders rows. The last `fixed` boxes below stay where they are.
pub(crate) fn order(start: Rows, connections: &[Connection], fixed: usize) -> Rows {
    let mut rows = start.clone();
    let mut best = (cost(&start, connections), start);
    for _ in 0..ROUNDS {
        average(&mut rows, connections, fixed);
        let cost = cost(&rows, connections);
        if cost < best.0 {
            best = (cost, rows.clone());
        }
    }
    let (_, mut rows) = best;
    let longest = rows.upper.len().max(rows.labels.len()).max(rows.lower.len());
    if longest <= MOST_MOVED && connections.len() <= MOST_LINES {
        while improve(&mut rows, connections, fixed) {}
    }
    rows
}

/// Where each of a row stands in it, from 0 to 1; by number, with gaps.
fn positions(row: &[usize]) -> Vec<f64> {
    let mut positions = vec![0.0; row.iter().max().map_or(0, |most| most + 1)];
    for (index, number) in row.iter().enumerate() {
        positions[*number] = (index as f64 + 0.5) / row.len() as f64;
    }
    positions
}

/// Sorts labels by the averages of their boxes, and boxes by those of their labels.
fn average(rows: &mut Rows, connections: &[Connection], fixed: usize) {
    let mut boxes = positions(&rows.upper);
    let lower = positions(&rows.lower);
    boxes.resize(boxes.len().max(lower.len()), 0.0);
    for number in &rows.lower {
        boxes[*number] = lower[*number];
    }
    let of_label = |label: &usize| {
        let ends = connections.iter().filter(|connection| connection.label == *label);
        mean(ends.map(|connection| boxes[connection.subject]))
    };
    sort_by_average(&mut rows.labels, of_label);
    let labels = positions(&rows.labels);
    let of_box = |subject: &usize| {
        let ends = connections.iter().filter(|connection| connection.subject == *subject);
        mean(ends.map(|connection| labels[connection.label]))
    };
    sort_by_average(&mut rows.upper, of_box);
    let movable = rows.lower.len() - fixed;
    sort_by_average(&mut rows.lower[..movable], of_box);
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// Whoever has no average stays about where it is.
fn sort_by_average(row: &mut [usize], average: impl Fn(&usize) -> Option<f64>) {
    let count = row.len() as f64;
    let mut keyed: Vec<_> = row
        .iter()
        .enumerate()
        .map(|(index, number)| (average(number).unwrap_or((index as f64 + 0.5) / count), *number))
        .collect();
    keyed.sort_by(|one, other| one.0.total_cmp(&other.0));
    for (place, (_, number)) in row.iter_mut().zip(keyed) {
        *place = number;
    }
}

/// Crossings, and how far lines go aside, in thousandths of the width.
fn cost(rows: &Rows, connections: &[Connection]) -> (usize, usize) {
    let labels = positions(&rows.labels);
    let mut crossings = 0;
    let mut aside = 0.0;
    for row in [&rows.upper, &rows.lower] {
        let boxes = positions(row);
        let of_row = connections.iter().filter(|connection| row.contains(&connection.subject));
        let ends: Vec<_> = of_row.map(|line| (boxes[line.subject], labels[line.label])).collect();
        for (index, one) in ends.iter().enumerate() {
            aside += (one.0 - one.1).abs();
            let crosses = |other: &&(f64, f64)| (one.0 - other.0) * (one.1 - other.1) < 0.0;
            crossings += ends[index + 1..].iter().filter(crosses).count();
        }
    }
    (crossings, (aside * 1000.0).round() as usize)
}

/// Moves the one box or label whose move is the best; false if none helps.
fn improve(rows: &mut Rows, connections: &[Connection], fixed: usize) -> bool {
    let mut best = (cost(rows, connections), None);
    let lengths = [rows.upper.len(), rows.labels.len(), rows.lower.len() - fixed];
    for (row, length) in lengths.into_iter().enumerate() {
        for from in 0..length {
            for to in (0..length).filter(|to| *to != from) {
                let mut tried = rows.clone();
                tried.shift(row, from, to);
                let cost = cost(&tried, connections);
                if cost < best.0 {
                    best = (cost, Some(tried));
                }
            }
        }
    }
    let improved = best.1.is_some();
    if let Some(tried) = best.1 {
        *rows = tried;
    }
    improved
}

impl Rows {
    /// Moves one of a row to another place in it.
    fn shift(&mut self, row: usize, from: usize, to: usize) {
        let row = match row {
            0 => &mut self.upper,
            1 => &mut self.labels,
            _ => &mut self.lower,
        };
        let moved = row.remove(from);
        row.insert(to, moved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(pairs: &[(usize, usize)]) -> Vec<Connection> {
        pairs.iter().map(|(subject, label)| Connection { subject: *subject, label: *label }).collect()
    }

    #[test]
    fn lines_are_untangled() {
        let start = Rows { upper: vec![0, 1, 2], labels: vec![0, 1, 2], lower: vec![3, 4, 5] };
        let connections = connections(&[(0, 2), (1, 1), (2, 0), (3, 0), (4, 1), (5, 2)]);
        assert!(cost(&start, &connections).0 > 0);
        let ordered = order(start, &connections, 0);
        assert_eq!(cost(&ordered, &connections), (0, 0));
    }

    #[test]
    fn what_has_no_lines_and_what_is_fixed_stays() {
        let start = Rows { upper: vec![0, 1], labels: vec![0], lower: vec![2, 3, 4] };
        assert_eq!(order(start.clone(), &[], 1), start);
        let ordered = order(start, &connections(&[(4, 0), (0, 0)]), 1);
        assert_eq!(ordered.lower.last(), Some(&4));
    }
}
