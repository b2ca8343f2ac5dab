//! The way out: an egress proxy, and whose certificates are believed.

use super::reader::Reader;
use super::secret::{self, Outside};
use crate::forward::client::{Proxy, Trust};
use crate::origin::Origin;

/// `proxy` with its credentials; nothing where there is none, and of one with a fault, which is
/// noted.
pub(super) fn proxy(reader: &Reader<'_>, outside: &dyn Outside) -> Option<Proxy> {
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

/// `ca_file`; the authorities of browsers where there is none, nothing of one with a fault, which
/// is noted.
pub(super) fn trust(reader: &Reader<'_>) -> Option<Trust> {
    if reader.item("ca_file").is_none() {
        return Some(Trust::default());
    }
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
