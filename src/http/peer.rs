//! The other end of a connection, and who stands behind it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{FORWARDED, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use crate::caller::Proxies;

/// Where a connection came from. The accept loop puts it on every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Where proxies write whom they saw.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address that a request came from: that of its connection, or the one that trusted proxies
/// name; the unspecified one for a request that came by no connection.
pub(super) fn address(parts: &Parts, proxies: &Proxies) -> IpAddr {
    let peer = parts.extensions.get::<Peer>();
    // A socket for both families sees IPv4 callers as `::ffff:192.0.2.1`: one caller, one spelling.
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip().to_canonical());
    if proxies.is_empty() {
        return peer;
    }
    let headers = &parts.headers;
    let x_forwarded = proxies.behind(peer, items(headers, &X_FORWARDED_FOR));
    let forwarded = proxies.behind(peer, items(headers, &FORWARDED).map(for_member));
    match (headers.contains_key(X_FORWARDED_FOR), headers.contains_key(FORWARDED)) {
        (true, false) => x_forwarded,
        (false, true) => forwarded,
        // A proxy writes one of the two and passes on what a caller wrote into the other. Which is
        // which cannot be told, so what both say is believed alone.
        (true, true) if x_forwarded == forwarded => forwarded,
        (true, true) | (false, false) => peer,
    }
}

/// The items of a list that may stand on several lines.
fn items<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl DoubleEndedIterator<Item = &'h str> {
    let lines = headers.get_all(name).iter();
    // A line that is no text is one item that is no address, so that nothing before it is believed.
    lines.flat_map(|line: &HeaderValue| line.to_str().unwrap_or_default().split(','))
}

/// What `for=` says in one hop of `Forwarded`.
fn for_member(hop: &str) -> &str {
    let mut members = hop.split(';').filter_map(|member| member.trim().split_once('='));
    members.find(|(name, _)| name.eq_ignore_ascii_case("for")).map_or("", |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn seen(peer: &str, lines: &[(&str, &str)]) -> String {
        let proxies = Proxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let mut request = Request::builder();
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.extensions.insert(Peer(SocketAddr::new(peer.parse().unwrap(), 1)));
        address(&parts, &proxies).to_string()
    }

    #[test]
    fn a_proxy_is_believed_and_a_stranger_is_not() {
        let forged = ("x-forwarded-for", "1.1.1.1");
        assert_eq!(seen("192.0.2.1", &[forged]), "192.0.2.1");
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, 192.0.2.1")]), "192.0.2.1");
        assert_eq!(seen("10.0.0.1", &[forged, ("x-forwarded-for", "192.0.2.1")]), "192.0.2.1");
        let hop = "for=1.1.1.1, For=\"192.0.2.1:4711\";proto=https;by=10.0.0.1";
        assert_eq!(seen("10.0.0.1", &[("forwarded", hop)]), "192.0.2.1");
        assert_eq!(seen("10.0.0.1", &[("forwarded", "proto=https")]), "10.0.0.1");
    }

    #[test]
    fn of_two_headers_one_may_be_the_callers_own() {
        let both = |forwarded| [("x-forwarded-for", "192.0.2.1"), ("forwarded", forwarded)];
        assert_eq!(seen("10.0.0.1", &both("for=192.0.2.1")), "192.0.2.1");
        assert_eq!(seen("10.0.0.1", &both("for=1.1.1.1")), "10.0.0.1");
    }
}
