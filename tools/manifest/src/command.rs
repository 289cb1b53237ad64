//! `bulkhead check`.

use crate::{Options, check};
use miette::{GraphicalReportHandler, GraphicalTheme};
use std::{io::IsTerminal, path::Path};

/// Checks a manifest and prints everything that is wrong on standard error. Returns the exit status: 0 if the manifest
/// is right, 2 if not.
pub fn check_command(path: &Path, options: &Options<'_>) -> u8 {
    match check(path, options) {
        Ok(()) => {
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
    let count = diagnostics.len();
    text.push_str(&format!("{count} error{}\n", if count == 1 { "" } else { "s" }));
    text
}
