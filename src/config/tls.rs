//! `[server.tls]`: the certificate files of the public listener, opened once to see that they fit.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use crate::http::tls::{Files, Opened, TlsFault};

/// A certificate is renewed days before it ends; an hour late is no harm, and ten seconds are cheap.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Reads the table; what is wrong is noted. Without it connections are plain.
pub(super) fn read(server: &Reader<'_>) -> Option<Opened> {
    let reader = server.table("tls")?;
    let certificate = path(&reader, "certificate_file");
    let key = path(&reader, "key_file");
    let look_every = reader.span("look_every").unwrap_or(LOOK_EVERY);
    if look_every.is_zero() {
        reader.fault("look_every", "is no wait: files would be read in a spin", r#"write "10 s""#);
    }
    let files = Files { certificate: certificate?, key: key?, look_every };
    let opened = files.open();
    let told = match opened {
        Ok(opened) => {
            reader.finish();
            return Some(opened);
        }
        Err(fault) => fault,
    };
    let setting = match &told {
        TlsFault::Certificate { .. } => "certificate_file",
        TlsFault::Key { .. } | TlsFault::Unusable(_) => "key_file",
    };
    reader.fault(setting, told.to_string(), told.remedy());
    reader.finish();
    None
}

/// One of the two files, which must be named.
fn path(reader: &Reader<'_>, key: &'static str) -> Option<PathBuf> {
    if reader.item(key).is_none() {
        reader.missing(key, r#"write certificate_file = "chain.pem" and key_file = "key.pem""#);
    }
    reader.file(key)
}
