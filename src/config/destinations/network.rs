//! What lies between a destination's client and those it speaks to.

use crate::config::reader::Reader;
use crate::config::secret::{self, Outside};
use crate::forward::client::{Network, Proxy, Trust};
use crate::forward::request::Target;
use crate::origin::{Origin, is_public};

/// Reads the network of a destination at `base`, if that could be read, which sends to the origins
/// of `target` too.
pub(super) fn read(
    reader: &Reader<'_>,
    outside: &dyn Outside,
    base: Option<&Origin>,
    target: Option<&Target>,
) -> Option<Network> {
    let allow_private = reader.flag("allow_private").unwrap_or_default();
    if let Some(Target::Verbatim(by_url)) = target
        && !allow_private
    {
        for origin in by_url.origins.iter().filter(|origin| Some(*origin) != base) {
            if origin.address().is_some_and(|address| !is_public(address)) {
                let what = format!("holds {origin}, a private address");
                reader.fault("origins", what, "remove it, or write allow_private = true");
            }
        }
    }
    let (proxy, trust) = (proxy(reader, outside), trust(reader).unwrap_or_default());
    Some(Network { allow_private, proxy, trust, ..Network::open(base?.clone()) })
}

fn proxy(reader: &Reader<'_>, outside: &dyn Outside) -> Option<Proxy> {
    let keys = ["proxy_credentials_env", "proxy_credentials_file"];
    let credentials = secret::read(reader, outside, keys[0], keys[1]);
    if reader.item("proxy").is_none() {
        for key in keys.into_iter().filter(|key| reader.item(key).is_some()) {
            reader.fault(key, "stands without a proxy", r#"write proxy = "http://host:port""#);
        }
        return None;
    }
    let remedy = r#"write it as "http://host:port", and user:password in proxy_credentials_env"#;
    let origin = match Origin::parse(reader.text("proxy")?) {
        Ok(origin) => origin,
        Err(fault) => {
            reader.fault("proxy", fault, remedy);
            return None;
        }
    };
    match Proxy::new(origin, credentials.as_deref()) {
        Ok(proxy) => Some(proxy),
        Err(fault) => {
            reader.fault("proxy", fault, remedy);
            None
        }
    }
}

fn trust(reader: &Reader<'_>) -> Option<Trust> {
    let written = reader.text("ca_file")?;
    let read =
        std::fs::read(reader.file("ca_file")?).map_err(|error| format!("cannot be read: {error}"));
    match read.and_then(|pem| Trust::only(&pem).map_err(|fault| fault.to_string())) {
        Ok(trust) => Some(trust),
        Err(why) => {
            reader.fault("ca_file", format!("names {written}, which {why}"), "");
            None
        }
    }
}
