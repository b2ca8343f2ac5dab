use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::clock::Timestamp;
use crate::event::DedupeKey;
use crate::spool::Cause;

fn full() -> Record {
    let event = Event {
        id: EventId::new(Timestamp::from_millis(1_795_000_000_123)),
        source: SourceName::new("beacon-conversion"),
        kind: EventKind::Click,
        target: Bytes::from_static(b"/v1/x?a='%27"),
        accepted_at: Timestamp::from_millis(1_795_000_000_123),
        body: Scrubbed::vouch(Bytes::from_static(b"{\"a\":1}")),
        headers: crate::event::ClientHeaders::collect(None, [("user-agent", &b"Shop/3"[..])]),
        fault: Some(Bytes::from_static(b"malformed_json")),
    };
    let mut fingerprint = Fingerprint { body: [7; 8], members: [0; 32] };
    fingerprint.members[3] = 0xabcd;
    Record {
        form: Form::Event,
        event: Arc::new(event),
        dedupe: Some(Dedupe {
            key: DedupeKey([9; 16]),
            window: Duration::from_secs(86_400),
            fingerprint,
        }),
        lane: Lane::Backlog,
        attempts: 4,
        at: Timestamp::from_millis(99),
        delivery: Some(DeliveryId::begun_by(12, 3)),
        prior: Some(Prior { log: LogKind::Parked, seq: 5, slot: 31 }),
        origin: Some(Origin { seq: 12, slot: 3, owed: 0b1001 }),
        replay_of: Some(DeliveryId::begun_by(2, 0)),
        sooner: true,
        sent_at: Some(Timestamp::from_millis(1_795_000_000_456)),
        refusal: Some(Refusal {
            cause: Cause::UnknownOutcome,
            status: Some(422),
            answer: Bytes::from_static(b"no"),
        }),
    }
}

pub(in super::super) fn bare() -> Record {
    Record {
        dedupe: None,
        delivery: None,
        prior: None,
        origin: None,
        replay_of: None,
        sooner: false,
        sent_at: None,
        refusal: None,
        ..full()
    }
}

const STAMP: Stamp = Stamp { seq: 77, owed: 0b101, place: 3, last: true };

#[test]
fn a_record_survives_its_bytes() {
    for record in [full(), bare()] {
        let mut bytes = vec![0; 16];
        record.encode(STAMP, 5, None, &mut bytes);
        // Encrypted it would be longer by a tag.
        assert!((bytes.len() - 16..bytes.len() + 8).contains(&record.encoded_len()));
        let Checked::Whole(len) = check(&bytes[16..], 5) else { panic!("refused") };
        let view = View::of(&bytes[16..16 + len]);
        assert_eq!(view.decode(&mut Sources::default(), None), Some(record));
        let stamp =
            Stamp { seq: view.seq(), owed: view.owed(), place: view.place(), last: view.is_last() };
        assert_eq!(stamp, STAMP);
    }
}

#[test]
fn a_request_is_told_from_an_event_and_keeps_its_answers() {
    let now = Timestamp::from_millis(1_795_000_000_123);
    let stored = [Appended::Stored(EventId::new(now))];
    let request = full().dedupe.unwrap();
    let record = Record::of_request(request, &stored, now);
    let mut bytes = Vec::new();
    record.encode(STAMP, 5, None, &mut bytes);
    let Checked::Whole(len) = check(&bytes, 5) else { panic!("refused") };
    let view = View::of(&bytes[..len]);
    assert_eq!((view.form(), view.dedupe()), (Some(Form::Request), Some(request)));
    assert_eq!(answers::decode(view.body()), Some(stored.to_vec()));
    assert_eq!(view.decode(&mut Sources::default(), None), Some(record));
    let mut bytes = Vec::new();
    full().encode(STAMP, 5, None, &mut bytes);
    let Checked::Whole(len) = check(&bytes, 5) else { panic!("refused") };
    let view = View::of(&bytes[..len]);
    assert_eq!((view.form(), view.body()), (Some(Form::Event), &b"{\"a\":1}"[..]));
    bytes[80] = 2;
    let later = View::of(&bytes[..len]);
    assert_eq!((later.form(), later.decode(&mut Sources::default(), None)), (None, None));
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let mut bytes = Vec::new();
    full().encode(STAMP, 5, None, &mut bytes);
    let Checked::Whole(len) = check(&bytes, 5) else { panic!("refused") };
    for bit in 0..len * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!matches!(check(&bytes, 5), Checked::Whole(_)), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_record_of_another_nonce_is_refused() {
    let mut bytes = Vec::new();
    full().encode(STAMP, 5, None, &mut bytes);
    assert_eq!(check(&bytes, 6), Checked::Bad);
}

#[test]
fn a_part_of_a_record_asks_for_the_rest() {
    let mut bytes = Vec::new();
    bare().encode(STAMP, 5, None, &mut bytes);
    let Checked::Whole(whole) = check(&bytes, 5) else { panic!("refused") };
    for len in 0..whole {
        let asked = if len < HEAD { HEAD } else { whole };
        assert_eq!(check(&bytes[..len], 5), Checked::Short(asked));
    }
}
