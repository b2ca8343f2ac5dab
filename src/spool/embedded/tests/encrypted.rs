//! With a key, what was to be sent and what was answered is unreadable on disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::super::{Embedded, Keyring, check_keys};
use super::stage::{HOUR, Stage};
use crate::event::{Event, Scrubbed};
use crate::spool::{Cause, NewEvent, Refusal, Settlement, Spool};

/// What must not be found: no event holds it by chance.
const BODY: &[u8] = b"canary-in-the-body-5f1c";
const TARGET: &[u8] = b"/v1/beacon/click/canary-in-the-target-77ab";
const ANSWER: &[u8] = b"canary-in-the-answer-90de";

fn keys(words: &[u8]) -> Keyring {
    let words: Vec<String> = words.iter().map(|byte| format!("{byte:02x}").repeat(32)).collect();
    Keyring::parse(words.join("\n").as_bytes()).unwrap()
}

fn secret(stage: &Stage, number: u64) -> NewEvent {
    let new = stage.keyed(number, &["a", "b"]);
    let event = Event {
        target: Bytes::from_static(TARGET),
        body: Scrubbed::vouch([BODY, &number.to_le_bytes()].concat().into()),
        ..Event::clone(&new.event)
    };
    NewEvent { event: event.into(), ..new }
}

/// Stores some and leaves one each waiting, parked and dead.
async fn live(stage: &Stage, from: u64) {
    stage.store((from..from + 3).map(|number| secret(stage, number)).collect()).await;
    let retry_at = stage.clock.now().after(HOUR);
    let refusal =
        Refusal { cause: Cause::Refused, status: Some(400), answer: Bytes::from_static(ANSWER) };
    let mut leases: Vec<_> = stage.lease_all("a").await.into_values().collect();
    stage.settle(leases.remove(0), Settlement::RetryAt(retry_at)).await;
    stage.settle(leases.remove(0), Settlement::DeadLetter(refusal)).await;
    for lease in leases {
        stage.settle(lease, Settlement::PutBack).await;
    }
}

/// Every file below, by what it holds.
fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            // One may be freed while we look.
            found.extend(fs::read(&path).ok().map(|bytes| (path, bytes)));
        }
    }
    found
}

/// The files that hold one of the canaries.
fn telling(stage: &Stage) -> Vec<PathBuf> {
    let holds = |bytes: &[u8], canary: &[u8]| bytes.windows(canary.len()).any(|of| of == canary);
    let tells = |bytes: &[u8]| [BODY, TARGET, ANSWER].iter().any(|canary| holds(bytes, canary));
    files(&stage.settings.path).into_iter().filter(|(_, b)| tells(b)).map(|(p, _)| p).collect()
}

async fn check_live(stage: &Stage, events: usize) {
    let (a, b) = (stage.lease_all("a").await, stage.lease_all("b").await);
    assert_eq!((a.len(), b.len()), (events / 3, events));
    for lease in a.into_values().chain(b.into_values()) {
        assert_eq!(&lease.event.target, TARGET);
        assert_eq!(&lease.event.body.bytes()[..BODY.len()], BODY);
        stage.settle(lease, Settlement::PutBack).await;
    }
    let letters = stage.letters().await;
    assert_eq!(letters.len(), events / 3);
    for letter in letters {
        assert_eq!(letter.refusal.answer, ANSWER);
        assert_eq!(&letter.event.body.bytes()[..BODY.len()], BODY);
        assert_eq!(stage.spool().dead_letter(letter.id).await.unwrap(), Some(letter));
    }
}

#[tokio::test]
async fn no_file_holds_a_plain_byte_of_body_target_or_answer() {
    for with_key in [false, true] {
        let mut stage = Stage::new();
        stage.close().await;
        if with_key {
            stage.settings.keys = keys(&[1]);
        }
        stage.open().unwrap();
        live(&stage, 0).await;
        check_live(&stage, 3).await;
        stage.kill();
        // The search would find it: without a key it does, in all three logs.
        assert_eq!(telling(&stage).len(), if with_key { 0 } else { 3 }, "{:?}", telling(&stage));
        stage.open().unwrap();
        check_live(&stage, 3).await;
        stage.close().await;
        assert_eq!(telling(&stage).is_empty(), with_key);
        stage.open().unwrap();
        stage.clock.advance(2 * HOUR);
        assert_eq!(stage.lease_all("a").await.len(), 2, "the retry is due");
        let id = stage.letters().await[0].id;
        assert_eq!(stage.spool().replay(&[id]).await.unwrap().replayed, 1);
        assert_eq!(stage.lease_all("a").await.len(), 1);
    }
}

#[tokio::test]
async fn without_its_key_a_store_is_refused_and_nothing_is_touched() {
    let mut stage = Stage::new();
    stage.close().await;
    stage.settings.keys = keys(&[1]);
    stage.open().unwrap();
    live(&stage, 0).await;
    stage.kill();
    let mut before = files(&stage.settings.path);
    for wrong in [Keyring::default(), keys(&[2]), keys(&[3, 2])] {
        let refused = check_keys(&stage.settings.path, &wrong).unwrap_err().to_string();
        stage.settings.keys = wrong;
        let fault = stage.open().unwrap_err().to_string();
        for text in [refused, fault] {
            assert!(text.contains("spool.encryption_key_env"), "{text}");
            assert!(text.contains("nothing was changed"), "{text}");
            assert!(!text.contains(&"01".repeat(8)), "{text}");
        }
        let mut after = files(&stage.settings.path);
        // Who holds the directory is noted, and nothing else.
        for files in [&mut before, &mut after] {
            files.remove(&stage.path("LOCK"));
        }
        assert_eq!(after, before);
    }
    stage.settings.keys = keys(&[1]);
    assert!(check_keys(&stage.settings.path, &stage.settings.keys).is_ok());
    stage.open().unwrap();
    check_live(&stage, 3).await;
}

#[tokio::test]
async fn a_key_is_switched_on_and_changed_while_old_records_stay_readable() {
    let mut stage = Stage::with(4 << 20);
    live(&stage, 0).await;
    for (round, words) in [(1, &[1][..]), (2, &[2, 1])] {
        stage.close().await;
        stage.settings.keys = keys(words);
        stage.open().unwrap();
        check_live(&stage, 3 * round).await;
        live_more(&stage, 10 * round as u64).await;
        check_live(&stage, 3 * (round + 1)).await;
    }
    // Only the segments from before there was a key tell anything.
    stage.close().await;
    assert_eq!(telling(&stage).len(), 3);
    // The first key alone is not enough as long as something was written with the other.
    stage.settings.keys = keys(&[2]);
    assert!(stage.open().is_err());
    stage.settings.keys = keys(&[2, 1]);
    stage.open().unwrap();
    // Everything settled: the old files go, and none of them is kept as a spare.
    stage.clock.advance(2 * HOUR);
    for name in ["a", "b"] {
        let leases = stage.lease_all(name).await;
        stage.deliver(leases.into_values()).await;
    }
    let ids: Vec<_> = stage.letters().await.iter().map(|letter| letter.id).collect();
    stage.spool().drop_dead(&ids).await.unwrap();
    // A segment ends when another begins.
    stage.store((500..900).map(|n| stage.keyed(n, &["a"])).collect()).await;
    let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !telling(&stage).is_empty() {
        assert!(tokio::time::Instant::now() < patience, "{:?}", telling(&stage));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// As `live`, beside what is there.
async fn live_more(stage: &Stage, from: u64) {
    let before: Vec<_> = stage.lease_all("a").await.into_values().collect();
    live(stage, from).await;
    for lease in before {
        stage.settle(lease, Settlement::PutBack).await;
    }
}

#[tokio::test]
async fn a_changed_byte_under_a_mended_checksum_is_damage() {
    let mut stage = Stage::new();
    stage.close().await;
    stage.settings.keys = keys(&[1]);
    stage.open().unwrap();
    let id = stage.store(vec![secret(&stage, 1)]).await[0];
    stage.kill();
    let path = stage.files("log", ".seg").remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let start = bytes.windows(16).position(|of| of == id.to_bytes()).unwrap() - 104;
    let len = u32::from_le_bytes(bytes[start..start + 4].try_into().unwrap()) as usize;
    bytes[start + len - 30] ^= 1;
    let seed = crc32c::crc32c(&bytes[32..48]);
    let crc = crc32c::crc32c_append(seed, &bytes[start..start + 4]);
    let crc = crc32c::crc32c_append(crc, &bytes[start + 8..start + len]);
    bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    stage.open().unwrap();
    assert!(stage.lease_all("a").await.is_empty());
    assert!(stage.stats().await.damaged_records > 0);
    let _spool: &Embedded = stage.spool();
}
