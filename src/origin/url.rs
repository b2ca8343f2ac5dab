//! The URL of an event as the ad server gave it: an origin, and a target that is never rebuilt.

use bytes::Bytes;

use super::{Origin, UrlFault};

/// Longest target, encoded. Event URLs are one to two KiB; servers refuse request lines from 8 KiB.
const TARGET_BYTES_MAX: usize = 16 * 1024;

/// Where an event goes by URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventUrl {
    /// The origin.
    pub origin: Origin,
    /// Path and query as they will stand in the request line.
    pub target: Bytes,
}

impl EventUrl {
    /// Reads an absolute URL. What a request line cannot carry is percent-encoded as a browser
    /// does, a fragment and spaces around the URL stay behind, nothing else changes: a signature
    /// over path and query stays valid.
    ///
    /// # Errors
    /// [`UrlFault`] when it is no URL, or not read alike by everyone.
    pub fn parse(url: &str) -> Result<Self, UrlFault> {
        let url = url.trim_matches(' ');
        // Browsers drop tabs and line breaks; from a server they are an attack or a mistake.
        if url.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(UrlFault::Control);
        }
        let (origin, rest) = Origin::split(url)?;
        let rest = rest.split('#').next().unwrap_or_default();
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut target = Vec::with_capacity(rest.len() + 1);
        if path.is_empty() {
            target.push(b'/');
        }
        encode(path, b"\"<>`", &mut target);
        if let Some(query) = query {
            target.push(b'?');
            encode(query, b"\"<>", &mut target);
        }
        if target.len() > TARGET_BYTES_MAX {
            return Err(UrlFault::TooLong);
        }
        Ok(Self { origin, target: target.into() })
    }

    /// Origin and target in one, which [`EventUrl::parse`] reads back unchanged: what an event
    /// that came by URL keeps as its target.
    #[must_use]
    pub fn absolute(&self) -> Bytes {
        let mut url = self.origin.to_string().into_bytes();
        url.extend_from_slice(&self.target);
        url.into()
    }
}

/// Copies `text`, percent-encoding spaces, `others` and what is not ASCII.
fn encode(text: &str, others: &[u8], out: &mut Vec<u8>) {
    const HEX: [u8; 16] = *b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte == b' ' || !byte.is_ascii() || others.contains(&byte) {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            out.extend_from_slice(&[b'%', HEX[high], HEX[low]]);
        } else {
            out.push(byte);
        }
    }
}
