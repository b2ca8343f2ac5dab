//! `spool repair`: set aside what is damaged.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::page::{self, Bar, Page};
use super::{Place, exit, finding};
use crate::clock::Clock;
use crate::spool::embedded::tools;

/// Sets aside what is damaged below quarantine/, cuts torn tails, writes damaged headers and
/// acknowledgements anew. Deletes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay spool repair --data-dir data\n\
    Exit codes: 0 it is sound now, 1 something is damaged still or cannot be written, 2 the call is \
    wrong")]
pub(super) struct Repair {
    #[command(flatten)]
    place: Place,
    /// Rebuilds the dedupe keys from what the logs hold; the old ones are set aside
    #[arg(long)]
    rekey: bool,
    /// Prints one JSON object, for programs
    #[arg(long)]
    json: bool,
}

impl Repair {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut settings = tools::settings_for(&self.place.find()?)?;
        settings.keys = self.place.keys()?;
        let bar = Bar::new("repairing");
        let mut tell = |done, total| bar.tell(done, total);
        let repair = tools::repair(settings, Clock::system(), self.rekey, &mut tell);
        let done = crate::cli::runtime()?.block_on(repair)?;
        drop(bar);
        if self.json {
            let before: Vec<_> = done.before.damages().map(finding).collect();
            let after: Vec<_> = done.after.damages().map(finding).collect();
            let whole = json!({
                "sound": done.after.is_sound(), "found": before, "left": after,
                "rekeyed": self.rekey, "quarantine_bytes": done.after.quarantine.bytes,
            });
            crate::cli::say(&whole.to_string());
        } else {
            let mut page = Page::new();
            let shown = page
                .line(page::HEAD, "found")
                .and_then(|()| page.findings(&done.before))
                .and_then(|()| page.line(page::HEAD, "now"))
                .and_then(|()| page.findings(&done.after));
            page::heard(shown)?;
        }
        Ok(exit(&done.after))
    }
}
