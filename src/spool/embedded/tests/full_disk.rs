//! A file system that is really full: a small tmpfs, mounted for the test.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::super::Settings;
use super::super::reserve;
use super::stage::{HOUR, Stage, refusal};
use crate::event::{Event, EventId};
use crate::spool::{AppendError, Cause, Lease, NewEvent, Settlement};

const PATIENCE: Duration = Duration::from_secs(60);

/// A tmpfs that is unmounted at the end.
struct Mount {
    dir: tempfile::TempDir,
    /// Whether this user may unmount it.
    root: bool,
}

impl Mount {
    /// Nothing where this user may not mount; in CI that is a failure.
    fn of(mebibytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mut why = String::new();
        for words in [&["mount"][..], &["sudo", "-n", "mount"]] {
            let mut mount = Command::new(words[0]);
            mount.args(&words[1..]).args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path());
            match mount.output() {
                Ok(output) if output.status.success() => {
                    return Some(Self { dir, root: words.len() == 1 });
                }
                Ok(output) => why.push_str(&String::from_utf8_lossy(&output.stderr)),
                Err(error) => why.push_str(&error.to_string()),
            }
        }
        assert!(std::env::var_os("CI").is_none(), "no tmpfs could be mounted: {why}");
        eprintln!("NOT RUN: a full disk, for no tmpfs could be mounted (it wants root): {why}");
        None
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes every byte that is left, as a neighbour would.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = File::create(&path).unwrap();
        let piece = vec![b'b'; 64 << 10];
        while file.write_all(&piece).is_ok() {}
        while file.write_all(&piece[..512]).is_ok() {}
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let words: &[&str] = if self.root { &["umount"] } else { &["sudo", "-n", "umount"] };
        let _gone = Command::new(words[0]).args(&words[1..]).arg("-l").arg(self.path()).status();
    }
}

fn stage_on(mount: &Mount, max_bytes: u64) -> Stage {
    Stage::on(Settings {
        max_bytes,
        segment_bytes: 2 << 20,
        // Hundreds of syncs pass between a lease and its settlement, on whatever machine.
        lease_for: Duration::from_secs(600),
        ..Settings::at(mount.path().join("spool"))
    })
}

/// Stores until that is refused; answers what was stored.
async fn store_until_full(stage: &Stage, key: &mut u64) -> BTreeSet<EventId> {
    let mut stored = BTreeSet::new();
    loop {
        *key += 8;
        let events: Vec<_> = (*key - 8..*key)
            .map(|key| {
                let new = stage.keyed(key, &["a"]);
                let event = Event {
                    body: stage.event(&[b'x'; 4000], &[]).event.body.clone(),
                    ..Event::clone(&new.event)
                };
                NewEvent { event: event.into(), ..new }
            })
            .collect();
        let ids: Vec<_> = events.iter().map(|new| new.event.id).collect();
        match stage.try_append(events).await {
            Ok(_) => stored.extend(ids),
            Err(AppendError::Full { .. }) => return stored,
            Err(other) => panic!("{other:?}"),
        }
        assert!(stored.len() < 100_000, "it is never full");
    }
}

async fn store_again(stage: &Stage) {
    let patience = Instant::now() + PATIENCE;
    loop {
        match stage.try_append(vec![stage.event(b"later", &["a"])]).await {
            Ok(_) => return,
            Err(AppendError::Full { .. }) => sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other:?}"),
        }
        assert!(Instant::now() < patience, "it stays full");
    }
}

#[tokio::test]
async fn a_file_system_smaller_than_the_spool_is_full_and_recovers_by_itself() {
    let Some(mount) = Mount::of(80) else { return };
    let mut stage = stage_on(&mount, 96 << 20);
    let mut key = 0;
    let mut stored = store_until_full(&stage, &mut key).await;
    assert!(stage.stats().await.full);
    assert!(stage.stats().await.used_bytes < 80 << 20);
    // Twice, so that what is freed is used again.
    for _ in 0..2 {
        let leases = stage.lease_all("a").await;
        assert_eq!(leases.keys().copied().collect::<BTreeSet<_>>(), stored);
        stage.deliver(leases.into_values()).await;
        store_again(&stage).await;
        stage.deliver(stage.lease_all("a").await.into_values()).await;
        stored = store_until_full(&stage, &mut key).await;
    }
    stage.close_and_reopen().await;
    assert_eq!(stage.ids("a").await, stored);
    assert_eq!(stage.stats().await.damaged_records, 0);
}

#[tokio::test]
async fn with_no_byte_left_what_was_accepted_is_delivered_parked_given_up_and_noted() {
    let Some(mount) = Mount::of(96) else { return };
    let mut stage = stage_on(&mount, 32 << 20);
    let ids: Vec<EventId> =
        stage.store((0..900).map(|key| stage.keyed(key, &["a"])).collect()).await;
    wait_for(&stage, reserve::FILE, true).await;
    let ballast = mount.fill();
    let mut leases: Vec<Lease> = stage.lease_all("a").await.into_values().collect();
    assert_eq!(leases.len(), ids.len());
    // None of these has a file of its own yet.
    let retry_at = stage.clock.now().after(HOUR);
    for lease in leases.drain(..100) {
        stage.settle(lease, Settlement::RetryAt(retry_at)).await;
    }
    for lease in leases.drain(..100) {
        stage.settle(lease, Settlement::DeadLetter(refusal(Cause::Refused))).await;
    }
    let kept: BTreeSet<EventId> = leases.drain(..100).map(|lease| lease.event.id).collect();
    stage.deliver(leases).await;
    assert!(!stage.path(reserve::FILE).exists(), "there was room without the reserve");
    let refused = stage.try_append((0..600).map(|_| stage.event(&[0; 6000], &["a"])).collect());
    assert!(matches!(refused.await, Err(AppendError::Full { .. } | AppendError::TooLarge { .. })));
    // Noted at the next sync, though there is no room: a kill forgets none of it.
    let noted = timeout(PATIENCE, stage.spool().shared.rounds.next()).await;
    noted.expect("it is synced each second");
    stage.kill_and_reopen();
    let stats = stage.stats().await;
    let a = &stats.destinations[0];
    assert_eq!((a.backlog + a.live, a.retrying, a.dead), (100, 100, 100), "{stats:?}");
    assert_eq!(stage.ids("a").await, kept);
    fs::remove_file(ballast).unwrap();
    store_again(&stage).await;
    wait_for(&stage, reserve::FILE, true).await;
    stage.close_and_reopen().await;
    assert_eq!(stage.stats().await.damaged_records, 0);
}

async fn wait_for(stage: &Stage, file: &str, there: bool) {
    let patience = Instant::now() + PATIENCE;
    while stage.path(file).exists() != there {
        assert!(Instant::now() < patience, "{file} {there}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_spool_opens_on_a_full_disk_and_delivers_what_it_has() {
    let Some(mount) = Mount::of(96) else { return };
    let mut stage = stage_on(&mount, 32 << 20);
    let ids = stage.store((0..300).map(|key| stage.keyed(key, &["a"])).collect()).await;
    wait_for(&stage, reserve::FILE, true).await;
    stage.kill();
    let ballast = mount.fill();
    stage.open().unwrap();
    let leases = stage.lease_all("a").await;
    assert_eq!(leases.keys().copied().collect::<BTreeSet<_>>(), ids.into_iter().collect());
    stage.deliver(leases.into_values()).await;
    stage.close().await;
    fs::remove_file(ballast).unwrap();
    stage.open().unwrap();
    assert_eq!(stage.stats().await.flow.recovered, 0, "what was delivered was not noted");
    stage.close().await;
}
