//! A client for the operator's own URLs, whose answers are read by whoever asked.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client as Pool, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::dial::Dial;
use super::line::Used;
use super::{Proxy, Trust};

/// How long an idle connection is kept, and any at all, as `config/relay.toml` has it for
/// destinations.
const IDLE_MAX: Duration = Duration::from_secs(45);
const AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// A pooled client that goes wherever its URLs lead, and follows no redirect.
#[derive(Clone, Debug)]
pub struct Web {
    pool: Pool<HttpsConnector<Dial>, Full<Bytes>>,
}

impl Web {
    /// A client that believes `trust`, and opens tunnels through `proxy`. What is not https would be
    /// handed to the proxy as it is, without its credentials: keep such URLs from it.
    #[must_use]
    pub fn new(trust: &Trust, proxy: Option<Proxy>) -> Self {
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(trust.config())
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(Dial::anywhere(proxy, AGE_MAX));
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(https);
        Self { pool }
    }

    /// Sends a request; waiting is bounded by whoever asks.
    ///
    /// # Errors
    /// [`Error`] when there is no answer.
    pub async fn request(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        let connection = capture_connection(&mut request);
        let answer = self.pool.request(request).await?;
        Used(&connection).answered();
        Ok(answer)
    }
}
