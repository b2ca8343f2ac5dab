//! `pause` and `resume`: an operator's hold on a destination.

use clap::Args;
use serde_json::{Value, json};

use super::remote::{Remote, encoded};

/// Sends nothing more to a destination, for a time or until it is resumed.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay pause events-api --for 10m\n\
    Exit codes: 0 paused, 1 not")]
pub(super) struct Pause {
    /// The destination
    #[arg(value_name = "DESTINATION")]
    name: String,
    /// How long, as 10m or "2 h"; without it until it is resumed
    #[arg(long = "for", value_name = "TIME")]
    time: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Sends to a paused destination again.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay resume events-api\nExit codes: 0 resumed, 1 not")]
pub(super) struct Resume {
    /// The destination
    #[arg(value_name = "DESTINATION")]
    name: String,
    #[command(flatten)]
    remote: Remote,
}

impl Pause {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let body = self.time.map_or_else(|| json!({}), |time| json!({ "for": time }));
        act(&self.remote, &self.name, "pause", &body)
    }
}

impl Resume {
    pub(super) fn run(self) -> anyhow::Result<()> {
        act(&self.remote, &self.name, "resume", &json!({}))
    }
}

fn act(remote: &Remote, name: &str, action: &str, body: &Value) -> anyhow::Result<()> {
    let path = format!("/api/destinations/{}/{action}", encoded(name));
    let answer = super::runtime()?.block_on(async { remote.api()?.post(&path, body).await })?;
    if remote.json {
        super::say(&answer.to_string());
        return Ok(());
    }
    let paused = &answer["paused"];
    super::say(&match paused["until"].as_str() {
        Some(until) => format!("{name} is paused until {until}"),
        None if paused.is_null() => format!("{name} is not paused"),
        None => format!("{name} is paused until `beacon-relay resume {name}`"),
    });
    Ok(())
}
