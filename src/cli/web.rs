//! HTTP as the commands speak it to a relay: plain, or with TLS.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::Refused;
use crate::forward::client::Trust;

/// Longest that a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Asks over http and https.
pub(super) type Web = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client that believes those authorities.
pub(super) fn client(trust: &Trust) -> Web {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_WITHIN));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(trust.config())
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(http);
    Client::builder(TokioExecutor::new()).build(https)
}

/// The authorities of a PEM file; without one those that browsers trust.
pub(super) fn trust(file: Option<&Path>) -> Result<Trust, Refused> {
    let Some(path) = file else { return Ok(Trust::default()) };
    let name = path.display();
    let pem =
        std::fs::read(path).map_err(|error| Refused(format!("cannot read {name}: {error}")))?;
    Trust::only(&pem).map_err(|fault| Refused(format!("{name} {fault}")))
}

/// The innermost cause, which says more than "client error".
pub(super) fn root<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root
}

/// Whether a connection failed by its TLS, which is about certificates more often than not.
pub(super) fn is_about_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(one) = error {
        if one.is::<rustls::Error>() {
            return true;
        }
        // What an error of the system wraps is not its source, but its source's.
        let wrapped = one.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        error = wrapped
            .map(|inner| inner as &(dyn std::error::Error + 'static))
            .or_else(|| one.source());
    }
    false
}
