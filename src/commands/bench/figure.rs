//! One figure, as it is printed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A measured value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A count.
    Whole(u64),
    /// A quotient of counts.
    Ratio(f64),
}

impl Value {
    /// For comparisons with targets, which are small enough to be exact.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Ratio(value) => value,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => formatter.pad_integral(true, "", &value.to_string()),
            Self::Ratio(value) => formatter.pad(&format!("{value:.3}")),
        }
    }
}

/// A figure with the spread of its repetitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured, such as `exit.pio`.
    pub name: String,
    /// What is counted.
    pub unit: String,
    /// Repetitions.
    pub n: u64,
    /// The least value.
    pub min: Value,
    /// The middle value.
    pub median: Value,
    /// 95 of 100 values are at most this.
    pub p95: Value,
    /// The processor model that ran it; programs do not know it, and leave it out.
    #[serde(default)]
    pub cpu: String,
}

impl Figure {
    /// A figure that was taken once, and would be the same each time.
    pub fn once(name: &str, (value, unit): (Value, &str), cpu: &str) -> Self {
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            n: 1,
            min: value,
            median: value,
            p95: value,
            cpu: cpu.to_owned(),
        }
    }
}

/// The figures among the lines of a serial output. A line may begin with the name of the partition that printed it, and
/// whatever else is on the line makes it no figure. Of two with one name the first counts.
pub fn figures_of(serial: &str, cpu: &str) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    for line in serial.lines() {
        let text = line.split_once("| ").map_or(line, |(_, text)| text);
        let Ok(figure) = serde_json::from_str::<Figure>(text.trim()) else {
            continue;
        };
        if !figures.iter().any(|other| other.name == figure.name) {
            figures.push(Figure { cpu: cpu.to_owned(), ..figure });
        }
    }
    figures
}

/// What a guest measured, each with the quotient by what the bare machine did, if it did, and the latter as `NAME.native`.
pub fn compared(names: &[&str], guest: &str, native: &str, cpu: &str) -> Vec<Figure> {
    let mut all = figures_of(guest, cpu);
    all.retain(|figure| names.contains(&figure.name.as_str()));
    let on_the_machine = figures_of(native, cpu);
    for name in names {
        let of = |figures: &[Figure]| figures.iter().find(|figure| figure.name == *name).cloned();
        let Some(native) = of(&on_the_machine) else { continue };
        if let Some(guest) = of(&all)
            && native.median.as_f64() > 0.0
        {
            let ratio = Value::Ratio(guest.median.as_f64() / native.median.as_f64());
            all.push(Figure::once(&format!("{name}.ratio"), (ratio, "ratio"), cpu));
        }
        all.push(Figure { name: format!("{name}.native"), ..native });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"name": "exit.pio", "unit": "instructions", "n": 1000, "min": 4, "median": 5, "p95": 6}"#;

    #[test]
    fn figures_are_found_among_other_lines() {
        let serial = format!("Bulkhead kernel\r\nexits| {LINE}\r\nexits| guest: off\r\n{{}}\n");
        let figures = figures_of(&serial, "model");
        assert_eq!(figures.len(), 1);
        assert_eq!(figures[0].median, Value::Whole(5));
        assert_eq!(
            serde_json::to_string(&figures[0]).unwrap(),
            r#"{"name":"exit.pio","unit":"instructions","n":1000,"min":4,"median":5,"p95":6,"cpu":"model"}"#
        );
    }

    #[test]
    fn of_two_the_first_counts() {
        let serial = format!("a| {LINE}\nb| {}\n", LINE.replace("4", "3"));
        let figures = figures_of(&serial, "model");
        assert_eq!(figures.len(), 1);
        assert_eq!(figures[0].min, Value::Whole(4));
    }

    #[test]
    fn values_print_as_they_are_read() {
        assert_eq!(format!("{:>6}", Value::Whole(280)), "   280");
        assert_eq!(format!("{:>6}", Value::Ratio(1.0816)), " 1.082");
    }
}
