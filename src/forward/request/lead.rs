//! What stands above the body of every request to one destination: method, headers, credentials.

use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::sign::Signer;
use crate::event::ClientHeaders;

/// The same for every event, made once.
#[derive(Clone, Debug)]
pub struct Lead {
    /// POST, or PUT.
    pub method: Method,
    /// What every request says.
    headers: HeaderMap,
    /// Said to the base URL's origin alone: another one has no business with it.
    authorization: Option<HeaderValue>,
    /// Proves to the receiver who sent it.
    pub sign: Option<Signer>,
    client: Client,
}

/// What a destination is told of the client's own request.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Headers that go on, in place of the relay's own of the same name.
    pub headers: Vec<HeaderName>,
    /// The header that says the client's address.
    pub address_as: Option<HeaderName>,
}

impl Lead {
    /// A POST of JSON by `user_agent`.
    #[must_use]
    pub fn new(user_agent: HeaderValue) -> Self {
        let json = HeaderValue::from_static("application/json");
        let mut headers = HeaderMap::new();
        // Also on an ad event whose query says it all: the vendor calls the header mandatory.
        headers.insert(CONTENT_TYPE, json.clone());
        headers.insert(ACCEPT, json);
        // The vendor asks for it in words; HTTP/2 has no such header and the client drops it there.
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.insert(USER_AGENT, user_agent);
        Self {
            method: Method::POST,
            headers,
            authorization: None,
            sign: None,
            client: Client::default(),
        }
    }

    /// Adds a header of the operator's, in place of one of the same name.
    pub fn put(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.insert(name, value);
    }

    /// Sends `value` as credentials.
    pub fn authorize(&mut self, mut value: HeaderValue) {
        value.set_sensitive(true);
        self.authorization = Some(value);
    }

    /// Tells what `client` says of each event's client.
    pub fn tell(&mut self, client: Client) {
        self.client = client;
    }

    /// What it tells of each event's client.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Adds what is told of the client that sent an event.
    pub(super) fn add_client(&self, sent: &ClientHeaders, headers: &mut HeaderMap) {
        for (name, value) in sent.iter() {
            let wanted = self.client.headers.iter().find(|own| *own == name);
            if let (Some(name), Ok(value)) = (wanted, HeaderValue::from_bytes(value)) {
                headers.insert(name, value);
            }
        }
        if let (Some(name), Some(address)) = (&self.client.address_as, sent.address()) {
            let value = HeaderValue::try_from(address.to_string()).expect("an address is visible");
            headers.insert(name, value);
        }
    }

    /// The headers of a request to the base URL's origin, or to another.
    pub(super) fn headers(&self, to: To) -> HeaderMap {
        let mut headers = self.headers.clone();
        match (to, &self.authorization) {
            (To::Base, Some(value)) => {
                headers.insert(AUTHORIZATION, value.clone());
            }
            (To::Base, None) => {}
            // Other secrets may stand in the operator's headers; they are marked.
            (To::Other, _) => headers = public(headers),
        }
        headers
    }
}

/// Whom a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// The origin of the base URL.
    Base,
    /// An origin that the event named.
    Other,
}

fn public(headers: HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in &headers {
        if !value.is_sensitive() {
            kept.append(name, value.clone());
        }
    }
    kept
}

/// Why an operator may not set or pass on a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// It is no header's name.
    #[error("is no header's name")]
    Name,
    /// The connection's own, which the client writes.
    #[error("belongs to the connection, not to the event")]
    Framing,
    /// It tells who somebody is.
    #[error("holds credentials")]
    Identity,
    /// The relay writes it: codings end at its door.
    #[error("speaks of the body as it came, which goes on as plain JSON")]
    Body,
}

const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const IDENTITY: [&str; 5] = ["authorization", "cookie", "cookie2", "set-cookie", "x-api-key"];
const BODY: [&str; 4] = ["content-encoding", "content-type", "content-md5", "digest"];

/// A header that an operator may set.
///
/// # Errors
/// [`HeaderFault::Name`] and [`HeaderFault::Framing`]; [`HeaderFault::Identity`] for
/// `authorization`, which has a setting of its own.
pub fn settable(name: &str) -> Result<HeaderName, HeaderFault> {
    let name = HeaderName::try_from(name).map_err(|_| HeaderFault::Name)?;
    if is_framing(&name) || name == "content-encoding" {
        Err(HeaderFault::Framing)
    } else if name == AUTHORIZATION {
        Err(HeaderFault::Identity)
    } else {
        Ok(name)
    }
}

/// A client's header that may go on with its event.
///
/// # Errors
/// [`HeaderFault`].
pub fn forwardable(name: &str) -> Result<HeaderName, HeaderFault> {
    let name = HeaderName::try_from(name).map_err(|_| HeaderFault::Name)?;
    if is_framing(&name) {
        Err(HeaderFault::Framing)
    } else if IDENTITY.contains(&name.as_str()) {
        Err(HeaderFault::Identity)
    } else if BODY.contains(&name.as_str()) {
        Err(HeaderFault::Body)
    } else {
        Ok(name)
    }
}

fn is_framing(name: &HeaderName) -> bool {
    FRAMING.contains(&name.as_str()) || name.as_str().starts_with("proxy-")
}
