//! What a person sees: a bar in a terminal, refusals as they come, the sums at the end.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::outcome::Sums;

/// Sentences about refused orders that go to the terminal; all of them are in the outcomes.
const SHOWN_MAX: usize = 20;

/// How far it is.
pub(super) struct Show {
    bar: ProgressBar,
    shown: usize,
}

impl Show {
    /// A bar over so many lines; where standard error is no terminal, none is drawn.
    pub(super) fn new(lines: u64) -> Self {
        let bar = ProgressBar::new(lines);
        let style = ProgressStyle::with_template(
            "{bar:30} {percent:>3} % of {len} lines, {eta} left  {msg}",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self { bar, shown: 0 }
    }

    /// Goes on from a line that an earlier run reached.
    pub(super) fn start_at(&self, line: u64) {
        self.bar.set_position(line);
        self.bar.reset_eta();
    }

    pub(super) fn at(&self, line: u64, sums: &Sums) {
        self.bar.set_position(line);
        self.bar.set_message(format!(
            "{} accepted, {} duplicates, {} refused",
            sums.accepted, sums.duplicates, sums.refused
        ));
    }

    pub(super) fn waiting(&self, why: &str, wait: Duration) {
        self.bar.set_message(format!("{why}; again in {:.1} s", wait.as_secs_f64()));
    }

    /// Tells of a refused order, as long as there are few.
    pub(super) fn refused(&mut self, sentences: Vec<String>) {
        for sentence in sentences {
            self.shown += 1;
            match self.shown {
                ..=SHOWN_MAX => self.say(&sentence),
                more if more == SHOWN_MAX + 1 => self.say("more are not shown"),
                _ => return,
            }
        }
    }

    /// Something for whoever sits there, beside the bar.
    pub(super) fn say(&self, text: &str) {
        // Where nobody can be told, the exit code must do.
        self.bar.suspend(|| {
            let _untold = writeln!(io::stderr(), "{text}");
        });
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The end of it.
pub(super) struct Summary<'s> {
    pub(super) file: &'s str,
    pub(super) outcomes: Option<&'s str>,
    pub(super) sums: Sums,
    /// Orders of an earlier run.
    pub(super) before: u64,
    pub(super) took: Duration,
    pub(super) is_dry: bool,
}

impl Summary<'_> {
    pub(super) fn json(&self) -> String {
        let Sums { accepted, duplicates, refused, conflicts, warned } = self.sums;
        let word = if self.is_dry { "valid" } else { "accepted" };
        let mut summary = json!({
            "file": self.file,
            "orders": self.sums.orders(),
            word: accepted,
            "duplicates": duplicates,
            "refused": refused,
            "conflicts": conflicts,
            "warned": warned,
            "before": self.before,
            "seconds": (self.took.as_secs_f64() * 1000.0).round() / 1000.0,
            "dry_run": self.is_dry,
        });
        if let Some(outcomes) = self.outcomes {
            summary["outcomes"] = outcomes.into();
        }
        summary.to_string()
    }

    /// A table in a terminal, one line elsewhere.
    pub(super) fn text(&self) -> String {
        let Sums { accepted, duplicates, refused, conflicts, warned } = self.sums;
        let word = if self.is_dry { "valid" } else { "accepted" };
        let took = self.took.as_secs_f64();
        let orders = self.sums.orders();
        #[expect(clippy::cast_precision_loss, reason = "a speed for people")]
        let speed = (orders - self.before) as f64 / took.max(0.001);
        let rows = [
            (word, accepted, String::new()),
            ("duplicate", duplicates, note(conflicts, "of them unlike the first")),
            ("refused", refused, String::new()),
            ("with a warning", warned, String::new()),
        ];
        let noun = if orders == 1 { "order" } else { "orders" };
        let before = note(self.before, "of them in an earlier run");
        let mut text = if io::stdout().is_terminal() {
            let mut text =
                format!("{}: {orders} {noun}{before} in {took:.1} s ({speed:.0}/s)\n", self.file);
            for (name, count, note) in rows {
                text.push_str(&format!("  {name:<14} {count:>10}{note}\n"));
            }
            text
        } else {
            let parts: Vec<String> =
                rows.iter().map(|(name, count, note)| format!("{count} {name}{note}")).collect();
            let parts = parts.join(", ");
            format!("{}: {orders} {noun}{before} in {took:.1} s: {parts}", self.file)
        };
        if let Some(outcomes) = self.outcomes {
            let gap = if text.ends_with('\n') { "" } else { "; " };
            text.push_str(&format!("{gap}outcomes in {outcomes}"));
        }
        text
    }
}

fn note(count: u64, what: &str) -> String {
    if count == 0 { String::new() } else { format!(" ({count} {what})") }
}
