//! Who calls: a client known by its key, a web page known by its origin, or a stranger.
//!
//! Nothing here reads a request; `http` offers what it found, and is told who that is. No key is
//! kept, only digests of keys, and neither is ever printed.

mod client;
mod digest;

use std::borrow::Borrow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::event::ClientName;

pub use client::{Client, Clients, Credential};
pub use digest::{DigestFault, KeyDigest};

/// Who sent a request, as far as anyone knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The client that it is; nothing for a stranger.
    pub client: Option<ClientName>,
    /// The publishers that it may speak for.
    pub publishers: Scope<Arc<str>>,
    /// Whether it may send raw identity, to be hashed. A client with a key may; a web page, whose
    /// origin anyone can claim, and a stranger may not.
    pub raw_identity: bool,
    /// The address it called from.
    pub address: IpAddr,
}

impl Caller {
    /// Nobody in particular, at `address`.
    #[must_use]
    pub const fn stranger(address: IpAddr) -> Self {
        Self { client: None, publishers: Scope::Any, raw_identity: false, address }
    }

    /// Whoever sits at the terminal: no request came, so there is no address.
    #[must_use]
    pub const fn terminal() -> Self {
        Self::stranger(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

/// What a client may use or speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope<T> {
    /// Whatever there is.
    Any,
    /// These alone.
    Only(Arc<[T]>),
}

impl<T> Scope<T> {
    /// Whether `one` is among it.
    pub fn covers<Q>(&self, one: &Q) -> bool
    where
        T: Borrow<Q>,
        Q: PartialEq + ?Sized,
    {
        match self {
            Self::Any => true,
            Self::Only(list) => list.iter().any(|own| own.borrow() == one),
        }
    }

    /// Whether it leaves anything out.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }
}

/// What becomes of requests that no client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    /// They are taken.
    Taken,
    /// They are answered 401.
    Refused,
}

/// Who may call, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The clients.
    pub clients: Clients,
    /// Everyone else.
    pub strangers: Strangers,
}

impl Access {
    /// Takes events from anyone.
    #[must_use]
    pub fn open() -> Self {
        Self { clients: Clients::default(), strangers: Strangers::Taken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_what_it_names() {
        let only: Scope<Arc<str>> = Scope::Only(Arc::new(["pub-1".into()]));
        assert!(only.covers("pub-1") && Scope::<Arc<str>>::Any.covers("pub-2"));
        for other in ["pub-2", "pub-", "PUB-1", "pub-1 ", ""] {
            assert!(!only.covers(other), "{other:?}");
        }
    }
}
