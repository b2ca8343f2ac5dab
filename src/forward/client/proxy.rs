//! An egress proxy: a tunnel for https, and for http the request itself.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderValue, Uri};

use crate::origin::{Origin, Scheme};

/// A proxy that a destination's requests go through.
#[derive(Clone)]
pub struct Proxy {
    origin: Origin,
    uri: Uri,
    authorization: Option<HeaderValue>,
}

/// Why there is no such proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// It would be spoken to over TLS.
    #[error("is spoken to over TLS, which is not supported")]
    Tls,
    /// Its credentials cannot stand in a header.
    #[error("holds what cannot stand in a header")]
    Credentials,
}

impl Proxy {
    /// The proxy at `origin`; `credentials` are `user:password`.
    ///
    /// # Errors
    /// [`ProxyFault`].
    pub fn new(origin: Origin, credentials: Option<&[u8]>) -> Result<Self, ProxyFault> {
        if origin.scheme() != Scheme::Http {
            return Err(ProxyFault::Tls);
        }
        let uri = origin.to_string().parse().map_err(|_| ProxyFault::Tls)?;
        let authorization = credentials.map(|credentials| {
            let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(credentials)))
                .map_err(|_| ProxyFault::Credentials)?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self { origin, uri, authorization: authorization.transpose()? })
    }

    /// Where it listens.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) const fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(super) const fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

/// Says whether there are credentials, never which.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = if self.authorization.is_some() { " with credentials" } else { "" };
        write!(f, "{}{credentials}", self.origin)
    }
}
