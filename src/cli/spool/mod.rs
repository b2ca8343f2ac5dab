//! `spool`: look into a data directory that no process holds, and mend it.

mod export;
mod list;
pub(super) mod page;
mod repair;
mod stat;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ConfigFile;
use crate::spool::embedded::tools::{Finding, Look, Survey};
use crate::spool::embedded::{Keyring, check_keys};

/// Looks into a data directory that no process holds, and mends it.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay spool verify --data-dir data\n\
    Exit codes: 0 it is sound, 1 damage was found or it cannot be looked into, 2 the call is wrong")]
pub(super) struct Spool {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Tells what is there: logs, destinations, keys, room.
    Stat(stat::Stat),
    /// Reads everything and names what is damaged.
    Verify(verify::Verify),
    /// Lists what is pending, retrying or dead.
    List(list::List),
    /// Writes the events that are not delivered as NDJSON.
    Export(export::Export),
    /// Sets aside what is damaged, so that a relay starts on the rest; deletes nothing.
    Repair(repair::Repair),
}

impl Spool {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Stat(command) => command.run(),
            What::Verify(command) => command.run(),
            What::List(command) => command.run(),
            What::Export(command) => command.run(),
            What::Repair(command) => command.run(),
        }
    }
}

/// Which directory is meant.
#[derive(Debug, Args)]
struct Place {
    /// Directory of the store [default: spool.path of the configuration]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    file: ConfigFile,
}

impl Place {
    fn find(&self) -> anyhow::Result<PathBuf> {
        // Whoever names a directory wants that one, even if nothing is configured on this machine.
        if let (Some(dir), None) = (&self.data_dir, &self.file.config) {
            return Ok(dir.clone());
        }
        let plan = self.file.layers().plan()?;
        Ok(self.data_dir.clone().unwrap_or(plan.spool.path))
    }

    fn look(&self) -> anyhow::Result<Look> {
        Ok(Look::at(&self.find()?)?)
    }

    /// The keys of the configuration, for what is encrypted.
    fn keys(&self) -> anyhow::Result<Keyring> {
        match self.file.layers().plan() {
            Ok(plan) => Ok(plan.spool.keys),
            // As above: nothing need be configured on this machine.
            Err(_) if self.data_dir.is_some() && self.file.config.is_none() => {
                Ok(Keyring::default())
            }
            Err(faults) => Err(faults.into()),
        }
    }

    /// For whoever shows what the records say: without a key that would be nothing.
    fn look_inside(&self) -> anyhow::Result<Look> {
        let (look, keys) = (self.look()?, self.keys()?);
        check_keys(&self.find()?, &keys)?;
        Ok(look.with_keys(keys))
    }
}

/// 0 sound, 1 damaged.
fn exit(survey: &Survey) -> ExitCode {
    if survey.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A finding for programs.
fn finding(finding: &Finding) -> Value {
    let sequences = &finding.sequences;
    let range = (!sequences.is_empty()).then(|| json!([sequences.start, sequences.end - 1]));
    json!({
        "file": finding.file,
        "offset": finding.offset,
        "bytes": finding.bytes,
        "sequences": range,
        "code": finding.wrong.code(),
        "damage": finding.wrong.is_damage(),
        "meaning": finding.wrong.meaning(),
    })
}

fn findings(survey: &Survey) -> Vec<Value> {
    survey.findings.iter().map(finding).collect()
}
