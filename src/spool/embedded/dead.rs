//! Dead letters: listed, put back in line, dropped.
//!
//! They are kept in no memory, for there may be any number of them; an [`index`] beside each
//! segment of `dead/` says where each of them is.

pub(super) mod index;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use tokio::sync::oneshot;

use self::index::{Cursor, Entry};
use super::damage::{self, Damage};
use super::files::LogFile;
use super::inbox::{Command, Letter, Really};
use super::record::{self, Checked, Prior, Sources, View};
use super::segment::SegmentId;
use super::walk::Gap;
use super::{LogKind, Place, Shared, lock};
use crate::clock::Timestamp;
use crate::event::DestinationName;
use crate::spool::{
    AppendError, DeadLetter, DeadPage, DeadQuery, DeliveryId, Refusal, Replayed, StoreFault,
};

/// Letters listed or put back at once, whatever the caller asks for.
const LETTERS_MAX: usize = 10_000;
/// Letters read for one page, whether they are wanted or not.
const SCAN_MAX: usize = 10_000;
/// Bytes of them.
const SCAN_BYTES_MAX: usize = 8 << 20;
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
    segment: SegmentId,
    file: Arc<LogFile>,
    seed: u32,
}

/// A page of letters, those of the oldest deliveries first.
pub(super) async fn list(shared: &Arc<Shared>, query: DeadQuery) -> Result<DeadPage, StoreFault> {
    shared.check()?;
    let _stay = shared.moving.lock().await;
    blocking(shared, "listing dead letters", move |shared| page(shared, &query)).await
}

fn page(shared: &Shared, query: &DeadQuery) -> Result<DeadPage, StoreFault> {
    let max = query.max.min(LETTERS_MAX);
    let mut page = DeadPage { letters: Vec::new(), next: query.after };
    let from = DeliveryId(query.after.map_or(0, |after| after.0.saturating_add(1)));
    let mut indexes = lock(&shared.letters);
    let segments = segments(shared);
    for segment in &segments {
        indexes.of(shared, *segment)?;
    }
    let known = segments.iter().filter_map(|id| Some((*id, Cursor::new(indexes.known(*id)?))));
    let mut cursors: Vec<(SegmentId, Cursor<'_>)> = known.collect();
    // The next of each segment; the least of them all is the next of the page.
    let mut heads = BinaryHeap::new();
    for (at, (_, cursor)) in cursors.iter_mut().enumerate() {
        cursor.seek(from)?;
        heads.extend(cursor.peek()?.map(|entry| Reverse((entry.id, at))));
    }
    let mut sources = Sources::default();
    let (mut read_letters, mut read_bytes) = (0, 0);
    while let Some(Reverse((id, at))) = heads.pop() {
        if page.letters.len() >= max || read_letters >= SCAN_MAX || read_bytes >= SCAN_BYTES_MAX {
            return Ok(page);
        }
        let (segment, cursor) = &mut cursors[at];
        let found = cursor.peek()?.and_then(|entry| look(shared, *segment, &entry));
        cursor.step();
        heads.extend(cursor.peek()?.map(|entry| Reverse((entry.id, at))));
        page.next = Some(id);
        let Some(found) = found else { continue };
        (read_letters, read_bytes) = (read_letters + 1, read_bytes + found.place.len as usize);
        if let Some(record) = read(shared, &found, &mut sources)? {
            let letter = letter(id, found.to, record);
            if query.filter.takes(&letter) {
                page.letters.push(letter);
            }
        }
    }
    page.next = None;
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
    let _stay = shared.moving.lock().await;
    blocking(shared, "reading a dead letter", move |shared| {
        let Some((_, found)) = find(shared, &[id])?.pop_first() else { return Ok(None) };
        let record = read(shared, &found, &mut Sources::default())?;
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
        let _stay = shared.moving.lock().await;
        let letters: Vec<Prior> = find_all(shared, ids)
            .await?
            .into_values()
            .map(|found| found.place.as_prior())
            .collect();
        for part in letters.chunks(DROP_MAX) {
            let (answer, answered) = oneshot::channel();
            shared.inbox.upkeep(Command::Drop { letters: part.to_vec(), answer }, 0)?;
            dropped += answered.await.unwrap_or_else(|_gone| Err(shared.gone()))?;
        }
    }
    if dropped > 0 && !shared.rounds.pass(&shared.bell, shared.fault.subscribe()).await {
        shared.check()?;
        tracing::warn!(dropped, "dead letters are dropped, and a crash may bring them back");
    }
    Ok(dropped)
}

/// Puts letters back in line, or tells what would become of them.
pub(super) async fn replay(
    shared: &Arc<Shared>,
    ids: &[DeliveryId],
    really: Really,
) -> Result<Replayed, AppendError> {
    shared.check()?;
    let mut replayed = Replayed::default();
    let segment = usize::try_from(shared.append_bytes_max()).unwrap_or(usize::MAX);
    let bytes_max = REPLAY_BYTES_MAX.min(segment);
    let ids: Vec<DeliveryId> = ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    for ids in ids.chunks(LETTERS_MAX) {
        let _stay = shared.moving.lock().await;
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
            let letters =
                blocking(shared, "reading dead letters", move |shared| letters(shared, part))
                    .await?;
            replayed.missing += asked - letters.len();
            let (answer, answered) = oneshot::channel();
            shared.inbox.offer(Command::Replay { letters, really, answer }, bytes)?;
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
    let ids: BTreeSet<DeliveryId> = ids.iter().copied().collect();
    let ids: Vec<DeliveryId> = ids.into_iter().collect();
    blocking(shared, "looking for dead letters", move |shared| find(shared, &ids)).await
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

/// The letters of these names, which are in order.
pub(super) fn find(
    shared: &Shared,
    ids: &[DeliveryId],
) -> Result<BTreeMap<DeliveryId, Found>, StoreFault> {
    let mut found = BTreeMap::new();
    let mut indexes = lock(&shared.letters);
    for segment in segments(shared) {
        let Some(index) = indexes.of(shared, segment)? else { continue };
        let mut cursor = Cursor::new(index);
        for id in ids {
            cursor.seek(*id)?;
            let Some(entry) = cursor.peek()? else { break };
            if entry.id == *id
                && let Some(letter) = look(shared, segment, &entry)
            {
                found.insert(*id, letter);
            }
        }
    }
    Ok(found)
}

/// The segments of `dead/`, oldest first.
fn segments(shared: &Shared) -> Vec<SegmentId> {
    lock(&shared.state).track(LogKind::Dead).segments.keys().copied().collect()
}

/// The letter of an entry, unless it went.
fn look(shared: &Shared, id: SegmentId, entry: &Entry) -> Option<Found> {
    let state = lock(&shared.state);
    let segment = state.track(LogKind::Dead).segments.get(&id)?;
    let Place { seq, slot, .. } = entry.place;
    let to = segment.head.names.get(usize::from(slot))?;
    if segment.bits.is_set(seq - segment.head.first, slot) {
        return None;
    }
    Some(Found {
        place: entry.place,
        to: to.clone(),
        segment: id,
        file: Arc::clone(&segment.file),
        seed: segment.seed,
    })
}

/// Letters of one segment that were given up before, at most `max`.
pub(super) fn aged(
    shared: &Shared,
    segment: SegmentId,
    before: Timestamp,
    max: usize,
) -> Result<Vec<Prior>, StoreFault> {
    let mut indexes = lock(&shared.letters);
    let Some(index) = indexes.of(shared, segment)? else { return Ok(Vec::new()) };
    if index.oldest.is_none_or(|oldest| oldest >= before) {
        return Ok(Vec::new());
    }
    let mut cursor = Cursor::new(index);
    let (mut aged, mut oldest) = (Vec::new(), None::<Timestamp>);
    while let Some(entry) = cursor.peek()? {
        cursor.step();
        if look(shared, segment, &entry).is_none() {
            continue;
        }
        if entry.at < before && aged.len() < max {
            aged.push(entry.place.as_prior());
        } else {
            oldest = Some(oldest.map_or(entry.at, |oldest| oldest.min(entry.at)));
        }
    }
    // What is handed out is dropped; if it is not, it is not looked for again before the next start.
    indexes.set_oldest(segment, oldest);
    Ok(aged)
}

/// Sets aside letters that are damaged.
fn lose(
    shared: &Shared,
    segment: SegmentId,
    file: &Arc<LogFile>,
    gap: Gap,
) -> Result<(), StoreFault> {
    let damage = Damage {
        log: LogKind::Dead,
        segment,
        file: Arc::clone(file),
        from: gap.from,
        to: gap.to,
        seqs: gap.seqs,
    };
    damage::report(shared, &damage)?;
    let mut state = lock(&shared.state);
    let Some(of) = state.track(LogKind::Dead).segments.get(&segment) else {
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

/// Reads a letter; nothing when it went, or does not pass any more, which is told.
fn read(
    shared: &Shared,
    found: &Found,
    sources: &mut Sources,
) -> Result<Option<record::Record>, StoreFault> {
    let Found { place, segment, file, seed, .. } = found;
    let bytes = file.read(place.offset, place.len as usize)?;
    let record = match record::check(&bytes, *seed) {
        Checked::Whole(len) => View::of(&bytes[..len]).decode(sources, file.seal()),
        Checked::Short(_) | Checked::Bad => None,
    };
    if record.is_none() {
        let (from, to) = (place.offset, place.offset + u64::from(place.len));
        lose(shared, *segment, file, Gap { from, to, seqs: place.seq..place.seq + 1 })?;
    }
    Ok(record)
}

/// Reads letters that were found, without those that went.
pub(super) fn letters(
    shared: &Shared,
    part: Vec<(DeliveryId, Found)>,
) -> Result<Vec<Letter>, StoreFault> {
    let mut sources = Sources::default();
    let mut letters = Vec::with_capacity(part.len());
    for (id, found) in part {
        if let Some(record) = read(shared, &found, &mut sources)? {
            let Place { log, seq, slot, .. } = found.place;
            let prior = Prior { log, seq, slot };
            letters.push(Letter { id, to: found.to, record, prior });
        }
    }
    Ok(letters)
}
