//! What `[server]` says of who may post and how much; the clients stand in tables of their own.

use std::net::SocketAddr;

use super::reader::Reader;
use crate::caller::{Access, Block, Clients, Proxies, Rate, Strangers};
use crate::origin::{Origin, Origins};

/// Reads everything but the clients. What is wrong is noted.
pub(super) fn read(
    reader: &Reader<'_>,
    listen: Option<SocketAddr>,
    has_clients: bool,
) -> Option<Access> {
    let strangers = strangers(reader, listen, has_clients);
    let rate_per_address = reader.parsed("rate_per_address", str::parse::<Rate>);
    let proxies = each(reader, "trusted_proxies", str::parse::<Block>);
    let cors = origins(reader, "cors_origins");
    Some(Access {
        clients: Clients::default(),
        strangers: strangers?,
        rate_per_address,
        proxies: Proxies::new(proxies),
        cors,
    })
}

/// What becomes of those who are no client. Without a client, loopback is open: whoever is on the
/// machine may post.
fn strangers(
    reader: &Reader<'_>,
    listen: Option<SocketAddr>,
    has_clients: bool,
) -> Option<Strangers> {
    let words = [("required", Strangers::Refused), ("open", Strangers::Taken)];
    let strangers = reader.choice("auth", &words)?;
    match strangers {
        Strangers::Taken => Some(Strangers::Taken),
        Strangers::Refused if has_clients => Some(Strangers::Refused),
        Strangers::Refused => {
            let listen = listen?;
            if !listen.ip().is_loopback() {
                let what =
                    format!("is {listen}, where anyone could post, and nothing says who may");
                let remedy = "add a [[client]] (`beacon-relay key new NAME` prints one), listen on \
                              loopback, or set server.auth = \"open\" to take events from anyone";
                reader.fault("listen", what, remedy);
            }
            Some(Strangers::Taken)
        }
    }
}

/// The origins of web pages, as browsers name them.
pub(super) fn origins(reader: &Reader<'_>, key: &'static str) -> Origins {
    let named = reader.texts(key).unwrap_or_default();
    let mut origins = Vec::with_capacity(named.len());
    for text in named {
        match Origin::parse(text) {
            Ok(origin) if origins.contains(&origin) => {
                reader.fault(key, format!("names {origin} twice"), "remove one");
            }
            Ok(origin) => origins.push(origin),
            Err(error) => {
                let what = format!("names {text:?}, which {error}");
                reader.fault(key, what, r#"write each as "https://shop.example""#);
            }
        }
    }
    Origins::new(origins)
}

fn each<T, E: std::fmt::Display>(
    reader: &Reader<'_>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Vec<T> {
    let mut read = Vec::new();
    for text in reader.texts(key).unwrap_or_default() {
        match parse(text) {
            Ok(one) => read.push(one),
            Err(error) => reader.fault(key, format!("names {text:?}, which {error}"), ""),
        }
    }
    read
}
