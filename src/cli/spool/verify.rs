//! `spool verify`: read everything, and name what is damaged.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::page::{self, Bar, Page};
use super::{Place, exit, findings};

/// Reads everything and names what is damaged: file, offset, sequences. Writes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay spool verify --data-dir data\n\
    A torn tail is damage here, though a relay starts on it all the same and loses nothing by it.\n\
    Exit codes: 0 it is sound, 1 damage was found or it cannot be looked into, 2 the call is wrong")]
pub(super) struct Verify {
    #[command(flatten)]
    place: Place,
    /// Prints one JSON object, for programs
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let look = self.place.look()?;
        let bar = Bar::new("verifying");
        let survey = look.survey(&mut |done, total| bar.tell(done, total))?;
        drop(bar);
        if self.json {
            let records: u64 = survey.logs.iter().map(|log| log.records).sum();
            let whole = json!({
                "sound": survey.is_sound(),
                "format": survey.format,
                "records": records,
                "keys": survey.key_rows,
                "findings": findings(&survey),
            });
            crate::cli::say(&whole.to_string());
        } else {
            let mut page = Page::new();
            let records: u64 = survey.logs.iter().map(|log| log.records).sum();
            let segments: u64 = survey.logs.iter().map(|log| log.segments.files).sum();
            let keys = survey.key_rows.unwrap_or(0);
            let read = format!("read {records} records in {segments} segments, {keys} keys");
            page::heard(page.line(page::ASIDE, &read).and_then(|()| page.findings(&survey)))?;
        }
        Ok(exit(&survey))
    }
}
