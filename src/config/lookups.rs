//! `[source.lookup]`: how a notification is asked for that never came.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::egress;
use super::layers::Value;
use super::reader::Reader;
use super::secret::{self, Outside};
use super::sources::Standing;
use crate::caller::Rate;
use crate::event::EventKind;
use crate::forward::backoff::Backoff;
use crate::lookup::{Asking, Content, Grant, MARK, Mapping, Member, Pending, Settings};
use crate::origin::{EventUrl, Scheme};
use crate::source::{self, Selector};

/// What `config/relay.toml` explains as the defaults.
const RETRY: Backoff = Backoff {
    wait_first: Duration::from_secs(60),
    wait_max: Duration::from_secs(3600),
    retry_after_max: Duration::from_secs(3600),
};
const WITHIN: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 256 << 10;
const ATTEMPTS_MAX: usize = 20;
const AWAITED_MAX: usize = 10_000;

/// Reads the table of a source that was read itself, and what its notifications are awaited by;
/// nothing where there is none, where the source is off, and of one with a fault, which is noted.
pub(super) fn read(
    reader: &Reader<'_>,
    outside: &dyn Outside,
    source: Option<&(source::Settings, Standing)>,
) -> Option<(Settings, Selector)> {
    reader.item("lookup")?;
    let (source, standing) = source?;
    // Its secrets need not be there.
    if *standing == Standing::Off {
        return None;
    }
    if source.kind != EventKind::Notification {
        reader.fault("lookup", "is for a partner's notifications alone", "");
    }
    let inner = reader.table("lookup")?;
    let url = url(&inner);
    let awaited = awaited(&inner);
    let headers = headers(&inner, outside);
    let grant = match inner.table("token") {
        Some(token) => grant(token, outside).map(Some),
        None => Some(None),
    };
    let mapping = mapping(&inner);
    let proxy = egress::proxy(&inner, outside);
    if proxy.is_some() && !are_https(url.as_deref(), grant.as_ref()) {
        let remedy = "write https:// for url and token.url, or leave the proxy out";
        inner.fault("proxy", "would read what goes to a URL without TLS", remedy);
    }
    let trust = egress::trust(&inner);
    let within = inner.span("within").unwrap_or(WITHIN);
    let answer_bytes_max = inner.bytes("answer_max").and_then(|bytes| {
        let fits = (1..=16 << 20).contains(&bytes);
        if !fits {
            inner.fault("answer_max", "is out of range", r#"write "1 B" to "16 MiB""#);
        }
        usize::try_from(bytes).ok().filter(|_| fits)
    });
    let rate = inner.parsed("rate", str::parse::<Rate>);
    if inner.item("rate").is_none() {
        inner.missing("rate", r#"write rate = "1/s", or what the vendor allows"#);
    }
    let backoff = inner.table("retry").map_or(RETRY, backoff);
    let attempts_max = inner.count("attempts_max", 1, 1_000).unwrap_or(ATTEMPTS_MAX);
    let awaited_max = inner.count("awaited_max", 1, 16_384).unwrap_or(AWAITED_MAX);
    inner.finish();
    let settings = Settings {
        source: source.name.clone(),
        asking: Asking {
            url: url?,
            headers,
            grant: grant?,
            trust: trust?,
            proxy,
            within,
            answer_bytes_max: answer_bytes_max.unwrap_or(ANSWER_BYTES_MAX),
        },
        mapping,
        rate: rate?,
        backoff,
        attempts_max: u32::try_from(attempts_max).unwrap_or(u32::MAX),
        awaited_max,
    };
    Some((settings, awaited?))
}

/// A URL with `{id}` behind its origin.
fn url(inner: &Reader<'_>) -> Option<String> {
    let remedy = r#"write it as "https://api.example/things/{id}""#;
    if inner.item("url").is_none() {
        inner.missing("url", remedy);
    }
    let written = inner.text("url")?;
    let filled = written.replace("{id}", "x");
    let origin = |text: &str| EventUrl::parse(text).ok().map(|url| url.origin);
    let is_in_path = origin(&written.replace("{id}", "y")) == origin(&filled);
    if !written.contains("{id}") || !is_in_path {
        inner.fault("url", "has no {id} in its path or query", remedy);
        return None;
    }
    is_safe(inner, &filled).then(|| written.to_owned())
}

/// Whether credentials may go there: over TLS, or to this machine.
fn is_safe(inner: &Reader<'_>, url: &str) -> bool {
    let parsed = match EventUrl::parse(url) {
        Ok(parsed) if url.parse::<Uri>().is_ok() => parsed,
        Ok(_) => {
            inner.fault("url", "holds what no URL may hold", "");
            return false;
        }
        Err(fault) => {
            inner.fault("url", fault, "");
            return false;
        }
    };
    let origin = parsed.origin;
    let authority = origin.authority();
    let is_here = origin.address().is_some_and(|address| address.is_loopback())
        || authority == "localhost"
        || authority.starts_with("localhost:");
    let is_safe = origin.scheme() == Scheme::Https || is_here;
    if !is_safe {
        inner.fault("url", "would send credentials in plain", "write https://");
    }
    is_safe
}

/// Whether a proxy on the way sees no more than host and port.
fn are_https(url: Option<&str>, grant: Option<&Option<Grant>>) -> bool {
    let url = url.and_then(|url| url.replace("{id}", "x").parse().ok());
    let token = grant.and_then(Option::as_ref).map(|grant| grant.url.clone());
    let is_https = |url: &Uri| url.scheme() == Some(&http::uri::Scheme::HTTPS);
    [url, token].iter().flatten().all(is_https)
}

/// What stands in each notification for the id that it is awaited by.
fn awaited(inner: &Reader<'_>) -> Option<Selector> {
    let remedy = r#"write awaited = "body:/object_id""#;
    if inner.item("awaited").is_none() {
        inner.missing("awaited", remedy);
    }
    let selector = inner.parsed("awaited", str::parse::<Selector>)?;
    match selector {
        Selector::Body(_) | Selector::QueryMember(_) => Some(selector),
        Selector::Segment(_) | Selector::Header(_) => {
            inner.fault("awaited", "is no part that a lookup could have", remedy);
            None
        }
        Selector::Path | Selector::Query | Selector::Payload => {
            inner.fault("awaited", "is no id", remedy);
            None
        }
    }
}

/// Headers, each with a value or where its secret comes from.
fn headers(inner: &Reader<'_>, outside: &dyn Outside) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for one in inner.tables("headers") {
        let name = one.text("name").and_then(|name| HeaderName::try_from(name).ok());
        if name.is_none() {
            one.missing("name", r#"write { name = "x-api-key", value_env = "…" }"#);
        }
        let plain = one.text("value").map(|value| value.as_bytes().to_vec());
        let secret = secret::read(&one, outside, "value_env", "value_file");
        let is_secret = secret.is_some();
        let is_asked = one.item("value_env").or_else(|| one.item("value_file")).is_some();
        if plain.is_some() == is_asked {
            one.missing("value", "write one of value, value_env and value_file");
        }
        match plain.or(secret).map(|value| HeaderValue::from_bytes(&value)) {
            Some(Ok(mut value)) => {
                value.set_sensitive(is_secret);
                headers.extend(name.map(|name| (name, value)));
            }
            Some(Err(_)) => one.missing("value", "what is given cannot stand in a header"),
            None => {}
        }
        one.finish();
    }
    headers
}

fn grant(token: Reader<'_>, outside: &dyn Outside) -> Option<Grant> {
    if token.item("url").is_none() {
        token.missing("url", "write the URL of the token endpoint");
    }
    let url = token.text("url").filter(|url| is_safe(&token, url));
    let id = secret::read(&token, outside, "client_id_env", "client_id_file");
    if token.item("client_id_env").or_else(|| token.item("client_id_file")).is_none() {
        token.missing("client_id_env", "name the variable that holds the client's id");
    }
    let secret = secret::read(&token, outside, "client_secret_env", "client_secret_file");
    if token.item("client_secret_env").or_else(|| token.item("client_secret_file")).is_none() {
        token.missing("client_secret_env", "name the variable that holds the client's secret");
    }
    let headers = headers(&token, outside);
    token.finish();
    let (url, id, secret) = (url?.parse().ok()?, id?, secret?);
    let pair = BASE64.encode([id.as_slice(), b":", &secret].concat());
    let mut authorization = HeaderValue::try_from(format!("Basic {pair}")).ok()?;
    authorization.set_sensitive(true);
    Some(Grant { url, authorization, headers })
}

fn mapping(inner: &Reader<'_>) -> Mapping {
    let written = inner.tables("members");
    if written.is_empty() {
        inner.missing("members", r#"write members = [{ to = "id", value = "{id}" }, …]"#);
    }
    let members = written.into_iter().filter_map(member).collect();
    let pending = inner.table("pending").and_then(|pending| {
        let at = pointer(&pending, "at");
        let is = pending.texts("is").unwrap_or_default();
        if is.is_empty() {
            pending.missing("is", r#"write { at = "/status", is = ["…"] }"#);
        }
        pending.finish();
        Some(Pending { at: at?, is: is.into_iter().map(Into::into).collect() })
    });
    Mapping { members, pending }
}

fn member(one: Reader<'_>) -> Option<Member> {
    let to = one.text("to");
    match to {
        None | Some("") => one.missing("to", "name the notification's member"),
        Some(MARK) => one.fault("to", "is what the relay marks what it looked up with", ""),
        Some(_) => {}
    }
    let (fixed, from) = (one.text("value"), one.item("from").and_then(|_| pointer(&one, "from")));
    let words = words(&one);
    if one.item("from").is_some() == fixed.is_some() {
        one.missing("from", r#"write one of from = "/a" and value = "…""#);
    }
    one.finish();
    let content = match (from, fixed) {
        (Some(pointer), _) => Content::From { pointer, words },
        (None, fixed) => Content::Fixed(fixed?.into()),
    };
    Some(Member { to: to?.into(), content })
}

/// What the vendor's texts are called in its notifications.
fn words(one: &Reader<'_>) -> Vec<(Box<str>, Box<str>)> {
    let Some(table) = one.table("words") else { return Vec::new() };
    let mut words = Vec::new();
    for (word, item) in table.members() {
        match &item.value {
            Value::String(text) | Value::Loose(text) => {
                words.push((Box::from(word), Box::from(text.as_str())));
            }
            Value::Integer(_) | Value::Bool(_) | Value::Array(_) => {
                one.fault("words", format!("holds no text for {word:?}"), "");
            }
            Value::Table(_) | Value::Other(_) => {
                one.fault("words", format!("holds no text for {word:?}"), "");
            }
        }
    }
    words
}

fn pointer(inner: &Reader<'_>, key: &'static str) -> Option<Box<str>> {
    let pointer = inner.text(key).filter(|pointer| pointer.starts_with('/'));
    if pointer.is_none() {
        inner.missing(key, r#"write a JSON pointer, as "/data/state""#);
    }
    pointer.map(Into::into)
}

fn backoff(retry: Reader<'_>) -> Backoff {
    let backoff = Backoff {
        wait_first: retry.span("wait_first").unwrap_or(RETRY.wait_first),
        wait_max: retry.span("wait_max").unwrap_or(RETRY.wait_max),
        retry_after_max: retry.span("retry_after_max").unwrap_or(RETRY.retry_after_max),
    };
    if backoff.wait_first.is_zero() || backoff.wait_max < backoff.wait_first {
        retry.fault("wait_max", "is less than wait_first, or that is nothing", "");
    }
    retry.finish();
    backoff
}
