//! The layers of a configuration and their merging; every value remembers where it was written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Place};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The value.
    pub value: Value,
    /// Where.
    pub place: Place,
    /// Directory that relative paths in it are meant from; nothing for what is compiled in.
    pub base: Option<Arc<PathBuf>>,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Text in a file.
    String(String),
    /// Text of the environment or a flag, which may stand for a number or a bool.
    Loose(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Bool(bool),
    /// A list.
    Array(Vec<Item>),
    /// A table.
    Table(Table),
    /// What no setting takes: a float or a date.
    Other(&'static str),
}

impl Value {
    /// The text of a file's value.
    pub(super) fn as_string(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }
}

/// A table by key.
pub(super) type Table = BTreeMap<String, Item>;

/// Lists of tables that are merged by their `name`.
const NAMED: [&str; 2] = ["source", "destination"];

/// Reads a layer from TOML; what is no TOML becomes faults.
pub(super) fn from_toml(
    origin: &Arc<str>,
    text: &str,
    base: Option<Arc<PathBuf>>,
    faults: &mut Vec<Fault>,
) -> Table {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let offset = error.span().map_or(0, |span| span.start);
        faults.push(Fault {
            place: Place::in_text(origin, text, offset),
            what: format!("not TOML: {}", error.message().lines().next().unwrap_or("syntax error")),
            remedy: String::new(),
        });
    }
    let reading = Reading { origin, text, base };
    reading.table(table.get_ref())
}

struct Reading<'a> {
    origin: &'a Arc<str>,
    text: &'a str,
    base: Option<Arc<PathBuf>>,
}

impl Reading<'_> {
    fn table(&self, table: &DeTable<'_>) -> Table {
        let items = table.iter().map(|(key, value)| {
            // A key is what a person looks for, so its place stands for the value's.
            let place = Place::in_text(self.origin, self.text, key.span().start);
            (key.get_ref().to_string(), self.item(value, Some(place)))
        });
        items.collect()
    }

    fn item(&self, value: &Spanned<DeValue<'_>>, place: Option<Place>) -> Item {
        let own = || Place::in_text(self.origin, self.text, value.span().start);
        let place = place.unwrap_or_else(own);
        let value = match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix());
                parsed.map_or(Value::Other("a number beyond 64 bits"), Value::Integer)
            }
            DeValue::Float(_) => Value::Other("a float"),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Array(items) => {
                Value::Array(items.iter().map(|item| self.item(item, None)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Item { value, place, base: self.base.clone() }
    }
}

/// What the names of environment variables of ours start with.
const ENV_PREFIX: &str = "BEACON_RELAY_";

/// Reads a layer from environment variables: `BEACON_RELAY_SERVER__LISTEN` is `server.listen`.
/// Names without two underscores behind the prefix are not settings.
pub(super) fn from_environment(variables: &[(String, String)], base: &Arc<PathBuf>) -> Table {
    let mut layer = Table::new();
    for (name, text) in variables {
        let Some(path) = name.strip_prefix(ENV_PREFIX).filter(|path| path.contains("__")) else {
            continue;
        };
        let place = Place::outside(format!("environment variable {name}"));
        let path: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
        put(&mut layer, &path, text, &place, base);
    }
    layer
}

/// Sets one scalar of a layer, making the tables on the way.
pub(super) fn put(
    layer: &mut Table,
    path: &[String],
    text: &str,
    place: &Place,
    base: &Arc<PathBuf>,
) {
    let item = |value| Item { value, place: place.clone(), base: Some(Arc::clone(base)) };
    match path {
        [] => {}
        [key] => {
            layer.insert(key.clone(), item(Value::Loose(text.to_owned())));
        }
        [key, rest @ ..] => {
            let inner =
                layer.entry(key.clone()).or_insert_with(|| item(Value::Table(Table::new())));
            if let Value::Table(inner) = &mut inner.value {
                put(inner, rest, text, place, base);
            }
        }
    }
}

/// Lays `upper` over `lower`: tables member by member, named lists by name, all else replaced.
pub(super) fn merge(lower: &mut Table, upper: Table) {
    // A secret stands in a variable or a file: who names one has no use for the other.
    for key in upper.keys() {
        if let Some(other) = other_place(key).filter(|other| !upper.contains_key(other)) {
            lower.remove(&other);
        }
    }
    for (key, item) in upper {
        match lower.get_mut(&key) {
            None => {
                lower.insert(key, item);
            }
            Some(old) => {
                let named = NAMED.contains(&key.as_str());
                merge_item(old, item, named);
            }
        }
    }
}

/// `secret_file` of `secret_env`, and back.
fn other_place(key: &str) -> Option<String> {
    let variable = key.strip_suffix("_env").map(|secret| format!("{secret}_file"));
    variable.or_else(|| key.strip_suffix("_file").map(|secret| format!("{secret}_env")))
}

fn merge_item(old: &mut Item, new: Item, named: bool) {
    match (&mut old.value, new.value) {
        (Value::Table(lower), Value::Table(upper)) if is_of_another_type(lower, &upper) => {
            *lower = upper;
            old.place = new.place;
        }
        (Value::Table(lower), Value::Table(upper)) => {
            merge(lower, upper);
            old.place = new.place;
        }
        (Value::Array(lower), Value::Array(upper)) if named => {
            for item in upper {
                let same =
                    lower.iter_mut().find(|own| name(own).is_some() && name(own) == name(&item));
                match same {
                    Some(own) => merge_item(own, item, false),
                    None => lower.push(item),
                }
            }
        }
        (_, value) => *old = Item { value, ..new },
    }
}

/// Whether both say what they are, and it is not the same: then they have no member in common.
fn is_of_another_type(lower: &Table, upper: &Table) -> bool {
    let of = |table: &Table| Some(table.get("type")?.value.as_string()?.to_owned());
    matches!((of(lower), of(upper)), (Some(lower), Some(upper)) if lower != upper)
}

fn name(item: &Item) -> Option<&str> {
    if let Value::Table(table) = &item.value { table.get("name")?.value.as_string() } else { None }
}
