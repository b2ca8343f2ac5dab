//! Clients as configured, and finding the one that a key belongs to.

use std::net::IpAddr;
use std::sync::Arc;

use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::{Caller, KeyDigest, Scope};
use crate::event::{ClientName, SourceName};

/// What a client is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A key; two while one takes the other's place.
    Keys(Vec<KeyDigest>),
}

/// One client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its name.
    pub name: ClientName,
    /// What it is known by.
    pub credential: Credential,
    /// The sources it may post to.
    pub sources: Scope<SourceName>,
    /// The publishers it may speak for.
    pub publishers: Scope<Arc<str>>,
}

impl Client {
    /// It, calling from `address`.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Caller {
        let raw_identity = match self.credential {
            Credential::Keys(_) => true,
        };
        Caller {
            client: Some(self.name.clone()),
            publishers: self.publishers.clone(),
            raw_identity,
            address,
        }
    }
}

/// Every client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients(Arc<[Client]>);

impl Clients {
    /// Those of a configuration, in its order.
    #[must_use]
    pub fn new(clients: Vec<Client>) -> Self {
        Self(clients.into())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.0.iter()
    }

    /// The client whose key was offered.
    ///
    /// Every digest is compared whatever was found before, so that the time this takes tells
    /// neither whether a key is known nor whose it is.
    #[must_use]
    pub fn of_key(&self, offered: &[u8]) -> Option<&Client> {
        let offered = KeyDigest::of(offered);
        let mut found = u32::MAX;
        for (number, client) in (0u32..).zip(self.0.iter()) {
            match &client.credential {
                Credential::Keys(keys) => {
                    for key in keys {
                        found.conditional_assign(&number, key.is(&offered));
                    }
                }
            }
        }
        if bool::from(found.ct_eq(&u32::MAX)) {
            return None;
        }
        usize::try_from(found).ok().and_then(|number| self.0.get(number))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn client(name: &str, keys: &[&str]) -> Client {
        let keys = keys.iter().map(|key| KeyDigest::of(key.as_bytes())).collect();
        Client {
            name: ClientName::new(name),
            credential: Credential::Keys(keys),
            sources: Scope::Any,
            publishers: Scope::Any,
        }
    }

    #[test]
    fn a_key_is_its_clients_in_whatever_place_it_stands() {
        let clients = Clients::new(vec![
            client("first", &["a"]),
            client("middle", &["b", "c"]),
            client("last", &["d"]),
        ]);
        let found = |key: &str| clients.of_key(key.as_bytes()).map(|one| one.name.as_str());
        assert_eq!(
            ["a", "b", "c", "d"].map(found),
            [Some("first"), Some("middle"), Some("middle"), Some("last")]
        );
        assert_eq!(["", "e", "A", "aa"].map(found), [None; 4]);
        assert_eq!(Clients::default().of_key(b"a"), None);
    }

    #[test]
    fn a_client_with_a_key_may_send_raw_identity_and_a_stranger_may_not() {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(client("till", &["a"]).at(address).raw_identity);
        assert!(!Caller::stranger(address).raw_identity);
    }
}
