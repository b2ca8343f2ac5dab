//! What was written, setting by setting: so that a configuration that is read again can be told
//! apart from the one that runs, by names alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sha2::{Digest, Sha256};

use super::layers::{Item, Table, Value};

/// Every setting by its path, as `server.body_max` or `client "till".rate`, and every file that a
/// setting names by its name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Written(BTreeMap<String, String>);

impl Written {
    /// The settings of the merged layers.
    pub(super) fn of(root: &Table) -> Self {
        let mut written = Self::default();
        written.table("", root);
        written
    }

    fn table(&mut self, path: &str, table: &Table) {
        for (key, item) in table {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match &item.value {
                Value::Table(inner) => self.table(&path, inner),
                Value::Array(items) if items.iter().any(is_table) => self.tables(&path, items),
                Value::String(_)
                | Value::Loose(_)
                | Value::Integer(_)
                | Value::Bool(_)
                | Value::Array(_)
                | Value::Other(_) => {
                    self.0.insert(path, shown(&item.value));
                }
            }
        }
    }

    fn tables(&mut self, path: &str, items: &[Item]) {
        for (number, item) in items.iter().enumerate() {
            let Value::Table(table) = &item.value else { continue };
            let name = table.get("name").and_then(|name| name.value.as_string());
            let name = name.map_or_else(|| number.to_string(), |name| format!("{name:?}"));
            self.table(&format!("{path} {name}"), table);
        }
    }

    /// Notes what a file holds, by a digest.
    pub(super) fn file(&mut self, name: &str, contents: &[u8]) {
        let digest = Sha256::digest(contents);
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.insert(name.to_owned(), digits);
    }

    /// The settings that `other` has otherwise, in their order.
    #[must_use]
    pub fn differences(&self, other: &Self) -> BTreeSet<String> {
        let keys = self.0.keys().chain(other.0.keys());
        keys.filter(|key| self.0.get(*key) != other.0.get(*key)).cloned().collect()
    }

    /// Takes over what `other` says of one setting.
    pub fn take(&mut self, other: &Self, setting: &str) {
        match other.0.get(setting) {
            Some(value) => {
                self.0.insert(setting.to_owned(), value.clone());
            }
            None => {
                self.0.remove(setting);
            }
        }
    }

    /// The named tables of a kind, as `source "a"`.
    #[must_use]
    pub fn names(&self, kind: &str) -> BTreeSet<&str> {
        let tables = self.0.keys().filter_map(|key| Some(&key[..=key.rfind('"')?]));
        tables.filter(|table| table.split(' ').next() == Some(kind)).collect()
    }

    /// Whether any setting of a table is there, as of `client "till"`.
    #[must_use]
    pub fn has(&self, table: &str) -> bool {
        self.0.keys().any(|key| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')))
    }
}

const fn is_table(item: &Item) -> bool {
    matches!(item.value, Value::Table(_))
}

/// A value without its place, which a line more above it would change.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) | Value::Loose(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Other(kind) => (*kind).to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| shown(&item.value)).collect();
            format!("[{}]", items.join(","))
        }
        Value::Table(table) => {
            let items = table.iter().map(|(key, item)| format!("{key}={}", shown(&item.value)));
            format!("{{{}}}", items.collect::<Vec<_>>().join(","))
        }
    }
}

/// How many there are: values may be anything an operator wrote.
impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Written({} settings)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers;

    fn written(text: &str) -> Written {
        let mut faults = Vec::new();
        let table = layers::from_toml(&"t".into(), text, None, &mut faults);
        assert!(faults.is_empty());
        Written::of(&table)
    }

    #[test]
    fn a_difference_is_told_by_its_name_and_a_place_is_none() {
        let old = written(
            "[server]\nbody_max = \"1 KiB\"\nlisten = \"a\"\n[[client]]\nname = \"a\"\nrate = \"1/s\"\n\
             [[client]]\nname = \"b\"\nretry = { wait = \"1 s\" }\n",
        );
        let new = written(
            "\n\n[server]\nlisten = \"a\"\nbody_max = \"2 KiB\"\n[[client]]\nname = \"b\"\n\
             retry = { wait = \"2 s\" }\n[[client]]\nname = \"c\"\nlist = [1, 2]\n",
        );
        let told: Vec<String> = old.differences(&new).into_iter().collect();
        let expected = [
            "client \"a\".name",
            "client \"a\".rate",
            "client \"b\".retry.wait",
            "client \"c\".list",
            "client \"c\".name",
            "server.body_max",
        ];
        assert_eq!(told, expected);
        assert!(old.has("client \"a\"") && !new.has("client \"a\"") && !old.has("client \"\""));
        assert_eq!(new.names("client"), BTreeSet::from(["client \"b\"", "client \"c\""]));
        assert!(new.names("server").is_empty());
        let mut taken = old.clone();
        told.iter().for_each(|setting| taken.take(&new, setting));
        assert_eq!(taken, new);
        assert_eq!(format!("{new:?}"), "Written(6 settings)");
    }

    #[test]
    fn a_file_is_told_by_what_it_holds() {
        let (mut old, mut new) = (Written::default(), Written::default());
        old.file("schema a.json", b"{}");
        new.file("schema a.json", b"{}");
        assert!(old.differences(&new).is_empty());
        new.file("schema a.json", b"{ }");
        assert_eq!(old.differences(&new).len(), 1);
    }
}
