//! Signatures in the form of Standard Webhooks (standardwebhooks.com, specification 1.0).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

use crate::clock::Timestamp;
use crate::event::Event;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What a secret in text starts with.
const PREFIX: &str = "whsec_";

/// Signs requests with every secret in force: two, while one is being rotated.
#[derive(Clone)]
pub struct Signer(Vec<Hmac<Sha256>>);

/// Why a text holds no secrets. Never says what the text was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// There is none.
    #[error("holds no secret")]
    Nothing,
    /// It is not written in base64.
    #[error("holds a secret that is no base64")]
    Spelling,
    /// It can be guessed: the specification asks for 24 bytes and more.
    #[error("holds a secret of less than 24 bytes")]
    Short,
}

/// The least that the specification allows.
const SECRET_BYTES_MIN: usize = 24;

impl Signer {
    /// Reads secrets as `whsec_` and base64, with white space between them.
    ///
    /// # Errors
    /// [`SecretFault`].
    pub fn new(text: &[u8]) -> Result<Self, SecretFault> {
        let text = std::str::from_utf8(text).map_err(|_| SecretFault::Spelling)?;
        let read = |word: &str| {
            let secret = BASE64.decode(word.strip_prefix(PREFIX).unwrap_or(word));
            let secret = secret.map_err(|_| SecretFault::Spelling)?;
            if secret.len() < SECRET_BYTES_MIN {
                return Err(SecretFault::Short);
            }
            // A key of any length is a key.
            Hmac::new_from_slice(&secret).map_err(|_| SecretFault::Short)
        };
        let keys: Vec<_> = text.split_ascii_whitespace().map(read).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(SecretFault::Nothing) } else { Ok(Self(keys)) }
    }

    /// Adds the headers that prove who sent `event` at `now`. Its id stays the same over attempts:
    /// the receiver tells repeats by it.
    pub(super) fn sign(&self, event: &Event, now: Timestamp, headers: &mut HeaderMap) {
        let (id, seconds) = (event.id.to_string(), (now.as_millis() / 1000).to_string());
        let signature = self.signature(&id, &seconds, event.body.bytes());
        for (name, value) in [(ID, id), (TIMESTAMP, seconds), (SIGNATURE, signature)] {
            let value = HeaderValue::try_from(value).expect("hex, digits and base64 are visible");
            headers.insert(name, value);
        }
    }

    fn signature(&self, id: &str, seconds: &str, body: &[u8]) -> String {
        let signatures = self.0.iter().map(|key| {
            let mut mac = key.clone();
            for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
                mac.update(part);
            }
            format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

/// Says how many secrets there are, never which.
impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_specifications_own_sample_is_signed_alike() {
        let signer = Signer::new(SECRET).unwrap();
        let signature = signer.signature(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_secrets_make_two_signatures() {
        let both = Signer::new(
            b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nMDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz\n",
        );
        let both = both.unwrap();
        let signature = both.signature("a", "1", b"{}");
        let alone = Signer::new(SECRET).unwrap().signature("a", "1", b"{}");
        let (first, second) = signature.split_once(' ').unwrap();
        assert_eq!(first, alone);
        assert!(second.starts_with("v1,") && second != first);
        assert_eq!(format!("{both:?}"), "2 secrets");
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for (text, fault) in [
            (&b""[..], SecretFault::Nothing),
            (b" \n", SecretFault::Nothing),
            (b"whsec_?", SecretFault::Spelling),
            (b"\xff", SecretFault::Spelling),
            (b"whsec_c2hvcnQ=", SecretFault::Short),
        ] {
            assert_eq!(Signer::new(text).map(|_| ()), Err(fault), "{text:?}");
        }
    }
}
