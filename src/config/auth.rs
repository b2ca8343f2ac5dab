//! `auth` of a `[[source]]`: how it knows its senders.

use http::HeaderName;

use super::reader::Reader;
use super::secret::{self, Outside};
use super::sources::Standing;
use crate::caller::{Block, KeyDigest};
use crate::event::EventKind;
use crate::source::Selector;
use crate::source::auth::{Auth, Digest, Proof, Signature, UrlToken};

/// A type of `auth`.
#[derive(Clone, Copy)]
enum Kind {
    Clients,
    None,
    Hmac,
    UrlToken,
    Network,
}

const KINDS: [(&str, Kind); 5] = [
    ("hmac", Kind::Hmac),
    ("url-token", Kind::UrlToken),
    ("network", Kind::Network),
    ("clients", Kind::Clients),
    ("none", Kind::None),
];

/// Secrets in force at once: more were forgotten there.
const SECRETS_MAX: usize = 4;

/// How a source knows its senders; nothing when that cannot be told, which is noted.
pub(super) fn read(
    reader: &Reader<'_>,
    outside: &dyn Outside,
    kind: Option<EventKind>,
    standing: Standing,
) -> Option<Auth> {
    if reader.item("auth").is_none() {
        if kind == Some(EventKind::Notification) {
            let remedy = r#"write auth = { type = "hmac", … }, "url-token" or "network"; or auth = { type = "none" } to take notifications from anyone"#;
            reader.missing("auth", remedy);
            return None;
        }
        return Some(Auth::Clients);
    }
    if reader.is_list("auth") {
        let proofs = reader.tables("auth").into_iter().map(|one| {
            let kind = kind_of(&one);
            let proof = match kind? {
                Kind::Clients | Kind::None => {
                    one.fault("type", "stands among others", "keep one of the two");
                    None
                }
                proof @ (Kind::Hmac | Kind::UrlToken | Kind::Network) => {
                    self::proof(&one, outside, proof, standing)
                }
            };
            one.finish();
            proof
        });
        // Every fault is told, also of those behind the first.
        let proofs: Vec<Option<Proof>> = proofs.collect();
        if proofs.is_empty() {
            reader.fault("auth", "is an empty list", r#"write auth = { type = "none" }"#);
            return None;
        }
        return proofs.into_iter().collect::<Option<_>>().map(Auth::Own);
    }
    let inner = reader.table("auth")?;
    let auth = match kind_of(&inner)? {
        Kind::Clients => Some(Auth::Clients),
        Kind::None => Some(Auth::Own(Vec::new())),
        kind @ (Kind::Hmac | Kind::UrlToken | Kind::Network) => {
            proof(&inner, outside, kind, standing).map(|proof| Auth::Own(vec![proof]))
        }
    };
    inner.finish();
    auth
}

fn kind_of(inner: &Reader<'_>) -> Option<Kind> {
    if inner.item("type").is_none() {
        inner
            .missing("type", r#"write type = "hmac", "url-token", "network", "clients" or "none""#);
    }
    inner.choice("type", &KINDS)
}

fn proof(
    inner: &Reader<'_>,
    outside: &dyn Outside,
    kind: Kind,
    standing: Standing,
) -> Option<Proof> {
    match kind {
        Kind::Hmac => signature(inner, outside, standing).map(Proof::Signature),
        Kind::UrlToken => url_token(inner, outside, standing).map(Proof::UrlToken),
        Kind::Network => network(inner),
        Kind::Clients | Kind::None => None,
    }
}

fn signature(inner: &Reader<'_>, outside: &dyn Outside, standing: Standing) -> Option<Signature> {
    let words = [Digest::Sha1, Digest::Sha256].map(|digest| (digest.as_str(), digest));
    let digest = required(inner, "digest", inner.choice("digest", &words));
    let header = inner
        .parsed("header", |name| HeaderName::try_from(name).map_err(|_| "is no header's name"));
    let header = required(inner, "header", header);
    let written = inner.texts("over").unwrap_or_default();
    if written.is_empty() {
        inner.missing("over", r#"write over = ["payload"], or the parts that are signed"#);
    }
    let mut over = Vec::with_capacity(written.len());
    for selector in written {
        match selector.parse::<Selector>() {
            Ok(selector) => over.push(selector),
            Err(error) => inner.fault("over", format!("holds {selector:?}"), error.to_string()),
        }
    }
    let join = inner.text("join").unwrap_or_default().to_owned();
    let prefix = inner.text("prefix").unwrap_or_default().to_owned();
    let secrets = secrets(inner, outside, standing);
    let mut signature = Signature::new(header?, digest?, over);
    (signature.join, signature.prefix) = (join, prefix);
    secrets?.iter().for_each(|secret| signature.trust(secret));
    Some(signature)
}

fn url_token(inner: &Reader<'_>, outside: &dyn Outside, standing: Standing) -> Option<UrlToken> {
    let member = required(inner, "query", inner.text("query"));
    if member.is_some_and(str::is_empty) {
        inner.fault("query", "names no member", r#"write query = "token""#);
    }
    let secrets = secrets(inner, outside, standing)?;
    let secrets = secrets.iter().map(|secret| KeyDigest::of(secret)).collect();
    Some(UrlToken { member: member?.to_owned(), secrets })
}

fn network(inner: &Reader<'_>) -> Option<Proof> {
    let written = inner.texts("allow").unwrap_or_default();
    if written.is_empty() {
        inner.missing("allow", r#"write allow = ["192.0.2.0/24"]"#);
        return None;
    }
    let mut blocks = Vec::with_capacity(written.len());
    for text in written {
        match text.parse::<Block>() {
            Ok(block) => blocks.push(block),
            Err(fault) => inner.fault("allow", format!("holds {text:?}, which {fault}"), ""),
        }
    }
    Some(Proof::Network(blocks))
}

/// The secrets in force, one a line. None is asked for while the source is off.
fn secrets(inner: &Reader<'_>, outside: &dyn Outside, standing: Standing) -> Option<Vec<Vec<u8>>> {
    let named = ["secret_env", "secret_file"].map(|key| (key, inner.text(key).is_some()));
    match standing {
        Standing::Off => return Some(Vec::new()),
        Standing::On => {}
    }
    let Some((key, _)) = named.into_iter().find(|(_, named)| *named) else {
        inner.missing("secret_env", "name the variable that holds the secret, or a secret_file");
        return None;
    };
    let written = secret::read(inner, outside, "secret_env", "secret_file")?;
    let lines = written.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let secrets: Vec<Vec<u8>> = lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    if secrets.is_empty() || secrets.len() > SECRETS_MAX {
        let what = format!("names {} secrets", secrets.len());
        inner.fault(key, what, format!("write one a line, 1 to {SECRETS_MAX}"));
        return None;
    }
    Some(secrets)
}

fn required<T>(inner: &Reader<'_>, key: &'static str, value: Option<T>) -> Option<T> {
    if inner.item(key).is_none() {
        inner.missing(key, "see config/relay.toml for what each type of auth has");
    }
    value
}
