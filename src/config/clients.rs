//! `[[client]]` tables: what was written, checked and with every default filled in.

use std::sync::Arc;

use super::reader::Reader;
use super::{access, sources};
use crate::caller::{Client, Clients, Credential, KeyDigest, Rate, Scope};
use crate::event::{ClientName, SourceName};

/// Keys of one client: two, so that one can take the other's place without a pause.
const KEYS_MAX: usize = 2;

/// Reads every client; what is wrong is noted.
pub(super) fn read(reader: &Reader<'_>, names: &[SourceName]) -> Clients {
    let mut list: Vec<Client> = Vec::new();
    for reader in reader.tables("client") {
        if let Some(client) = client(&reader, names) {
            apart(&reader, &list, &client);
            list.push(client);
        }
        reader.finish();
    }
    Clients::new(list)
}

fn client(reader: &Reader<'_>, names: &[SourceName]) -> Option<Client> {
    let name = sources::name(reader);
    let credential = credential(reader);
    let sources = scope(reader, "sources", |text| source(reader, names, text));
    let publishers = scope(reader, "publishers", |text| {
        if text.is_empty() {
            reader.fault("publishers", "holds an empty text", "remove it");
        }
        Some(text.into())
    });
    let rate = reader.parsed("rate", str::parse::<Rate>);
    Some(Client {
        name: ClientName::new(name?),
        credential: credential?,
        sources,
        publishers,
        rate,
    })
}

/// What a client is known by: its keys, or for a web page its origins.
fn credential(reader: &Reader<'_>) -> Option<Credential> {
    if reader.item("origins").is_none() {
        return keys(reader);
    }
    if reader.item("key_sha256").is_some() {
        let remedy = "a web page cannot keep a key: make two clients of it";
        reader.fault("key_sha256", "stands beside origins", remedy);
    }
    let origins = access::origins(reader, "origins");
    if origins.is_empty() {
        reader.fault("origins", "names none", r#"write origins = ["https://shop.example"]"#);
    }
    Some(Credential::Origins(origins))
}

fn keys(reader: &Reader<'_>) -> Option<Credential> {
    let remedy = "run `beacon-relay key new NAME`, which prints a key and this table for it";
    if reader.item("key_sha256").is_none() {
        reader.missing("key_sha256", remedy);
        return None;
    }
    let texts = reader.text_or_texts("key_sha256")?;
    if texts.is_empty() || texts.len() > KEYS_MAX {
        let what = format!("holds {} digests", texts.len());
        reader.fault("key_sha256", what, "write one, or two while one key replaces the other");
    }
    let mut keys = Vec::with_capacity(texts.len());
    for text in texts {
        match text.parse::<KeyDigest>() {
            Ok(key) if keys.contains(&key) => {
                reader.fault("key_sha256", "holds one digest twice", "remove one");
            }
            Ok(key) => keys.push(key),
            Err(error) => reader.fault("key_sha256", error, remedy),
        }
    }
    Some(Credential::Keys(keys))
}

fn source(reader: &Reader<'_>, names: &[SourceName], text: &str) -> Option<SourceName> {
    let known = names.iter().find(|known| known.as_str() == text);
    if known.is_none() {
        let names: Vec<&str> = names.iter().map(SourceName::as_str).collect();
        let what = format!("names {text:?}, which is no source");
        reader.fault("sources", what, format!("use one of: {}", names.join(", ")));
    }
    known.cloned()
}

/// A list that narrows what a client may; without it nothing is narrowed.
fn scope<T>(
    reader: &Reader<'_>,
    key: &'static str,
    read: impl FnMut(&str) -> Option<T>,
) -> Scope<T> {
    if reader.item(key).is_none() {
        return Scope::Any;
    }
    let texts = reader.texts(key).unwrap_or_default();
    if texts.is_empty() {
        reader.fault(key, "names nothing", "remove it to allow all, or name what is allowed");
    }
    Scope::Only(texts.into_iter().filter_map(read).collect::<Arc<[T]>>())
}

/// Notes what a client shares with another that it may not.
fn apart(reader: &Reader<'_>, list: &[Client], client: &Client) {
    for other in list {
        if other.name == client.name {
            reader.fault("name", "is taken by another client", "choose another");
        }
        match (&client.credential, &other.credential) {
            (Credential::Keys(own), Credential::Keys(others)) => {
                if own.iter().any(|key| others.contains(key)) {
                    let what = format!("holds a key of client {:?}", other.name);
                    reader.fault("key_sha256", what, "give each client a key of its own");
                }
            }
            (Credential::Origins(own), Credential::Origins(others)) => {
                if let Some(origin) = own.iter().find(|origin| others.contain(origin)) {
                    let what = format!("holds {origin}, which is client {:?}", other.name);
                    reader.fault("origins", what, "name each origin once");
                }
            }
            (Credential::Keys(_), Credential::Origins(_))
            | (Credential::Origins(_), Credential::Keys(_)) => {}
        }
    }
}
