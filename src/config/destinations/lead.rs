//! What a destination puts above the body: method, headers, credentials, a signature.

use http::{HeaderName, HeaderValue, Method};

use crate::config::layers::Value;
use crate::config::reader::Reader;
use crate::config::secret::{self, Outside};
use crate::event::ClientHeaders;
use crate::forward::request::{Client, Lead, Signer, forwardable, settable};

const USER_AGENT: &str = "beacon-relay/{version}";
/// Far more than a receiver asks for.
const HEADERS_MAX: usize = 32;

/// Reads the lead of a destination; nothing when a part cannot be read, which is noted.
pub(super) fn read(reader: &Reader<'_>, outside: &dyn Outside) -> Option<Lead> {
    let user_agent = reader.text("user_agent").unwrap_or(USER_AGENT);
    let user_agent = user_agent.replace("{version}", env!("CARGO_PKG_VERSION"));
    let user_agent = HeaderValue::try_from(user_agent).ok();
    if user_agent.is_none() {
        reader.fault("user_agent", "cannot stand in a header", "use visible ASCII only");
    }
    // A missing one ends the reading, yet every other fault is told too.
    let mut lead = Lead::new(user_agent.clone().unwrap_or(HeaderValue::from_static("")));
    let methods = [("POST", MethodWord::Post), ("PUT", MethodWord::Put)];
    lead.method = match reader.choice("method", &methods).unwrap_or(MethodWord::Post) {
        MethodWord::Post => Method::POST,
        MethodWord::Put => Method::PUT,
    };
    headers(reader, outside, &mut lead);
    if let Some(value) = bearer(reader, outside) {
        lead.authorize(value);
    }
    lead.sign = signer(reader, outside);
    lead.tell(client(reader));
    user_agent.map(|_| lead)
}

#[derive(Clone, Copy)]
enum MethodWord {
    Post,
    Put,
}

fn headers(reader: &Reader<'_>, outside: &dyn Outside, lead: &mut Lead) {
    let Some(table) = reader.table("headers") else { return };
    let members = table.members();
    if members.len() > HEADERS_MAX {
        reader.fault("headers", format!("has more than {HEADERS_MAX}"), "");
    }
    for (name, item) in members {
        let fault = |what: String, remedy: &str| {
            reader.inner_fault("headers", name, what, remedy);
        };
        let header = match settable(name) {
            Ok(header) => header,
            Err(why) => {
                fault(why.to_string(), "credentials stand in `auth`, the rest writes itself");
                continue;
            }
        };
        let value = match &item.value {
            Value::String(text) => HeaderValue::try_from(text).ok(),
            Value::Table(_) => {
                let Some(inner) = table.inner(name) else { continue };
                let secret = secret::read(&inner, outside, "env", "file");
                one_of(&inner, "env", "file");
                inner.finish();
                // What is missing is noted already.
                let Some(secret) = secret else { continue };
                HeaderValue::from_bytes(&secret).ok().map(|mut value| {
                    value.set_sensitive(true);
                    value
                })
            }
            Value::Loose(_) | Value::Integer(_) | Value::Bool(_) | Value::Array(_) => None,
            Value::Other(_) => None,
        };
        match value {
            Some(value) => lead.put(header, value),
            None => {
                let remedy = r#"write a text of visible ASCII, or { env = "NAME" } for a secret"#;
                fault("is no header's value".to_owned(), remedy);
            }
        }
    }
}

fn client(reader: &Reader<'_>) -> Client {
    let written = reader.texts("forward_headers").unwrap_or_default();
    let own = reader.table("headers");
    let is_fixed = |name: &HeaderName| {
        let own = own.as_ref().map(Reader::members).unwrap_or_default();
        own.iter().any(|(fixed, _)| name.as_str().eq_ignore_ascii_case(fixed))
    };
    let mut client = Client::default();
    for text in &written {
        match forwardable(text) {
            Ok(name) if is_fixed(&name) => {
                let what = format!("holds {text:?}, which stands in `headers` too");
                reader.fault("forward_headers", what, "keep one of the two");
            }
            Ok(name) => client.headers.push(name),
            Err(fault) => {
                reader.fault("forward_headers", format!("holds {text:?}, which {fault}"), "");
            }
        }
    }
    if client.headers.len() > ClientHeaders::COUNT_MAX {
        let what = format!("has more than {}", ClientHeaders::COUNT_MAX);
        reader.fault("forward_headers", what, "");
    }
    if let Some(text) = reader.text("client_ip_header") {
        match forwardable(text) {
            Ok(name) if is_fixed(&name) || client.headers.contains(&name) => {
                let what = "stands in `headers` or `forward_headers` too";
                reader.fault("client_ip_header", what, "keep one of the two");
            }
            Ok(name) => client.address_as = Some(name),
            Err(fault) => reader.fault("client_ip_header", fault, r#"write "x-forwarded-for""#),
        }
    }
    client
}

fn bearer(reader: &Reader<'_>, outside: &dyn Outside) -> Option<HeaderValue> {
    let table = reader.table("auth")?;
    required(&table, "type", r#"write type = "bearer""#);
    table.choice("type", &[("bearer", ())]);
    let token = secret::read(&table, outside, "token_env", "token_file");
    one_of(&table, "token_env", "token_file");
    let value = token.and_then(|token| {
        let value = HeaderValue::from_bytes(&[b"Bearer ", token.as_slice()].concat()).ok();
        if value.is_none() {
            table.fault("token_env", "holds what cannot stand in a header", "");
        }
        value
    });
    table.finish();
    value
}

fn signer(reader: &Reader<'_>, outside: &dyn Outside) -> Option<Signer> {
    let table = reader.table("sign")?;
    required(&table, "type", r#"write type = "standard-webhooks""#);
    table.choice("type", &[("standard-webhooks", ())]);
    let secret = secret::read(&table, outside, "secret_env", "secret_file");
    one_of(&table, "secret_env", "secret_file");
    let signer = secret.and_then(|secret| match Signer::new(&secret) {
        Ok(signer) => Some(signer),
        Err(fault) => {
            let key = if table.item("secret_env").is_some() { "secret_env" } else { "secret_file" };
            table.fault(key, fault, "write it as whsec_ and base64 of 24 bytes or more");
            None
        }
    });
    table.finish();
    signer
}

fn required(table: &Reader<'_>, key: &'static str, remedy: &str) {
    if table.item(key).is_none() {
        table.missing(key, remedy);
    }
}

/// Notes that a secret must come from somewhere.
fn one_of(table: &Reader<'_>, env_key: &'static str, file_key: &'static str) {
    if table.item(env_key).is_none() && table.item(file_key).is_none() {
        table.missing(env_key, format!("name a variable here, or a file in {file_key}"));
    }
}
