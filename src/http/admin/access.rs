//! Who may use the API, and that no web page does so in an operator's name.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use subtle::ConstantTimeEq;

use super::Admin;
use crate::http::peer::Peer;
use crate::http::problem::{Code, Problem};

/// Who may use the API.
#[derive(Clone)]
pub struct Access {
    /// The operators' token.
    pub token: Option<Token>,
    /// The token of those who may also see values of bodies.
    pub reveal: Option<Token>,
    /// Where the listener listens; on loopback no token is needed.
    pub listen: SocketAddr,
}

/// A bearer token, compared in constant time and never printed.
#[derive(Clone)]
pub struct Token(Arc<[u8]>);

impl Token {
    /// The token of a configured secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(secret.into())
    }

    /// As a client sends it; nothing when it cannot stand in a header.
    #[must_use]
    pub fn bearer(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_bytes(&[b"Bearer ", &*self.0].concat()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    fn is(&self, offered: &[u8]) -> bool {
        self.0.ct_eq(offered).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How an operator is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// By being on the machine.
    Loopback,
    /// By the token of `admin.token_env`.
    Token,
    /// By the token of `admin.reveal_token_env`.
    RevealToken,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    known: Known,
    peer: Option<IpAddr>,
}

impl Operator {
    /// Whether this one may see values of bodies.
    pub(super) fn may_reveal(self) -> bool {
        self.known == Known::RevealToken
    }
}

/// As the audit record names an operator.
impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.known {
            Known::Loopback => "loopback",
            Known::Token => "token",
            Known::RevealToken => "reveal_token",
        })?;
        self.peer.map_or(Ok(()), |peer| write!(f, " from {peer}"))
    }
}

/// Lets those through who may use the API, and says who they are.
pub(super) async fn allow(
    State(admin): State<Admin>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_canonical());
    match admin.access.check(request.uri(), request.headers()) {
        Ok(known) => {
            request.extensions_mut().insert(Operator { known, peer });
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Access {
    fn check(&self, target: &Uri, headers: &HeaderMap) -> Result<Known, Problem> {
        let offered = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let offered = offered.and_then(|value| value.strip_prefix(b"Bearer "));
        let is = |token: &Option<Token>| {
            offered.is_some_and(|offered| token.as_ref().is_some_and(|token| token.is(offered)))
        };
        // A token is nothing that a browser adds by itself: who sends one means it.
        if is(&self.reveal) {
            return Ok(Known::RevealToken);
        }
        if is(&self.token) {
            return Ok(Known::Token);
        }
        if self.listen.ip().is_loopback() {
            return no_web_page(target, headers).map(|()| Known::Loopback);
        }
        if self.token.is_none() && self.reveal.is_none() {
            let detail = "the admin API needs a token on this address: set admin.token_env to the \
                          name of an environment variable that holds one, and start again";
            return Err(Problem::new(Code::TokenNotSet, detail));
        }
        let detail = "send the admin token as `Authorization: Bearer …`";
        Err(Problem::new(Code::Unauthorized, detail))
    }
}

/// Refuses what a web page that an operator looks at could have sent. Without a token, being on the
/// machine is all that is asked for, and a browser on it has that.
///
/// A page of another origin is told by what browsers add. One that had its name resolved to
/// loopback has our origin, but not our name.
fn no_web_page(target: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
    let host = host.or_else(|| target.authority().map(http::uri::Authority::as_str));
    let host = host.unwrap_or_default();
    if !is_own_name(host) {
        let detail = "without a token the admin API is asked for by address or as localhost: use \
                      such a URL, or send the token of admin.token_env";
        return Err(Problem::new(Code::CrossSite, detail));
    }
    let is_of_us = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host))
    };
    let foreign_origin = headers.get(ORIGIN).is_some_and(|origin| !is_of_us(origin));
    let foreign_site = headers.get(SEC_FETCH_SITE).is_some_and(|site| {
        let site = site.as_bytes();
        site != b"same-origin" && site != b"none"
    });
    if foreign_origin || foreign_site {
        let detail = "a web page of another origin may not use the admin API";
        return Err(Problem::new(Code::CrossSite, detail));
    }
    Ok(())
}

/// Whether a host with its port, if any, is an address or `localhost`.
fn is_own_name(host: &str) -> bool {
    if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost")
        || bare.is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn check(listen: &str, token: Option<&str>, head: &[(&str, &str)]) -> Result<Known, u16> {
        let token = token.map(|token| Token::new(token.as_bytes()));
        let reveal = Some(Token::new(b"r"));
        let access = Access { token, reveal, listen: listen.parse().unwrap() };
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let checked = access.check(&Uri::from_static("/api/status"), &headers);
        checked.map_err(|problem| problem.into_response().status().as_u16())
    }

    #[test]
    fn the_api_needs_its_token_off_loopback() {
        let outside = "0.0.0.0:9090";
        let bearer = |token| [("authorization", token)];
        for (offered, answer) in [
            ("Bearer u", Err(401)),
            ("t", Err(401)),
            ("Bearer t", Ok(Known::Token)),
            ("Bearer r", Ok(Known::RevealToken)),
        ] {
            assert_eq!(check(outside, Some("t"), &bearer(offered)), answer, "{offered}");
        }
        assert_eq!(check(outside, Some("t"), &[]), Err(401));
        let access = Access { token: None, reveal: None, listen: outside.parse().unwrap() };
        let refused = access.check(&Uri::from_static("/"), &HeaderMap::new()).unwrap_err();
        assert_eq!(refused.into_response().status(), StatusCode::FORBIDDEN);
    }

    #[test]
    fn on_loopback_no_web_page_gets_in() {
        let loopback = "127.0.0.1:9090";
        for host in ["127.0.0.1:9090", "localhost:9090", "LOCALHOST", "[::1]:9090", "[::1]"] {
            assert_eq!(check(loopback, None, &[("host", host)]), Ok(Known::Loopback), "{host}");
        }
        let host = ("host", "localhost:9090");
        let own = [host, ("origin", "http://localhost:9090"), ("sec-fetch-site", "same-origin")];
        assert_eq!(check(loopback, None, &own), Ok(Known::Loopback));
        for foreign in [
            vec![("host", "evil.example:9090")],
            vec![("host", "localhost.evil.example")],
            vec![],
            vec![host, ("origin", "https://evil.example")],
            vec![host, ("origin", "null")],
            vec![host, ("origin", "http://localhost:3000")],
            vec![host, ("sec-fetch-site", "cross-site")],
            vec![host, ("sec-fetch-site", "same-site")],
        ] {
            assert_eq!(check(loopback, Some("t"), &foreign), Err(403), "{foreign:?}");
            let mut with_token = foreign.clone();
            with_token.push(("authorization", "Bearer t"));
            assert_eq!(check(loopback, Some("t"), &with_token), Ok(Known::Token));
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        assert_eq!(format!("{:?}", Token::new(b"hush")), "Token(…)");
    }
}
