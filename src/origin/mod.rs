//! An origin: scheme, host and port, in the one spelling in which two of them are compared.
//!
//! What is no plain origin is refused, not mended: a host that two programs read differently is how
//! requests are led astray.

mod address;
mod url;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub use address::is_public;
pub use url::EventUrl;

/// How an origin is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// The word in front of `://`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Why a text is no URL that events are sent to. Never says what the text was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// No scheme, or no `//` behind it.
    #[error("is no absolute URL")]
    NotAbsolute,
    /// Neither http nor https.
    #[error("is neither http nor https")]
    Scheme,
    /// A user name or password in front of the host.
    #[error("holds a user name or password")]
    Userinfo,
    /// No host, or one that is not read alike by everyone.
    #[error("has no host that can be compared")]
    Host,
    /// No port from 1 to 65535.
    #[error("has no such port")]
    Port,
    /// A line break or another control character.
    #[error("holds a control character")]
    Control,
    /// Longer than any request line should be.
    #[error("is too long")]
    TooLong,
    /// An origin was asked for, and there is more behind it.
    #[error("has more than scheme, host and port")]
    NotBare,
}

/// Longest name that the DNS holds.
const NAME_BYTES_MAX: usize = 253;

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Host {
    /// Lower case, punycode.
    Name(Arc<str>),
    Address(IpAddr),
}

/// Scheme, host and port. Equal ones are the same origin, however they were spelled.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    scheme: Scheme,
    host: Host,
    port: u16,
}

impl Origin {
    /// Reads `https://host` or `https://host:port`; a lone `/` may stand behind.
    ///
    /// # Errors
    /// [`UrlFault`].
    pub fn parse(text: &str) -> Result<Self, UrlFault> {
        let (origin, rest) = Self::split(text)?;
        if rest.is_empty() || rest == "/" { Ok(origin) } else { Err(UrlFault::NotBare) }
    }

    /// The origin in front of a URL, and what stands behind it.
    fn split(text: &str) -> Result<(Self, &str), UrlFault> {
        let (scheme, rest) = text.split_once(':').ok_or(UrlFault::NotAbsolute)?;
        let scheme = if scheme.eq_ignore_ascii_case("https") {
            Scheme::Https
        } else if scheme.eq_ignore_ascii_case("http") {
            Scheme::Http
        } else {
            return Err(UrlFault::Scheme);
        };
        let rest = rest.strip_prefix("//").ok_or(UrlFault::NotAbsolute)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.contains('@') {
            return Err(UrlFault::Userinfo);
        }
        let (host, port) = host_and_port(authority)?;
        let port = port.unwrap_or_else(|| scheme.default_port());
        Ok((Self { scheme, host, port }, rest))
    }

    /// How it is spoken to.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Its address, when its host is one and no name.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Address(address) => Some(*address),
            Host::Name(_) => None,
        }
    }

    /// Host, and the port unless it is the scheme's own: what a `Host` header says.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = match &self.host {
            Host::Name(name) => name.to_string(),
            Host::Address(IpAddr::V4(address)) => address.to_string(),
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
        };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn host_and_port(authority: &str) -> Result<(Host, Option<u16>), UrlFault> {
    let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
        let (inside, behind) = inner.split_once(']').ok_or(UrlFault::Host)?;
        let address: Ipv6Addr = inside.parse().map_err(|_| UrlFault::Host)?;
        let port = match behind.strip_prefix(':') {
            Some(port) => port,
            None if behind.is_empty() => "",
            None => return Err(UrlFault::Host),
        };
        (Host::Address(address.into()), port)
    } else {
        let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
        (named(host)?, port)
    };
    Ok((host, read_port(port)?))
}

/// A colon without a port is the scheme's own port, as browsers have it.
fn read_port(text: &str) -> Result<Option<u16>, UrlFault> {
    if text.is_empty() {
        return Ok(None);
    }
    // `parse` alone would take "+80".
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = text.parse().map_err(|_| UrlFault::Port)?;
    if digits && port != 0 { Ok(Some(port)) } else { Err(UrlFault::Port) }
}

fn named(host: &str) -> Result<Host, UrlFault> {
    let denied = idna::AsciiDenyList::URL;
    let name = idna::domain_to_ascii_cow(host.as_bytes(), denied).map_err(|_| UrlFault::Host)?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.split('.').any(|l| l.len() > 63) {
        return Err(UrlFault::Host);
    }
    let last = name.strip_suffix('.').unwrap_or(&name).rsplit('.').next().unwrap_or_default();
    if is_number(last) {
        // Browsers read 2130706433, 0177.1 and 0x7f.0.0.1 all as 127.0.0.1; nobody who means well
        // writes so, and resolvers differ.
        let address: Ipv4Addr = name.parse().map_err(|_| UrlFault::Host)?;
        return Ok(Host::Address(address.into()));
    }
    Ok(Host::Name(name.as_ref().into()))
}

/// Whether a host's last label makes it an address (URL standard, "ends in a number").
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x");
    hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        || (!label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The origins that events may be sent to by URL. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Arc<[Origin]>);

impl Origins {
    /// Exactly these.
    #[must_use]
    pub fn new(origins: Vec<Origin>) -> Self {
        Self(origins.into())
    }

    /// Whether `origin` is one of them.
    #[must_use]
    pub fn contain(&self, origin: &Origin) -> bool {
        self.0.contains(origin)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Origin> {
        self.0.iter()
    }

    /// Whether nothing may be sent by URL.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
