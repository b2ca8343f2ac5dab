//! Dead letters: listed by reading `dead/`, and put back in line.
//!
//! They are kept in no memory, for there may be any number of them; a gigabyte of them is read in
//! a second.

use std::collections::{BTreeMap, BTreeSet, HashSet};
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
use crate::spool::{
    AppendError, DeadLetter, DeadPage, DeadQuery, DeliveryId, Refusal, Replayed, StoreFault,
};

/// Letters listed or put back at once, whatever the caller asks for.
const LETTERS_MAX: usize = 10_000;
/// Bytes of letters beyond which a page ends.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Letters that one command drops.
const DROP_MAX: usize = 1024;
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

/// A page of letters, those of the oldest deliveries first.
pub(super) async fn list(shared: &Arc<Shared>, query: DeadQuery) -> Result<DeadPage, StoreFault> {
    shared.check()?;
    blocking(shared, "listing dead letters", move |shared| page(shared, &query)).await
}

fn page(shared: &Shared, query: &DeadQuery) -> Result<DeadPage, StoreFault> {
    let max = query.max.min(LETTERS_MAX);
    let mut page = DeadPage { letters: Vec::new(), next: query.after };
    let after = query.after.map_or(0, |after| after.0);
    let found = find(shared, LETTERS_MAX, |id| id.0 > after)?;
    let is_all = found.len() < LETTERS_MAX;
    let mut sources = Sources::default();
    let mut bytes = 0;
    for (id, found) in found {
        if page.letters.len() >= max || bytes >= PAGE_BYTES_MAX {
            return Ok(page);
        }
        let len = found.place.len as usize;
        if let Some(letter) = read(&found, &mut sources)?.map(|record| letter(id, found.to, record))
            && query.filter.takes(&letter)
        {
            bytes += len;
            page.letters.push(letter);
        }
        page.next = Some(id);
    }
    if is_all {
        page.next = None;
    }
    Ok(page)
}

fn letter(id: DeliveryId, to: DestinationName, record: record::Record) -> DeadLetter {
    DeadLetter {
        id,
        to,
        event: record.event,
        attempts: record.attempts,
        died_at: record.at,
        refusal: record.refusal.unwrap_or(LOST_REFUSAL),
    }
}

/// What a letter says whose record has no refusal, which none of ours is written without.
const LOST_REFUSAL: Refusal =
    Refusal { cause: crate::spool::Cause::Unsendable, status: None, answer: bytes::Bytes::new() };

/// One letter.
pub(super) async fn one(
    shared: &Arc<Shared>,
    id: DeliveryId,
) -> Result<Option<DeadLetter>, StoreFault> {
    shared.check()?;
    blocking(shared, "reading a dead letter", move |shared| {
        let Some((_, found)) = find(shared, 1, |of| of == id)?.pop_first() else { return Ok(None) };
        let record = read(&found, &mut Sources::default())?;
        Ok(record.map(|record| letter(id, found.to, record)))
    })
    .await
}

/// Drops letters for good.
pub(super) async fn drop_all(
    shared: &Arc<Shared>,
    ids: &[DeliveryId],
) -> Result<usize, StoreFault> {
    shared.check()?;
    let mut dropped = 0;
    for ids in ids.chunks(LETTERS_MAX) {
        let letters: Vec<Prior> = find_all(shared, ids)
            .await?
            .into_values()
            .map(|found| found.place.as_prior())
            .collect();
        for part in letters.chunks(DROP_MAX) {
            let (answer, answered) = oneshot::channel();
            shared.inbox.upkeep(Command::Drop { letters: part.to_vec(), answer })?;
            dropped += answered.await.unwrap_or_else(|_gone| Err(shared.gone()))?;
        }
    }
    if dropped > 0 && !shared.rounds.pass(&shared.bell).await {
        shared.check()?;
        tracing::warn!(dropped, "dead letters are dropped, and a crash may bring them back");
    }
    Ok(dropped)
}

/// Puts letters back in line.
pub(super) async fn replay(
    shared: &Arc<Shared>,
    ids: &[DeliveryId],
) -> Result<Replayed, AppendError> {
    shared.check()?;
    let mut replayed = Replayed::default();
    let segment = usize::try_from(shared.append_bytes_max()).unwrap_or(usize::MAX);
    let bytes_max = REPLAY_BYTES_MAX.min(segment);
    let ids: Vec<DeliveryId> = ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    for ids in ids.chunks(LETTERS_MAX) {
        let found = find_all(shared, ids).await?;
        replayed.missing += ids.len() - found.len();
        let mut found = found.into_iter().peekable();
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
            let asked = part.len();
            let letters = blocking(shared, "reading dead letters", |_| letters(part)).await?;
            replayed.missing += asked - letters.len();
            let (answer, answered) = oneshot::channel();
            shared.inbox.offer(Command::Replay { letters, answer }, bytes)?;
            let answer = answered.await;
            replayed += answer.unwrap_or_else(|_gone| Err(shared.gone().into()))?;
        }
    }
    Ok(replayed)
}

/// The letters of these names.
async fn find_all(
    shared: &Arc<Shared>,
    ids: &[DeliveryId],
) -> Result<BTreeMap<DeliveryId, Found>, StoreFault> {
    let wanted: HashSet<DeliveryId> = ids.iter().copied().collect();
    blocking(shared, "looking for dead letters", move |shared| {
        find(shared, LETTERS_MAX, |id| wanted.contains(&id))
    })
    .await
}

pub(super) async fn blocking<T: Send + 'static>(
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
    let Some(of) = state.track(LogKind::Dead).segments.get(&segment.id) else {
        return Ok(());
    };
    let slots = 0..of.lines.len() as u8;
    for seq in damage.seqs {
        for slot in slots.clone() {
            state.lose_letter(Prior { log: LogKind::Dead, seq, slot });
        }
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
