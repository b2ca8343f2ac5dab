//! Reads settings out of a merged table, one by one, and remembers every fault on the way.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use super::fault::{Fault, Place};
use super::layers::{Item, Table, Value};
use crate::units;

const TEXT: &str = "a text";
const TEXTS: &str = "a list of texts";
const WHOLE: &str = "a whole number";
const FLAG: &str = "true or false";
const TABLE: &str = "a table";

/// The faults found so far, shared by every reader of a configuration.
#[derive(Debug, Default)]
pub(super) struct Found(RefCell<Vec<Fault>>);

impl Found {
    /// Notes a fault.
    pub(super) fn add(&self, place: &Place, what: impl Into<String>, remedy: impl Into<String>) {
        let fault = Fault { place: place.clone(), what: what.into(), remedy: remedy.into() };
        self.0.borrow_mut().push(fault);
    }

    /// Every fault, in the order of their places.
    #[must_use]
    pub(super) fn into_sorted(self) -> Vec<Fault> {
        let mut faults = self.0.into_inner();
        faults.sort();
        faults.dedup();
        faults
    }
}

/// Reads one table; what it was not asked for when it is finished is an unknown key.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    table: &'a Table,
    /// The table as a person would name it: `server`, `source "till"`.
    title: String,
    /// Where the table begins.
    pub(super) place: Place,
    found: &'a Found,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Reader<'a> {
    /// A reader of one table.
    #[must_use]
    pub(super) fn new(table: &'a Table, title: String, place: Place, found: &'a Found) -> Self {
        Self { table, title, place, found, asked: RefCell::default() }
    }

    /// The item under `key`.
    pub(super) fn item(&self, key: &'static str) -> Option<&'a Item> {
        self.asked.borrow_mut().insert(key);
        self.table.get(key)
    }

    /// Notes a fault of the value under `key`.
    pub(super) fn fault(&self, key: &'static str, what: impl Display, remedy: impl Into<String>) {
        let place = self.table.get(key).map_or(&self.place, |item| &item.place);
        self.found.add(place, format!("{} {what}", self.path(key)), remedy);
    }

    /// Notes a fault of a value in an inner table that was read before.
    pub(super) fn inner_fault(&self, table: &str, key: &str, what: String, remedy: &str) {
        let inner = self.table.get(table).map(|item| &item.value);
        let place = match inner {
            Some(Value::Table(inner)) => inner.get(key).map(|item| &item.place),
            Some(_) | None => None,
        };
        let what = format!("{}.{key} {what}", self.path(table));
        self.found.add(place.unwrap_or(&self.place), what, remedy);
    }

    fn path(&self, key: &str) -> String {
        if self.title.is_empty() { key.to_owned() } else { format!("{}.{key}", self.title) }
    }

    fn wants(&self, key: &'static str, wanted: &str, item: &Item) {
        let what = format!("is {}, not {wanted}", kind(&item.value));
        let remedy = match (&item.value, wanted) {
            (Value::Loose(_), TEXTS) => "write it in a file: variables and flags hold one value",
            (_, TEXTS) => r#"write it in brackets, as ["…", "…"]"#,
            (_, TEXT) => "write it in quotes, a time or a size with its unit",
            (_, WHOLE) => "write digits alone, without quotes",
            (_, FLAG) => "write true or false, without quotes",
            (_, TABLE) => "write it in braces, as { key = value }, or under a heading of its own",
            _ => "",
        };
        self.fault(key, what, remedy);
    }

    /// Text.
    pub(super) fn text(&self, key: &'static str) -> Option<&'a str> {
        let item = self.item(key)?;
        if let Value::String(text) | Value::Loose(text) = &item.value {
            return Some(text);
        }
        self.wants(key, TEXT, item);
        None
    }

    /// The path of a file as it is meant from the file that names it.
    pub(super) fn file(&self, key: &'static str) -> Option<PathBuf> {
        let written = self.text(key)?;
        let base = self.item(key).and_then(|item| item.base.as_ref());
        Some(base.map_or_else(|| PathBuf::from(written), |base| base.join(written)))
    }

    /// Text that `parse` understands.
    pub(super) fn parsed<T, E: Display>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(self.text(key)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(key, error, "");
                None
            }
        }
    }

    /// One of the words of `choices`.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let known = choices.iter().find(|(word, _)| *word == text);
        if known.is_none() {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.fault(key, format!("is {text:?}"), format!("write {}", words.join(" or ")));
        }
        known.map(|(_, value)| *value)
    }

    /// A duration with its unit.
    pub(super) fn span(&self, key: &'static str) -> Option<Duration> {
        self.parsed(key, units::span)
    }

    /// A size with its unit, in bytes.
    pub(super) fn bytes(&self, key: &'static str) -> Option<u64> {
        self.parsed(key, units::bytes)
    }

    /// A whole number from `least` to `most`.
    pub(super) fn count(&self, key: &'static str, least: u32, most: u32) -> Option<usize> {
        let item = self.item(key)?;
        let number = match &item.value {
            Value::Integer(number) => Some(*number),
            Value::Loose(text) => text.parse().ok(),
            Value::String(_) | Value::Bool(_) | Value::Array(_) | Value::Table(_) => None,
            Value::Other(_) => None,
        };
        let Some(number) = number else {
            self.wants(key, WHOLE, item);
            return None;
        };
        let fits = u32::try_from(number).ok().filter(|number| (least..=most).contains(number));
        if fits.is_none() {
            self.fault(key, format!("is {number}"), format!("write {least} to {most}"));
        }
        fits.and_then(|number| usize::try_from(number).ok())
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let item = self.item(key)?;
        match &item.value {
            Value::Bool(flag) => return Some(*flag),
            Value::Loose(text) if text == "true" => return Some(true),
            Value::Loose(text) if text == "false" => return Some(false),
            Value::String(_) | Value::Loose(_) | Value::Integer(_) | Value::Array(_) => {}
            Value::Table(_) | Value::Other(_) => {}
        }
        self.wants(key, FLAG, item);
        None
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<&'a str>> {
        let item = self.item(key)?;
        let Value::Array(items) = &item.value else {
            self.wants(key, TEXTS, item);
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.value.as_string() {
                Some(text) => texts.push(text),
                None => self.wants(key, TEXTS, item),
            }
        }
        Some(texts)
    }

    /// A text, or a list of texts.
    pub(super) fn text_or_texts(&self, key: &'static str) -> Option<Vec<&'a str>> {
        if matches!(self.item(key)?.value, Value::Array(_)) {
            return self.texts(key);
        }
        self.text(key).map(|text| vec![text])
    }

    /// Whether the value is a list.
    pub(super) fn is_list(&self, key: &'static str) -> bool {
        matches!(self.item(key).map(|item| &item.value), Some(Value::Array(_)))
    }

    /// Whether the value is a plain `false`, which switches a part off.
    pub(super) fn is_off(&self, key: &'static str) -> bool {
        matches!(self.item(key).map(|item| &item.value), Some(Value::Bool(false)))
    }

    /// An inner table.
    pub(super) fn table(&self, key: &'static str) -> Option<Reader<'a>> {
        let item = self.item(key)?;
        let Value::Table(table) = &item.value else {
            self.wants(key, TABLE, item);
            return None;
        };
        Some(Reader::new(table, self.path(key), item.place.clone(), self.found))
    }

    /// Inner tables whose names the operator chose.
    pub(super) fn named_tables(&self, key: &'static str) -> Vec<(&'a str, Reader<'a>)> {
        let Some(item) = self.item(key) else { return Vec::new() };
        let Value::Table(tables) = &item.value else {
            self.wants(key, "a table of tables", item);
            return Vec::new();
        };
        let read = |(name, item): (&'a String, &'a Item)| {
            let title = format!("{}.{name}", self.path(key));
            let Value::Table(table) = &item.value else {
                let what = format!("{title} is {}, not a table", kind(&item.value));
                self.found.add(&item.place, what, "");
                return None;
            };
            Some((name.as_str(), Reader::new(table, title, item.place.clone(), self.found)))
        };
        tables.iter().filter_map(read).collect()
    }

    /// Every member of a table whose keys are the operator's own.
    pub(super) fn members(&self) -> Vec<(&'a str, &'a Item)> {
        self.table.iter().map(|(key, item)| (key.as_str(), item)).collect()
    }

    /// The inner table under a key of the operator's own.
    pub(super) fn inner(&self, key: &str) -> Option<Reader<'a>> {
        let item = self.table.get(key)?;
        let Value::Table(table) = &item.value else { return None };
        Some(Reader::new(table, self.path(key), item.place.clone(), self.found))
    }

    /// A list of tables, each titled by its name.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Reader<'a>> {
        let Some(item) = self.item(key) else { return Vec::new() };
        let Value::Array(items) = &item.value else {
            self.wants(key, &format!("a list of tables: write [[{key}]]"), item);
            return Vec::new();
        };
        let read = |item: &'a Item| {
            let Value::Table(table) = &item.value else {
                self.wants(key, "a list of tables", item);
                return None;
            };
            let name = table.get("name").and_then(|name| name.value.as_string());
            let title = name.map_or_else(|| key.to_owned(), |name| format!("{key} {name:?}"));
            Some(Reader::new(table, title, item.place.clone(), self.found))
        };
        items.iter().filter_map(read).collect()
    }

    /// The names of a list of tables, also of those that are read with faults: who names one of
    /// these has made no fault of its own.
    pub(super) fn names(&self, key: &'static str) -> Vec<&'a str> {
        let Some(Value::Array(items)) = self.item(key).map(|item| &item.value) else {
            return Vec::new();
        };
        let name = |item: &'a Item| {
            let Value::Table(table) = &item.value else { return None };
            table.get("name")?.value.as_string()
        };
        items.iter().filter_map(name).collect()
    }

    /// Whether a setting was written by who runs the relay, and is not the program's own default.
    pub(super) fn is_written(&self, key: &'static str) -> bool {
        self.item(key).is_some_and(|item| item.base.is_some())
    }

    /// Notes that `key` must be there.
    pub(super) fn missing(&self, key: &'static str, remedy: impl Into<String>) {
        self.found.add(&self.place, format!("{} is missing", self.path(key)), remedy);
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for (key, item) in self.table.iter().filter(|(key, _)| !asked.contains(key.as_str())) {
            let remedy = match near(key, &asked) {
                Some(known) => format!("did you mean {known:?}?"),
                None => {
                    let known: Vec<&str> = asked.iter().copied().collect();
                    format!("known here: {}", known.join(", "))
                }
            };
            self.found.add(&item.place, format!("{} is not a setting", self.path(key)), remedy);
        }
    }
}

/// The key that was most likely meant. What begins like a longer one is a secret written where the
/// name of its variable or file belongs; of a short key every letter counts.
fn near<'a>(key: &str, asked: &BTreeSet<&'a str>) -> Option<&'a str> {
    let longer = |known: &&&str| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('_'));
    if let Some(longer) = asked.iter().find(longer) {
        return Some(longer);
    }
    let most = (key.len() / 3).clamp(1, 3);
    let distance = |known: &'a str| (strsim::damerau_levenshtein(key, known), known);
    let (distance, known) = asked.iter().copied().map(distance).min()?;
    (distance <= most).then_some(known)
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) | Value::Loose(_) => "a text",
        Value::Integer(_) => "a number",
        Value::Bool(_) => "true or false",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
        Value::Other(kind) => kind,
    }
}
