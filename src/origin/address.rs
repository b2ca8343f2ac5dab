//! Which addresses are on the open internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is one that anybody's server may have: not this machine, not a network
/// behind a router, no group of machines, nothing reserved (the IANA special-purpose registries).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match carried(address) {
            Some(carried) => is_public_v4(carried),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (100, 64..=127, _)          // between a provider and its customers
            | (169, 254, _)               // link-local, where clouds keep their metadata
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)             // protocol assignments, documentation
            | (192, 88, 99)               // old relays between the protocols
            | (198, 18..=19, _)           // benchmarks
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=255, ..) // groups, reserved, broadcast
    )
}

/// The IPv4 address that an IPv6 one stands for, through which the former could be reached.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b, c, d, e, f) {
        // Mapped, translated, and compatible; `::` and `::1` are judged as what they are.
        (0, 0, 0, 0, 0, 0xffff) | (0, 0, 0, 0, 0xffff, 0) => v4(g, h),
        (0, 0, 0, 0, 0, 0) if g != 0 => v4(g, h),
        // NAT64, its well-known prefix.
        (0x64, 0xff9b, 0, 0, 0, 0) => v4(g, h),
        // 6to4.
        (0x2002, ..) => v4(b, c),
        _ => None,
    }
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Only 2000::/3 is given out; the rest is local, a group, or nobody's.
    (a & 0xe000) == 0x2000
        && !matches!(
            (a, b),
            (0x2001, 0x0000..=0x01ff) // protocol assignments, tunnels among them
                | (0x2001, 0x0db8)    // documentation
                | (0x3fff, 0x0000..=0x0fff)
        )
}
