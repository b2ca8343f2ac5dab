//! `import`: upload a shop's file of orders, go on where it stopped, tell what became of each.

mod columns;
mod content;
mod gathered;
mod judge;
mod lines;
mod map;
mod members;
mod moment;
mod number;
mod order;
mod outcome;
mod run;
mod show;
mod source;
mod state;
mod survey;
mod table;
mod upload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use self::content::{Content, Text};
use self::map::{Charset, Decimal, Delimiter, Map};
use self::run::{Bounds, Input, Run, Way};
use self::show::Show;
use self::source::{Format, Orders};
use self::state::{StateFile, Task, beside};
use self::survey::survey;
use self::table::TableFault;
use self::upload::{Relay, bearer, is_in_clear, orders_at};
use super::remote::reachable;
use super::{ConfigFile, Refused, web};
use crate::caller::Rate;
use crate::units;

/// Uploads a shop's file of orders, goes on where it stopped, and tells what became of each.
#[derive(Debug, Args)]
#[command(after_help = "Example: beacon-relay import orders.csv --map shop.toml --dry-run\n\
    A CSV file has one line an item, the lines of an order together, and names its columns in the\n\
    first line. An NDJSON file has one order a line. docs/IMPORT.md tells the rest.\n\
    Exit codes: 0 all are accepted or duplicates, 1 some were refused or it stopped before the\n\
    end, 2 the call or the file is wrong and nothing was sent")]
pub(super) struct Import {
    /// The file: CSV, or NDJSON
    file: PathBuf,
    /// Base URL of the relay [default: the public listener of the configuration]
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Environment variable that holds the client's key; in a dry run raw identity may then be there
    #[arg(long, value_name = "NAME")]
    key_env: Option<String>,
    /// Where the outcomes go, one JSON object an order [default: FILE.outcomes.ndjson]
    #[arg(long, value_name = "FILE")]
    outcomes: Option<PathBuf>,
    /// Mapping file: columns, fixed values, how numbers and moments are written
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Only checks and lints, by the schemas of the configuration; nothing is sent
    #[arg(long)]
    dry_run: bool,
    /// Forgets where an earlier run stopped
    #[arg(long)]
    restart: bool,
    /// What the file is [default: by its name, or by its first sign]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Between fields: a comma, a semicolon, a bar, or the word tab [default: by the first line]
    #[arg(long, value_name = "SIGN")]
    delimiter: Option<Delimiter>,
    /// utf-8, utf-16le, utf-16be or windows-1252 [default: by the file's bytes]
    #[arg(long, value_name = "NAME")]
    encoding: Option<Charset>,
    /// The decimal sign of numbers [default: by all numbers of the file]
    #[arg(long, value_enum)]
    decimal: Option<Decimal>,
    /// At most so many orders: 200/s, 6000/m, 50000/h [default: as fast as the relay takes them]
    #[arg(long)]
    rate: Option<Rate>,
    /// Orders in one request
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch: u16,
    /// How long one batch is tried while the relay is away or busy
    #[arg(long, value_name = "TIME", default_value = "15 m", value_parser = patience)]
    patience: Duration,
    /// Certificate authorities of the relay, PEM [default: those that browsers trust]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Prints the sums as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

fn patience(text: &str) -> Result<Duration, String> {
    units::span(text).map_err(|fault| fault.to_string())
}

impl Import {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let map = self.map()?;
        let name = self.file.display().to_string();
        let unreadable = |error: anyhow::Error| match error.downcast::<Refused>() {
            Ok(refused) => refused,
            Err(error) => Refused(format!("cannot read {name}: {error}")),
        };
        // A pipe cannot be read twice, nor gone on with.
        if !self.file.metadata().map_err(|error| unreadable(error.into()))?.is_file() {
            let what = format!("{name} is no file: an import reads it twice, and goes on in it");
            return Err(Refused(what).into());
        }
        let content = Content::of(&self.file, map.charset).map_err(unreadable)?;
        let format = match self.format {
            Some(format) => format,
            None => Format::of(&self.file, content.encoding)?,
        };
        let show = Show::new(content.lines);
        let wrong = |fault: TableFault| Refused(format!("{name}: {fault}; nothing was sent"));
        if format == Format::Ndjson && content.is_blank {
            return Err(Refused(format!("{name}: the file is empty; nothing was sent")).into());
        }
        let mut decimal = Decimal::Point;
        if format == Format::Csv {
            let file = std::fs::File::open(&self.file)?;
            let found = survey(Text::new(file, content.encoding), &map).map_err(wrong)?;
            decimal = found.decimal;
            if !found.unused.is_empty() {
                let unused = outcome::printable(&found.unused.join(", "));
                show.say(&format!("columns that are not sent: {unused}"));
            }
        }
        let orders = Orders::open(&self.file, &content, format, &map, decimal).map_err(wrong)?;
        let input = Input { name, path: self.file.clone(), stamp: content.stamp, orders };
        let reading = format!("{format:?} {decimal:?} {:?} {map:?}", content.encoding.name());
        let reading = content::digest(&[reading.as_bytes()]);
        let way = self.way(content.digest, reading)?;
        let bounds = Bounds { batch: usize::from(self.batch), rate: self.rate };
        let run = Run { input, way, bounds, show, is_json: self.json };
        super::runtime()?.block_on(run.whole())
    }

    /// The mapping file, and the flags over it.
    fn map(&self) -> Result<Map, Refused> {
        let mut map = self.map.as_deref().map_or_else(|| Ok(Map::default()), Map::read)?;
        map.delimiter = self.delimiter.or(map.delimiter);
        map.charset = self.encoding.or(map.charset);
        map.decimal = self.decimal.or(map.decimal);
        Ok(map)
    }

    /// Where the orders go.
    fn way(&self, input: String, reading: String) -> anyhow::Result<Way> {
        if self.dry_run {
            let judge = judge::Judge::new(self.config.layers().plan()?, self.key_env.is_some())?;
            return Ok(Way::Judge { judge: Box::new(judge), outcomes: self.outcomes.clone() });
        }
        let base = match &self.to {
            Some(url) => url.clone(),
            None => {
                let server = self.config.layers().plan()?.server;
                let scheme = if server.tls.is_some() { "https" } else { "http" };
                format!("{scheme}://{}", reachable(server.listen))
            }
        };
        let uri = orders_at(&base)?;
        if self.key_env.is_some() && is_in_clear(&uri) {
            eprintln!("the key and the orders cross a network without TLS, where they can be read");
        }
        let trust = web::trust(self.ca.as_deref())?;
        let to = uri.to_string();
        let relay = Relay::new(uri, self.key()?, &trust, self.patience);
        let outcomes = self.outcomes.clone();
        let outcomes = outcomes.unwrap_or_else(|| beside(&self.file, ".outcomes.ndjson"));
        let task = Task { input, reading, to, outcomes: outcomes.clone() };
        let state = StateFile::new(&self.file, task, self.restart);
        Ok(Way::Relay { relay: Box::new(relay), state, outcomes })
    }

    fn key(&self) -> Result<Option<http::HeaderValue>, Refused> {
        let Some(name) = &self.key_env else { return Ok(None) };
        match std::env::var(name) {
            Ok(key) if !key.trim().is_empty() => bearer(&key).map(Some),
            Ok(_) | Err(_) => Err(Refused(format!("the environment variable {name} holds no key"))),
        }
    }
}
