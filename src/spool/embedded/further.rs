//! The further section of a record: parts that few records have, each with a tag and a length.
//!
//! A tag that this program does not know is passed over, so that a later one may add its own.

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::event::{ClientHeaders, Event};

/// Headers of the client.
const HEADERS: u8 = 1;
/// When a delivery was first sent without an answer: milliseconds since the epoch, eight bytes.
const SENT_AT: u8 = 2;

/// Why the event's bytes are of no use.
const FAULT: u8 = 3;

/// Bytes of a tag and a length.
const LEAD: usize = 3;

/// Bytes that the section of an event takes.
pub(super) fn len(event: &Event, sent_at: Option<Timestamp>) -> usize {
    let headers = event.headers.as_bytes().len();
    let headers = if headers == 0 { 0 } else { LEAD + headers };
    let fault = event.fault.as_ref().map_or(0, |fault| LEAD + fault.len());
    headers + fault + sent_at.map_or(0, |_| LEAD + size_of::<u64>())
}

/// Appends the section of an event to `out`.
pub(super) fn encode(event: &Event, sent_at: Option<Timestamp>, out: &mut Vec<u8>) {
    let mut part = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    let headers = event.headers.as_bytes();
    if !headers.is_empty() {
        part(HEADERS, headers);
    }
    if let Some(sent_at) = sent_at {
        part(SENT_AT, &sent_at.as_millis().to_le_bytes());
    }
    if let Some(fault) = &event.fault {
        part(FAULT, fault);
    }
}

/// When the delivery was first sent without an answer.
pub(super) fn sent_at(section: &[u8]) -> Option<Timestamp> {
    let millis = find(section, SENT_AT)?.first_chunk()?;
    Some(Timestamp::from_millis(u64::from_le_bytes(*millis)))
}

/// The client's headers in a section.
pub(super) fn headers(section: &[u8]) -> ClientHeaders {
    let part = find(section, HEADERS).unwrap_or_default();
    ClientHeaders::from_bytes(Bytes::copy_from_slice(part))
}

/// Why the event's bytes are of no use.
pub(super) fn fault(section: &[u8]) -> Option<Bytes> {
    find(section, FAULT).map(Bytes::copy_from_slice)
}

fn find(mut section: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        let ([tag, low, high], behind) = section.split_first_chunk::<LEAD>()?;
        let (part, rest) =
            behind.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
        if *tag == wanted {
            return Some(part);
        }
        section = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_behind_parts_of_a_later_program() {
        let kept = ClientHeaders::collect(None, [("user-agent", &b"Shop/3"[..])]);
        let mut section = vec![9, 2, 0, 7, 7];
        section.push(HEADERS);
        section.extend_from_slice(&(kept.as_bytes().len() as u16).to_le_bytes());
        section.extend_from_slice(kept.as_bytes());
        assert_eq!(headers(&section), kept);
        assert_eq!(headers(&section[..5]), ClientHeaders::default());
        assert_eq!(headers(&[HEADERS, 9, 0, 1]), ClientHeaders::default());
        assert_eq!(headers(&[]), ClientHeaders::default());
    }
}
