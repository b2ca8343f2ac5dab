//! Signatures of partners: an HMAC over parts of a request, in a header.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderName;
use ring::hmac;
use subtle::ConstantTimeEq;

use crate::source::selector::{Parts, Selector};

/// What a signature is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// HMAC-SHA1, which still holds as a signature though SHA-1 is broken as a digest (RFC 6194,
    /// section 3.3).
    Sha1,
    /// HMAC-SHA256.
    Sha256,
}

impl Digest {
    /// The word of the configuration, and what stands before such a signature at some partners.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    const fn algorithm(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// An HMAC over parts of a request.
#[derive(Clone)]
pub struct Signature {
    /// The header that it stands in.
    pub header: HeaderName,
    /// What it is made with.
    pub digest: Digest,
    /// What may stand before it, beside the digest's own name and an equals sign.
    pub prefix: String,
    /// What is signed, in this order,
    pub over: Vec<Selector>,
    /// with this between two parts.
    pub join: String,
    keys: Vec<hmac::Key>,
}

impl Signature {
    /// A signature in `header` that nobody can make yet.
    #[must_use]
    pub const fn new(header: HeaderName, digest: Digest, over: Vec<Selector>) -> Self {
        Self { header, digest, prefix: String::new(), over, join: String::new(), keys: Vec::new() }
    }

    /// Believes what was signed with `secret`, too.
    pub fn trust(&mut self, secret: &[u8]) {
        self.keys.push(hmac::Key::new(self.digest.algorithm(), secret));
    }

    /// Whether the parts of a request are signed so.
    pub(super) fn holds(&self, parts: &Parts<'_>) -> bool {
        let given = parts.headers.iter().find(|(name, _)| self.header == *name);
        let Some(given) = given.and_then(|(_, value)| self.read(value)) else { return false };
        let mut signed = Vec::new();
        for (at, selector) in self.over.iter().enumerate() {
            if at > 0 {
                signed.extend_from_slice(self.join.as_bytes());
            }
            let Some(text) = selector.text(parts) else { return false };
            signed.extend_from_slice(&text);
        }
        // Every key, so that the time tells nothing about which it is.
        self.keys.iter().fold(false, |any, key| {
            any | bool::from(hmac::sign(key, &signed).as_ref().ct_eq(&given))
        })
    }

    /// The signature in a header's value: hexadecimal digits in any case, or base64.
    fn read(&self, value: &[u8]) -> Option<Vec<u8>> {
        let own = format!("{}=", self.digest.as_str());
        let value = value.trim_ascii();
        let value = [own.as_bytes(), self.prefix.as_bytes()]
            .into_iter()
            .find_map(|prefix| {
                let (start, rest) = value.split_at_checked(prefix.len())?;
                (!prefix.is_empty() && start.eq_ignore_ascii_case(prefix)).then_some(rest)
            })
            .unwrap_or(value);
        let bytes = if value.len() == 2 * self.digest.bytes() {
            unhex(value)?
        } else {
            STANDARD.decode(value).or_else(|_| URL_SAFE_NO_PAD.decode(value)).ok()?
        };
        (bytes.len() == self.digest.bytes()).then_some(bytes)
    }
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    digits.chunks(2).map(byte).collect()
}

/// In words for people, without any secret.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over: Vec<String> = self.over.iter().map(ToString::to_string).collect();
        let (digest, header) = (self.digest.as_str(), &self.header);
        write!(f, "an HMAC-{} over {} in {header}", digest.to_uppercase(), over.join(" "))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}, by {} secrets", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ClientHeaders;
    use crate::json::parse;
    use crate::json::spelling::Written;

    /// A body that names two ids, and their signature by `test-secret`.
    const BODY: &str = r#"{"b":"e9a0b0c8-6aad-4a63-8679-501bd2d28761","a":"9de9b5e3-1720-11e8-8790-0242ac110002"}"#;
    const SHA1: &str = "bbcc41084bc0685e062ff4d2cb1329c7cd1ce60b";
    const SHA1_BASE64: &str = "u8xBCEvAaF4GL/TSyxMpx80c5gs=";

    fn signature(digest: Digest, over: &[&str]) -> Signature {
        let over = over.iter().map(|one| one.parse().unwrap()).collect();
        let mut signature = Signature::new(HeaderName::from_static("x-signature"), digest, over);
        signature.join = ",".to_owned();
        signature.trust(b"old-secret");
        signature.trust(b"test-secret");
        signature
    }

    fn holds(signature: &Signature, value: &str, body: &str) -> bool {
        let headers = ClientHeaders::collect(None, [("x-signature", value.as_bytes())]);
        let document = parse(body.as_bytes(), 64).ok();
        signature.holds(&Parts {
            pattern: "/hook",
            target: b"/hook",
            headers: &headers,
            document: document.as_ref().map(|root| Written { root, text: body.as_bytes() }),
            bytes: body.as_bytes(),
        })
    }

    #[test]
    fn a_signature_is_read_in_every_usual_spelling() {
        let mut over_ids = signature(Digest::Sha1, &["body:/a", "body:/b"]);
        over_ids.prefix = "v1=".to_owned();
        for value in [
            SHA1.to_owned(),
            SHA1.to_uppercase(),
            format!("sha1={SHA1}"),
            format!("SHA1={}", SHA1.to_uppercase()),
            format!("v1={SHA1}"),
            format!(" {SHA1} "),
            SHA1_BASE64.to_owned(),
            SHA1_BASE64.replace('/', "_").replace('=', ""),
        ] {
            assert!(holds(&over_ids, &value, BODY), "{value}");
        }
        for value in [
            "",
            "sha1=",
            &SHA1[1..],
            &SHA1.replace('b', "c"),
            &format!("sha256={SHA1}"),
            &format!("{SHA1}00"),
            &"g".repeat(40),
        ] {
            assert!(!holds(&over_ids, value, BODY), "{value}");
        }
    }

    #[test]
    fn nothing_is_signed_that_lacks_a_part_or_has_another() {
        let over_ids = signature(Digest::Sha1, &["body:/a", "body:/b"]);
        for body in ["{}", "{", "[]", r#"{"a":"9de9b5e3-1720-11e8-8790-0242ac110002"}"#] {
            assert!(!holds(&over_ids, SHA1, body), "{body}");
        }
        assert!(!holds(&over_ids, SHA1, &BODY.replace("8761", "8762")));
        assert!(holds(&over_ids, SHA1, &BODY.replace('{', r#"{"c":1,"#)), "the rest is not signed");
        let swapped = signature(Digest::Sha1, &["body:/b", "body:/a"]);
        assert!(!holds(&swapped, SHA1, BODY));
        let nobody =
            Signature::new(HeaderName::from_static("x-signature"), Digest::Sha1, Vec::new());
        assert!(!holds(&nobody, SHA1, BODY));
    }

    /// Made with `openssl dgst -sha1 -hmac test-secret`.
    #[test]
    fn a_number_is_signed_as_it_was_written() {
        let over_ids = signature(Digest::Sha1, &["body:/a", "body:/b"]);
        for (a, signed) in [
            ("12345678901234567890", "eefa9e1a026813c8022b9bcd3da4c5d251adb51c"),
            ("9007199254740993", "e6a8788b98f179599fe7310770218dc517d1acc6"),
            ("1e3", "6d070e523e307192f24b1fb37a71460ed092b884"),
            ("1.0", "c5616fe2d986c724b03ba4144ce5b372fb590c62"),
            ("-0", "f0be51d8e4e7b1bffd430ccf31d17fa847b56118"),
        ] {
            for body in
                [format!("{{\"b\":\"t-1\",\"a\":{a}}}"), format!("{{\"a\":{a} ,\"b\":\"t-1\"}}")]
            {
                assert!(holds(&over_ids, signed, &body), "{body}");
            }
            for other in ["12345678901234567891", "9007199254740992", "1000", "1", "0"] {
                let body = format!("{{\"a\":{other},\"b\":\"t-1\"}}");
                assert!(!holds(&over_ids, signed, &body), "{body}");
            }
        }
    }

    #[test]
    fn a_whole_body_is_signed_byte_for_byte() {
        // RFC 4231, section 4.3, but for the key, which is signed with beside another.
        let mut body = signature(Digest::Sha256, &["payload"]);
        body.trust(b"Jefe");
        let signed = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert!(holds(&body, signed, "what do ya want for nothing?"));
        assert!(holds(&body, &format!("sha256={signed}"), "what do ya want for nothing?"));
        assert!(!holds(&body, signed, "what do ya want for nothing? "));
    }

    #[test]
    fn no_secret_is_printed() {
        let told = format!("{:?}", signature(Digest::Sha1, &["body:/a"]));
        assert_eq!(told, "an HMAC-SHA1 over body:/a in x-signature, by 2 secrets");
    }
}
