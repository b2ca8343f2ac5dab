//! Who may post: known before a byte of the body is read.

use http::header::{AUTHORIZATION, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use super::peer;
use super::problem::{Code, Problem};
use crate::caller::{Access, Caller, Strangers};
use crate::event::EventKind;
use crate::source;

/// Where clients that keep `Authorization` for something else put their key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Stands at the public listener's door.
#[derive(Debug)]
pub struct Guard {
    access: Access,
}

impl Guard {
    /// A guard who knows the clients of `access`.
    #[must_use]
    pub const fn new(access: Access) -> Self {
        Self { access }
    }

    /// Tells who sent a request to `source`.
    ///
    /// # Errors
    /// `unauthorized` for a key that nobody has and for a missing one, `source_not_allowed` for a
    /// client that may not post there.
    pub(super) fn admit(
        &self,
        source: &source::Settings,
        parts: &Parts,
    ) -> Result<Caller, Problem> {
        let address = peer::address(&parts.extensions);
        let clients = &self.access.clients;
        // A partner cannot be given a key of ours: its notifications are known by their own means.
        if source.kind == EventKind::Notification {
            return Ok(Caller::stranger(address));
        }
        let Some(key) = offered(&parts.headers) else {
            return self.stranger(Caller::stranger(address));
        };
        let Some(client) = clients.of_key(key) else {
            return Err(Problem::new(Code::Unauthorized, "the key is not one of any client"));
        };
        if !client.sources.covers(&source.name) {
            tracing::warn!(client = %client.name, source = %source.name, "not among its sources");
            return Err(Problem::source());
        }
        Ok(client.at(address))
    }

    fn stranger(&self, caller: Caller) -> Result<Caller, Problem> {
        match self.access.strangers {
            Strangers::Taken => Ok(caller),
            Strangers::Refused => {
                let detail = "send the client's key as `Authorization: Bearer …` or `X-Api-Key: …`";
                Err(Problem::new(Code::Unauthorized, detail))
            }
        }
    }
}

/// The key that a request offers.
fn offered(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get_all(AUTHORIZATION).iter().find_map(|value| bearer(value.as_bytes()));
    bearer.or_else(|| headers.get(API_KEY).map(HeaderValue::as_bytes).map(<[u8]>::trim_ascii))
}

/// The token of a `Bearer` credential; the scheme's name is in any case (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_in_either_header_and_the_scheme_in_any_case() {
        let found = |lines: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, HeaderValue::from_str(value).unwrap());
            }
            offered(&headers).map(|key| String::from_utf8(key.to_vec()).unwrap())
        };
        let key = Some("k".to_owned());
        for line in [
            ("authorization", "Bearer k"),
            ("authorization", "bearer k"),
            ("authorization", "BEARER  k "),
            ("x-api-key", "k"),
            ("x-api-key", " k "),
        ] {
            assert_eq!(found(&[line]), key, "{line:?}");
        }
        let basic = ("authorization", "Basic a2s6");
        assert_eq!(found(&[basic, ("x-api-key", "k")]), key);
        assert_eq!(found(&[basic, ("authorization", "Bearer k")]), key);
        assert_eq!(found(&[("authorization", "Bearer k"), ("x-api-key", "other")]), key);
        assert_eq!(found(&[basic]), None);
        assert_eq!(found(&[("authorization", "Bearer")]), None);
        assert_eq!(found(&[]), None);
    }
}
