//! Configuration: the compiled-in default, below a file, below the environment, below flags.
//!
//! Each room owns its settings type; this one gathers them and finds every fault at once.

mod access;
mod admin;
mod auth;
mod clients;
mod destinations;
mod egress;
pub mod fault;
mod layers;
mod lookups;
mod multi_site;
mod plain;
pub mod plan;
mod profiles;
mod reader;
mod secret;
mod sources;
mod tls;
mod written;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fault::{Fault, Faults, Place};
use layers::{Item, Table, Value};
use reader::Found;
use secret::Outside;

pub use admin::Admin;
pub use plan::Plan;
pub use written::Written;

/// The lowest layer, with every default explained.
pub const DEFAULT: &str = include_str!("../../config/relay.toml");

/// The destination that `--upstream` and `--sandbox` turn elsewhere.
const UPSTREAM: &str = "events-api";

/// A schema that the program carries, by its name in a configuration.
///
/// # Errors
/// The faults of a schema that cannot be used, which a test rules out for those shipped.
pub fn shipped_schema(name: &str) -> Result<crate::schema::Schema, crate::schema::SchemaFault> {
    crate::schema::Schema::compile(name, sources::shipped(name).unwrap_or_default())
}

/// Whether a text may name a table of the configuration, as a client.
#[must_use]
pub fn is_name(name: &str) -> bool {
    sources::is_name(name)
}

/// What a configuration is made of, lowest first.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// A file of the operator's.
    pub file: Option<PathBuf>,
    /// Every environment variable; those of ours are picked.
    pub environment: Vec<(String, String)>,
    /// Flags: the flag's name, the setting's path, and the value.
    pub flags: Vec<(&'static str, &'static [&'static str], String)>,
    /// `--upstream`, which replaces the base URL of `events-api`.
    pub upstream: Option<String>,
}

impl Outside for Layers {
    fn variable(&self, name: &str) -> Option<String> {
        let found = self.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    }
}

impl Layers {
    /// Merges the layers and plans what will run.
    ///
    /// # Errors
    /// Every fault at once, each with its place and remedy.
    pub fn plan(&self) -> Result<Plan, Faults> {
        let (root, found) = self.merged();
        plan::plan(&root, found, self)
    }

    /// Of the merged layers where a running relay is asked, and with which tokens. Whoever asks
    /// needs none of the relay's other secrets, nor settings that are right.
    ///
    /// # Errors
    /// Files that cannot be read, and an address that is none.
    pub fn admin(&self) -> Result<Admin, Faults> {
        let (root, found) = self.merged();
        admin::read_alone(&root, found, self)
    }

    fn merged(&self) -> (Table, Found) {
        let mut faults = Vec::new();
        let compiled: Arc<str> = "config/relay.toml (compiled in)".into();
        let mut root = layers::from_toml(&compiled, DEFAULT, None, &mut faults);
        if let Some(layer) = self.file_layer(&mut faults) {
            layers::merge(&mut root, layer);
        }
        let here = Arc::new(PathBuf::from("."));
        layers::merge(&mut root, layers::from_environment(&self.environment, &here));
        let mut flags = Table::new();
        for (flag, path, value) in &self.flags {
            let path: Vec<String> = path.iter().map(|&key| key.to_owned()).collect();
            layers::put(&mut flags, &path, value, &Place::outside(format!("flag {flag}")), &here);
        }
        layers::merge(&mut root, flags);
        if let Some(url) = &self.upstream {
            layers::merge(&mut root, upstream(url));
        }
        let found = Found::default();
        for fault in faults {
            found.add(&fault.place, fault.what, fault.remedy);
        }
        (root, found)
    }

    fn file_layer(&self, faults: &mut Vec<Fault>) -> Option<Table> {
        let file = self.file.as_ref()?;
        let origin: Arc<str> = file.display().to_string().into();
        match std::fs::read_to_string(file) {
            Ok(text) => {
                let base = file.parent().unwrap_or(Path::new(".")).to_owned();
                Some(layers::from_toml(&origin, &text, Some(Arc::new(base)), faults))
            }
            Err(error) => {
                faults.push(Fault {
                    place: Place::outside(origin),
                    what: format!("the file cannot be read: {error}"),
                    remedy: "name a file with --config or BEACON_RELAY_CONFIG, or neither"
                        .to_owned(),
                });
                None
            }
        }
    }
}

fn upstream(url: &str) -> Table {
    let place = Place::outside("flag --upstream");
    let item = |value| Item { value, place: place.clone(), base: None };
    let text = |text: &str| item(Value::String(text.to_owned()));
    // Event URLs go there too: a trial never reaches production.
    let settings = [("name", UPSTREAM), ("base_url", url), ("event_urls", "base-url")];
    let table = settings.map(|(key, value)| (key.to_owned(), text(value))).into();
    let list = Value::Array(vec![item(Value::Table(table))]);
    Table::from([("destination".to_owned(), item(list))])
}
