//! What a request was answered, as bytes: the body of its record, and what the keys keep of it.

use crate::event::{EventId, Fingerprint};
use crate::spool::Appended;

/// A tag, then the event's id.
const STORED_BYTES: usize = 1 + 16;
/// The fingerprint of the first follows.
const DUPLICATE_BYTES: usize = STORED_BYTES + Fingerprint::LEN;

const STORED: u8 = 1;
const DUPLICATE: u8 = 2;

/// The most bytes that the answers for so many events have.
pub(super) const fn bytes_max(events: usize) -> usize {
    events * DUPLICATE_BYTES
}

pub(super) fn encode(answers: &[Appended]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(answers.len() * STORED_BYTES);
    for answer in answers {
        match answer {
            Appended::Stored(id) => {
                bytes.push(STORED);
                bytes.extend_from_slice(&id.to_bytes());
            }
            Appended::Duplicate { of, fingerprint } => {
                bytes.push(DUPLICATE);
                bytes.extend_from_slice(&of.to_bytes());
                bytes.extend_from_slice(&fingerprint.to_bytes());
            }
        }
    }
    bytes
}

/// The answers of [`encode`]; nothing when the bytes are not its.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<Appended>> {
    let mut answers = Vec::with_capacity(bytes.len() / STORED_BYTES);
    while let Some((tag, rest)) = bytes.split_first() {
        let (id, rest) = rest.split_first_chunk()?;
        let id = EventId::from_bytes(*id);
        let (answer, rest) = match *tag {
            STORED => (Appended::Stored(id), rest),
            DUPLICATE => {
                let (print, rest) = rest.split_first_chunk()?;
                let fingerprint = Fingerprint::from_bytes(print);
                (Appended::Duplicate { of: id, fingerprint }, rest)
            }
            _ => return None,
        };
        answers.push(answer);
        bytes = rest;
    }
    Some(answers)
}

/// How many of the answers are of events that the request itself stored.
pub(super) fn stored(answers: &[Appended]) -> u64 {
    answers.iter().filter(|answer| matches!(answer, Appended::Stored(_))).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn answers_survive_their_bytes_and_nothing_else_passes() {
        let id = |at| EventId::new(Timestamp::from_millis(at));
        let fingerprint = Fingerprint { body: [3; 8], members: [0x1234; Fingerprint::SLOTS] };
        let answers = vec![
            Appended::Stored(id(1_000)),
            Appended::Duplicate { of: id(2_000), fingerprint },
            Appended::Stored(id(3_000)),
        ];
        let bytes = encode(&answers);
        assert!(bytes.len() <= bytes_max(answers.len()));
        assert_eq!(decode(&bytes), Some(answers.clone()));
        assert_eq!((decode(&[]), stored(&answers)), (Some(Vec::new()), 2));
        for len in (1..bytes.len()).filter(|len| ![17, 106].contains(len)) {
            assert_eq!(decode(&bytes[..len]), None, "cut to {len}");
        }
        assert_eq!(decode(&[&[7], &bytes[1..]].concat()), None, "a tag of a later program");
    }
}
