//! A request known by the `Idempotency-Key` that its client gave it.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::auth::Auth;
use super::selector::part;
use crate::caller::{Caller, Network};
use crate::event::{ClientName, Dedupe, DedupeKey, Fingerprint, SourceName};

/// How long a request is known.
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest key. A UUID has 36 characters, a SHA-256 64.
pub const KEY_BYTES_MAX: usize = 255;

/// Whose keys they are: nobody meets those of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A client known by its key, wherever it calls from.
    Client(ClientName),
    /// The one partner of a source, which has shown who it is; its servers have many addresses.
    Partner,
    /// Whoever calls from there: a stranger, or a visitor of a web page, of which anyone can claim
    /// to be one.
    Address(Option<ClientName>, Network),
}

impl Holder {
    /// Whose the keys of `caller` are at a source that knows its senders by `auth`.
    #[must_use]
    pub fn of(caller: &Caller, auth: &Auth) -> Self {
        let network = Network::from(caller.address);
        match (auth, &caller.client) {
            (Auth::Own(proofs), _) if !proofs.is_empty() => Self::Partner,
            (Auth::Own(_) | Auth::Clients, Some(client)) if !caller.is_page() => {
                Self::Client(client.clone())
            }
            (Auth::Own(_) | Auth::Clients, page) => Self::Address(page.clone(), network),
        }
    }

    fn name(&self) -> &[u8] {
        match self {
            Self::Client(name) | Self::Address(Some(name), _) => name.as_str().as_bytes(),
            // No client has an empty name.
            Self::Partner | Self::Address(None, _) => &[],
        }
    }
}

/// The key of a request: its sender's own, of one holder and one way in.
///
/// The fingerprint covers target and body, and is itself keyed by the client's key, of which the
/// store holds no more than a digest: who reads the store cannot try out bodies against it.
#[must_use]
pub fn request(
    holder: &Holder,
    source: &SourceName,
    key: &[u8],
    target: &[u8],
    body: &[u8],
) -> Dedupe {
    let mut hash = Sha256::new();
    hash.update(b"request");
    part(&mut hash, holder.name());
    part(&mut hash, source.as_str().as_bytes());
    part(&mut hash, key);
    match holder {
        Holder::Client(_) | Holder::Partner => {}
        Holder::Address(_, network) => part(&mut hash, network.address().to_string().as_bytes()),
    }
    let mut known = [0; 16];
    known.copy_from_slice(&hash.finalize()[..16]);

    let mut hash = Sha256::new();
    hash.update(b"body");
    part(&mut hash, key);
    part(&mut hash, target);
    part(&mut hash, body);
    let digest = hash.finalize();
    let mut fingerprint = Fingerprint { body: [0; 8], members: [0; Fingerprint::SLOTS] };
    fingerprint.body.copy_from_slice(&digest[..8]);
    for (slot, pair) in fingerprint.members.iter_mut().zip(digest[8..].chunks_exact(2)) {
        *slot = u16::from_be_bytes([pair[0], pair[1]]);
    }
    Dedupe { key: DedupeKey(known), window: WINDOW, fingerprint }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::source::auth::Proof;

    fn page(name: &str, address: &str) -> Holder {
        let name = (!name.is_empty()).then(|| ClientName::new(name));
        Holder::Address(name, Network::from(address.parse::<IpAddr>().unwrap()))
    }

    #[test]
    fn a_request_is_known_by_holder_way_in_and_key_and_told_by_target_and_body() {
        let of = |holder: Holder, source: &str, key: &[u8], target: &[u8], body: &[u8]| {
            request(&holder, &SourceName::new(source), key, target, body)
        };
        let holders = [
            Holder::Client(ClientName::new("c")),
            Holder::Client(ClientName::new("d")),
            Holder::Partner,
            page("", "192.0.2.1"),
            page("", "192.0.2.2"),
            page("", "2001:db8:0:1::1"),
            page("", "2001:db8:0:2::1"),
            page("c", "192.0.2.1"),
            page("c", "192.0.2.2"),
        ];
        for (at, holder) in holders.iter().enumerate() {
            let of = |source, key, target, body| of(holder.clone(), source, key, target, body);
            let first = of("s", b"k", b"/t", b"{}");
            assert_eq!(first, of("s", b"k", b"/t", b"{}"));
            for other in [of("t", b"k", b"/t", b"{}"), of("s", b"l", b"/t", b"{}")] {
                assert_ne!(other.key, first.key);
            }
            for other in [of("s", b"k", b"/u", b"{}"), of("s", b"k", b"/t", b"{ }")] {
                assert_eq!(other.key, first.key);
                assert_ne!(other.fingerprint, first.fingerprint);
            }
            for other in &holders[at + 1..] {
                let source = SourceName::new("s");
                assert_ne!(request(other, &source, b"k", b"/t", b"{}").key, first.key, "{other:?}");
            }
        }
        assert_eq!(page("", "2001:db8:0:1::1"), page("", "2001:db8:0:1:ff::9"), "one line");
        assert_eq!(page("", "192.0.2.1"), page("", "::ffff:192.0.2.1"));
    }

    #[test]
    fn keys_are_held_by_who_has_shown_to_be_somebody_or_by_an_address() {
        let address = "192.0.2.1".parse::<IpAddr>().unwrap();
        let stranger = Caller::stranger(address);
        let client = |raw_identity| {
            let client = Some(ClientName::new("c"));
            Caller { client, raw_identity, ..stranger.clone() }
        };
        let shown = Auth::Own(vec![Proof::Network(Vec::new())]);
        for (caller, auth, holder) in [
            (client(true), &Auth::Clients, Holder::Client(ClientName::new("c"))),
            (client(false), &Auth::Clients, page("c", "192.0.2.1")),
            (stranger.clone(), &Auth::Clients, page("", "192.0.2.1")),
            (stranger.clone(), &Auth::Own(Vec::new()), page("", "192.0.2.1")),
            (stranger.clone(), &shown, Holder::Partner),
        ] {
            assert_eq!(Holder::of(&caller, auth), holder, "{caller:?}");
        }
    }
}
