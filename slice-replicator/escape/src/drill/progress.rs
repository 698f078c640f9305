//! What a drill says while it works: a line on a terminal, nothing elsewhere, all of it with `ESCAPE_LOG`.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The line.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// Every word is a line of standard error, for whoever looks for a fault.
    loud: bool,
}

impl Progress {
    /// A line on standard error if that is a terminal; nothing otherwise.
    pub fn shown() -> Self {
        // indicatif draws nothing when standard error is no terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, loud: is_loud() }
    }

    /// Nothing, for `--json` and for tests.
    pub fn quiet() -> Self {
        Self { bar: ProgressBar::hidden(), loud: is_loud() }
    }

    /// What is being done now.
    pub fn say(&self, what: impl Into<String>) {
        let what = what.into();
        if self.loud {
            eprintln!("[drill] {what}");
        }
        self.bar.set_message(what);
    }
}

fn is_loud() -> bool {
    std::env::var_os("ESCAPE_LOG").is_some()
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
