//! Reads deliveries from the logs into their line: what is due again, and the next piece of a lane.
//!
//! In three steps, so that no lock is held while a file is read and a call that is dropped in
//! between has taken nothing: plan under the lock, read, take in under the lock.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::aging::Before;
use super::crypt::Seal;
use super::damage::Damage;
use super::files::LogFile;
use super::lease::{Delivery, Waiting};
use super::record::{self, Checked, Origin, Record, Sources, View};
use super::scan::{self, Scan, Step};
use super::segment::{DATA_START, SegmentId};
use super::state::State;
use super::unread::{Cursor, Reader};
use super::{LogKind, Place};
use crate::clock::Timestamp;
use crate::spool::{DeliveryId, Lane, StoreFault, Want};

/// Bytes of `log/` read at once for one lane.
const PIECE: u64 = 256 << 10;
/// Records that a piece can hold.
const PIECE_RECORDS: u64 = PIECE / record::HEAD as u64 + 1;
/// Deliveries that are due again and read at once.
const POINTS_MAX: usize = 64;

/// What is to be read for a line.
#[derive(Debug)]
pub(super) enum Plan {
    Points(Vec<Point>),
    Piece(Piece),
}

impl Plan {
    /// Whether it lies where something was just written, so that no disk is waited for.
    pub(super) fn is_fresh(&self) -> bool {
        match self {
            Self::Points(points) => {
                points.len() <= 8 && points.iter().all(|p| p.waiting.place.log == LogKind::Accepted)
            }
            Self::Piece(piece) => piece.fresh,
        }
    }
}

/// One delivery that is due again.
#[derive(Debug)]
pub(super) struct Point {
    key: (Timestamp, DeliveryId),
    waiting: Waiting,
    segment: SegmentId,
    file: Arc<LogFile>,
    seed: u32,
}

/// The next records of a reader.
#[derive(Debug)]
pub(super) struct Piece {
    reader: Reader,
    cursor: Cursor,
    file: Arc<LogFile>,
    seed: u32,
    end: u64,
    /// The last sequence of the segment.
    last: u64,
    slot: u8,
    boundary: u64,
    /// Whether the delivery of each record from the cursor on is settled.
    settled: Vec<bool>,
    fresh: bool,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Got {
    found: Vec<(Place, Arc<Record>, Origin)>,
    /// Where its reader goes on.
    next: Option<(Reader, Cursor)>,
    /// The keys of the points that were asked for.
    points: Vec<((Timestamp, DeliveryId), Waiting)>,
    pub(super) damage: Vec<Damage>,
}

/// Says what is to be read before as many deliveries can be handed out as are wanted, if anything
/// is.
pub(super) fn plan(state: &mut State, line: usize, want: Want, now: Timestamp) -> Option<Plan> {
    if want.others > 0
        && let Some(points) = due_points(state, line, want.others, now)
    {
        return Some(Plan::Points(points));
    }
    let due_max = state.due_max_of_each();
    if !state.lines[line].takes_new(due_max) {
        return None;
    }
    if state.lines[line].ready(Lane::Live) == 0
        && let Some(piece) = next_piece(state, line, Reader::Live)
    {
        return Some(Plan::Piece(piece));
    }
    if want.others == 0 || state.lines[line].ready(Lane::Backlog) > 0 {
        return None;
    }
    let [first, second] = state.lines[line].unread.backlog_order();
    let piece = next_piece(state, line, first).or_else(|| next_piece(state, line, second))?;
    Some(Plan::Piece(piece))
}

fn due_points(state: &mut State, line: usize, max: usize, now: Timestamp) -> Option<Vec<Point>> {
    if state.lines[line].ready(Lane::Retry) > 0 {
        return None;
    }
    let mut gone = Vec::new();
    let mut points = Vec::new();
    let due = state.lines[line].due.range(..=(now, DeliveryId(u64::MAX)));
    let due: Vec<_> = due.take(POINTS_MAX).map(|(key, one)| (*key, *one)).collect();
    let due =
        if due.is_empty() { state.lines[line].hastened(now, max.min(POINTS_MAX)) } else { due };
    for (key, waiting) in &due {
        let place = waiting.place;
        match state.track(place.log).holding(place.seq) {
            Some(segment) => points.push(Point {
                key: *key,
                waiting: *waiting,
                segment: segment.head.id(),
                file: Arc::clone(&segment.file),
                seed: segment.seed,
            }),
            None => gone.push(*key),
        }
    }
    for key in gone {
        // Only a segment whose every bit is set is freed, so this is a bug of ours.
        tracing::error!(delivery.id = key.1.0, "a waiting delivery has no record any more");
        forget_due(state, line, key);
    }
    (!points.is_empty()).then_some(points)
}

fn forget_due(state: &mut State, line: usize, key: (Timestamp, DeliveryId)) {
    if let Some(waiting) = state.lines[line].due.remove(&key) {
        state.lines[line].forget_age(waiting.accepted_at, waiting.kind);
        state.flow.removed += 1;
    }
}

fn next_piece(state: &mut State, line: usize, reader: Reader) -> Option<Piece> {
    loop {
        let (from, end) = state.lines[line].unread.next(reader)?;
        if let Some(piece) = piece_from(state, line, reader, from, end) {
            return Some(piece);
        }
        let missing = state.lines[line].unread.ended(reader);
        if missing > 0 {
            // Each unread delivery has its bit unset in a segment at or behind its cursor, so this
            // is a bug of ours; it must not keep the line waiting for what is not there.
            let destination = &state.lines[line].name;
            tracing::error!(%destination, count = missing, "deliveries are nowhere to be read");
            state.flow.removed += missing;
        }
    }
}

/// The records from `cursor` on, before sequence `end`.
pub(super) fn piece_from(
    state: &State,
    line: usize,
    reader: Reader,
    mut cursor: Cursor,
    end: u64,
) -> Option<Piece> {
    let segments = &state.track(LogKind::Accepted).segments;
    while cursor.seq < end {
        if let Some(segment) = segments.get(&cursor.segment)
            && let Some(slot) = segment.slot_of(line)
            && segment.bits.unset_of(slot) > 0
            && cursor.offset < segment.end
        {
            let index = cursor.seq - segment.head.first;
            let until = (index + PIECE_RECORDS).min(segment.bits.len());
            let until = until.min(end.saturating_sub(segment.head.first));
            let is_last = segments.last_key_value().map(|(id, _)| *id) == Some(cursor.segment);
            return Some(Piece {
                reader,
                cursor,
                file: Arc::clone(&segment.file),
                seed: segment.seed,
                end: segment.end,
                last: segment.next_seq() - 1,
                slot,
                boundary: state.boundary,
                settled: (index..until).map(|index| segment.bits.is_set(index, slot)).collect(),
                fresh: is_last && segment.end - cursor.offset <= PIECE,
            });
        }
        cursor = start_behind(segments, cursor.segment)?;
    }
    None
}

fn start_behind<T>(segments: &BTreeMap<SegmentId, T>, id: SegmentId) -> Option<Cursor> {
    let (next, _) = segments.range((Bound::Excluded(id), Bound::Unbounded)).next()?;
    Some(Cursor { segment: *next, offset: DATA_START, seq: next.first })
}

/// Reads what was planned; blocks.
pub(super) fn read(plan: Plan, sources: &mut Sources) -> Result<Got, StoreFault> {
    match plan {
        Plan::Points(points) => read_points(points, sources),
        Plan::Piece(piece) => read_piece(&piece, sources),
    }
}

fn read_points(points: Vec<Point>, sources: &mut Sources) -> Result<Got, StoreFault> {
    let mut got = Got::default();
    for Point { key, waiting, segment, file, seed } in points {
        let place = waiting.place;
        let bytes = file.read(place.offset, place.len as usize)?;
        let record = match record::check(&bytes, seed) {
            Checked::Whole(len) => {
                let view = View::of(&bytes[..len]);
                let is_it = view.seq() == place.seq;
                if is_it { with_origin(&view, place, file.seal(), sources) } else { None }
            }
            Checked::Short(_) | Checked::Bad => None,
        };
        got.points.push((key, waiting));
        match record {
            Some((record, origin)) => got.found.push((place, record, origin)),
            None => got.damage.push(Damage {
                log: place.log,
                segment,
                file,
                from: place.offset,
                to: place.offset + u64::from(place.len),
                seqs: place.seq..place.seq + 1,
            }),
        }
    }
    Ok(got)
}

fn with_origin(
    view: &View<'_>,
    place: Place,
    seal: Option<&Seal>,
    sources: &mut Sources,
) -> Option<(Arc<Record>, Origin)> {
    let record = view.decode(sources, seal)?;
    let own = Origin { seq: place.seq, slot: place.slot, owed: view.owed() };
    let origin = record.origin.unwrap_or(own);
    Some((Arc::new(record), origin))
}

/// How many records of a piece are its reader's and were accepted before then, and where the
/// looking goes on; nowhere when a later one was met.
pub(super) fn count_before(
    piece: &Piece,
    before: &Before,
) -> Result<(u64, Option<Cursor>), StoreFault> {
    let latest = before.iter().max().copied().unwrap_or(Timestamp::EPOCH);
    let (mut count, mut at) = (0, piece.cursor);
    let stop = at.offset + PIECE;
    let mut scan = Scan::new(&piece.file, piece.seed, at.offset, piece.end);
    for settled in &piece.settled {
        if at.offset >= stop || at.offset >= piece.end {
            break;
        }
        let Step::Record(view, _) = scan.step()? else { return Ok((count, None)) };
        let accepted_at = view.accepted_at();
        let ours = !settled
            && view.owed() >> piece.slot & 1 == 1
            && view.lane().is_some_and(|lane| piece.reader.takes(piece.boundary, at.seq, lane));
        if ours && accepted_at >= latest {
            return Ok((count, None));
        }
        let kind = view.kind();
        count += u64::from(
            ours && kind.is_some_and(|kind| accepted_at < before[usize::from(kind.code())]),
        );
        at = Cursor { offset: scan.at, seq: at.seq + 1, ..at };
    }
    Ok((count, Some(at)))
}

fn read_piece(piece: &Piece, sources: &mut Sources) -> Result<Got, StoreFault> {
    let mut got = Got::default();
    let mut at = piece.cursor;
    let stop = at.offset + PIECE;
    let mut scan = Scan::new(&piece.file, piece.seed, at.offset, piece.end);
    for settled in &piece.settled {
        if at.offset >= stop || at.offset >= piece.end {
            break;
        }
        let read = match scan.step()? {
            Step::Record(view, offset) if view.seq() == at.seq => {
                let len = record::aligned(view.len()) as u32;
                let place =
                    Place { log: LogKind::Accepted, seq: at.seq, slot: piece.slot, offset, len };
                let ours = !settled
                    && view.owed() >> piece.slot & 1 == 1
                    && view
                        .lane()
                        .is_none_or(|lane| piece.reader.takes(piece.boundary, at.seq, lane));
                if ours {
                    with_origin(&view, place, piece.file.seal(), sources)
                        .map(|(r, o)| Some((place, r, o)))
                } else {
                    Some(None)
                }
            }
            Step::Record(..) | Step::End | Step::Bad => None,
        };
        match read {
            Some(found) => {
                got.found.extend(found);
                at = Cursor { offset: scan.at, seq: at.seq + 1, ..at };
            }
            None => {
                let (damage, next) = damage_at(piece, at)?;
                got.damage.push(damage);
                at = next;
                break;
            }
        }
    }
    got.next = Some((piece.reader, at));
    Ok(got)
}

/// What is damaged from `at` on, and where the reading goes on behind it.
fn damage_at(piece: &Piece, at: Cursor) -> Result<(Damage, Cursor), StoreFault> {
    let behind = at.seq + 1..=piece.last;
    let found = scan::search(&piece.file, piece.seed, at.offset + 8, piece.end, behind)?;
    let (to, next) = found.map_or((piece.end, piece.last + 1), |found| (found.offset, found.seq));
    let damage = Damage {
        log: LogKind::Accepted,
        segment: at.segment,
        file: Arc::clone(&piece.file),
        from: at.offset,
        to,
        seqs: at.seq..next,
    };
    Ok((damage, Cursor { offset: to, seq: next, ..at }))
}

/// Takes in what was read.
pub(super) fn take_in(state: &mut State, line: usize, got: Got) {
    if let Some((reader, next)) = got.next {
        let lane = reader.lane();
        state.lines[line].unread.went(reader, next, got.found.len() as u64);
        for (place, record, origin) in got.found {
            let attempts = record.attempts;
            let (sooner, sent_at) = (record.sooner, record.sent_at);
            let id = DeliveryId::begun_by(place.seq, place.slot);
            state.lines[line].note_age(record.event.accepted_at, record.event.kind);
            state.lines[line].stage(Delivery {
                id,
                place,
                record,
                origin,
                attempts,
                lane,
                sooner,
                sent_at,
            });
        }
        for damage in &got.damage {
            lose(state, line, damage, reader);
        }
        return;
    }
    let mut found: BTreeMap<(LogKind, u64), _> =
        got.found.into_iter().map(|(p, r, o)| ((p.log, p.seq), (r, o))).collect();
    for (key, waiting) in got.points {
        let place = waiting.place;
        let is_there = |of: &Waiting| of.place == place;
        if !state.lines[line].due.get(&key).is_some_and(is_there) {
            // Its record was carried meanwhile: it is read where it is now.
            continue;
        }
        let Some((record, origin)) = found.remove(&(place.log, place.seq)) else {
            state.set(place.as_prior());
            forget_due(state, line, key);
            continue;
        };
        if state.lines[line].due.remove(&key).is_some() {
            // One that is encrypted could not be read before.
            let sent_at = record.sent_at;
            state.lines[line].stage(Delivery {
                id: key.1,
                place,
                record,
                origin,
                attempts: waiting.attempts,
                lane: Lane::Retry,
                sooner: waiting.sooner,
                sent_at: waiting.sent_at.or(sent_at),
            });
        }
    }
}

/// Gives up the deliveries to one line of the records that a damaged piece had.
fn lose(state: &mut State, line: usize, damage: &Damage, reader: Reader) {
    let Some(segment) = state.track(damage.log).segments.get(&damage.segment) else { return };
    let Some(slot) = segment.slot_of(line) else { return };
    let in_damage = |place: Place| place.log == damage.log && damage.seqs.contains(&place.seq);
    let mut kept = state.lines[line].in_memory(in_damage);
    let held = state.held.values().filter(|held| held.line == line);
    kept.extend(held.map(|held| held.delivery.place).filter(|p| in_damage(*p)).map(|p| p.seq));
    for seq in damage.seqs.clone().filter(|seq| !kept.contains(seq)) {
        if !state.track_mut(damage.log).set(seq, slot) {
            continue;
        }
        state.flow.removed += 1;
        // Which lane a record was in is lost with it.
        state.lines[line].unread.lost(reader, seq);
    }
}
