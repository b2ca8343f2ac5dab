//! The log: structured lines on standard error, without a body value in any of them.

pub mod crash;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is written, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is written.
    pub level: Level,
    /// How.
    pub format: Format,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: Level("info".to_owned()), format: Format::Auto }
    }
}

/// Directives of what is written, as `info,beacon_relay::forward=debug`.
#[derive(Clone, Debug)]
pub struct Level(String);

impl Level {
    /// Reads directives.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(text: &str) -> Result<Self, String> {
        match EnvFilter::builder().parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => {
                Err(r#"is no level: write "info", or "info,beacon_relay::forward=debug""#.into())
            }
        }
    }
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text in a terminal, else JSON.
    Auto,
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Starts the log of the process; a second call, as in tests, changes nothing.
pub fn start(settings: &Settings) {
    let filter = EnvFilter::new(&settings.level.0);
    let terminal = std::io::stderr().is_terminal();
    let json = match settings.format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if json {
        lines.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        lines.with_ansi(terminal).with_target(false).try_init()
    };
    if started.is_err() {
        tracing::debug!("the log was started before");
    }
}
