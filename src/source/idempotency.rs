//! A request known by the `Idempotency-Key` that its client gave it.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::selector::part;
use crate::event::{ClientName, Dedupe, DedupeKey, Fingerprint, SourceName};

/// How long a request is known.
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest key. A UUID has 36 characters, a SHA-256 64.
pub const KEY_BYTES_MAX: usize = 255;

/// The key of a request: the client's own, of one client and one way in.
///
/// The fingerprint covers target and body, and is itself keyed by the client's key, of which the
/// store holds no more than a digest: who reads the store cannot try out bodies against it.
#[must_use]
pub fn request(
    client: Option<&ClientName>,
    source: &SourceName,
    key: &[u8],
    target: &[u8],
    body: &[u8],
) -> Dedupe {
    let mut hash = Sha256::new();
    hash.update(b"request");
    // A stranger has no name, and no client an empty one.
    part(&mut hash, client.map_or(&[][..], |name| name.as_str().as_bytes()));
    part(&mut hash, source.as_str().as_bytes());
    part(&mut hash, key);
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
    use super::*;

    #[test]
    fn a_request_is_known_by_client_way_in_and_key_and_told_by_target_and_body() {
        let of = |client: &str, source: &str, key: &[u8], target: &[u8], body: &[u8]| {
            let client = (!client.is_empty()).then(|| ClientName::new(client));
            request(client.as_ref(), &SourceName::new(source), key, target, body)
        };
        let first = of("c", "s", b"k", b"/t", b"{}");
        assert_eq!(first, of("c", "s", b"k", b"/t", b"{}"));
        for other in [
            of("d", "s", b"k", b"/t", b"{}"),
            of("", "s", b"k", b"/t", b"{}"),
            of("c", "t", b"k", b"/t", b"{}"),
            of("c", "s", b"l", b"/t", b"{}"),
        ] {
            assert_ne!(other.key, first.key);
        }
        for other in [of("c", "s", b"k", b"/u", b"{}"), of("c", "s", b"k", b"/t", b"{ }")] {
            assert_eq!(other.key, first.key);
            assert_ne!(other.fingerprint, first.fingerprint);
        }
    }
}
