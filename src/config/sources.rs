//! `[[source]]` tables: what was written, checked and with every default filled in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::auth;
use super::layers::Value;
use super::multi_site;
use super::profiles::{self, Profiles};
use super::reader::Reader;
use super::secret::Outside;
use crate::event::{DestinationName, EventKind, SourceName};
use crate::origin::Origins;
use crate::schema::Schema;
use crate::source::aliases::{AliasFault, Aliases, Kind};
use crate::source::auth::Auth;
use crate::source::keep::Keep;
use crate::source::names::Names;
use crate::source::{
    Answer, Decode, DedupeRule, Get, OnInvalid, Selector, Settings, Takes, TestValue, Way,
};

/// The schema files that the program carries. The list stands beside them, so that a further
/// partner's schema is no matter of Rust.
const SHIPPED: &[(&str, &str)] = &include!("../../config/schemas/shipped.in");

/// The text of a schema that the program carries.
pub(super) fn shipped(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// Compiled schemas by where they were found, so that sources share them.
pub(super) type Schemas = BTreeMap<String, Option<Loaded>>;

/// A schema and the text that it was compiled from.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) schema: Arc<Schema>,
    pub(super) text: Arc<str>,
}

/// Each may double a part of a body.
const ALIASES_MAX: usize = 32;

/// A store that takes longer leaves its callers to their own time-outs.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The name of a table; without one it has no identity, which is noted.
pub(super) fn name<'a>(reader: &Reader<'a>) -> Option<&'a str> {
    if reader.item("name").is_none() {
        reader.missing("name", r#"write name = "…""#);
        return None;
    }
    let name = reader.text("name")?;
    if !is_name(name) {
        let remedy = "use 1 to 64 ASCII letters, digits, dashes, dots and underscores";
        reader.fault("name", "is no name for metrics and files", remedy);
        return None;
    }
    Some(name)
}

/// Whether a text may name something: it stands in metrics, files and tables as it is.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=64).contains(&name.len()) && name.chars().all(fits)
}

/// Reads one source; nothing when a part that it cannot do without is missing, which is noted.
pub(super) fn read(
    reader: &Reader<'_>,
    outside: &dyn Outside,
    destinations: &[DestinationName],
    schemas: &mut Schemas,
    profiles: &Profiles,
) -> Option<(Settings, Standing)> {
    let name = name(reader);
    let kinds = EventKind::ALL.map(|kind| (kind.as_str(), kind));
    let kind = required(reader, "kind", reader.choice("kind", &kinds));
    let path = required(reader, "path", path(reader));
    let standing = standing(reader);
    let auth = auth::read(reader, outside, kind, standing);
    let (decode, get) = decode(reader, kind);
    let names =
        [("exact", Names::Exact), ("any-case", Names::AnyCase), ("rewritten", Names::Rewritten)];
    let names = reader.choice("names", &names).unwrap_or_default();
    let on_invalid = on_invalid(reader, kind);
    let takes = takes(reader, decode);
    let signs = auth.as_ref().is_some_and(|auth| auth.headers().next().is_some());
    if signs && takes == Takes::Many {
        let remedy = r#"write many = false, or auth = { type = "clients" }"#;
        reader.fault("many", "is no way to send what is signed as one", remedy);
    }
    let schema = required(reader, "schema", schema(reader, schemas));
    let multi_site = multi_site::read(reader, kind, schema.as_ref());
    let pii = profiles::of_source(reader, profiles, schema.as_ref().map(|one| &*one.schema));
    if pii.is_some() && on_invalid == OnInvalid::DeadLetter {
        let what = "would keep what could not be read, raw identity among it";
        reader.fault("on_invalid", what, "leave out pii, or refuse what is invalid");
    }
    let aliases = aliases(reader);
    let utc = reader.flag("utc").unwrap_or(false);
    if utc && kind.is_some_and(|kind| kind != EventKind::Conversion) {
        reader.fault("utc", "is about an order's time, and this source takes none", "");
    }
    let (tests, dedupe) = (tests(reader), dedupe(reader));
    let answer = answer(reader);
    let answer_within = reader.span("answer_within").unwrap_or(ANSWER_WITHIN);
    if answer_within.is_zero() {
        reader.fault("answer_within", "is no time for the store to answer", "");
    }
    let to = required(reader, "to", to(reader, destinations));
    let path = path?;
    let selectors = auth.iter().flat_map(Auth::selectors);
    for selector in selectors.chain(dedupe.iter().flat_map(DedupeRule::selectors)) {
        if let Selector::Segment(name) = selector
            && !path.split('/').any(|segment| segment == format!("{{{name}}}"))
        {
            let what = format!("has no segment {{{name}}}, which {selector} chooses");
            reader.fault("path", what, "name one so");
        }
    }
    let settings = Settings {
        name: SourceName::new(name?),
        kind: kind?,
        path,
        auth: auth?,
        decode,
        get,
        takes,
        names,
        on_invalid,
        schema: schema?.schema,
        multi_site,
        aliases,
        utc,
        pii,
        tests,
        dedupe,
        answer,
        answer_within,
        to: to?,
        // Known when all destinations are.
        event_origins: Origins::default(),
        keep: Keep::default(),
        // Known when its lookup is.
        awaited: None,
    };
    Some((settings, standing))
}

/// Whether a source takes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It does.
    On,
    /// Its `to` is empty: its path is nobody's, and its secrets need not be there.
    Off,
}

fn standing(reader: &Reader<'_>) -> Standing {
    let is_off = matches!(reader.item("to").map(|item| &item.value), Some(Value::Array(to)) if to.is_empty());
    if is_off { Standing::Off } else { Standing::On }
}

fn required<T>(reader: &Reader<'_>, key: &'static str, value: Option<T>) -> Option<T> {
    if reader.item(key).is_none() {
        reader.missing(key, "see config/relay.toml for what a source has");
    }
    value
}

/// A path whose `{name}` segments stand for anything. What the router would not take is noted.
fn path(reader: &Reader<'_>) -> Option<String> {
    let path = reader.text("path")?;
    let segment = |segment: &str| match segment.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').is_some_and(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        }),
        None => !segment.is_empty() && !segment.contains(['{', '}', '?', '#', ' ', '*', ':']),
    };
    let fits = path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment));
    if !fits {
        let remedy = r#"write it as "/hooks/shop" or "/{version}/beacon/click/{ad_id}""#;
        reader.fault("path", "is no path", remedy);
        return None;
    }
    Some(path.to_owned())
}

/// What a POST's bodies are, and what a GET is: a partner's that looks whether the path is there,
/// unless its query is an item.
fn decode(reader: &Reader<'_>, kind: Option<EventKind>) -> (Decode, Get) {
    let no_get = match kind {
        Some(EventKind::Notification) => Get::Nothing,
        Some(EventKind::Conversion | EventKind::Impression | EventKind::View) => Get::Refused,
        Some(EventKind::Click) | None => Get::Refused,
    };
    let Some(inner) = reader.table("decode") else { return (Decode::Json, no_get) };
    let words =
        [("json", Decode::Json), ("beacon", Decode::Beacon), ("json-or-form", Decode::JsonOrForm)];
    let decode = inner.choice("POST", &words);
    let get = inner.choice("GET", &[("query", Get::Query), ("nothing", Get::Nothing)]);
    if get.is_some() && no_get == Get::Refused {
        inner.fault("GET", "is for a partner's notifications alone", "");
    }
    if inner.item("POST").is_none() {
        inner.missing("POST", r#"write decode = { POST = "json" }"#);
    }
    inner.finish();
    (decode.unwrap_or(Decode::Json), get.unwrap_or(no_get))
}

/// What becomes of items that cannot be used.
fn on_invalid(reader: &Reader<'_>, kind: Option<EventKind>) -> OnInvalid {
    let words = [("refuse", OnInvalid::Refuse), ("dead-letter", OnInvalid::DeadLetter)];
    let chosen = reader.choice("on_invalid", &words).unwrap_or(OnInvalid::Refuse);
    if chosen == OnInvalid::DeadLetter && kind.is_some_and(|kind| kind != EventKind::Notification) {
        let what = "would keep what no schema has passed, raw identity among it";
        reader.fault("on_invalid", what, "it is for a partner's notifications alone");
    }
    chosen
}

/// Whether a request may bring many items.
fn takes(reader: &Reader<'_>, decode: Decode) -> Takes {
    match (reader.flag("many"), decode) {
        (Some(true), Decode::Json) => Takes::Many,
        (Some(true), Decode::Beacon | Decode::JsonOrForm) => {
            let remedy = r#"write decode = { POST = "json" }, or many = false"#;
            reader.fault("many", "needs bodies of JSON alone", remedy);
            Takes::One
        }
        (Some(false) | None, _) => Takes::One,
    }
}

/// The schema of a file beside the configuration, or else of the program's own.
fn schema(reader: &Reader<'_>, schemas: &mut Schemas) -> Option<Loaded> {
    let written = reader.text("schema")?;
    let base = reader.item("schema").and_then(|item| item.base.clone());
    let file = base.map(|base| base.join(written)).filter(|file| file.exists());
    let found = match &file {
        Some(file) => file.display().to_string(),
        None => written.to_owned(),
    };
    if let Some(known) = schemas.get(&found) {
        return known.clone();
    }
    let compiled = compile(reader, written, file.as_deref());
    schemas.insert(found, compiled.clone());
    compiled
}

fn compile(reader: &Reader<'_>, written: &str, file: Option<&Path>) -> Option<Loaded> {
    let text = match file {
        Some(file) => match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                reader.fault(
                    "schema",
                    format!("names {written:?}, which cannot be read: {error}"),
                    "",
                );
                return None;
            }
        },
        None => match shipped(written) {
            Some(text) => text.to_owned(),
            None => {
                let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
                let remedy =
                    format!("put it beside the configuration, or use {}", names.join(", "));
                reader.fault("schema", format!("names {written:?}, which is not there"), remedy);
                return None;
            }
        },
    };
    match Schema::compile(written, &text) {
        Ok(schema) => Some(Loaded { schema: Arc::new(schema), text: text.into() }),
        Err(fault) => {
            reader.fault("schema", format!("names a schema that cannot be used:\n{fault}"), "");
            None
        }
    }
}

/// Other names for members: `{ rename = "/items/*/product_sku", to = "sku" }`, or `copy`.
fn aliases(reader: &Reader<'_>) -> Option<Aliases> {
    let mut aliases = Aliases::default();
    for inner in reader.tables("aliases") {
        let to = inner.text("to");
        let changes = [("rename", Kind::Rename), ("copy", Kind::Copy)];
        let mut paths =
            changes.iter().filter_map(|(key, kind)| Some((*key, *kind, inner.text(key)?)));
        match (paths.next(), paths.next(), to) {
            (Some((key, kind, path)), None, Some(to)) => {
                if let Err(fault) = aliases.add(kind, path, to) {
                    let key = match fault {
                        AliasFault::Path => key,
                        AliasFault::Name => "to",
                    };
                    inner.fault(key, fault, "");
                }
            }
            _ => inner.missing(
                "rename",
                r#"write { rename = "/a", to = "b" }, or { copy = "/a", to = "b" }"#,
            ),
        }
        inner.finish();
    }
    if aliases.count() > ALIASES_MAX {
        reader.fault(
            "aliases",
            format!("are more than {ALIASES_MAX}"),
            "give each shop its source",
        );
    }
    (aliases.count() > 0).then_some(aliases)
}

/// Values by which a partner's test notifications are known.
fn tests(reader: &Reader<'_>) -> Vec<TestValue> {
    let read = |inner: Reader<'_>| {
        let list = |key| inner.texts(key).unwrap_or_default().into_iter().map(Into::into).collect();
        let (is, holds): (Vec<Box<str>>, Vec<Box<str>>) = (list("is"), list("holds"));
        let at = inner.text("at");
        if !at.is_some_and(|at| at.starts_with('/')) || (is.is_empty() && holds.is_empty()) {
            inner.missing("at", r#"write { at = "/data/url", is = ["…"] }, or holds = ["…"]"#);
        }
        if holds.iter().any(|part| part.is_empty()) {
            inner.fault("holds", "names an empty text, which every text holds", "");
        }
        inner.finish();
        Some(TestValue { at: at?.into(), is, holds })
    };
    reader.tables("test_values").into_iter().filter_map(read).collect()
}

fn dedupe(reader: &Reader<'_>) -> Option<DedupeRule> {
    if reader.is_off("dedupe") {
        return None;
    }
    let ways = if reader.is_list("dedupe") {
        reader.tables("dedupe")
    } else {
        vec![reader.table("dedupe")?]
    };
    let ways: Vec<Way> = ways.into_iter().filter_map(way).collect();
    (!ways.is_empty()).then_some(DedupeRule(ways))
}

/// One way to tell repeats.
fn way(reader: Reader<'_>) -> Option<Way> {
    let written = reader.texts("key").unwrap_or_default();
    if written.is_empty() {
        reader.missing("key", r#"write key = ["body:/order_id"], or dedupe = false"#);
    }
    let mut key = Vec::with_capacity(written.len());
    for selector in written {
        match selector.parse::<Selector>() {
            Ok(selector) => key.push(selector),
            Err(error) => reader.fault("key", format!("holds {selector:?}"), error.to_string()),
        }
    }
    let window = reader.span("window");
    if reader.item("window").is_none() {
        reader.missing("window", r#"write window = "30 d""#);
    }
    let window = window.filter(|window| {
        let fits = (Duration::from_secs(1)..=Duration::from_secs(400 * 86_400)).contains(window);
        if !fits {
            reader.fault("window", "is no window", r#"write "1 s" to "400 d""#);
        }
        fits
    });
    reader.finish();
    Some(Way { key, window: window? })
}

fn answer(reader: &Reader<'_>) -> Answer {
    let mut answer = Answer { status: StatusCode::ACCEPTED, body: Bytes::new() };
    let Some(inner) = reader.table("answer") else { return answer };
    if let Some(status) = inner.count("status", 200, 299) {
        let status =
            u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        answer.status = status.unwrap_or(StatusCode::ACCEPTED);
    }
    if let Some(body) = inner.text("body") {
        if !body.is_empty() && crate::json::parse(body.as_bytes(), 64).is_err() {
            inner.fault("body", "is not JSON", "");
        }
        answer.body = Bytes::copy_from_slice(body.as_bytes());
    }
    inner.finish();
    answer
}

fn to(reader: &Reader<'_>, destinations: &[DestinationName]) -> Option<Vec<DestinationName>> {
    let mut to: Vec<DestinationName> = Vec::new();
    for name in reader.texts("to")? {
        let known = destinations.iter().find(|known| known.as_str() == name);
        match known {
            Some(known) if to.contains(known) => {
                reader.fault("to", format!("names {name:?} twice"), "");
            }
            Some(known) => to.push(known.clone()),
            None => {
                let names: Vec<&str> = destinations.iter().map(DestinationName::as_str).collect();
                let remedy = format!("add a [[destination]], or use one of: {}", names.join(", "));
                reader.fault("to", format!("names {name:?}, which is no destination"), remedy);
            }
        }
    }
    Some(to)
}
