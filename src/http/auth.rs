//! Who may post: known before a byte of the body is read.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use super::peer;
use super::problem::{Code, Problem};
use super::receive::target;
use crate::caller::{Access, Caller, Client, Credential, Limiter, Payer, Strangers};
use crate::clock::Timestamp;
use crate::origin::Origin;
use crate::source;
use crate::source::auth::Auth;

/// Where clients that keep `Authorization` for something else put their key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Stands at the public listener's door.
#[derive(Debug)]
pub struct Guard {
    access: Access,
    limiter: Arc<Limiter>,
}

impl Guard {
    /// A guard who knows the clients of `access`, and from `limiter` what each has sent.
    #[must_use]
    pub const fn new(access: Access, limiter: Arc<Limiter>) -> Self {
        Self { access, limiter }
    }

    /// The origins whose pages may post and read answers.
    pub(super) fn cors(&self) -> HashSet<Origin> {
        let mut origins: HashSet<Origin> = self.access.cors.iter().cloned().collect();
        for client in self.access.clients.iter() {
            match &client.credential {
                Credential::Keys(_) => {}
                Credential::Origins(own) => origins.extend(own.iter().cloned()),
            }
        }
        origins
    }

    /// Tells who sent a request to `source`, and turns away who has sent enough.
    ///
    /// # Errors
    /// `unauthorized` for a key that nobody has and for a missing one, `source_not_allowed` for a
    /// client that may not post there, `rate_limited` for one that may not post now.
    pub(super) fn admit(
        &self,
        source: &source::Settings,
        parts: &Parts,
        now: Timestamp,
    ) -> Result<Caller, Problem> {
        let address = peer::address(parts, &self.access.proxies);
        match &source.auth {
            Auth::Clients => {}
            // A partner cannot be given a key of ours: it is known by its own means.
            own @ Auth::Own(_) => {
                let admitted = own.admits(target(parts), address);
                return if admitted {
                    Ok(Caller::stranger(address))
                } else {
                    Err(Problem::unknown_sender())
                };
            }
        }
        let caller = match self.client(&parts.headers)? {
            Some(client) if !client.sources.covers(&source.name) => {
                return Err(Problem::source());
            }
            Some(client) => self.access.client(client, address),
            None => self.access.stranger(address),
        };
        match caller.toll.as_ref().map_or(Ok(()), |toll| self.limiter.look(toll, now)) {
            Ok(()) => Ok(caller),
            Err(wait) => Err(rate_limited(&caller, wait)),
        }
    }

    /// Counts the items of one request against their caller's rate: all of them, or none.
    ///
    /// # Errors
    /// `rate_limited`: nothing was counted, and the whole request may come again after the wait.
    pub(super) fn count(
        &self,
        caller: &Caller,
        items: usize,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let Some(toll) = &caller.toll else { return Ok(()) };
        let items = u32::try_from(items).unwrap_or(u32::MAX);
        self.limiter.take(toll, items, now).map_err(|wait| rate_limited(caller, wait))
    }

    /// The client that sent a request; nothing for a stranger who may send one.
    fn client(&self, headers: &HeaderMap) -> Result<Option<&Client>, Problem> {
        let clients = &self.access.clients;
        if clients.is_empty() {
            return Ok(None);
        }
        if let Some(key) = offered(headers) {
            let unknown = || Problem::new(Code::Unauthorized, "the key is not one of any client");
            return clients.of_key(key).map(Some).ok_or_else(unknown);
        }
        let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
        let origin = origin.and_then(|origin| Origin::parse(origin).ok());
        if let Some(page) = origin.and_then(|origin| clients.of_origin(&origin)) {
            return Ok(Some(page));
        }
        match self.access.strangers {
            Strangers::Taken => Ok(None),
            Strangers::Refused => {
                let detail = "send the client's key as `Authorization: Bearer …` or `X-Api-Key: …`";
                Err(Problem::new(Code::Unauthorized, detail))
            }
        }
    }
}

fn rate_limited(caller: &Caller, wait: Duration) -> Problem {
    let detail = match caller.toll.as_ref().map(|toll| &toll.payer) {
        Some(Payer::Client(_)) | None => "this client sends more items than its rate allows",
        Some(Payer::Address(..)) => "this address sends more items than its rate allows",
    };
    Problem::new(Code::RateLimited, detail).after(wait)
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
