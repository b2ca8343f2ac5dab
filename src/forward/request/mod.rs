//! From a delivery and its destination to a request: path, query and body byte for byte.

mod lead;
mod sign;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri};
use http_body_util::Full;

use crate::clock::Timestamp;
use crate::event::Event;
use crate::origin::{EventUrl, Origin, Origins};

use lead::To;

pub use lead::{Client, HeaderFault, Lead, forwardable, settable};
pub use sign::{SecretFault, Signer};

/// Where a destination's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Path and query as the event came in, or as the URL says that it came by.
    Verbatim(ByUrl),
    /// Always this path and query.
    Fixed(PathAndQuery),
}

/// What becomes of events that name the URL they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByUrl {
    /// Origins that a URL may have.
    pub origins: Origins,
    /// Which of them is spoken to.
    pub route: Route,
}

/// Whom the event of an allowed URL is sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// The URL's own origin.
    #[default]
    Own,
    /// The destination's base URL, whatever the origin: a trial never reaches production.
    Base,
}

/// The parts of every request to one destination, made once.
#[derive(Clone, Debug)]
pub struct Shape {
    base: Origin,
    /// The base as it stands in every request's URL.
    authority: Result<Authority, Unsendable>,
    target: Target,
    lead: Lead,
}

/// Why no request can be made of an event; no later attempt would mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// Its stored path is none.
    #[error("the event's path and query cannot stand in a request line")]
    Target,
    /// Its URL leads elsewhere, since it was accepted under another configuration.
    #[error("the event's origin is none of the destination's")]
    Origin,
}

impl Shape {
    /// The shape of requests to an origin.
    #[must_use]
    pub fn new(base: Origin, target: Target, lead: Lead) -> Self {
        let authority = authority(&base);
        Self { base, authority, target, lead }
    }

    /// What stands above the body.
    #[must_use]
    pub const fn lead(&self) -> &Lead {
        &self.lead
    }

    /// The origin of the base URL.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.base
    }

    /// How many origins its requests may go to.
    #[must_use]
    pub fn origins_max(&self) -> usize {
        match &self.target {
            Target::Verbatim(by_url) if by_url.route == Route::Own => {
                let others = by_url.origins.iter().filter(|origin| **origin != self.base);
                1 + others.count()
            }
            Target::Verbatim(_) | Target::Fixed(_) => 1,
        }
    }

    /// Whether its requests may go to an origin, told by scheme and authority.
    #[must_use]
    pub fn may_go_to(&self, origin: &str) -> bool {
        let is =
            |one: &Origin| format!("{}://{}", one.scheme().as_str(), one.authority()) == origin;
        let others = match &self.target {
            Target::Verbatim(by_url) if by_url.route == Route::Own => Some(&by_url.origins),
            Target::Verbatim(_) | Target::Fixed(_) => None,
        };
        is(&self.base) || others.is_some_and(|others| others.iter().any(is))
    }

    /// What becomes of events that name their URL; nothing where all go to one path.
    #[must_use]
    pub const fn by_url(&self) -> Option<&ByUrl> {
        match &self.target {
            Target::Verbatim(by_url) => Some(by_url),
            Target::Fixed(_) => None,
        }
    }

    /// The request for one event at `now`, the time of this attempt.
    ///
    /// # Errors
    /// [`Unsendable`].
    pub fn request(
        &self,
        event: &Event,
        now: Timestamp,
    ) -> Result<Request<Full<Bytes>>, Unsendable> {
        let (to, uri) = match &self.target {
            Target::Fixed(path) => (To::Base, self.at_base(path.clone())?),
            Target::Verbatim(by_url) => self.verbatim(by_url, &event.target)?,
        };
        let mut request = Request::new(Full::new(event.body.bytes().clone()));
        *request.method_mut() = self.lead.method.clone();
        *request.uri_mut() = uri;
        let mut headers = self.lead.headers(to);
        self.lead.add_client(&event.headers, &mut headers);
        if event.body.bytes().is_empty() {
            // A POST without any length is refused by some servers.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if let Some(signer) = &self.lead.sign {
            signer.sign(event, now, &mut headers);
        }
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn verbatim(&self, by_url: &ByUrl, target: &Bytes) -> Result<(To, Uri), Unsendable> {
        if target.starts_with(b"/") {
            return Ok((To::Base, self.at_base(path(target.clone())?)?));
        }
        let url = std::str::from_utf8(target).map_err(|_| Unsendable::Target)?;
        let url = EventUrl::parse(url).map_err(|_| Unsendable::Target)?;
        if !by_url.origins.contain(&url.origin) {
            return Err(Unsendable::Origin);
        }
        let path = path(url.target)?;
        let is_own = by_url.route == Route::Own && url.origin != self.base;
        if is_own {
            Ok((To::Other, uri(&url.origin, authority(&url.origin)?, path)?))
        } else {
            Ok((To::Base, self.at_base(path)?))
        }
    }

    fn at_base(&self, path: PathAndQuery) -> Result<Uri, Unsendable> {
        uri(&self.base, self.authority.clone()?, path)
    }
}

fn path(target: Bytes) -> Result<PathAndQuery, Unsendable> {
    PathAndQuery::from_maybe_shared(target).map_err(|_| Unsendable::Target)
}

fn authority(origin: &Origin) -> Result<Authority, Unsendable> {
    Authority::from_maybe_shared(Bytes::from(origin.authority())).map_err(|_| Unsendable::Origin)
}

fn uri(origin: &Origin, authority: Authority, path: PathAndQuery) -> Result<Uri, Unsendable> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(match origin.scheme() {
        crate::origin::Scheme::Http => Scheme::HTTP,
        crate::origin::Scheme::Https => Scheme::HTTPS,
    });
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| Unsendable::Target)
}

#[cfg(test)]
mod tests {
    use http::header::{AUTHORIZATION, CONTENT_TYPE};
    use http::{HeaderName, Method};

    use super::*;
    use crate::event::{EventId, EventKind, SourceName};
    use crate::json::Node;
    use crate::pii;

    const NOW: Timestamp = Timestamp::from_millis(1_614_265_330_999);

    fn event(target: &'static str) -> Event {
        Event {
            id: EventId::new(Timestamp::EPOCH),
            source: SourceName::new("beacon-click"),
            kind: EventKind::Click,
            target: Bytes::from_static(target.as_bytes()),
            accepted_at: Timestamp::EPOCH,
            body: pii::passed(Bytes::from_static(b"{}"), &Node::Null),
            headers: crate::event::ClientHeaders::default(),
            fault: None,
        }
    }

    fn shape(target: Target) -> Shape {
        let base = Origin::parse("https://events.example.net:8443").unwrap();
        Shape::new(base, target, Lead::new(HeaderValue::from_static("beacon-relay/0")))
    }

    fn verbatim() -> Target {
        by_url(Route::Own)
    }

    fn by_url(route: Route) -> Target {
        let origins = ["https://events.example.net:8443", "https://old.example.net"];
        let origins = origins.map(|text| Origin::parse(text).unwrap());
        Target::Verbatim(ByUrl { origins: Origins::new(origins.into()), route })
    }

    #[test]
    fn origins_are_counted_that_requests_may_go_to() {
        assert_eq!(shape(verbatim()).origins_max(), 2);
        assert_eq!(shape(by_url(Route::Base)).origins_max(), 1);
        assert_eq!(shape(Target::Fixed(PathAndQuery::from_static("/x"))).origins_max(), 1);
    }

    #[test]
    fn an_origin_is_known_by_its_scheme_and_authority() {
        for target in
            [verbatim(), by_url(Route::Base), Target::Fixed(PathAndQuery::from_static("/x"))]
        {
            let shape = shape(target);
            let uri = shape.request(&event("/v1/beacon/click/a"), NOW).unwrap().uri().clone();
            let origin = format!("{}://{}", uri.scheme_str().unwrap(), uri.authority().unwrap());
            assert!(shape.may_go_to(&origin), "{origin}");
            assert!(!shape.may_go_to(&origin.replace("https", "http")));
            assert!(!shape.may_go_to("https://elsewhere.example"));
        }
    }

    #[test]
    fn a_signed_path_and_query_travel_byte_for_byte() {
        let signed = "/v1/beacon/click/a'1?pname={x}&t=a|b^c&p=%2e%2e//&q=%zz&d=a%20b+c&sign=0f";
        let request = shape(verbatim()).request(&event(signed), NOW).unwrap();
        assert_eq!(request.uri().path_and_query().unwrap().as_str(), signed);
        assert_eq!(request.uri().to_string(), format!("https://events.example.net:8443{signed}"));
    }

    #[test]
    fn an_empty_body_is_sent_with_its_length() {
        let empty = pii::passed(Bytes::new(), &Node::Null);
        let request =
            shape(verbatim()).request(&Event { body: empty, ..event("/?user_id=u") }, NOW);
        let headers = request.unwrap().headers().clone();
        assert_eq!(headers.get(CONTENT_TYPE).unwrap(), "application/json");
        assert_eq!(headers.get(CONTENT_LENGTH).unwrap(), "0");
    }

    #[test]
    fn a_fixed_target_replaces_the_path() {
        let target = Target::Fixed(PathAndQuery::from_static("/hooks?x=1"));
        let request = shape(target).request(&event("/webhooks/shop"), NOW).unwrap();
        assert_eq!(request.uri().path_and_query().unwrap().as_str(), "/hooks?x=1");
    }

    #[test]
    fn what_cannot_stand_in_a_request_line_is_said() {
        let request = shape(verbatim()).request(&event("/a b"), NOW);
        assert_eq!(request.map(|_| ()), Err(Unsendable::Target));
    }

    #[test]
    fn an_event_that_came_by_url_goes_to_its_own_origin_if_that_is_allowed() {
        let sent = |route, url| {
            let request = shape(by_url(route)).request(&event(url), NOW)?;
            Ok(request.uri().to_string())
        };
        let url = "https://old.example.net/v1/beacon/click/a?t=a|b&sign=0f";
        assert_eq!(sent(Route::Own, url).as_deref(), Ok(url));
        let trial = "https://events.example.net:8443/v1/beacon/click/a?t=a|b&sign=0f";
        assert_eq!(sent(Route::Base, url).as_deref(), Ok(trial));
        for route in [Route::Own, Route::Base] {
            for foreign in [
                "https://evil.example/x",
                "http://old.example.net/x",
                "https://old.example.net:444/x",
            ] {
                assert_eq!(sent(route, foreign), Err(Unsendable::Origin), "{foreign}");
            }
            assert_eq!(sent(route, "https://u@old.example.net/x"), Err(Unsendable::Target));
        }
    }

    #[test]
    fn a_receiver_can_tell_who_sent_it() {
        let signer = || Signer::new(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mut hook = shape(Target::Fixed(PathAndQuery::from_static("/hook")));
        hook.lead.method = Method::PUT;
        hook.lead.authorize(HeaderValue::from_static("Bearer hush"));
        hook.lead.sign = Some(signer());
        hook.lead.put(HeaderName::from_static("x-shop"), HeaderValue::from_static("12"));
        let event = event("/webhooks/shop");
        let request = hook.request(&event, NOW).unwrap();
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(request.method(), Method::PUT);
        assert_eq!(header("authorization"), Some("Bearer hush"));
        assert_eq!(header("x-shop"), Some("12"));
        assert_eq!(header("webhook-id"), Some(event.id.to_string().as_str()));
        assert_eq!(header("webhook-timestamp"), Some("1614265330"));
        let mut expected = http::HeaderMap::new();
        signer().sign(&event, NOW, &mut expected);
        assert_eq!(header("webhook-signature"), expected["webhook-signature"].to_str().ok());
        assert!(!format!("{hook:?}").contains("hush"), "{hook:?}");
    }

    #[test]
    fn credentials_are_for_the_base_url_alone() {
        let mut both = shape(by_url(Route::Own));
        both.lead.authorize(HeaderValue::from_static("Bearer hush"));
        let mut key = HeaderValue::from_static("hush");
        key.set_sensitive(true);
        both.lead.put(HeaderName::from_static("x-key"), key);
        both.lead.put(HeaderName::from_static("x-shop"), HeaderValue::from_static("12"));
        for (url, secrets) in [
            ("/v1/beacon/click/a", true),
            ("https://events.example.net:8443/v1/beacon/click/a", true),
            ("https://old.example.net/v1/beacon/click/a", false),
        ] {
            let request = both.request(&event(url), NOW).unwrap();
            let headers = request.headers();
            let has = |name| headers.contains_key(name);
            assert_eq!(has(AUTHORIZATION.as_str()), secrets, "{url}");
            assert_eq!(has("x-key"), secrets, "{url}");
            assert!(has("x-shop") && has("user-agent") && has("content-type"), "{url}");
        }
    }

    #[test]
    fn headers_of_the_connection_or_of_a_person_are_not_passed_on() {
        for (name, fault) in [
            ("Authorization", HeaderFault::Identity),
            ("cookie", HeaderFault::Identity),
            ("X-Api-Key", HeaderFault::Identity),
            ("host", HeaderFault::Framing),
            ("Transfer-Encoding", HeaderFault::Framing),
            ("proxy-authorization", HeaderFault::Framing),
            ("content-type", HeaderFault::Body),
            ("a b", HeaderFault::Name),
        ] {
            assert_eq!(forwardable(name), Err(fault), "{name}");
        }
        assert_eq!(forwardable("User-Agent").unwrap(), "user-agent");
        assert_eq!(settable("X-Api-Key").unwrap(), "x-api-key");
        assert_eq!(settable("content-type").unwrap(), "content-type");
        assert_eq!(settable("authorization"), Err(HeaderFault::Identity));
        assert_eq!(settable("content-length"), Err(HeaderFault::Framing));
    }
}
