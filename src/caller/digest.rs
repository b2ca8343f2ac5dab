//! The digest of a client's key: all that the relay keeps of it.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// SHA-256 of a key. A key has the entropy of a random number, so no slow hash is needed: nobody
/// guesses it from its digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyDigest([u8; 32]);

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestFault {
    /// Not 64 hexadecimal digits.
    #[error(
        "is no SHA-256: write its 64 hexadecimal digits, as `beacon-relay key new` prints them"
    )]
    Shape,
    /// The digest of no bytes: what `sha256sum` says of a variable that was not set.
    #[error("is the SHA-256 of an empty text, which is no key")]
    Empty,
}

impl KeyDigest {
    /// The digest of a key.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Whether both are of one key, in constant time.
    #[must_use]
    pub fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl FromStr for KeyDigest {
    type Err = DigestFault;

    fn from_str(text: &str) -> Result<Self, DigestFault> {
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(DigestFault::Shape);
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                return Err(DigestFault::Shape);
            };
            *byte = u8::try_from(high * 16 + low).map_err(|_| DigestFault::Shape)?;
        }
        let digest = Self(digest);
        if digest == Self::of(b"") { Err(DigestFault::Empty) } else { Ok(digest) }
    }
}

/// The digits, for the table that a person is shown once.
impl fmt::LowerHex for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Never the digits: a digest in a log would tell which of two relays hold the same key.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_printed() {
        let digest = KeyDigest::of(b"abc");
        let text = format!("{digest:x}");
        // FIPS 180-2, appendix B.1.
        assert_eq!(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(text.to_uppercase().parse(), Ok(digest));
        assert_eq!(format!("{digest:?}"), "KeyDigest(…)");
    }

    #[test]
    fn what_is_no_digest_is_told() {
        let long = "0".repeat(65);
        for text in ["", "abc", &long, &"0g".repeat(32), &"é".repeat(32), &"+1".repeat(32)] {
            assert_eq!(text.parse::<KeyDigest>(), Err(DigestFault::Shape), "{text}");
        }
        let empty = format!("{:x}", KeyDigest::of(b""));
        assert_eq!(empty.parse::<KeyDigest>(), Err(DigestFault::Empty));
    }
}
