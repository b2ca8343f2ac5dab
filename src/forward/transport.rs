//! What carries a request to its origin: the client, or a simulation's wire.
//!
//! The line is drawn where everything above is decisions and everything below is sockets.

use std::pin::Pin;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::verdict::Attempt;

/// An attempt under way.
pub type Attempting<'a> = Pin<Box<dyn Future<Output = Attempt> + Send + 'a>>;

/// Whether a request that met a stale connection may be sent once more now: not where the origin has
/// asked meanwhile to be left alone.
pub type Again<'a> = &'a (dyn Fn() -> bool + Send + Sync);

/// Carries requests to one destination.
pub trait Transport: Send + Sync + 'static {
    /// Sends a request and reads its answer, within a time of its own, or until `stop`: then it is
    /// [`Attempt::Cut`].
    ///
    /// Dropped before its end, the request may have arrived.
    fn attempt<'a>(
        &'a self,
        request: Request<Full<Bytes>>,
        stop: &'a CancellationToken,
        again: Again<'a>,
    ) -> Attempting<'a>;
}

impl Transport for Client {
    fn attempt<'a>(
        &'a self,
        request: Request<Full<Bytes>>,
        stop: &'a CancellationToken,
        again: Again<'a>,
    ) -> Attempting<'a> {
        Box::pin(Self::attempt(self, request, stop, again))
    }
}
