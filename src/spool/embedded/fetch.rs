//! Reads deliveries from the logs into their line: what is due again, and the next piece of a lane.
//!
//! In three steps, so that no lock is held while a file is read and a call that is dropped in
//! between has taken nothing: plan under the lock, read, take in under the lock.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::damage::Damage;
use super::files::LogFile;
use super::lease::{Cursor, Delivery, Waiting};
use super::record::{self, Checked, Origin, Record, Sources, View};
use super::scan::{self, Scan, Step};
use super::segment::{DATA_START, SegmentId};
use super::state::State;
use super::{LogKind, Place};
use crate::clock::Timestamp;
use crate::spool::{DeliveryId, Lane, StoreFault};

/// Bytes of `log/` read at once for one lane.
const PIECE: u64 = 256 << 10;
/// Records that a piece can hold.
const PIECE_RECORDS: u64 = PIECE / record::HEAD as u64 + 1;
/// Deliveries that are due again and read at once.
const POINTS_MAX: usize = 64;

/// What is to be read for a line.
#[derive(Debug)]
pub(super) enum Want {
    Points(Vec<Point>),
    Piece(Piece),
}

impl Want {
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

/// The next records of a lane.
#[derive(Debug)]
pub(super) struct Piece {
    lane: Lane,
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
    /// Where the lane is read on.
    next: Option<(Lane, Cursor)>,
    /// The keys of the points that were asked for.
    points: Vec<((Timestamp, DeliveryId), Waiting)>,
    pub(super) damage: Vec<Damage>,
}

/// Says what is to be read before `max` deliveries can be handed out, if anything is.
pub(super) fn plan(state: &mut State, line: usize, max: usize, now: Timestamp) -> Option<Want> {
    if let Some(points) = due_points(state, line, now) {
        return Some(Want::Points(points));
    }
    let of = &state.lines[line];
    if !of.takes_new() || of.ready_in_all() >= max {
        return None;
    }
    for lane in [Lane::Live, Lane::Backlog] {
        if state.lines[line].ready(lane) == 0
            && let Some(piece) = next_piece(state, line, lane)
        {
            return Some(Want::Piece(piece));
        }
    }
    None
}

fn due_points(state: &mut State, line: usize, now: Timestamp) -> Option<Vec<Point>> {
    if state.lines[line].ready(Lane::Retry) > 0 {
        return None;
    }
    let mut gone = Vec::new();
    let mut points = Vec::new();
    for (key, waiting) in state.lines[line].due.range(..=(now, DeliveryId(u64::MAX))) {
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
        if points.len() == POINTS_MAX {
            break;
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
        state.lines[line].forget_age(waiting.accepted_at);
        state.flow.removed += 1;
    }
}

fn next_piece(state: &mut State, line: usize, lane: Lane) -> Option<Piece> {
    let boundary = state.boundary;
    let unread = state.lines[line].unread(lane);
    let (count, mut cursor) = (unread.count, unread.cursor?);
    if count == 0 {
        return None;
    }
    let segments = &state.track(LogKind::Accepted).segments;
    loop {
        if let Some(segment) = segments.get(&cursor.segment)
            && let Some(slot) = segment.slot_of(line)
            && segment.bits.unset_of(slot) > 0
            && cursor.offset < segment.end
        {
            let index = cursor.seq - segment.head.first;
            let until = (index + PIECE_RECORDS).min(segment.bits.len());
            let is_last = segments.last_key_value().map(|(id, _)| *id) == Some(cursor.segment);
            return Some(Piece {
                lane,
                cursor,
                file: Arc::clone(&segment.file),
                seed: segment.seed,
                end: segment.end,
                last: segment.next_seq() - 1,
                slot,
                boundary,
                settled: (index..until).map(|index| segment.bits.is_set(index, slot)).collect(),
                fresh: is_last && segment.end - cursor.offset <= PIECE,
            });
        }
        match start_behind(segments, cursor.segment) {
            Some(next) => cursor = next,
            None => break,
        }
    }
    // Each unread delivery has its bit unset in a segment at or behind the cursor, so this is a
    // bug of ours; it must not keep the line waiting for what is not there.
    tracing::error!(destination = %state.lines[line].name, count, "deliveries are nowhere to be read");
    state.lines[line].unread(lane).count = 0;
    state.flow.removed += count;
    None
}

fn start_behind<T>(segments: &BTreeMap<SegmentId, T>, id: SegmentId) -> Option<Cursor> {
    let (next, _) = segments.range((Bound::Excluded(id), Bound::Unbounded)).next()?;
    Some(Cursor { segment: *next, offset: DATA_START, seq: next.first })
}

/// Reads what was planned; blocks.
pub(super) fn read(want: Want, sources: &mut Sources) -> Result<Got, StoreFault> {
    match want {
        Want::Points(points) => read_points(points, sources),
        Want::Piece(piece) => read_piece(&piece, sources),
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
                if view.seq() == place.seq { with_origin(&view, place, sources) } else { None }
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
    sources: &mut Sources,
) -> Option<(Arc<Record>, Origin)> {
    let record = view.decode(sources)?;
    let own = Origin { seq: place.seq, slot: place.slot, owed: view.owed() };
    let origin = record.origin.unwrap_or(own);
    Some((Arc::new(record), origin))
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
                    && view.lane().is_none_or(|lane| {
                        State::lane_of(piece.boundary, at.seq, lane) == piece.lane
                    });
                if ours {
                    with_origin(&view, place, sources).map(|(r, o)| Some((place, r, o)))
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
    got.next = Some((piece.lane, at));
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
    if let Some((lane, next)) = got.next {
        state.lines[line].unread(lane).cursor = Some(next);
        for (place, record, origin) in got.found {
            let unread = state.lines[line].unread(lane);
            unread.count = unread.count.saturating_sub(1);
            let attempts = record.attempts;
            let id = DeliveryId::begun_by(place.seq, place.slot);
            state.lines[line].note_age(record.event.accepted_at);
            state.lines[line].stage(Delivery { id, place, record, origin, attempts, lane });
        }
        for damage in &got.damage {
            lose(state, line, damage, lane);
        }
        return;
    }
    let mut found: BTreeMap<(LogKind, u64), _> =
        got.found.into_iter().map(|(p, r, o)| ((p.log, p.seq), (r, o))).collect();
    for (key, waiting) in got.points {
        let place = waiting.place;
        let Some((record, origin)) = found.remove(&(place.log, place.seq)) else {
            state.set(place.as_prior());
            forget_due(state, line, key);
            continue;
        };
        if state.lines[line].due.remove(&key).is_some() {
            let (id, attempts, lane) = (key.1, waiting.attempts, Lane::Retry);
            state.lines[line].stage(Delivery { id, place, record, origin, attempts, lane });
        }
    }
}

/// Gives up the deliveries to one line of the records that a damaged piece had.
fn lose(state: &mut State, line: usize, damage: &Damage, lane: Lane) {
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
        // Which lane a record was in is lost with it; this one first, for it was being read.
        let other = if lane == Lane::Live { Lane::Backlog } else { Lane::Live };
        let from = if state.lines[line].unread(lane).count > 0 { lane } else { other };
        let unread = state.lines[line].unread(from);
        unread.count = unread.count.saturating_sub(1);
    }
}
