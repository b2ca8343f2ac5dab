//! Dead letters: listed by reading `dead/`, and put back in line.
//!
//! They are kept in no memory, for there may be any number of them; a gigabyte of them is read in
//! a second.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::damage::{self, Damage};
use super::inbox::{Command, Letter};
use super::record::{self, Checked, Prior, Sources, View};
use super::segment::SegmentId;
use super::state::State;
use super::walk::{self, Gap, Readable};
use super::{LogKind, Place, Shared, lock};
use crate::event::DestinationName;
use crate::spool::{AppendError, DeadLetter, DeliveryId, Refusal, StoreFault};

/// Letters listed or put back at once, whatever the caller asks for.
const LETTERS_MAX: usize = 10_000;
/// Letters that one command puts back.
const REPLAY_MAX: usize = 256;
/// Bytes of them, unless a single one has more or a segment takes less.
const REPLAY_BYTES_MAX: usize = 1 << 20;

/// A letter that was found but not read yet.
#[derive(Clone, Debug)]
pub(super) struct Found {
    place: Place,
    to: DestinationName,
    segment: Arc<Readable>,
}

/// The letters behind `after`, oldest first.
pub(super) async fn list(
    shared: &Arc<Shared>,
    after: Option<DeliveryId>,
    max: usize,
) -> Result<Vec<DeadLetter>, StoreFault> {
    shared.check()?;
    let after = after.map_or(0, |after| after.0);
    let max = max.min(LETTERS_MAX);
    blocking(shared, "listing dead letters", move |shared| {
        let found = find(shared, max, |id| id.0 > after)?;
        let mut sources = Sources::default();
        let read = found.into_iter().map(|(id, found)| {
            Ok(read(&found, &mut sources)?.map(|record| DeadLetter {
                id,
                to: found.to,
                event: record.event,
                attempts: record.attempts,
                died_at: record.at,
                refusal: record.refusal.unwrap_or(LOST_REFUSAL),
            }))
        });
        read.filter_map(Result::transpose).collect()
    })
    .await
}

/// What a letter says whose record has no refusal, which none of ours is written without.
const LOST_REFUSAL: Refusal =
    Refusal { cause: crate::spool::Cause::Unsendable, status: None, answer: bytes::Bytes::new() };

/// Puts letters back in line; answers how many were there.
pub(super) async fn replay(shared: &Arc<Shared>, ids: &[DeliveryId]) -> Result<usize, AppendError> {
    shared.check()?;
    let mut replayed = 0;
    let segment = usize::try_from(shared.append_bytes_max()).unwrap_or(usize::MAX);
    let bytes_max = REPLAY_BYTES_MAX.min(segment);
    for ids in ids.chunks(LETTERS_MAX) {
        let wanted: HashSet<DeliveryId> = ids.iter().copied().collect();
        let found = blocking(shared, "replaying dead letters", move |shared| {
            find(shared, LETTERS_MAX, |id| wanted.contains(&id))
        });
        let mut found = found.await?.into_iter().peekable();
        while found.peek().is_some() {
            let mut part = Vec::new();
            let mut bytes = 0;
            while let Some((_, next)) = found.peek()
                && part.len() < REPLAY_MAX
                && (part.is_empty() || bytes + next.place.len as usize <= bytes_max)
            {
                bytes += next.place.len as usize;
                part.extend(found.next());
            }
            let letters = blocking(shared, "reading dead letters", |_| letters(part)).await?;
            let (answer, answered) = oneshot::channel();
            shared.inbox.offer(Command::Replay { letters, answer }, bytes)?;
            let answer = answered.await;
            replayed += answer.unwrap_or_else(|_gone| Err(shared.gone().into()))?;
        }
    }
    Ok(replayed)
}

async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    doing: &'static str,
    work: impl FnOnce(&Shared) -> Result<T, StoreFault> + Send + 'static,
) -> Result<T, StoreFault> {
    let shared = Arc::clone(shared);
    let done = tokio::task::spawn_blocking(move || work(&shared)).await;
    let cause = |error: tokio::task::JoinError| error.to_string();
    done.map_err(|error| StoreFault { doing: doing.to_owned(), cause: cause(error) })?
}

/// The first `max` letters, by id, whose id is `wanted`.
pub(super) fn find(
    shared: &Shared,
    max: usize,
    wanted: impl Fn(DeliveryId) -> bool,
) -> Result<BTreeMap<DeliveryId, Found>, StoreFault> {
    let mut found = BTreeMap::new();
    let segments: Vec<SegmentId> =
        lock(&shared.state).track(LogKind::Dead).segments.keys().copied().collect();
    for id in segments {
        let Some((segment, unsettled, names)) = look(&lock(&shared.state), id) else { continue };
        let first = segment.seqs.start;
        let gaps = walk::visit(&segment, |view, offset| {
            let slot = view.owed().trailing_zeros() as u8;
            let seq = view.seq();
            let Some(to) = names.get(usize::from(slot)) else { return Ok(()) };
            let delivery = view.delivery().filter(|delivery| wanted(*delivery));
            if let Some(delivery) = delivery
                && unsettled.get((seq - first) as usize) == Some(&true)
            {
                let len = record::aligned(view.len()) as u32;
                let place = Place { log: LogKind::Dead, seq, slot, offset, len };
                let segment = Arc::clone(&segment);
                found.insert(delivery, Found { place, to: to.clone(), segment });
                if found.len() > max {
                    found.pop_last();
                }
            }
            Ok(())
        })?;
        for gap in gaps {
            lose(shared, &segment, gap)?;
        }
    }
    Ok(found)
}

/// What it takes to read a segment that has letters, and which of its records are letters still.
fn look(state: &State, id: SegmentId) -> Option<(Arc<Readable>, Vec<bool>, Vec<DestinationName>)> {
    let segment = state.track(LogKind::Dead).segments.get(&id)?;
    if segment.bits.unset() == 0 {
        return None;
    }
    let slots = 0..segment.head.names.len() as u8;
    let is_letter = |index| slots.clone().any(|slot| !segment.bits.is_set(index, slot));
    let unsettled = (0..segment.bits.len()).map(is_letter).collect();
    Some((Arc::new(Readable::of(segment)), unsettled, segment.head.names.clone()))
}

/// Sets aside letters that are damaged.
fn lose(shared: &Shared, segment: &Readable, gap: Gap) -> Result<(), StoreFault> {
    let damage = Damage {
        log: LogKind::Dead,
        segment: segment.id,
        file: Arc::clone(&segment.file),
        from: gap.from,
        to: gap.to,
        seqs: gap.seqs,
    };
    damage::report(shared, &damage)?;
    let mut state = lock(&shared.state);
    let Some(of) = state.track_mut(LogKind::Dead).segments.get_mut(&segment.id) else {
        return Ok(());
    };
    let lines = of.lines.clone();
    let mut lost = Vec::new();
    for seq in damage.seqs {
        for (slot, line) in (0..).zip(&lines) {
            if of.bits.set(seq - of.head.first, slot) {
                lost.push(*line);
            }
        }
    }
    for line in lost {
        state.lines[line].dead = state.lines[line].dead.saturating_sub(1);
    }
    Ok(())
}

/// Reads a letter; nothing when it went, or does not pass any more.
fn read(found: &Found, sources: &mut Sources) -> Result<Option<record::Record>, StoreFault> {
    let Found { place, segment, .. } = found;
    let bytes = segment.file.read(place.offset, place.len as usize)?;
    match record::check(&bytes, segment.seed) {
        Checked::Whole(len) => Ok(View::of(&bytes[..len]).decode(sources)),
        Checked::Short(_) | Checked::Bad => Ok(None),
    }
}

/// Reads letters that were found, without those that went.
pub(super) fn letters(part: Vec<(DeliveryId, Found)>) -> Result<Vec<Letter>, StoreFault> {
    let mut sources = Sources::default();
    let mut letters = Vec::with_capacity(part.len());
    for (id, found) in part {
        if let Some(record) = read(&found, &mut sources)? {
            let Place { log, seq, slot, .. } = found.place;
            let prior = Prior { log, seq, slot };
            letters.push(Letter { id, to: found.to, record, prior });
        }
    }
    Ok(letters)
}
