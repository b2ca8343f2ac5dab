//! From a delivery and its destination to a request: path, query and body byte for byte.

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use crate::event::Event;

/// Where a destination's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Path and query as the event came in.
    Verbatim,
    /// Always this path and query.
    Fixed(PathAndQuery),
}

/// The parts of every request to one destination, made once.
#[derive(Clone, Debug)]
pub struct Shape {
    scheme: Scheme,
    authority: Authority,
    target: Target,
    user_agent: HeaderValue,
}

/// Why no request can be made of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event's path and query cannot stand in a request line")]
pub struct Unsendable;

impl Shape {
    /// The shape of requests to an origin.
    #[must_use]
    pub const fn new(
        scheme: Scheme,
        authority: Authority,
        target: Target,
        user_agent: HeaderValue,
    ) -> Self {
        Self { scheme, authority, target, user_agent }
    }

    /// Scheme and authority, as a URL.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// The request for one event.
    ///
    /// # Errors
    /// [`Unsendable`] for a stored path that is none, which no later attempt would mend.
    pub fn request(&self, event: &Event) -> Result<Request<Full<Bytes>>, Unsendable> {
        let path = match &self.target {
            Target::Verbatim => {
                PathAndQuery::from_maybe_shared(event.target.clone()).map_err(|_| Unsendable)?
            }
            Target::Fixed(path) => path.clone(),
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        let uri = Uri::from_parts(parts).map_err(|_| Unsendable)?;
        let mut request = Request::new(Full::new(event.body.bytes().clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let json = HeaderValue::from_static("application/json");
        let headers = request.headers_mut();
        // Also on an ad event whose query says it all: the vendor calls the header mandatory.
        headers.insert(CONTENT_TYPE, json.clone());
        if event.body.bytes().is_empty() {
            // A POST without any length is refused by some servers.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        headers.insert(ACCEPT, json);
        // The vendor asks for it in words; HTTP/2 has no such header and the client drops it there.
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.insert(USER_AGENT, self.user_agent.clone());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::event::{EventId, EventKind, SourceName};
    use crate::json::Node;
    use crate::pii;

    fn event(target: &'static str) -> Event {
        Event {
            id: EventId::new(Timestamp::EPOCH),
            source: SourceName::new("beacon-click"),
            kind: EventKind::Click,
            target: Bytes::from_static(target.as_bytes()),
            accepted_at: Timestamp::EPOCH,
            body: pii::passed(Bytes::from_static(b"{}"), &Node::Null),
        }
    }

    fn shape(target: Target) -> Shape {
        let authority = Authority::from_static("events.example.net:8443");
        Shape::new(Scheme::HTTPS, authority, target, HeaderValue::from_static("beacon-relay/0"))
    }

    #[test]
    fn a_signed_path_and_query_travel_byte_for_byte() {
        let signed = "/v1/beacon/click/a'1?pname={x}&t=a|b^c&p=%2e%2e//&q=%zz&d=a%20b+c&sign=0f";
        let request = shape(Target::Verbatim).request(&event(signed)).unwrap();
        assert_eq!(request.uri().path_and_query().unwrap().as_str(), signed);
        assert_eq!(request.uri().to_string(), format!("https://events.example.net:8443{signed}"));
    }

    #[test]
    fn an_empty_body_is_sent_with_its_length() {
        let empty = pii::passed(Bytes::new(), &Node::Null);
        let request =
            shape(Target::Verbatim).request(&Event { body: empty, ..event("/?user_id=u") });
        let headers = request.unwrap().headers().clone();
        assert_eq!(headers.get(CONTENT_TYPE).unwrap(), "application/json");
        assert_eq!(headers.get(CONTENT_LENGTH).unwrap(), "0");
    }

    #[test]
    fn a_fixed_target_replaces_the_path() {
        let target = Target::Fixed(PathAndQuery::from_static("/hooks?x=1"));
        let request = shape(target).request(&event("/webhooks/olx")).unwrap();
        assert_eq!(request.uri().path_and_query().unwrap().as_str(), "/hooks?x=1");
    }

    #[test]
    fn what_cannot_stand_in_a_request_line_is_said() {
        let request = shape(Target::Verbatim).request(&event("/a b"));
        assert_eq!(request.map(|_| ()), Err(Unsendable));
    }
}
