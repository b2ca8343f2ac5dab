//! The other end of a connection, as its requests carry it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Extensions;

/// Where a connection came from. The accept loop puts it on every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The address of a request's connection; the unspecified one for a request that came by none.
pub(super) fn address(extensions: &Extensions) -> IpAddr {
    let peer = extensions.get::<Peer>();
    // A socket for both families sees IPv4 callers as `::ffff:192.0.2.1`: one caller, one spelling.
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip().to_canonical())
}
