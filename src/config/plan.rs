//! What will run: every setting read, cross-checked, and every fault found at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::fault::{Faults, Place};
use super::layers::Table;
use super::plain;
use super::profiles::{self, Profiles};
use super::reader::{Found, Reader};
use super::secret::{self, Outside};
use super::sources::{self, Schemas, Standing};
use super::written::Written;
use super::{Admin, access, admin, clients, destinations, lookups, tls};
use crate::caller::Access;
use crate::clock::Timestamp;
use crate::event::{DestinationName, SourceName};
use crate::forward::verdict::WhenUnsure;
use crate::origin::Origins;
use crate::source::keep::Keep;
use crate::spool::embedded::Keyring;
use crate::{forward, http, log, lookup, source};

/// What will run.
#[derive(Debug)]
pub struct Plan {
    /// The public listener.
    pub server: Server,
    /// The admin listener.
    pub admin: Admin,
    /// The store.
    pub spool: Spool,
    /// The log.
    pub log: log::Settings,
    /// Who may post.
    pub access: Access,
    /// The ways in.
    pub sources: Vec<source::Settings>,
    /// What of theirs can be looked up.
    pub lookups: Vec<lookup::Settings>,
    /// Those that take nothing until they name a destination.
    pub off: Vec<SourceName>,
    /// The ways out.
    pub destinations: Vec<forward::Settings>,
    /// All that was written, by name.
    pub written: Written,
}

impl Plan {
    /// What would run and may harm, at `now`: sentences for `check` and the log.
    #[must_use]
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let certificate = self.server.tls.as_ref().and_then(|opened| opened.tls.warning(now));
        self.sources.iter().flat_map(plain::warnings).chain(certificate).collect()
    }
}

/// The public listener.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Certificates; without them connections are plain.
    pub tls: Option<http::tls::Opened>,
    /// What one request may cost.
    pub requests: http::receive::Limits,
    /// What connections may cost.
    pub connections: http::listener::Limits,
    /// Clients and addresses whose rate is kept at once.
    pub addresses_max: usize,
    /// Levels of nesting in a body.
    pub depth_max: usize,
    /// How long it serves on after readiness failed.
    pub drain_delay: Duration,
    /// How long what is under way gets at a stop.
    pub grace: Duration,
}

/// The store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    /// Its directory.
    pub path: PathBuf,
    /// Bytes it may use.
    pub max_bytes: u64,
    /// Bytes that dead letters may use of them; never more than a quarter.
    pub dead_max_bytes: u64,
    /// How long a dead letter is kept.
    pub dead_max_age: Duration,
    /// Deliveries that may wait for another attempt.
    pub retrying_max: usize,
    /// What bodies are encrypted with on disk; plain without keys.
    pub keys: Keyring,
}

/// The least that holds two segments of a useful size.
const SPOOL_BYTES_MIN: u64 = 4 << 20;

/// The least that holds a few letters of the largest bodies.
const DEAD_BYTES_MIN: u64 = 1 << 20;

/// Reads the merged layers.
///
/// # Errors
/// Every [`Faults`] at once; those of `found` included.
pub(super) fn plan(root: &Table, found: Found, outside: &dyn Outside) -> Result<Plan, Faults> {
    let place = Place::outside("the configuration");
    let reader = Reader::new(root, String::new(), place, &found);
    // Whether there is any decides how far the door may be open; who they are is read further down.
    let has_clients = !reader.tables("client").is_empty();
    let server = reader.table("server").and_then(|reader| server(reader, has_clients));
    let admin = reader.table("admin").and_then(|reader| admin::read(reader, outside));
    let spool = reader.table("spool").and_then(|reader| spool(reader, outside));
    let log = reader.table("log").and_then(log_settings);
    if let (Some((server, _)), Some(admin)) = (&server, &admin)
        && server.listen == admin.listen
        && server.listen.port() != 0
    {
        let what = format!("and server.listen are both {}", server.listen);
        reader.inner_fault("admin", "listen", what, "give each listener a port of its own");
    }
    let mut destinations = destination_list(&reader, outside);
    let names: Vec<DestinationName> =
        reader.names("destination").into_iter().map(DestinationName::new).collect();
    let profiles = profiles::read_all(&reader);
    let mut written = Written::of(root);
    let SourceList { list: mut sources, lookups, off, unsure } =
        source_list(&reader, outside, &names, &profiles, &mut written);
    for source in &mut sources {
        source.event_origins = event_origins(&source.to, &destinations);
        source.keep = keep(&source.to, &destinations);
    }
    destinations.iter_mut().for_each(|one| one.when_unsure_of.clone_from(&unsure));
    let names: Vec<SourceName> = reader.names("source").into_iter().map(SourceName::new).collect();
    let clients = clients::read(&reader, &names);
    reader.finish();
    let faults = found.into_sorted();
    match (server, admin, spool, log) {
        (Some((server, access)), Some(admin), Some(spool), Some(log)) if faults.is_empty() => {
            let access = Access { clients, ..access };
            Ok(Plan {
                server,
                admin,
                spool,
                log,
                access,
                sources,
                lookups,
                off,
                destinations,
                written,
            })
        }
        _ => Err(Faults(faults)),
    }
}

pub(super) fn address(reader: &Reader<'_>) -> Option<SocketAddr> {
    reader.parsed("listen", |text| {
        text.parse::<SocketAddr>().map_err(|_| r#"is no address: write "127.0.0.1:8080""#)
    })
}

fn server(reader: Reader<'_>, has_clients: bool) -> Option<(Server, Access)> {
    let listen = address(&reader);
    let access = access::read(&reader, listen, has_clients);
    let addresses_max = reader.count("addresses_max", 1, 10_000_000);
    let tls = tls::read(&reader);
    let size = |key, least: u64, most: u64, words| {
        let bytes = reader.bytes(key)?;
        let fits = (least..=most).contains(&bytes);
        if !fits {
            reader.fault(key, "is out of range", words);
        }
        usize::try_from(bytes).ok().filter(|_| fits)
    };
    let body_bytes_max = size("body_max", 1, 256 << 20, r#"write "1 B" to "256 MiB""#);
    let many_bytes_max = size("many_max", 1, 256 << 20, r#"write "1 B" to "256 MiB""#);
    if let (Some(one), Some(many)) = (body_bytes_max, many_bytes_max)
        && many < one
    {
        reader.fault("many_max", "is less than server.body_max", "write no less");
    }
    let all_bytes_max = size("bodies_max", 1, 64 << 30, r#"write "1 B" to "64 GiB""#);
    if let (Some(many), Some(all)) = (many_bytes_max, all_bytes_max)
        && all < many
    {
        reader.fault("bodies_max", "is less than server.many_max", "write no less");
    }
    let items_max = reader.count("items_max", 1, 1_000_000);
    let inflate_ratio_max = reader.count("inflate_ratio_max", 1, 100_000);
    let body_within = reader.span("body_within");
    let head_within = reader.span("head_within");
    for (key, within) in [("body_within", body_within), ("head_within", head_within)] {
        if within.is_some_and(|within| within.is_zero()) {
            reader.fault(key, "is no time: nothing could be accepted", r#"write "10 s""#);
        }
    }
    let depth_max = reader.count("depth_max", 1, 100);
    let requests_max = reader.count("requests_max", 1, 1_000_000);
    let connections_max = reader.count("connections_max", 1, 1_000_000);
    let drain_delay = reader.span("drain_delay");
    let grace = reader.span("grace");
    reader.finish();
    let server = Server {
        listen: listen?,
        tls,
        requests: http::receive::Limits {
            body: http::body::Limits {
                bytes_max: body_bytes_max?,
                many_bytes_max: many_bytes_max?,
                all_bytes_max: all_bytes_max?,
                items_max: items_max?,
                depth_max: depth_max?,
                within: body_within?,
                inflate_ratio_max: inflate_ratio_max?,
            },
            requests_max: requests_max?,
        },
        connections: http::listener::Limits {
            connections_max: connections_max?,
            head_within: head_within?,
        },
        addresses_max: addresses_max?,
        depth_max: depth_max?,
        drain_delay: drain_delay?,
        grace: grace?,
    };
    Some((server, access?))
}

fn spool(reader: Reader<'_>, outside: &dyn Outside) -> Option<Spool> {
    reader.choice("engine", &[("embedded", ())]);
    let path = reader.text("path").map(PathBuf::from);
    let max_bytes = reader.bytes("max_bytes");
    if max_bytes.is_some_and(|bytes| bytes < SPOOL_BYTES_MIN) {
        reader.fault("max_bytes", "is too small for a spool", r#"write "4 MiB" or more"#);
    }
    let dead_max_bytes = reader.bytes("dead_max_bytes");
    if dead_max_bytes.is_some_and(|bytes| bytes < DEAD_BYTES_MIN) {
        reader.fault("dead_max_bytes", "is too small for dead letters", r#"write "1 MiB" or more"#);
    }
    let dead_max_age = reader.span("dead_max_age");
    if dead_max_age.is_some_and(|age| age.is_zero()) {
        reader.fault("dead_max_age", "is no time: no letter could be read", r#"write "30 d""#);
    }
    let retrying_max = reader.count("retrying_max", 1, 10_000_000);
    let keys = keyring(&reader, outside);
    reader.finish();
    Some(Spool {
        path: path?,
        max_bytes: max_bytes?,
        dead_max_bytes: dead_max_bytes?,
        dead_max_age: dead_max_age?,
        retrying_max: retrying_max?,
        keys: keys?,
    })
}

/// The keys of the spool: none is fine, one that is none is not.
fn keyring(reader: &Reader<'_>, outside: &dyn Outside) -> Option<Keyring> {
    let (variable, file) = ("encryption_key_env", "encryption_key_file");
    let asked = [variable, file].into_iter().find(|key| reader.text(key).is_some());
    let secret = secret::read(reader, outside, variable, file);
    match (asked, secret) {
        (None, _) => Some(Keyring::default()),
        // What is wrong was said where it was read.
        (Some(_), None) => None,
        (Some(key), Some(secret)) => match Keyring::parse(&secret) {
            Ok(keys) => Some(keys),
            Err(fault) => {
                let remedy = "write 32 random bytes, as `openssl rand -hex 32` prints them; to \
                              change the key put the new one before the old one";
                reader.fault(key, fault.to_string(), remedy);
                None
            }
        },
    }
}

fn log_settings(reader: Reader<'_>) -> Option<log::Settings> {
    let level = reader.parsed("level", log::Level::parse);
    let formats =
        [("auto", log::Format::Auto), ("text", log::Format::Text), ("json", log::Format::Json)];
    let format = reader.choice("format", &formats);
    reader.finish();
    Some(log::Settings { level: level?, format: format? })
}

fn destination_list(reader: &Reader<'_>, outside: &dyn Outside) -> Vec<forward::Settings> {
    let mut list: Vec<forward::Settings> = Vec::new();
    for reader in reader.tables("destination") {
        if let Some(settings) = destinations::read(&reader, outside) {
            if list.iter().any(|one| one.name == settings.name) {
                reader.fault("name", "is taken by another destination", "choose another");
            }
            list.push(settings);
        }
        reader.finish();
    }
    // A spool's records have room for so many.
    if list.len() > 32 {
        reader.fault("destination", "has more than 32 tables", "run a second relay");
    }
    list
}

type Unsure = BTreeMap<SourceName, WhenUnsure>;

/// What the tables of sources come to.
struct SourceList {
    list: Vec<source::Settings>,
    lookups: Vec<lookup::Settings>,
    off: Vec<SourceName>,
    /// What those want done with what may have arrived that say so themselves.
    unsure: Unsure,
}

fn source_list(
    reader: &Reader<'_>,
    outside: &dyn Outside,
    destinations: &[DestinationName],
    profiles: &Profiles,
    written: &mut Written,
) -> SourceList {
    let (mut list, mut schemas) = (Vec::<source::Settings>::new(), Schemas::new());
    let (mut lookups, mut off) = (Vec::new(), Vec::new());
    let mut unsure = Unsure::new();
    for reader in reader.tables("source") {
        let when_unsure = destinations::when_unsure(&reader);
        let read = sources::read(&reader, outside, destinations, &mut schemas, profiles);
        // It is asked for in any case, so that it is no unknown setting.
        let lookup = lookups::read(&reader, outside, read.as_ref());
        if let Some((mut settings, standing)) = read {
            if list.iter().map(|one| &one.name).chain(&off).any(|name| *name == settings.name) {
                reader.fault("name", "is taken by another source", "choose another");
            }
            if settings.name.as_str() == http::by_url::NAME {
                reader.fault("name", "is the relay's own name for events by URL", "choose another");
            }
            if http::ROUTES_TAKEN.iter().any(|taken| overlap(taken, &settings.path)) {
                reader.fault("path", "is taken by the relay itself", "choose another path");
            }
            let other = list.iter().find(|one| overlap(&one.path, &settings.path));
            // What is off leaves its path to others.
            if let Some(other) = other.filter(|_| standing == Standing::On) {
                let what =
                    format!("and the path of source {:?} take the same requests", other.name);
                reader.fault("path", what, "give each source a path of its own");
            }
            unsure.extend(when_unsure.map(|when| (settings.name.clone(), when)));
            match standing {
                Standing::On => {
                    if let Some((lookup, awaited)) = lookup {
                        settings.awaited = Some(awaited);
                        lookups.push(lookup);
                    }
                    list.push(settings);
                }
                Standing::Off => off.push(settings.name),
            }
        }
        reader.finish();
    }
    for (file, loaded) in &schemas {
        if let Some(loaded) = loaded {
            written.file(&format!("schema {file}"), loaded.text.as_bytes());
        }
    }
    SourceList { list, lookups, off, unsure }
}

/// The origins to which all of `to` send events that name their URL. A destination with a path of
/// its own sends every event there, whatever it names.
fn event_origins(to: &[DestinationName], destinations: &[forward::Settings]) -> Origins {
    let by_url: Vec<&Origins> = destinations
        .iter()
        .filter(|one| to.contains(&one.name))
        .filter_map(|one| Some(&one.shape.by_url()?.origins))
        .collect();
    let Some((first, others)) = by_url.split_first() else { return Origins::default() };
    let shared = first.iter().filter(|origin| others.iter().all(|one| one.contain(origin)));
    Origins::new(shared.cloned().collect())
}

/// What any of `to` wants to know of a client's request.
fn keep(to: &[DestinationName], destinations: &[forward::Settings]) -> Keep {
    let wanted = || {
        let own = destinations.iter().filter(|one| to.contains(&one.name));
        own.map(|one| one.shape.lead().client())
    };
    let names = wanted().flat_map(|client| client.headers.iter().cloned());
    Keep::new(names, wanted().any(|client| client.address_as.is_some()))
}

/// Whether some request would fit both paths equally well.
fn overlap(one: &str, other: &str) -> bool {
    let (one, other): (Vec<&str>, Vec<&str>) =
        (one.split('/').collect(), other.split('/').collect());
    let open = |segment: &str| segment.starts_with('{');
    one.len() == other.len() && one.iter().zip(&other).all(|(a, b)| a == b || (open(a) && open(b)))
}
