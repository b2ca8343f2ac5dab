//! Counts what is about to be too old, without reading all that waits.

use std::sync::Arc;

use super::unread::{Cursor, Reader};
use super::{Shared, fetch, lock};
use crate::clock::Timestamp;
use crate::event::{DestinationName, EventKind};
use crate::spool::StoreFault;

/// A moment for each kind, in the order of their codes.
pub(super) type Before = [Timestamp; EventKind::ALL.len()];

/// Pieces of the log that one count looks at, of 256 KiB: some ten thousand events, read in a
/// fraction of a second. Records come about in the order of their acceptance, so it looks as far
/// as there are old ones.
const PIECES_MAX: usize = 64;

/// How many deliveries were accepted before then.
pub(super) async fn count(
    shared: &Arc<Shared>,
    to: &DestinationName,
    before: Before,
) -> Result<u64, StoreFault> {
    shared.check()?;
    let (line, count, pieces) = {
        let mut state = lock(&shared.state);
        let line = state.line(to);
        (line, state.lines[line].aging(&before), state.lines[line].unread.pieces())
    };
    if pieces.is_empty() {
        return Ok(count);
    }
    let shared = Arc::clone(shared);
    let looked = tokio::task::spawn_blocking(move || {
        let (mut found, mut left) = (0, PIECES_MAX);
        for (reader, from, end) in pieces {
            found += look(&shared, line, (reader, from, end), &before, &mut left)?;
        }
        Ok(found)
    });
    let looked = looked.await.map_err(|error| StoreFault {
        doing: "counting old deliveries".to_owned(),
        cause: error.to_string(),
    })?;
    Ok(count + looked?)
}

/// Looks through what one reader has before it, until a record is met that is younger.
fn look(
    shared: &Shared,
    line: usize,
    (reader, mut from, end): (Reader, Cursor, u64),
    before: &Before,
    left: &mut usize,
) -> Result<u64, StoreFault> {
    let mut found = 0;
    while *left > 0 {
        let piece = fetch::piece_from(&lock(&shared.state), line, reader, from, end);
        let Some(piece) = piece else { break };
        *left -= 1;
        let (count, next) = fetch::count_before(&piece, before)?;
        found += count;
        let Some(next) = next else { break };
        from = next;
    }
    Ok(found)
}
