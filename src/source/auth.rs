//! How a source knows its senders: by the keys of clients, or by a partner's own means.
//!
//! What can be told before the body is read is told then; a signature over the body is told when
//! it was read, before anything else is made of it. Secrets are compared in constant time and
//! never printed.

mod signature;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use http::HeaderName;

use super::decode;
use super::selector::{Parts, Selector};
use crate::caller::{Block, KeyDigest};

pub use signature::{Digest, Signature};

/// How a source knows its senders.
#[derive(Clone, Debug)]
pub enum Auth {
    /// By the keys of `[[client]]` tables, as far as there are any.
    Clients,
    /// By each of these; where there is none, anyone may post.
    Own(Vec<Proof>),
}

/// One means by which a partner shows who it is.
#[derive(Clone, Debug)]
pub enum Proof {
    /// It signs parts of its requests.
    Signature(Signature),
    /// Its URL holds a secret.
    UrlToken(UrlToken),
    /// It calls from one of these blocks.
    Network(Vec<Block>),
}

/// A secret in the query of a URL.
#[derive(Clone)]
pub struct UrlToken {
    /// The member that holds it.
    pub member: String,
    /// Every secret in force: two, while one is being rotated.
    pub secrets: Vec<KeyDigest>,
}

impl Auth {
    /// Whether a request may come in, as far as can be told without its body.
    #[must_use]
    pub fn admits(&self, target: &str, address: IpAddr) -> bool {
        self.proofs().iter().all(|proof| match proof {
            // It is looked at with the body, so that one that is no JSON is told first.
            Proof::Signature(_) => true,
            Proof::UrlToken(token) => token.is_in(target),
            Proof::Network(blocks) => blocks.iter().any(|block| block.contains(address)),
        })
    }

    /// Whether a request that came in is signed as it must be.
    #[must_use]
    pub(super) fn is_signed(&self, parts: &Parts<'_>) -> bool {
        self.proofs().iter().all(|proof| match proof {
            Proof::Signature(signature) => signature.holds(parts),
            Proof::UrlToken(_) | Proof::Network(_) => true,
        })
    }

    /// A target without the secrets that its query holds; every other byte stays.
    #[must_use]
    pub fn without_secrets<'t>(&self, target: &'t str) -> Cow<'t, str> {
        let mut target = Cow::Borrowed(target);
        for proof in self.proofs() {
            match proof {
                Proof::UrlToken(token) => {
                    if let Some(bare) = token.removed_from(&target) {
                        target = Cow::Owned(bare);
                    }
                }
                Proof::Signature(_) | Proof::Network(_) => {}
            }
        }
        target
    }

    /// The selectors of what is signed.
    pub fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.proofs().iter().flat_map(|proof| match proof {
            Proof::Signature(signature) => signature.over.as_slice(),
            Proof::UrlToken(_) | Proof::Network(_) => &[],
        })
    }

    /// The headers that hold signatures.
    pub fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.proofs().iter().filter_map(|proof| match proof {
            Proof::Signature(signature) => Some(&signature.header),
            Proof::UrlToken(_) | Proof::Network(_) => None,
        })
    }

    /// What a partner shows; nothing where clients' keys are asked for, or nobody is asked.
    #[must_use]
    pub fn proofs(&self) -> &[Proof] {
        match self {
            Self::Clients => &[],
            Self::Own(proofs) => proofs,
        }
    }
}

impl UrlToken {
    fn names(&self, pair: &str) -> bool {
        let name = pair.split('=').next().unwrap_or_default();
        decode::text(name.as_bytes()).is_ok_and(|name| name == self.member.as_str())
    }

    fn is_in(&self, target: &str) -> bool {
        let Some((_, query)) = target.split_once('?') else { return false };
        let own = query.split('&').filter(|pair| self.names(pair));
        own.filter_map(|pair| pair.split_once('=')).any(|(_, value)| {
            let given = KeyDigest::of(&decode::percent_decoded(&decode::spaced(value.as_bytes())));
            // Over all of them, so that the time tells nothing about which it is.
            let matches = self.secrets.iter().map(|secret| secret.is(&given));
            matches.fold(false, |any, one| any | bool::from(one))
        })
    }

    /// The target without it; nothing when it is not there.
    fn removed_from(&self, target: &str) -> Option<String> {
        let (path, query) = target.split_once('?')?;
        if !query.split('&').any(|pair| self.names(pair)) {
            return None;
        }
        let rest: Vec<&str> = query.split('&').filter(|pair| !self.names(pair)).collect();
        let rest = rest.join("&");
        Some(if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") })
    }
}

/// In words for people, without any secret.
impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proofs = match self {
            Self::Clients => return f.write_str("the key of a client"),
            Self::Own(proofs) if proofs.is_empty() => {
                return f.write_str("nothing: anyone may post");
            }
            Self::Own(proofs) => proofs,
        };
        for (at, proof) in proofs.iter().enumerate() {
            if at > 0 {
                f.write_str(", and ")?;
            }
            match proof {
                Proof::Signature(signature) => write!(f, "{signature}")?,
                Proof::UrlToken(token) => write!(f, "a token in ?{}=", token.member)?,
                Proof::Network(blocks) => {
                    let blocks: Vec<String> = blocks.iter().map(ToString::to_string).collect();
                    write!(f, "an address in {}", blocks.join(", "))?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for UrlToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens in ?{}=", self.secrets.len(), self.member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Auth {
        let secrets = vec![KeyDigest::of(b"old"), KeyDigest::of(b"s+c r/t")];
        Auth::Own(vec![Proof::UrlToken(UrlToken { member: "token".to_owned(), secrets })])
    }

    #[test]
    fn a_token_is_known_however_it_is_encoded_and_nothing_else_is() {
        let admits = |target| token().admits(target, IpAddr::from([1, 2, 3, 4]));
        for target in [
            "/h?token=old",
            "/h?a=1&token=old&b=2",
            "/h?%74oken=%6Fld",
            "/h?token=s%2Bc%20r/t",
            "/h?token=s%2Bc+r%2Ft",
        ] {
            assert!(admits(target), "{target}");
        }
        for target in [
            "/h",
            "/h?",
            "/h?token",
            "/h?token=",
            "/h?token=old2",
            "/h?token=ol",
            "/h?Token=old",
            "/h?xtoken=old",
            "/h?a=token=old",
            "/token=old",
            "/h?token=s+c r/t",
        ] {
            assert!(!admits(target), "{target}");
        }
    }

    #[test]
    fn a_target_keeps_all_but_its_token() {
        for (target, bare) in [
            ("/h?token=old", "/h"),
            ("/h?a=%zz&token=old&b=+&", "/h?a=%zz&b=+&"),
            ("/h?token=wrong&%74oken=old&x=1", "/h?x=1"),
            ("/h?token&x", "/h?x"),
            ("/h?a=1", "/h?a=1"),
            ("/h", "/h"),
        ] {
            assert_eq!(token().without_secrets(target), bare, "{target}");
        }
        assert_eq!(Auth::Clients.without_secrets("/h?token=old"), "/h?token=old");
    }

    #[test]
    fn an_address_is_within_its_blocks_and_every_means_must_agree() {
        let network = Proof::Network(vec!["203.0.113.0/24".parse().unwrap()]);
        let [own, other] = [[203, 0, 113, 9], [203, 0, 114, 9]].map(IpAddr::from);
        let alone = Auth::Own(vec![network.clone()]);
        assert!(alone.admits("/h", own) && !alone.admits("/h", other));
        let Auth::Own(mut both) = token() else { unreachable!() };
        both.push(network);
        let both = Auth::Own(both);
        assert!(both.admits("/h?token=old", own));
        assert!(!both.admits("/h?token=old", other));
        assert!(!both.admits("/h", own));
        assert!(Auth::Own(Vec::new()).admits("/h", other));
    }

    #[test]
    fn no_secret_is_printed() {
        let told = format!("{:?} {}", token(), token());
        assert!(!told.contains("old"), "{told}");
    }
}
