//! Who calls: a client known by its key, a web page known by its origin, or a stranger.
//!
//! Nothing here reads a request; `http` offers what it found, and is told who that is. No key is
//! kept, only digests of keys, and neither is ever printed.

mod client;
mod digest;
mod limiter;
mod proxy;
mod rate;

use std::borrow::Borrow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::event::{ClientName, SourceName};
use crate::origin::Origins;

pub use client::{Client, Clients, Credential};
pub use digest::{DigestFault, KeyDigest};
pub use limiter::{Limiter, Network, Payer, Toll};
pub use proxy::{Block, BlockFault, Proxies};
pub use rate::{Rate, RateFault};

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
    /// The rate that its items count against; nothing where there is no limit.
    pub toll: Option<Toll>,
}

impl Caller {
    /// Nobody in particular, at `address`.
    #[must_use]
    pub const fn stranger(address: IpAddr) -> Self {
        Self { client: None, publishers: Scope::Any, raw_identity: false, address, toll: None }
    }

    /// Whether it is a web page, known by an origin that any program can claim.
    #[must_use]
    pub const fn is_page(&self) -> bool {
        self.client.is_some() && !self.raw_identity
    }

    /// Whoever sits at the terminal, and asks for all publishers: no request came, so there is no
    /// address. `raw_identity` says whether they ask as a client with a key would.
    #[must_use]
    pub const fn terminal(raw_identity: bool) -> Self {
        let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self { client: None, publishers: Scope::Any, raw_identity, address, toll: None }
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
    /// What one address may send that no client's own rate holds: a stranger's, and that of a web
    /// page's visitor.
    pub rate_per_address: Option<Rate>,
    /// Whose word on where a request came from is believed.
    pub proxies: Proxies,
    /// Origins whose pages may post and read answers, beside those of the clients.
    pub cors: Origins,
}

impl Access {
    /// Takes events from anyone.
    #[must_use]
    pub fn open() -> Self {
        Self {
            clients: Clients::default(),
            strangers: Strangers::Taken,
            rate_per_address: None,
            proxies: Proxies::default(),
            cors: Origins::default(),
        }
    }

    /// Whether a client with a key may post to `source`, and so raw identity may come there.
    #[must_use]
    pub fn takes_raw_identity(&self, source: &SourceName) -> bool {
        self.clients.iter().any(|client| match client.credential {
            Credential::Keys(_) => client.sources.covers(source),
            Credential::Origins(_) => false,
        })
    }

    /// Nobody in particular, at `address`, under the rate of one address.
    #[must_use]
    pub fn stranger(&self, address: IpAddr) -> Caller {
        let toll = self
            .rate_per_address
            .map(|rate| Toll { rate, payer: Payer::Address(None, address.into()) });
        Caller { toll, ..Caller::stranger(address) }
    }

    /// A client, calling from `address`.
    #[must_use]
    pub fn client(&self, client: &Client, address: IpAddr) -> Caller {
        let name = client.name.clone();
        let (raw_identity, rate, payer) = match client.credential {
            Credential::Keys(_) => (true, client.rate, Payer::Client(name.clone())),
            Credential::Origins(_) => {
                let rate = client.rate.or(self.rate_per_address);
                (false, rate, Payer::Address(Some(name.clone()), address.into()))
            }
        };
        Caller {
            client: Some(name),
            publishers: client.publishers.clone(),
            raw_identity,
            address,
            toll: rate.map(|rate| Toll { rate, payer }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(credential: Credential, rate: Option<&str>) -> Client {
        Client {
            name: ClientName::new("c"),
            credential,
            sources: Scope::Any,
            publishers: Scope::Any,
            rate: rate.map(|rate| rate.parse().unwrap()),
        }
    }

    #[test]
    fn a_key_pays_for_itself_and_a_page_by_its_visitors_who_send_no_raw_identity() {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let toll = |rate: &str, payer| Some(Toll { rate: rate.parse().unwrap(), payer });
        let visitor = || Payer::Address(Some(ClientName::new("c")), address.into());
        let limited = Access { rate_per_address: "1/s".parse().ok(), ..Access::open() };
        let keys = || Credential::Keys(Vec::new());
        let page = || Credential::Origins(Origins::default());
        let own = Payer::Client(ClientName::new("c"));
        for (access, credential, rate, raw_identity, expected) in [
            (&Access::open(), keys(), None, true, None),
            (&limited, keys(), None, true, None),
            (&limited, keys(), Some("9/s"), true, toll("9/s", own)),
            (&Access::open(), page(), None, false, None),
            (&limited, page(), None, false, toll("1/s", visitor())),
            (&limited, page(), Some("9/s"), false, toll("9/s", visitor())),
        ] {
            let caller = access.client(&client(credential, rate), address);
            assert_eq!(caller.is_page(), !raw_identity);
            assert_eq!((caller.raw_identity, caller.toll), (raw_identity, expected));
        }
        let stranger = limited.stranger(address);
        assert_eq!(stranger.toll, toll("1/s", Payer::Address(None, address.into())));
        assert!(!stranger.raw_identity && !stranger.is_page());
    }

    #[test]
    fn raw_identity_may_come_where_a_key_may_post() {
        let only = |name: &str| Scope::Only(Arc::new([SourceName::new(name)]));
        let of = |clients: Vec<Client>| Access { clients: Clients::new(clients), ..Access::open() };
        let (key, page) = (Credential::Keys(Vec::new()), Credential::Origins(Origins::default()));
        let source = SourceName::new("orders");
        for (clients, may) in [
            (vec![], false),
            (vec![client(page, None)], false),
            (vec![Client { sources: only("clicks"), ..client(key.clone(), None) }], false),
            (vec![Client { sources: only("orders"), ..client(key.clone(), None) }], true),
            (vec![client(key, None)], true),
        ] {
            assert_eq!(of(clients).takes_raw_identity(&source), may);
        }
    }

    #[test]
    fn a_scope_covers_what_it_names() {
        let only: Scope<Arc<str>> = Scope::Only(Arc::new(["pub-1".into()]));
        assert!(only.covers("pub-1") && Scope::<Arc<str>>::Any.covers("pub-2"));
        for other in ["pub-2", "pub-", "PUB-1", "pub-1 ", ""] {
            assert!(!only.covers(other), "{other:?}");
        }
    }
}
