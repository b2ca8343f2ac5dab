//! `spool stat`: what a data directory holds.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::page::{self, Bar, Page};
use super::{Place, exit, findings};
use crate::spool::embedded::tools::{Files, Survey};

/// Tells what is there: logs, destinations, keys, room.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay spool stat --data-dir data\n\
    Exit codes: 0 it is sound, 1 damage was found or it cannot be looked into, 2 the call is wrong")]
pub(super) struct Stat {
    #[command(flatten)]
    place: Place,
    /// Prints one JSON object, for programs
    #[arg(long)]
    json: bool,
}

impl Stat {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let look = self.place.look()?;
        let bar = Bar::new("reading");
        let survey = look.survey(&mut |done, total| bar.tell(done, total))?;
        drop(bar);
        if self.json {
            crate::cli::say(&object(&survey).to_string());
        } else {
            page::heard(show(&survey))?;
        }
        Ok(exit(&survey))
    }
}

/// The whole for programs.
pub(super) fn object(survey: &Survey) -> Value {
    let files = |files: &Files| json!({"files": files.files, "bytes": files.bytes});
    let logs = survey.logs.iter().map(|log| {
        json!({
            "name": log.name, "segments": log.segments.files, "bytes": log.segments.bytes,
            "records": log.records, "unsettled": log.unsettled,
        })
    });
    let destinations = survey.destinations.iter().map(|one| {
        json!({
            "name": one.name.as_str(), "pending": one.pending, "retrying": one.retrying,
            "dead": one.dead, "oldest": one.oldest.map(|at| at.to_string()),
        })
    });
    json!({
        "format": survey.format,
        "sound": survey.is_sound(),
        "logs": logs.collect::<Vec<_>>(),
        "destinations": destinations.collect::<Vec<_>>(),
        "spares": files(&survey.spares),
        "keys": {
            "files": survey.keys.files, "bytes": survey.keys.bytes, "rows": survey.key_rows,
        },
        "quarantine": files(&survey.quarantine),
        "findings": findings(survey),
    })
}

fn show(survey: &Survey) -> std::io::Result<()> {
    let mut page = Page::new();
    let logs: Vec<_> = survey
        .logs
        .iter()
        .map(|log| {
            vec![
                log.name.to_owned(),
                log.segments.files.to_string(),
                page::size(log.segments.bytes),
                log.records.to_string(),
                log.unsettled.to_string(),
            ]
        })
        .collect();
    page.table(&["log", "segments", "size", "records", "not settled"], &logs)?;
    page.line(page::PLAIN, "")?;
    let destinations: Vec<_> = survey
        .destinations
        .iter()
        .map(|one| {
            vec![
                one.name.to_string(),
                one.pending.to_string(),
                one.retrying.to_string(),
                one.dead.to_string(),
                one.oldest.map_or_else(|| "-".to_owned(), |at| at.to_string()),
            ]
        })
        .collect();
    page.table(&["destination", "pending", "retrying", "dead", "oldest"], &destinations)?;
    page.line(page::PLAIN, "")?;
    let beside = |name: &str, files: Files, what: String| {
        vec![name.to_owned(), files.files.to_string(), page::size(files.bytes), what]
    };
    let rows = survey.key_rows.map_or_else(|| "-".to_owned(), |rows| format!("{rows} keys"));
    let rows = [
        beside("spares", survey.spares, String::new()),
        beside("keys", survey.keys, rows),
        beside("quarantine", survey.quarantine, String::new()),
    ];
    page.table(&["beside", "files", "size", ""], &rows)?;
    page.line(page::PLAIN, "")?;
    let format = survey.format.map_or_else(|| "unknown".to_owned(), |format| format.to_string());
    page.line(page::ASIDE, &format!("format {format}"))?;
    page.findings(survey)
}
