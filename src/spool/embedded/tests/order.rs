//! What comes before what: syncs before answers, fresh events before a backlog.

use std::path::Path;

use super::super::files::rigged::Call;
use super::stage::{HOUR, Stage, refusal};
use crate::spool::{Cause, Lane, Settlement, Spool};

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
    let id = stage.spool().dead(None, 1).await.unwrap()[0].id;
    let from = stage.rig.calls().len();
    assert_eq!(stage.spool().replay(&[id]).await.unwrap(), 1);
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
    stage.store((20..40).map(|key| stage.keyed(key, &["a"])).collect()).await;
    stage.clock.advance(HOUR);
    let lanes: Vec<Lane> = stage.lease("a", 12).await.iter().map(|lease| lease.lane).collect();
    let count = |lane| lanes.iter().filter(|of| **of == lane).count();
    assert_eq!((count(Lane::Live), count(Lane::Retry), count(Lane::Backlog)), (9, 3, 0));
    let lanes: Vec<Lane> = stage.lease("a", 100).await.iter().map(|lease| lease.lane).collect();
    let fresh_end = lanes.iter().rposition(|lane| *lane == Lane::Live);
    let old_start = lanes.iter().position(|lane| *lane == Lane::Backlog);
    assert!(fresh_end < old_start, "{lanes:?}");
}

#[tokio::test]
async fn a_letter_asked_for_by_many_at_once_is_replayed_once() {
    let stage = Stage::new();
    stage.store((0..4).map(|key| stage.keyed(key, &["a"])).collect()).await;
    for lease in stage.lease_all("a").await.into_values() {
        stage.settle(lease, Settlement::DeadLetter(refusal(Cause::Refused))).await;
    }
    let letters = stage.spool().dead(None, 9).await.unwrap();
    let ids: Vec<_> = letters.iter().map(|letter| letter.id).collect();
    let mut replays: Vec<_> = (0..16).map(|_| stage.spool().replay(&ids)).collect();
    let mut replayed = 0;
    // All of them are under way before the first is answered.
    let mut open = std::collections::VecDeque::from_iter(replays.drain(..));
    while let Some(mut replay) = open.pop_front() {
        tokio::select! {
            biased;
            done = &mut replay => replayed += done.unwrap(),
            () = tokio::task::yield_now() => open.push_back(replay),
        }
    }
    assert_eq!(replayed, 4);
    assert_eq!(stage.stats().await.flow.replayed, 4);
    assert_eq!(stage.lease_all("a").await.len(), 4);
}
