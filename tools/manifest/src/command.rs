//! `bulkhead check`.

use crate::{Options, check};
use miette::{GraphicalReportHandler, GraphicalTheme};
use std::{io::IsTerminal, path::Path};

/// Checks a manifest and prints everything that is wrong on standard error. Returns the exit status: 0 if the manifest
/// can be used, 2 if not.
pub fn check_command(path: &Path, options: &Options<'_>) -> u8 {
    match check(path, options) {
        Ok(warnings) => {
            if !warnings.is_empty() {
                eprint!("{}", render(&warnings));
            }
            println!("{}: no errors", path.display());
            0
        }
        Err(diagnostics) => {
            eprint!("{}", render(&diagnostics));
            2
        }
    }
}

/// The diagnostics as text for standard error, in colour if that is a terminal, with a count at the end.
pub fn render(diagnostics: &[crate::Diagnostic]) -> String {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if colour { render_with(diagnostics, GraphicalTheme::unicode()) } else { render_plain(diagnostics) }
}

/// The diagnostics as text without colour, with a count at the end.
pub fn render_plain(diagnostics: &[crate::Diagnostic]) -> String {
    render_with(diagnostics, GraphicalTheme::unicode_nocolor())
}

fn render_with(diagnostics: &[crate::Diagnostic], theme: GraphicalTheme) -> String {
    let handler = GraphicalReportHandler::new_themed(theme).with_width(100);
    let mut text = String::new();
    for diagnostic in diagnostics {
        if handler.render_report(&mut text, diagnostic).is_err() {
            text.push_str(diagnostic.message());
        }
        text.push('\n');
    }
    let warnings = diagnostics.iter().filter(|diagnostic| diagnostic.is_warning()).count();
    let counts = [(diagnostics.len() - warnings, "error"), (warnings, "warning")];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| counted(count, what));
    text.push_str(&counts.collect::<Vec<_>>().join(", "));
    text.push('\n');
    text
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
