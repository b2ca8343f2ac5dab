//! `lookup`: asks a partner what a notification would have said.

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

use super::remote::Remote;
use super::{ConfigFile, Refused};
use crate::clock::Clock;
use crate::lookup::{is_id, look_up};

/// Asks a partner what a notification that never came would have said, by the source's
/// `[source.lookup]` table, and prints it. Nothing is stored.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay lookup parcels P-1\n\
    Exit codes: 0 told, or with --send taken on; 1 not; 2 the call is wrong")]
pub(super) struct Lookup {
    /// The source
    #[arg(value_name = "SOURCE")]
    source: String,
    /// What its notification would be known by
    #[arg(value_name = "ID")]
    id: String,
    /// Has a running relay ask at once, and take in what it is told
    #[arg(long)]
    send: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Lookup {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if !is_id(&self.id) {
            let what = "an ID has 1 to 200 bytes, none of them a control character";
            return Err(Refused(what.to_owned()).into());
        }
        if self.send { self.hand_over() } else { self.ask() }
    }

    fn ask(&self) -> anyhow::Result<()> {
        let file = ConfigFile { config: self.remote.config.clone() };
        // A refused configuration tells nothing either: 1, as the admin commands.
        let plan = file.layers().plan().map_err(|faults| anyhow!("{faults}"))?;
        let names: Vec<&str> = plan.lookups.iter().map(|one| one.source.as_str()).collect();
        let names = match &names[..] {
            [] => "none of the configuration has: docs/SOURCES.md tells how".to_owned(),
            names => format!("those that have: {}", names.join(", ")),
        };
        let found = plan.lookups.into_iter().find(|one| one.source.as_str() == self.source);
        let found = found.ok_or_else(|| {
            anyhow!("no source of this name has a [source.lookup] table; {names}")
        })?;
        let told = super::runtime()?.block_on(look_up(&found, Clock::system(), &self.id));
        let told = told.map_err(|failure| {
            let outcome = failure.outcome.as_str();
            anyhow!("nothing was told that becomes a notification: {outcome} (docs/METRICS.md)")
        })?;
        let told = String::from_utf8_lossy(&told);
        match serde_json::from_str::<Value>(&told) {
            Ok(told) if !self.remote.json => super::say(&format!("{told:#}")),
            Ok(_) | Err(_) => super::say(&told),
        }
        Ok(())
    }

    fn hand_over(&self) -> anyhow::Result<()> {
        let body = json!({ "source": self.source, "id": self.id, "deadline": "0 s" });
        let asked = async { self.remote.api()?.post("/api/awaited", &body).await };
        let answer = super::runtime()?.block_on(asked)?;
        super::say(&if self.remote.json {
            answer.to_string()
        } else {
            "the relay asks now; beacon_relay_lookups_total tells what came of it".to_owned()
        });
        Ok(())
    }
}
