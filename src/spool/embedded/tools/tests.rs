//! Looks at stores that are sound, damaged and mended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::super::tests::stage::{HOUR, Stage, copy, refusal};
use super::{Finding, Kept, Look, LookError, Repair, Survey, Wrong, repair};
use crate::event::EventId;
use crate::spool::{Cause, Settlement};

fn look(stage: &Stage) -> Survey {
    Look::at(&stage.settings.path).unwrap().survey(&mut |_, _| {}).unwrap()
}

fn kept(stage: &Stage) -> Vec<Kept> {
    let mut kept = Vec::new();
    let look = Look::at_any(&stage.settings.path).unwrap();
    look.kept(&mut |_, _| {}, |one| {
        kept.push(one);
        true
    })
    .unwrap();
    kept
}

fn salvaged(stage: &Stage) -> Vec<Kept> {
    let mut kept = Vec::new();
    let look = Look::at_any(&stage.settings.path).unwrap();
    look.salvage(&mut |_, _| {}, |one| {
        kept.push(one);
        true
    })
    .unwrap();
    kept
}

fn ids(kept: &[Kept]) -> BTreeSet<EventId> {
    kept.iter().map(|one| one.event.id).collect()
}

async fn mended(stage: &Stage, rekey: bool) -> Repair {
    let (settings, clock) = (stage.settings.clone(), stage.clock.clone());
    repair(settings, clock, rekey, &mut |_, _| {}).await.unwrap()
}

fn damages(survey: &Survey) -> Vec<&Finding> {
    survey.damages().collect()
}

/// Everything below a directory: bytes, and when they were changed.
fn picture(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u128)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        let changed = meta.modified().unwrap().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        if meta.is_dir() {
            files.extend(picture(&path));
            files.insert(path, (Vec::new(), changed));
        } else {
            let bytes = fs::read(&path).unwrap();
            files.insert(path, (bytes, changed));
        }
    }
    files
}

/// The first file of a directory that ends so; which number it has, a race decides.
fn first(stage: &Stage, dir: &str, suffix: &str) -> PathBuf {
    stage.files(dir, suffix).remove(0)
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], at).unwrap();
}

/// A store with something at every stage: 4 pending, 2 retrying, 1 dead, 3 delivered.
async fn varied() -> Stage {
    let mut stage = Stage::new();
    stage.store((0..10).map(|n| stage.keyed(n, &["a"])).collect()).await;
    let leases: Vec<_> = stage.lease("a", 6).await;
    for (index, lease) in leases.into_iter().enumerate() {
        let settlement = match index {
            0..=2 => Settlement::Delivered,
            3 | 4 => Settlement::RetryAt(stage.clock.now().after(HOUR)),
            _ => Settlement::DeadLetter(refusal(Cause::Refused)),
        };
        stage.settle(lease, settlement).await;
    }
    stage.close().await;
    stage
}

#[tokio::test]
async fn a_look_tells_what_is_there_and_writes_nothing() {
    let stage = varied().await;
    let before = picture(&stage.settings.path);
    let survey = look(&stage);
    assert_eq!(survey.findings, []);
    assert_eq!(survey.key_rows, Some(11), "ten keys and the end of one");
    let sums: Vec<_> =
        survey.logs.iter().map(|log| (log.name, log.records, log.unsettled)).collect();
    assert_eq!(sums, [("log", 10, 4), ("retry", 2, 2), ("dead", 1, 1)]);
    let [a] = &survey.destinations[..] else { panic!("{survey:?}") };
    assert_eq!((a.name.as_str(), a.pending, a.retrying, a.dead), ("a", 4, 2, 1));
    assert_eq!(kept(&stage).len(), 7);
    assert_eq!(salvaged(&stage).len(), 7);
    assert_eq!(picture(&stage.settings.path), before);
}

#[tokio::test]
async fn a_store_that_was_killed_is_sound() {
    let mut stage = Stage::new();
    let mut ids_stored = BTreeSet::new();
    for _ in 0..40 {
        ids_stored.extend(stage.store(vec![stage.event(&[b'x'; 9000], &["a", "b"])]).await);
    }
    stage.kill();
    let survey = look(&stage);
    assert_eq!(damages(&survey), [] as [&Finding; 0]);
    assert!(survey.logs[0].segments.files > 2);
    assert_eq!(ids(&kept(&stage)), ids_stored);
    assert!(kept(&stage).iter().all(|one| one.to.len() == 2));
}

#[tokio::test]
async fn a_directory_in_use_is_refused_and_so_is_what_is_no_spool() {
    let stage = Stage::new();
    let refused = Look::at(&stage.settings.path).unwrap_err();
    let number = std::process::id().to_string();
    assert!(matches!(&refused, LookError::InUse { holder, .. } if holder.contains(&number)));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Look::at(empty.path()), Err(LookError::NoSpool(_))));
    let missing = empty.path().join("nothing");
    assert!(matches!(Look::at(&missing), Err(LookError::Missing(_))));
}

#[tokio::test]
async fn two_may_look_at_once_and_no_relay_starts_meanwhile() {
    let mut stage = varied().await;
    let one = Look::at(&stage.settings.path).unwrap();
    let two = Look::at(&stage.settings.path).unwrap();
    let refused = stage.open().unwrap_err();
    assert!(refused.to_string().contains("has this spool open"), "{refused}");
    drop((one, two));
    stage.open().unwrap();
}

#[tokio::test]
async fn a_newer_directory_is_refused_with_both_numbers() {
    let stage = varied().await;
    fs::write(stage.path("FORMAT"), "beacon-relay spool format 7\n").unwrap();
    let refused = Look::at(&stage.settings.path).unwrap_err();
    assert!(matches!(refused, LookError::Newer { found: 7, known: 1, .. }), "{refused}");
    assert_eq!(salvaged(&stage).len(), 7, "what can be read of it is");
}

/// The place of the record of each sequence of `log/`.
fn places(stage: &Stage) -> BTreeMap<u64, (String, u64)> {
    let pending = kept(stage).into_iter().filter(|one| one.file.starts_with("log/"));
    pending.map(|one| (one.sequence, (one.file, one.offset))).collect()
}

#[tokio::test]
async fn every_damaged_record_is_named_and_set_aside_and_the_others_stay() {
    let mut stage = varied().await;
    let places = places(&stage);
    let (seq, (file, offset)) = places.iter().nth(1).unwrap();
    flip(&stage.path(file), offset + 130);
    let all = ids(&kept(&stage));
    let survey = look(&stage);
    let [damage] = damages(&survey)[..] else { panic!("{survey:?}") };
    assert_eq!((&damage.file, damage.offset), (file, *offset));
    assert_eq!(
        (damage.sequences.clone(), &damage.wrong),
        (*seq..seq + 1, &Wrong::Records { owed: 1 })
    );
    let done = mended(&stage, false).await;
    assert!(!done.before.is_sound());
    assert!(done.after.is_sound(), "{:?}", done.after);
    assert_eq!(done.after.findings[0].wrong, Wrong::SetAside);
    assert_eq!(done.after.quarantine.files, 1);
    assert_eq!(ids(&kept(&stage)), all, "what passed before is there still");
    stage.open().unwrap();
    assert_eq!(stage.stats().await.spooled(), 5);
}

#[tokio::test]
async fn damage_that_costs_nobody_anything_is_named_too() {
    let stage = varied().await;
    let log = first(&stage, "log", ".seg");
    // The first record was delivered.
    flip(&log, 8192 + 60);
    let survey = look(&stage);
    assert_eq!(damages(&survey)[0].wrong, Wrong::Records { owed: 0 });
    assert!(mended(&stage, false).await.after.is_sound());
    assert_eq!(stage.files("quarantine", ".bytes").len(), 1);
}

#[tokio::test]
async fn a_torn_tail_is_named_and_cut() {
    let mut stage = Stage::new();
    stage.store(vec![stage.event(b"kept", &["a"])]).await;
    stage.kill();
    let log = first(&stage, "log", ".seg");
    let whole = fs::read(&log).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    for garbage in [&[0xab_u8; 300][..], b"x"] {
        // Behind the records of a new file, and behind the file itself.
        for at in [end.next_multiple_of(8) + 4096, whole.len() as u64] {
            fs::write(&log, &whole).unwrap();
            let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
            file.write_all_at(garbage, at).unwrap();
            let survey = look(&stage);
            let [torn] = damages(&survey)[..] else { panic!("{at}: {survey:?}") };
            assert_eq!((stage.path(&torn.file), torn.offset), (log.clone(), at));
            assert_eq!(torn.wrong, Wrong::TornTail);
        }
    }
    let done = mended(&stage, false).await;
    assert!(done.after.is_sound(), "{:?}", done.after);
    let aside = fs::read(&stage.files("quarantine", ".bytes")[0]).unwrap();
    assert_eq!(aside, b"x");
    stage.open().unwrap();
    assert_eq!(stage.ids("a").await.len(), 1);
}

#[tokio::test]
async fn records_that_were_cut_off_are_named_with_their_sequences() {
    let mut stage = Stage::new();
    stage.store((0..4).map(|n| stage.keyed(n, &["a"])).collect()).await;
    stage.close().await;
    let places = places(&stage);
    let (file, third) = &places[&3];
    fs::OpenOptions::new().write(true).open(stage.path(file)).unwrap().set_len(third + 40).unwrap();
    let survey = look(&stage);
    let cut = damages(&survey)[0];
    assert_eq!((&cut.file, cut.offset, cut.sequences.clone()), (file, *third, 3..5));
    assert_eq!(cut.wrong, Wrong::Records { owed: 2 });
    assert!(mended(&stage, false).await.after.is_sound());
    stage.open().unwrap();
    assert_eq!(stage.stats().await.spooled(), 2);
}

#[tokio::test]
async fn headers_survive_in_their_second_copy_and_are_mended() {
    let stage = varied().await;
    for at in [20, 4096 + 20] {
        flip(&first(&stage, "log", ".seg"), at);
        let survey = look(&stage);
        let [copy] = damages(&survey)[..] else { panic!("{survey:?}") };
        assert_eq!((copy.offset, &copy.wrong), (at / 4096 * 4096, &Wrong::HeaderCopy));
        assert!(mended(&stage, false).await.after.is_sound());
    }
    assert_eq!(kept(&stage).len(), 7);
}

#[tokio::test]
async fn a_salvage_finds_fault_with_a_format_only_when_it_has_one() {
    let mut stage = Stage::new();
    stage.store(vec![stage.event(b"kept", &["a"])]).await;
    stage.kill();
    let found = || {
        let look = Look::at_any(&stage.settings.path).unwrap();
        let survey = look.salvage(&mut |_, _| {}, |_| true).unwrap();
        survey.findings.iter().map(|one| one.wrong.clone()).collect::<Vec<_>>()
    };
    assert_eq!(found(), []);
    fs::write(stage.settings.path.join("FORMAT"), "something else\n").unwrap();
    assert_eq!(found(), [Wrong::Format]);
}

#[tokio::test]
async fn a_file_without_a_header_can_be_salvaged() {
    let mut stage = varied().await;
    let all = ids(&kept(&stage));
    for at in [20, 4096 + 20] {
        flip(&first(&stage, "log", ".seg"), at);
    }
    let survey = look(&stage);
    assert_eq!(damages(&survey)[0].wrong, Wrong::Header);
    assert_eq!(kept(&stage).len(), 3, "the other logs");
    let found = salvaged(&stage);
    assert!(ids(&found).is_superset(&all));
    assert!(found.iter().all(|one| one.is_checked), "the nonce stands in the acknowledgements");
    // Without those a record is known by its shape.
    fs::remove_file(first(&stage, "log", ".ack")).unwrap();
    let found = salvaged(&stage);
    assert_eq!(found.iter().filter(|one| !one.is_checked).count(), 10);
    assert!(ids(&found).is_superset(&all));
    let done = mended(&stage, false).await;
    assert!(done.after.is_sound(), "{:?}", done.after);
    assert!(ids(&salvaged(&stage)).is_superset(&all), "and out of the quarantine too");
    stage.open().unwrap();
    assert_eq!(stage.stats().await.spooled(), 2, "the retries");
}

#[tokio::test]
async fn damaged_acknowledgements_are_named_and_written_anew() {
    let mut stage = varied().await;
    flip(&first(&stage, "log", ".ack"), 600);
    let survey = look(&stage);
    let [acks] = damages(&survey)[..] else { panic!("{survey:?}") };
    assert_eq!((stage.path(&acks.file), acks.offset), (first(&stage, "log", ".ack"), 512));
    assert_eq!((&acks.wrong, acks.sequences.clone()), (&Wrong::Acknowledgements, 1..11));
    let done = mended(&stage, false).await;
    assert!(done.after.is_sound(), "{:?}", done.after);
    assert_eq!(done.after.quarantine.files, 1, "what was there is kept");
    stage.open().unwrap();
    // The three that were delivered come again; what moved on does not.
    assert_eq!(stage.stats().await.spooled(), 4 + 3 + 2);
}

#[tokio::test]
async fn a_vanished_file_is_named() {
    let stage = varied().await;
    fs::remove_file(first(&stage, "dead", ".seg")).unwrap();
    let survey = look(&stage);
    let [gone] = damages(&survey)[..] else { panic!("{survey:?}") };
    assert_eq!((&gone.wrong, gone.sequences.clone()), (&Wrong::Vanished, 1..2));
    assert!(mended(&stage, false).await.after.is_sound());
}

#[tokio::test]
async fn a_damaged_note_is_named_and_written_anew() {
    let stage = varied().await;
    let noted = fs::read(stage.path("noted")).unwrap();
    let at = noted.iter().position(|byte| *byte != 0).unwrap() as u64;
    flip(&stage.path("noted"), at + 30);
    let survey = look(&stage);
    assert_eq!(damages(&survey)[0].wrong, Wrong::Note);
    let after = mended(&stage, false).await.after;
    assert!(after.is_sound(), "{after:?}");
}

#[tokio::test]
async fn keys_are_rebuilt_from_the_logs() {
    let mut stage = varied().await;
    let before = look(&stage).key_rows;
    let after = mended(&stage, true).await.after;
    assert!(after.is_sound(), "{after:?}");
    assert_eq!(after.key_rows, before);
    assert!(fs::read_dir(stage.path("quarantine")).unwrap().count() == 1, "the old ones are kept");
    stage.open().unwrap();
    for key in 0..10 {
        let again = stage.try_append(vec![stage.keyed(key, &["a"])]).await.unwrap();
        let is_known = matches!(again[..], [crate::spool::Appended::Duplicate { .. }]);
        // The sixth ended as a dead letter, so its key is free.
        assert_eq!(is_known, key != 5, "key {key}");
    }
}

#[tokio::test]
async fn damaged_keys_are_named_and_rebuilt() {
    let stage = varied().await;
    let keys = stage.path("keys");
    for entry in fs::read_dir(&keys).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, vec![0xee; bytes.len()]).unwrap();
        }
    }
    let survey = look(&stage);
    assert!(matches!(damages(&survey)[0].wrong, Wrong::Keys(_)), "{survey:?}");
    assert!(mended(&stage, false).await.after.is_sound());
}

#[tokio::test]
async fn a_copy_without_its_lock_can_be_looked_at() {
    let stage = varied().await;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("copy");
    copy(&stage.settings.path, &place);
    fs::remove_file(place.join("LOCK")).unwrap();
    let before = picture(&place);
    let survey = Look::at(&place).unwrap().survey(&mut |_, _| {}).unwrap();
    assert!(survey.is_sound());
    assert_eq!(picture(&place), before);
}
