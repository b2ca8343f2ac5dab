//! The subcommands: what a person or a container types.

mod check;
mod dead;
mod health;
mod import;
mod key;
mod lookup;
mod pause;
mod remote;
mod sandbox;
mod serve;
mod spool;
mod status;
mod table;
mod validate;
mod web;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app::StartError;
use crate::config::Layers;
use crate::config::fault::Faults;

/// Takes events from apps and tills, keeps them, and delivers them to the ad platform's events API.
#[derive(Debug, Parser)]
#[command(name = "beacon-relay", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Example: beacon-relay serve --sandbox")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the relay; what happens without a subcommand.
    Serve(serve::Serve),
    /// Prints what would run, and every fault of the configuration at once.
    Check(check::Check),
    /// Checks files of orders or ad events: errors as the relay would answer, and warnings.
    Validate(validate::Validate),
    /// Uploads a shop's file of orders, goes on where it stopped, and tells what became of each.
    Import(import::Import),
    /// Runs the fake events API alone.
    Sandbox(sandbox::Sandbox),
    /// Makes keys for clients.
    Key(key::Key),
    /// Shows what a running relay has in hand, and what keeps it from going.
    Status(status::Status),
    /// Lists dead letters of a running relay, puts them back in line, or drops them.
    Dead(dead::Dead),
    /// Sends nothing more to a destination, for a time or until it is resumed.
    Pause(pause::Pause),
    /// Sends to a paused destination again.
    Resume(pause::Resume),
    /// Looks into a data directory that no process holds, and mends it.
    Spool(spool::Spool),
    /// Asks a partner what a notification that never came would have said.
    Lookup(lookup::Lookup),
    /// Asks a running relay whether it is ready; for a container's health check.
    Health(health::Health),
}

/// The configuration that several commands read.
#[derive(Clone, Debug, Args)]
struct ConfigFile {
    /// Configuration file, laid over the compiled-in defaults
    #[arg(long, value_name = "FILE", env = "BEACON_RELAY_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn layers(&self) -> Layers {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Layers {
            file: self.config.clone(),
            environment: std::env::vars_os().filter_map(text).collect(),
            ..Layers::default()
        }
    }
}

/// A call that makes no sense with this configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// Runs the command line and chooses the exit code: 0 well, 1 a fault, 2 a refused configuration
/// or call.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Check(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Validate(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Sandbox(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Key(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Status(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Dead(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Pause(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Resume(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Spool(command) => command.run(),
        Command::Lookup(command) => command.run().map(|()| ExitCode::SUCCESS),
        Command::Health(command) => command.run().map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            for cause in error.chain() {
                // Where nobody can be told, the exit code must do.
                let _untold = writeln!(std::io::stderr(), "{cause}");
            }
            let no_key = matches!(error.downcast_ref(), Some(StartError::Key(_)));
            let refused = no_key || error.is::<Faults>() || error.is::<Refused>();
            ExitCode::from(if refused { 2 } else { 1 })
        }
    }
}

/// Says something to whoever asked for it. Nobody listening is no fault of the command.
fn say(text: &str) {
    let _unheard = writeln!(std::io::stdout(), "{}", text.trim_end_matches('\n'));
}

/// A runtime with a worker for each core.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
