//! What of a client's own request goes on with its event.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;

/// A few small headers of the client, and its address, in the form in which stores keep them.
///
/// Only what a destination asked for is in it; nothing, for most.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientHeaders(Bytes);

/// Stands for a name where the value is the client's address.
const ADDRESS: &[u8] = b"";

impl ClientHeaders {
    /// Headers beyond are left out.
    pub const COUNT_MAX: usize = 16;
    /// A header that would make it longer is left out.
    pub const BYTES_MAX: usize = 4096;

    /// Collects the client's address, if wished, and headers in lower case, as far as there is room.
    pub fn collect<'h>(
        address: Option<IpAddr>,
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    ) -> Self {
        let mut bytes = Vec::new();
        if let Some(address) = address {
            put(&mut bytes, ADDRESS, address.to_string().as_bytes());
        }
        for (name, value) in headers.into_iter().take(Self::COUNT_MAX) {
            if !name.is_empty() {
                put(&mut bytes, name.as_bytes(), value);
            }
        }
        Self(bytes.into())
    }

    /// What [`ClientHeaders::as_bytes`] gave a store.
    #[must_use]
    pub const fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// For a store.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The client's address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let (_, value) = self.parts().find(|(name, _)| *name == ADDRESS)?;
        std::str::from_utf8(value).ok()?.parse().ok()
    }

    /// Names and values, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.parts().filter(|(name, _)| *name != ADDRESS);
        headers.filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
    }

    fn parts(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (lens, behind) = rest.split_first_chunk::<3>()?;
            let name_len = usize::from(lens[0]);
            let value_len = usize::from(u16::from_le_bytes([lens[1], lens[2]]));
            let (name, behind) = behind.split_at_checked(name_len)?;
            let (value, behind) = behind.split_at_checked(value_len)?;
            rest = behind;
            Some((name, value))
        })
    }
}

/// Appends one part, if its lengths fit their fields and the whole its bound.
fn put(bytes: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let (Ok(name_len), Ok(value_len)) = (u8::try_from(name.len()), u16::try_from(value.len()))
    else {
        return;
    };
    if bytes.len() + 3 + name.len() + value.len() > ClientHeaders::BYTES_MAX {
        return;
    }
    bytes.push(name_len);
    bytes.extend_from_slice(&value_len.to_le_bytes());
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(value);
}

/// Says the size alone: an address or a browser's name never reaches a log by way of `{:?}`.
impl fmt::Debug for ClientHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_address_survive_a_store() {
        let address = IpAddr::from([203, 0, 113, 9]);
        let sent = [("user-agent", &b"Shop/3 (Caf\xe9)"[..]), ("accept-language", b"pt-BR")];
        let headers = ClientHeaders::collect(Some(address), sent);
        let back = ClientHeaders::from_bytes(headers.as_bytes().clone());
        assert_eq!(back.address(), Some(address));
        assert_eq!(back.iter().collect::<Vec<_>>(), sent);
        assert_eq!(format!("{back:?}"), format!("{} bytes", headers.as_bytes().len()));
        assert_eq!(ClientHeaders::collect(None, []), ClientHeaders::default());
        assert_eq!(ClientHeaders::default().address(), None);
    }

    #[test]
    fn what_is_too_much_is_left_out_and_the_rest_stays() {
        let long = vec![b'x'; ClientHeaders::BYTES_MAX];
        let headers = ClientHeaders::collect(None, [("a", &long[..]), ("b", b"1")]);
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("b", &b"1"[..])]);
        let many = ClientHeaders::collect(None, (0..100).map(|_| ("a", &b"1"[..])));
        assert_eq!(many.iter().count(), ClientHeaders::COUNT_MAX);
    }

    #[test]
    fn damaged_bytes_end_the_list() {
        let whole = ClientHeaders::collect(None, [("a", &b"1"[..]), ("b", b"2")]);
        let bytes = whole.as_bytes();
        for len in 0..bytes.len() {
            let cut = ClientHeaders::from_bytes(bytes.slice(..len));
            assert_eq!(cut.iter().count(), usize::from(len >= bytes.len() / 2), "{len}");
        }
    }
}
