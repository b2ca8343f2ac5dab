//! How it is shown: coloured tables where a terminal takes them, and a bar while it is read.

use std::io::{self, Write};

use anstyle::{AnsiColor, Effects, Style};
use indicatif::{ProgressBar, ProgressStyle};

use crate::spool::embedded::tools::{Finding, Survey};

pub(super) const ERROR: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
pub(super) const REMARK: Style = AnsiColor::Yellow.on_default();
pub(super) const FINE: Style = AnsiColor::Green.on_default().effects(Effects::BOLD);
pub(super) const HEAD: Style = Style::new().effects(Effects::BOLD);
pub(super) const ASIDE: Style = Style::new().effects(Effects::DIMMED);
pub(super) const PLAIN: Style = Style::new();

/// Standard output for people: colours go where a terminal shows them and `NO_COLOR` allows.
pub(super) struct Page(anstream::AutoStream<io::StdoutLock<'static>>);

impl Page {
    pub(super) fn new() -> Self {
        Self(anstream::AutoStream::auto(io::stdout().lock()))
    }

    pub(super) fn line(&mut self, style: Style, text: &str) -> io::Result<()> {
        writeln!(self.0, "{style}{text}{style:#}")
    }

    /// Rows under their heads; all columns but the first and the last stand right.
    pub(super) fn table(&mut self, heads: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let width = |column: usize| {
            let cells =
                rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([heads[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let shown = |cells: &[String]| {
            let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
        self.line(HEAD, &shown(&heads))?;
        rows.iter().try_for_each(|row| self.line(PLAIN, &shown(row)))
    }

    /// What was found, a line each, and what that comes to.
    pub(super) fn findings(&mut self, survey: &Survey) -> io::Result<()> {
        for finding in &survey.findings {
            let style = if finding.wrong.is_damage() { ERROR } else { REMARK };
            let word = if finding.wrong.is_damage() { "damage" } else { "remark" };
            let place = place(finding);
            writeln!(self.0, "{style}{word}{style:#} {place}: {}", finding.wrong.meaning())?;
        }
        let damages = survey.damages().count();
        match damages {
            0 => self.line(FINE, "sound: everything that is there passes"),
            1 => self.line(ERROR, "1 piece is damaged"),
            _ => self.line(ERROR, &format!("{damages} pieces are damaged")),
        }
    }
}

/// File, offset, bytes and sequences of a finding.
fn place(finding: &Finding) -> String {
    let mut place = finding.file.clone();
    if finding.offset > 0 || finding.bytes > 0 {
        place.push_str(&format!(" offset {} ({} bytes)", finding.offset, finding.bytes));
    }
    let sequences = &finding.sequences;
    match sequences.end.saturating_sub(sequences.start) {
        0 => place,
        1 => format!("{place} sequence {}", sequences.start),
        _ => format!("{place} sequences {} to {}", sequences.start, sequences.end - 1),
    }
}

/// A size for people, as `12.3 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// A bar on standard error, in a terminal alone; it goes when it is dropped.
pub(in crate::cli) struct Bar(ProgressBar);

impl Bar {
    pub(in crate::cli) fn new(doing: &'static str) -> Self {
        let bar = ProgressBar::new(0);
        let style = "{msg} [{bar:30}] {bytes} of {total_bytes}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(bar.with_message(doing))
    }

    /// Takes the bar away before something else is written.
    pub(super) fn hide(&self) {
        self.0.finish_and_clear();
    }

    pub(in crate::cli) fn tell(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Whoever stopped reading has seen enough.
pub(super) fn heard(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 1023, 1024, 1_500_000, 20 << 30, 3 << 50].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.4 MiB", "20.0 GiB", "3072.0 TiB"]);
    }
}
