//! Long work shows that it goes on: a spinner on a terminal, plain lines elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A piece of work in progress.
pub struct Step {
    what: String,
    started: Instant,
    spinner: ProgressBar,
}

impl Step {
    /// Says that work begins.
    pub fn begin(what: impl Into<String>) -> Self {
        let what = what.into();
        // Draws on standard error, and nowhere if that is no terminal.
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            spinner.set_style(style);
        }
        if spinner.is_hidden() {
            eprintln!("bulkhead: {what}");
        } else {
            spinner.set_message(what.clone());
            spinner.enable_steady_tick(Duration::from_millis(120));
        }
        Self { what, started: Instant::now(), spinner }
    }

    /// Says that it is done.
    pub fn done(self) {
        if !self.spinner.is_hidden() {
            self.spinner.finish_and_clear();
            eprintln!("bulkhead: {} ({:.1} s)", self.what, self.started.elapsed().as_secs_f64());
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.spinner.finish_and_clear();
    }
}
