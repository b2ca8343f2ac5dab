//! Which of a client's headers go on with its events: those that a destination asked for.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use crate::event::ClientHeaders;

/// What to keep of a client's request. Nothing, unless a destination asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    names: Arc<[HeaderName]>,
    address: bool,
}

impl Keep {
    /// Headers by name, and perhaps the client's address.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = HeaderName>, address: bool) -> Self {
        let mut known = Vec::new();
        for name in names {
            if !known.contains(&name) {
                known.push(name);
            }
        }
        Self { names: known.into(), address }
    }

    /// What any of `all` keeps.
    #[must_use]
    pub fn any<'k>(all: impl IntoIterator<Item = &'k Self> + Clone) -> Self {
        let names = all.clone().into_iter().flat_map(|keep| keep.names.iter().cloned());
        Self::new(names, all.into_iter().any(|keep| keep.address))
    }

    /// What is kept of a request of a client at `address`.
    #[must_use]
    pub fn of(&self, headers: &HeaderMap, address: IpAddr) -> ClientHeaders {
        if self.is_nothing() {
            return ClientHeaders::default();
        }
        let named = self.names.iter().filter_map(|name| Some((name.as_str(), headers.get(name)?)));
        let address = self.address.then_some(address);
        ClientHeaders::collect(address, named.map(|(name, value)| (name, value.as_bytes())))
    }

    /// What is kept of what another kept.
    #[must_use]
    pub fn only(&self, headers: &ClientHeaders) -> ClientHeaders {
        if self.is_nothing() {
            return ClientHeaders::default();
        }
        let address = headers.address().filter(|_| self.address);
        let kept = headers.iter().filter(|(name, _)| self.names.iter().any(|own| own == name));
        ClientHeaders::collect(address, kept)
    }

    /// The same, and before all else the headers of these names.
    #[must_use]
    pub fn and(&self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self::new(names.into_iter().chain(self.names.iter().cloned()), self.address)
    }

    fn is_nothing(&self) -> bool {
        self.names.is_empty() && !self.address
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_was_asked_for_is_kept() {
        let names = |names: &[&'static str]| -> Vec<HeaderName> {
            names.iter().map(|name| HeaderName::from_static(name)).collect()
        };
        let mut headers = HeaderMap::new();
        for name in names(&["user-agent", "accept-language", "cookie"]) {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        let address = IpAddr::from([203, 0, 113, 9]);
        let one = Keep::new(names(&["user-agent", "x-absent"]), false);
        let other = Keep::new(names(&["accept-language", "user-agent"]), true);
        let any = Keep::any([&one, &other]);
        let kept = any.of(&headers, address);
        assert_eq!(kept.address(), Some(address));
        let x = &b"x"[..];
        assert_eq!(kept.iter().collect::<Vec<_>>(), [("user-agent", x), ("accept-language", x)]);
        assert_eq!(one.only(&kept), one.of(&headers, address));
        assert_eq!(one.only(&kept).address(), None);
        assert_eq!(Keep::default().of(&headers, address), ClientHeaders::default());
        assert_eq!(Keep::default().only(&kept), ClientHeaders::default());
    }
}
