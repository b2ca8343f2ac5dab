//! What comes before what: syncs before answers, fresh events before a backlog.

use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::files::rigged::Call;
use super::super::inbox::{Command, Really};
use super::super::{dead, lock};
use super::stage::{HOUR, Stage, refusal};
use crate::spool::{Batch, Cause, Lane, Settlement, Spool};

/// Writes and syncs of segments since call number `from`, in order.
fn of_segments(stage: &Stage, from: usize) -> Vec<Call> {
    let is_segment =
        |path: &Path| path.extension().is_some_and(|end| end == "spare" || end == "seg");
    let calls = stage.rig.calls().split_off(from);
    let calls = calls.into_iter().filter(|(_, path)| is_segment(path));
    calls.map(|(call, _)| call).filter(|call| matches!(call, Call::Write | Call::Sync)).collect()
}

#[tokio::test]
async fn nothing_is_answered_before_its_sync() {
    let mut stage = Stage::new();
    let from = stage.rig.calls().len();
    stage.store(vec![stage.keyed(1, &["a"]), stage.keyed(2, &["a"])]).await;
    // Two copies of the header and their sync, then the commit.
    let begun = [Call::Write, Call::Write, Call::Sync, Call::Write, Call::Sync];
    assert_eq!(of_segments(&stage, from), begun);
    let from = stage.rig.calls().len();
    stage.store(vec![stage.keyed(3, &["a"])]).await;
    assert_eq!(of_segments(&stage, from), [Call::Write, Call::Sync]);
    let mut leases = stage.lease("a", 3).await;
    let from = stage.rig.calls().len();
    let retry_at = stage.clock.now().after(HOUR);
    stage.settle(leases.remove(0), Settlement::RetryAt(retry_at)).await;
    assert_eq!(of_segments(&stage, from), begun);
    let from = stage.rig.calls().len();
    stage.settle(leases.remove(0), Settlement::DeadLetter(refusal(Cause::Refused))).await;
    assert_eq!(of_segments(&stage, from), begun);
    let id = stage.letters().await[0].id;
    let from = stage.rig.calls().len();
    assert_eq!(stage.spool().replay(&[id]).await.unwrap().replayed, 1);
    assert_eq!(of_segments(&stage, from), [Call::Write, Call::Sync]);
    // Nor believed before it is synced once more.
    stage.kill();
    let from = stage.rig.calls().len();
    stage.open().unwrap();
    assert_eq!(of_segments(&stage, from)[..2], [Call::Write, Call::Sync]);
}

#[tokio::test]
async fn fresh_events_go_before_a_backlog_and_retries_are_not_kept_waiting() {
    let mut stage = Stage::new();
    stage.store((0..20).map(|key| stage.keyed(key, &["a"])).collect()).await;
    for lease in stage.lease("a", 5).await {
        stage.settle(lease, Settlement::RetryAt(stage.clock.now().after(HOUR))).await;
    }
    stage.close_and_reopen().await;
    stage.clock.advance(HOUR);
    stage.store((20..40).map(|key| stage.keyed(key, &["a"])).collect()).await;
    let lanes: Vec<Lane> = stage.lease("a", 12).await.iter().map(|lease| lease.lane).collect();
    let count = |lane| lanes.iter().filter(|of| **of == lane).count();
    assert_eq!((count(Lane::Live), count(Lane::Retry), count(Lane::Backlog)), (9, 2, 1));
    let lanes: Vec<Lane> = stage.lease("a", 100).await.iter().map(|lease| lease.lane).collect();
    // Every fourth is another's until no fresh one is left.
    let fresh_end = lanes.iter().rposition(|lane| *lane == Lane::Live);
    assert_eq!((lanes.len(), fresh_end), (28, Some(13)), "{lanes:?}");
}

#[tokio::test]
async fn a_letter_asked_for_by_many_at_once_is_replayed_once() {
    let stage = Stage::new();
    stage.store((0..4).map(|key| stage.keyed(key, &["a"])).collect()).await;
    for lease in stage.lease_all("a").await.into_values() {
        stage.settle(lease, Settlement::DeadLetter(refusal(Cause::Refused))).await;
    }
    let shared = &stage.spool().shared;
    let ids: Vec<_> = stage.letters().await.iter().map(|letter| letter.id).collect();
    let mut commands = Vec::new();
    let mut answers = Vec::new();
    for _ in 0..3 {
        let found = dead::find(shared, &ids).unwrap();
        let letters = dead::letters(shared, found.into_iter().collect()).unwrap();
        let (answer, answered) = oneshot::channel();
        commands.push(Command::Replay { letters, really: Really::Yes, answer });
        answers.push(answered);
    }
    let (answer, appended) = oneshot::channel();
    let first = Batch { events: vec![stage.keyed(9, &["b"])], request: None };
    {
        // The committing thread stops at this lock with the first command at most in hand, so the
        // others make one commit.
        let _held = lock(&shared.state);
        shared.inbox.offer(Command::Append { batch: first, answer }, 200).unwrap();
        for command in commands {
            shared.inbox.offer(command, 1000).unwrap();
        }
    }
    appended.await.unwrap().unwrap();
    let mut replayed = Vec::new();
    for answered in answers {
        replayed.push(answered.await.unwrap().unwrap().replayed);
    }
    assert_eq!(replayed, [4, 0, 0]);
    assert_eq!(stage.stats().await.flow.replayed, 4);
    assert_eq!(stage.lease_all("a").await.len(), 4);
}

#[tokio::test]
async fn what_waits_for_another_attempt_is_bounded_and_shared() {
    /// A piece that is read ahead holds so many of these, and one that began in it.
    const AHEAD: u64 = 256 / 30 + 1;
    let mut stage = Stage::with(16 << 20);
    stage.close().await;
    stage.settings.due_max = 10;
    stage.open().unwrap();
    for name in ["a", "b"] {
        let events = (0..40).map(|_| stage.event(&[b'x'; 30_000], &[name])).collect();
        stage.store(events).await;
    }
    let soon = stage.clock.now().after(Duration::from_secs(3));
    for name in ["a", "b"] {
        for _ in 0..40 {
            for lease in stage.lease(name, 1).await {
                stage.settle(lease, Settlement::RetryAt(soon)).await;
            }
        }
    }
    let stats = stage.stats().await;
    let waiting: Vec<u64> = stats.destinations.iter().map(|one| one.retrying).collect();
    // The first had all ten to itself, the second its half.
    assert!((10..=10 + AHEAD).contains(&waiting[0]), "{waiting:?}");
    assert!((5..=5 + AHEAD).contains(&waiting[1]), "{waiting:?}");
    stage.clock.advance(HOUR);
    for name in ["a", "b"] {
        let mut sent = 0;
        for _ in 0..40 {
            let leases = stage.lease(name, 100).await;
            sent += leases.len();
            stage.deliver(leases).await;
        }
        assert_eq!(sent, 40, "what was held back comes when the others are gone");
    }
}
