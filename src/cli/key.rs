//! `key`: make a key for a client.

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::Refused;
use crate::caller::KeyDigest;

/// Makes keys for clients.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay key new till-7")]
pub(super) struct Key {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Prints a new key once, and the `[[client]]` table that holds its SHA-256.
    New(New),
}

/// Prints a new key once, and the `[[client]]` table that holds its SHA-256.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay key new till-7\n\
    The key goes to the client, the table into the configuration. A second digest beside the first,\n\
    key_sha256 = [\"…\", \"…\"], lets both keys work while one takes the other's place.")]
struct New {
    /// The client's name: 1 to 64 ASCII letters, digits, dashes, dots and underscores
    name: String,
    /// Prints one JSON object for programs
    #[arg(long)]
    json: bool,
}

/// What a key begins with, so that people and scanners of leaked secrets know one when they see it.
const PREFIX: &str = "brk_";
/// Bytes of a key that are random: nobody guesses one of 2^256.
const RANDOM_BYTES: usize = 32;

impl Key {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::New(new) => new.run(),
        }
    }
}

impl New {
    fn run(self) -> anyhow::Result<()> {
        let Self { name, json } = self;
        if !crate::config::is_name(&name) {
            let what = "use 1 to 64 ASCII letters, digits, dashes, dots and underscores for a name";
            return Err(Refused(what.to_owned()).into());
        }
        let key = new_key()?;
        let digest = format!("{:x}", KeyDigest::of(key.as_bytes()));
        let table = format!("[[client]]\nname = \"{name}\"\nkey_sha256 = \"{digest}\"\n");
        if json {
            let line = json!({ "name": name, "key": key, "key_sha256": digest, "table": table });
            super::say(&line.to_string());
        } else {
            super::say(&format!(
                "The key of {name}, shown this once; it is sent as `Authorization: Bearer` or \
                 `X-Api-Key`:\n\n{key}\n\nIts table in the configuration, which the key cannot be \
                 read from:\n\n{table}"
            ));
        }
        Ok(())
    }
}

fn new_key() -> anyhow::Result<String> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .context("the system gives no random numbers")?;
    let digits = random.iter().map(|byte| format!("{byte:02x}"));
    Ok(format!("{PREFIX}{}", digits.collect::<String>()))
}
