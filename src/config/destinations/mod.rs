//! `[[destination]]` tables: what was written, checked and with every default filled in.

mod lead;
mod network;

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;
use http::uri::{PathAndQuery, Scheme};

use super::reader::Reader;
use super::secret::Outside;
use crate::event::{DestinationName, EventKind};
use crate::forward::Settings;
use crate::forward::backoff::{Backoff, MaxAge};
use crate::forward::client::Limits;
use crate::forward::request::{ByUrl, Route, Shape, Target};
use crate::forward::verdict::WhenUnsure;
use crate::origin::{Origin, Origins};

// What `config/relay.toml` writes for events-api, for a table that leaves it out.
const CONCURRENCY: usize = 32;
/// A fourth of the slots is kept for fresh events.
const LIVE_SHARE: usize = 4;
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(45);
const CONNECTION_MAX_AGE: Duration = Duration::from_secs(5 * 60);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ATTEMPT_WITHIN: Duration = Duration::from_secs(10);
const BACKOFF: Backoff = Backoff {
    wait_first: Duration::from_secs(1),
    wait_max: Duration::from_secs(15 * 60),
    retry_after_max: Duration::from_secs(60 * 60),
};
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Each keeps connections of its own.
const ORIGINS_MAX: usize = 64;

/// Reads one destination; nothing when it lacks a name or an address, which is noted.
pub(super) fn read(reader: &Reader<'_>, outside: &dyn Outside) -> Option<Settings> {
    let name = super::sources::name(reader);
    let base = base_url(reader);
    let concurrency = reader.count("concurrency", 1, 10_000).unwrap_or(CONCURRENCY);
    let reserved = reader.count("reserved_for_live", 0, 10_000);
    if reserved.is_some_and(|reserved| reserved >= concurrency) {
        let what = "leaves nothing of concurrency to what is not fresh";
        reader.fault("reserved_for_live", what, "write less than concurrency");
    }
    let reserved_for_live = reserved.unwrap_or(concurrency / LIVE_SHARE).min(concurrency - 1);
    let limits = Limits {
        idle_connections_max: reader
            .count("idle_connections_max", 0, 10_000)
            .unwrap_or(concurrency),
        pool_idle_timeout: reader.span("pool_idle_timeout").unwrap_or(POOL_IDLE_TIMEOUT),
        connection_max_age: reader.span("connection_max_age").unwrap_or(CONNECTION_MAX_AGE),
        connect_within: reader.span("connect_within").unwrap_or(CONNECT_WITHIN),
        attempt_within: reader.span("attempt_within").unwrap_or(ATTEMPT_WITHIN),
    };
    if limits.attempt_within.is_zero() || limits.attempt_within > Duration::from_secs(300) {
        reader.fault("attempt_within", "is no time for an attempt", "write 1 ms to 300 s");
    }
    if limits.connection_max_age.is_zero() {
        reader.fault("connection_max_age", "lets no connection be used twice", r#"write "5 m""#);
    }
    if limits.connect_within.is_zero() {
        reader.fault("connect_within", "is no time to connect", r#"write "5 s""#);
    }
    let backoff = backoff(reader);
    let max_age = max_age(reader);
    let when_unsure = when_unsure(reader).unwrap_or_default();
    let lead = lead::read(reader, outside);
    let target = target(reader, base.as_ref());
    let origin = base.map(|(origin, _)| origin);
    let network = network::read(reader, outside, origin.as_ref(), target.as_ref());
    let (shape, network) = (Shape::new(origin?, target?, lead?), network?);
    let name = DestinationName::new(name?);
    Some(Settings {
        name,
        shape,
        concurrency,
        reserved_for_live,
        limits,
        network,
        backoff,
        max_age,
        when_unsure,
        when_unsure_of: BTreeMap::new(),
    })
}

/// What is to be done with what may have arrived, when the table says so.
pub(super) fn when_unsure(reader: &Reader<'_>) -> Option<WhenUnsure> {
    let unsure = [
        ("by-kind", WhenUnsure::ByKind),
        ("retry", WhenUnsure::Retry),
        ("dead-letter", WhenUnsure::DeadLetter),
    ];
    reader.choice("when_unsure", &unsure)
}

type Base = (Origin, Option<PathAndQuery>);

fn base_url(reader: &Reader<'_>) -> Option<Base> {
    if reader.item("base_url").is_none() {
        reader.missing("base_url", r#"write base_url = "https://host""#);
        return None;
    }
    let text = reader.text("base_url")?;
    let remedy = r#"write it as "https://host" or "http://host:port""#;
    let Ok(uri) = text.parse::<Uri>() else {
        reader.fault("base_url", "is no URL", remedy);
        return None;
    };
    let parts = uri.into_parts();
    let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
        reader.fault("base_url", "has no scheme or no host", remedy);
        return None;
    };
    if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
        reader.fault("base_url", "is neither http nor https", remedy);
        return None;
    }
    if authority.host().is_empty() || (authority.port().is_some() && authority.port_u16().is_none())
    {
        reader.fault("base_url", "has no host or no such port", remedy);
        return None;
    }
    if authority.as_str().contains('@') {
        reader.fault("base_url", "holds a user name or password", remedy);
        return None;
    }
    match Origin::parse(&format!("{scheme}://{authority}")) {
        Ok(origin) => Some((origin, parts.path_and_query.filter(|path| path.as_str() != "/"))),
        Err(fault) => {
            reader.fault("base_url", fault, remedy);
            None
        }
    }
}

/// What becomes of events that name their URL. The base URL's own origin is always allowed.
fn by_url(reader: &Reader<'_>, base: Option<&Base>) -> ByUrl {
    let mut origins: Vec<Origin> = base.map(|(origin, _)| origin.clone()).into_iter().collect();
    for text in reader.texts("origins").unwrap_or_default() {
        match Origin::parse(text) {
            Ok(origin) if origins.contains(&origin) => {}
            Ok(origin) => origins.push(origin),
            Err(fault) => {
                let what = format!("holds {text:?}, which {fault}");
                reader.fault("origins", what, r#"write each as "https://host""#);
            }
        }
    }
    if origins.len() > ORIGINS_MAX {
        let what = format!("has more than {ORIGINS_MAX} origins");
        reader.fault("origins", what, "send some by another destination");
    }
    let routes = [("own-origin", Route::Own), ("base-url", Route::Base)];
    let route = reader.choice("event_urls", &routes).unwrap_or_default();
    ByUrl { origins: Origins::new(origins), route }
}

/// Verbatim when asked for; else a path of its own, by default that of the base URL.
fn target(reader: &Reader<'_>, base: Option<&Base>) -> Option<Target> {
    let own = base.and_then(|(_, path)| path.clone());
    let written = reader.text("target");
    if written != Some("verbatim") {
        for key in ["origins", "event_urls"] {
            // The built-in destination has both, and a path of its own leaves them without use.
            if reader.is_written(key) {
                let what = "says where event URLs go, but every event goes to one path";
                reader.fault(key, what, r#"remove it, or write target = "verbatim""#);
            }
        }
    }
    match written {
        Some("verbatim") => {
            if own.is_some() {
                let what = "has a path, but the target is verbatim: paths go out as they came in";
                reader.fault("base_url", what, "write scheme and host only");
            }
            Some(Target::Verbatim(by_url(reader, base)))
        }
        Some(path) if path.starts_with('/') => match path.parse() {
            Ok(path) => Some(Target::Fixed(path)),
            Err(_) => {
                reader.fault("target", "cannot stand in a request line", "");
                None
            }
        },
        Some(_) => {
            reader.fault("target", "is no path", r#"write "verbatim" or a path as "/hooks""#);
            None
        }
        None => Some(Target::Fixed(own.unwrap_or_else(|| PathAndQuery::from_static("/")))),
    }
}

fn backoff(reader: &Reader<'_>) -> Backoff {
    let Some(inner) = reader.table("retry") else { return BACKOFF };
    let backoff = Backoff {
        wait_first: inner.span("wait_first").unwrap_or(BACKOFF.wait_first),
        wait_max: inner.span("wait_max").unwrap_or(BACKOFF.wait_max),
        retry_after_max: inner.span("retry_after_max").unwrap_or(BACKOFF.retry_after_max),
    };
    if backoff.wait_first.is_zero() {
        inner.fault(
            "wait_first",
            "is no wait: a failing destination would be asked in a spin",
            r#"write "1 s""#,
        );
    }
    if backoff.wait_max < backoff.wait_first {
        let key = if inner.is_written("wait_max") { "wait_max" } else { "wait_first" };
        let what = match key {
            "wait_max" => "is shorter than wait_first",
            _ => "is longer than wait_max",
        };
        inner.fault(key, what, "wait_max is at least wait_first: write both");
    }
    inner.finish();
    backoff
}

fn max_age(reader: &Reader<'_>) -> MaxAge {
    let inner = reader.table("max_age");
    let ages = EventKind::ALL.map(|kind| {
        let written = inner.as_ref().and_then(|inner| inner.span(kind.as_str()));
        if let Some(inner) = inner.as_ref().filter(|_| written.is_some_and(|age| age.is_zero())) {
            let what = "lets every event expire before it is sent";
            inner.fault(kind.as_str(), what, r#"write as "24 h""#);
        }
        written.unwrap_or(match kind {
            EventKind::Conversion => DAY * 14,
            EventKind::Impression | EventKind::View | EventKind::Click => DAY,
            EventKind::Notification => DAY * 7,
        })
    });
    if let Some(inner) = inner {
        inner.finish();
    }
    MaxAge::new(ages)
}
