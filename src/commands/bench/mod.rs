//! `bulkhead bench`: what the kernel costs, counted in instructions.
//!
//! Under Bochs the time-stamp counter advances by one for each instruction, so the figures are exact and the same on every
//! host. Partitions and guests take them inside the machine and print each as a JSON object; this command boots the
//! manifests that do so, collects the objects, and adds what can be seen from outside.

mod boot;
mod exits;
mod figure;
mod kernel;
mod linux;
mod reads;
mod shadow;
mod sink;
mod stream;
mod suite;
mod table;

use std::io::{self, Write};

use bulkhead_harness::Backend;
use miette::{IntoDiagnostic, miette};

use crate::arguments::BenchArguments;
use figure::Figure;
use suite::Suite;

/// Exit status when a figure could not be taken.
const INCOMPLETE: u8 = 1;

/// Takes the figures and prints them; status 1 if one of them is missing.
pub fn run(arguments: &BenchArguments) -> miette::Result<u8> {
    let model = Backend::Bochs.cpu_model(arguments.cpu.as_deref());
    let is_wanted = |name: &str| {
        let filter = arguments.filter.as_deref();
        filter.is_none_or(|text| name.contains(text))
    };
    let names = || {
        let of_suites = Suite::ALL.iter().flat_map(Suite::figures);
        kernel::FIGURES.map(|(name, _)| name).into_iter().chain(of_suites)
    };
    if !names().any(is_wanted) {
        return Err(miette!(
            help = format!("figures are {}", names().collect::<Vec<_>>().join(", ")),
            "no figure has a name with `{}` in it",
            arguments.filter.as_deref().unwrap_or_default()
        ));
    }
    let mut output = Output { as_json: arguments.json, figures: Vec::new() };
    let mut missing = 0;

    for (name, take) in kernel::FIGURES {
        if is_wanted(name) {
            output.add(Figure::once(name, take()?, model))?;
        }
    }
    for suite in Suite::ALL {
        let wanted: Vec<&str> = suite.figures().filter(|name| is_wanted(name)).collect();
        if wanted.is_empty() {
            continue;
        }
        let mut taken = suite.run(model).unwrap_or_else(|report| {
            eprintln!("{report:?}");
            Vec::new()
        });
        for name in wanted {
            match taken.iter().position(|figure| figure.name == name) {
                Some(place) => output.add(taken.swap_remove(place))?,
                None => {
                    eprintln!("bulkhead: {name} could not be taken");
                    missing += 1;
                }
            }
        }
    }
    output.finish()?;
    Ok(if missing == 0 { 0 } else { INCOMPLETE })
}

/// Where figures go: each at once as a JSON object, or all at the end as a table.
struct Output {
    as_json: bool,
    figures: Vec<Figure>,
}

impl Output {
    fn add(&mut self, figure: Figure) -> miette::Result<()> {
        if self.as_json {
            let line = serde_json::to_string(&figure).into_diagnostic()?;
            writeln!(io::stdout(), "{line}").into_diagnostic()?;
        }
        self.figures.push(figure);
        Ok(())
    }

    fn finish(&self) -> miette::Result<()> {
        if self.as_json {
            return Ok(());
        }
        write!(io::stdout(), "{}", table::render(&self.figures)).into_diagnostic()
    }
}
