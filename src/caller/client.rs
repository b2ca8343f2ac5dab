//! Clients as configured, and finding the one that a key belongs to.

use std::sync::Arc;

use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::{KeyDigest, Rate, Scope};
use crate::event::{ClientName, SourceName};
use crate::origin::{Origin, Origins};

/// What a client is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A key; two while one takes the other's place.
    Keys(Vec<KeyDigest>),
    /// The origins of a web page, which cannot keep a key. No authentication: any program can claim
    /// an origin, a browser alone does not.
    Origins(Origins),
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
    /// What it may send: by itself, or for a web page each of its visitors' addresses.
    pub rate: Option<Rate>,
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
                Credential::Origins(_) => {}
            }
        }
        if bool::from(found.ct_eq(&u32::MAX)) {
            return None;
        }
        usize::try_from(found).ok().and_then(|number| self.0.get(number))
    }

    /// The web page that an origin is one of.
    #[must_use]
    pub fn of_origin(&self, origin: &Origin) -> Option<&Client> {
        self.iter().find(|client| match &client.credential {
            Credential::Keys(_) => false,
            Credential::Origins(origins) => origins.contain(origin),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str, keys: &[&str]) -> Client {
        let keys = keys.iter().map(|key| KeyDigest::of(key.as_bytes())).collect();
        Client {
            name: ClientName::new(name),
            credential: Credential::Keys(keys),
            sources: Scope::Any,
            publishers: Scope::Any,
            rate: None,
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
    fn an_origin_is_its_pages_and_no_key() {
        let origins = Origins::new(vec![Origin::parse("https://shop.example").unwrap()]);
        let page = Client { credential: Credential::Origins(origins), ..client("page", &[]) };
        let clients = Clients::new(vec![client("till", &["a"]), page]);
        let found = |origin: &str| {
            let found = clients.of_origin(&Origin::parse(origin).unwrap());
            found.map(|one| one.name.as_str())
        };
        assert_eq!(found("https://shop.example:443"), Some("page"));
        for other in ["http://shop.example", "https://shop.example:8443", "https://a.shop.example"]
        {
            assert_eq!(found(other), None, "{other}");
        }
        assert_eq!(clients.of_key(b"https://shop.example"), None);
    }
}
