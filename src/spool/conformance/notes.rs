//! C16: what is on a shelf outlives a kill, and each shelf is its own.

use super::*;
use crate::spool::{AppendError, Shelf};

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn put<S: Store>(stage: &Stage<S>, shelf: Shelf, key: &str, value: Option<&str>) {
    stage.spool().note(shelf, text(key), value.map(text)).await.unwrap();
}

async fn list<S: Store>(stage: &Stage<S>, shelf: Shelf) -> Vec<(Bytes, Bytes)> {
    stage.spool().notes(shelf, None, 100).await.unwrap()
}

pub(crate) async fn a_note_outlives_a_kill_and_a_close<S: Store>() {
    let mut stage = Stage::<S>::new();
    for shelf in Shelf::ALL {
        put(&stage, shelf, "b", Some("1")).await;
        put(&stage, shelf, "a", Some("")).await;
        put(&stage, shelf, "c", Some("3")).await;
    }
    put(&stage, Shelf::Paused, "b", None).await;
    put(&stage, Shelf::Paused, "never there", None).await;
    put(&stage, Shelf::Audit, "b", Some("2")).await;
    for round in 0..3 {
        let note = |key, value| (text(key), text(value));
        let all = [note("a", ""), note("b", "1"), note("c", "3")];
        assert_eq!(list(&stage, Shelf::Awaited).await, all, "{round}");
        let changed = [note("a", ""), note("b", "2"), note("c", "3")];
        assert_eq!(list(&stage, Shelf::Audit).await, changed, "{round}");
        let fewer = [note("a", ""), note("c", "3")];
        assert_eq!(list(&stage, Shelf::Paused).await, fewer, "{round}");
        let page = stage.spool().notes(Shelf::Awaited, Some(text("a")), 1).await.unwrap();
        assert_eq!(page, all[1..2]);
        match round {
            0 => stage.kill_and_reopen().await,
            _ => stage.close_and_reopen().await,
        }
    }
    let large = Bytes::from(vec![b'x'; Shelf::VALUE_BYTES_MAX + 1]);
    let refused = stage.spool().note(Shelf::Audit, text("large"), Some(large)).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    stage.spool().close().await.unwrap();
    let late = stage.spool().note(Shelf::Audit, text("late"), Some(text(""))).await;
    assert!(matches!(late, Err(AppendError::Closed)), "{late:?}");
}
