//! What a line has in `log/` and has not read yet: fresh events apart from what waited too long.
//!
//! Records come in one order for all lanes, so each lane has a reader of its own with a cursor. The
//! live reader stays near the tail: what lies far behind it, in time or in number, is cut off as a
//! stretch of the backlog, or an event that arrives after an outage would wait for all that the
//! outage left. No record is ever read by two readers.

use std::collections::VecDeque;
use std::time::Duration;

use super::segment::SegmentId;
use crate::clock::Timestamp;
use crate::spool::{FRESH_FOR, FRESH_MAX, Lane};

/// Fresh events are told apart in so many generations,
const GENERATIONS: usize = 4;
/// each of so many arrivals at most,
const GENERATION_MAX: u64 = FRESH_MAX / GENERATIONS as u64;
/// and of so much time.
const GENERATION_FOR: Duration = Duration::from_millis(FRESH_FOR.as_millis() as u64 / 4);
/// Stretches kept apart. Beyond it nothing more is cut off; one comes every two seconds at most
/// under load that never ends.
const STRETCHES_MAX: usize = 65_536;

/// Where the reading of `log/` goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) segment: SegmentId,
    pub(super) offset: u64,
    pub(super) seq: u64,
}

/// One of the readers of a line, in the order in which a loss is booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Fresh events.
    Live,
    /// Fresh once, and cut off since.
    Stale,
    /// Recovered, imported or put back in line by hand.
    Backlog,
}

impl Reader {
    const ALL: [Self; 3] = [Self::Live, Self::Stale, Self::Backlog];

    /// The lane of what it reads.
    pub(super) const fn lane(self) -> Lane {
        match self {
            Self::Live => Lane::Live,
            Self::Stale | Self::Backlog => Lane::Backlog,
        }
    }

    /// Whether a record of `log/` is its to read; a stretch has ends besides.
    pub(super) const fn takes(self, boundary: u64, seq: u64, written: Lane) -> bool {
        let fresh = matches!(written, Lane::Live) && seq > boundary;
        match self {
            Self::Live | Self::Stale => fresh,
            Self::Backlog => !fresh,
        }
    }
}

/// Records that one reader has before it.
#[derive(Clone, Copy, Debug, Default)]
struct Ahead {
    count: u64,
    cursor: Option<Cursor>,
}

impl Ahead {
    fn arrived(&mut self, at: Cursor) {
        if self.count == 0 {
            self.cursor = Some(at);
        }
        self.count += 1;
    }
}

/// A piece of the log that the live reader left out.
#[derive(Debug)]
struct Stretch {
    count: u64,
    cursor: Cursor,
    /// The first sequence behind it.
    end: u64,
}

/// Live arrivals of a short time.
#[derive(Debug)]
struct Generation {
    began: Timestamp,
    start: Cursor,
    count: u64,
}

/// What is unread of one line.
#[derive(Debug, Default)]
pub(super) struct Unread {
    live: Ahead,
    backlog: Ahead,
    stale: VecDeque<Stretch>,
    stale_count: u64,
    /// Whether the backlog proper was read last, and not what was fresh once.
    backlog_was_last: bool,
    fresh: VecDeque<Generation>,
}

impl Unread {
    /// A record was written there, for the lane that it says.
    pub(super) fn arrived(&mut self, written: Lane, at: Cursor, now: Timestamp) {
        match written {
            Lane::Live => {
                self.live.arrived(at);
                let goes_on = self.fresh.back().is_some_and(|last| {
                    last.count < GENERATION_MAX && now.since(last.began) < GENERATION_FOR
                });
                if goes_on && let Some(last) = self.fresh.back_mut() {
                    last.count += 1;
                    return;
                }
                if self.fresh.len() == GENERATIONS {
                    self.fresh.pop_front();
                }
                self.fresh.push_back(Generation { began: now, start: at, count: 1 });
            }
            Lane::Backlog | Lane::Retry => self.backlog.arrived(at),
        }
    }

    /// Found at the opening, from `start` on: all of it is backlog.
    pub(super) fn recovered(&mut self, count: u64, start: Cursor) {
        self.backlog.count += count;
        self.backlog.cursor.get_or_insert(start);
    }

    /// Cuts off what waited too long, or lies too far behind the tail. `tail` is the sequence that
    /// the next record of the log gets. Nobody may be reading for this line meanwhile.
    pub(super) fn cut_off(&mut self, now: Timestamp, tail: u64) {
        while self.fresh.front().is_some_and(|oldest| now.since(oldest.began) >= FRESH_FOR) {
            self.fresh.pop_front();
        }
        let Some(cursor) = self.live.cursor.filter(|_| self.live.count > 0) else { return };
        let next = self.fresh.front().map(|oldest| oldest.start);
        let end = next.map_or(tail, |next| next.seq);
        let fresh: u64 = self.fresh.iter().map(|generation| generation.count).sum();
        let count = self.live.count.saturating_sub(fresh);
        if cursor.seq >= end || self.stale.len() == STRETCHES_MAX {
            return;
        }
        match self.stale.back_mut() {
            Some(last) if last.end == cursor.seq => {
                last.count += count;
                last.end = end;
            }
            Some(_) | None => self.stale.push_back(Stretch { count, cursor, end }),
        }
        self.stale_count += count;
        self.live = Ahead { count: self.live.count - count, cursor: next };
    }

    /// How many records a reader has before it, in all.
    pub(super) const fn count(&self, reader: Reader) -> u64 {
        match reader {
            Reader::Live => self.live.count,
            Reader::Stale => self.stale_count,
            Reader::Backlog => self.backlog.count,
        }
    }

    /// Where a reader goes on, and the sequence before which it ends, if it has anything to read.
    pub(super) fn next(&self, reader: Reader) -> Option<(Cursor, u64)> {
        let ahead = match reader {
            Reader::Live => self.live,
            Reader::Stale => return self.stale.front().map(|first| (first.cursor, first.end)),
            Reader::Backlog => self.backlog,
        };
        ahead.cursor.filter(|_| ahead.count > 0).map(|cursor| (cursor, u64::MAX))
    }

    /// The readers of the backlog lane; they take turns, or an import of a million would keep what
    /// an outage left waiting.
    pub(super) const fn backlog_order(&self) -> [Reader; 2] {
        if self.backlog_was_last {
            [Reader::Stale, Reader::Backlog]
        } else {
            [Reader::Backlog, Reader::Stale]
        }
    }

    /// Every piece of the log that some reader has before it: where it begins, and before which
    /// sequence it ends.
    pub(super) fn pieces(&self) -> Vec<(Reader, Cursor, u64)> {
        let straight = [Reader::Live, Reader::Backlog].into_iter();
        let straight =
            straight.filter_map(|one| self.next(one).map(|(from, end)| (one, from, end)));
        let stale = self.stale.iter().map(|one| (Reader::Stale, one.cursor, one.end));
        straight.chain(stale).collect()
    }

    /// A reader has read up to `next` and found so many.
    pub(super) fn went(&mut self, reader: Reader, next: Cursor, found: u64) {
        match reader {
            Reader::Live => {
                self.live.cursor = Some(next);
                self.live.count = self.live.count.saturating_sub(found);
                // A generation of which a part was read has so many fewer ahead.
                let mut behind: u64 = self.fresh.iter().map(|generation| generation.count).sum();
                for generation in &mut self.fresh {
                    let over = behind.saturating_sub(self.live.count).min(generation.count);
                    generation.count -= over;
                    behind -= over;
                }
            }
            Reader::Backlog => {
                self.backlog_was_last = true;
                self.backlog.cursor = Some(next);
                self.backlog.count = self.backlog.count.saturating_sub(found);
            }
            Reader::Stale => {
                let Some(first) = self.stale.front_mut() else { return };
                self.backlog_was_last = false;
                let found = found.min(first.count);
                first.cursor = next;
                first.count -= found;
                self.stale_count -= found;
            }
        }
    }

    /// A reader has come to its end; answers how many it should have found there and did not.
    pub(super) fn ended(&mut self, reader: Reader) -> u64 {
        match reader {
            Reader::Live => std::mem::take(&mut self.live.count),
            Reader::Backlog => std::mem::take(&mut self.backlog.count),
            Reader::Stale => {
                let missing = self.stale.pop_front().map_or(0, |first| first.count);
                self.stale_count -= missing;
                missing
            }
        }
    }

    /// A record is lost that some reader, most likely `reader`, had before it.
    pub(super) fn lost(&mut self, reader: Reader, seq: u64) {
        let others = Reader::ALL.into_iter().filter(|other| *other != reader);
        let from = std::iter::once(reader).chain(others).find(|one| self.count(*one) > 0);
        match from {
            Some(Reader::Live) => {
                self.live.count -= 1;
                let of = self.fresh.iter_mut().rev().find(|one| one.start.seq <= seq);
                if let Some(generation) = of {
                    generation.count = generation.count.saturating_sub(1);
                }
            }
            Some(Reader::Stale) => {
                let own = self.stale.iter_mut().find(|one| one.end > seq && one.count > 0);
                if let Some(stretch) = own {
                    stretch.count -= 1;
                    self.stale_count -= 1;
                }
            }
            Some(Reader::Backlog) => self.backlog.count -= 1,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

    fn at(seq: u64) -> Cursor {
        Cursor { segment: SegmentId { first: 1, number: 1 }, offset: seq * 128, seq }
    }

    fn counts(unread: &Unread) -> [u64; 3] {
        Reader::ALL.map(|reader| unread.count(reader))
    }

    #[test]
    fn an_event_is_fresh_for_seconds_and_then_backlog() {
        let mut unread = Unread::default();
        for seq in 1..=5 {
            unread.arrived(Lane::Live, at(seq), START);
        }
        let later = START.after(FRESH_FOR - Duration::from_millis(1));
        unread.cut_off(later, 6);
        assert_eq!(counts(&unread), [5, 0, 0]);
        unread.arrived(Lane::Live, at(6), later);
        unread.cut_off(START.after(FRESH_FOR), 7);
        assert_eq!(counts(&unread), [1, 5, 0]);
        assert_eq!(unread.next(Reader::Live), Some((at(6), u64::MAX)));
        assert_eq!(unread.next(Reader::Stale), Some((at(1), 6)));
        unread.cut_off(later.after(FRESH_FOR), 7);
        assert_eq!(counts(&unread), [0, 6, 0]);
        assert_eq!(unread.next(Reader::Stale), Some((at(1), 7)), "neighbours are one stretch");
        unread.arrived(Lane::Live, at(7), later.after(FRESH_FOR));
        assert_eq!(unread.next(Reader::Live), Some((at(7), u64::MAX)));
    }

    #[test]
    fn few_events_stand_before_the_newest_however_many_came() {
        let mut unread = Unread::default();
        for seq in 1..=200_000 {
            unread.arrived(Lane::Live, at(seq), START);
        }
        unread.cut_off(START, 200_001);
        let [live, stale, _] = counts(&unread);
        assert_eq!(live + stale, 200_000);
        assert!((FRESH_MAX - GENERATION_MAX..=FRESH_MAX).contains(&live), "{live}");
    }

    #[test]
    fn what_was_read_while_fresh_is_in_no_stretch() {
        let mut unread = Unread::default();
        for seq in 1..=10 {
            unread.arrived(Lane::Live, at(seq), START);
        }
        unread.went(Reader::Live, at(4), 3);
        unread.cut_off(START.after(FRESH_FOR), 11);
        assert_eq!(unread.next(Reader::Stale), Some((at(4), 11)));
        assert_eq!(counts(&unread), [0, 7, 0]);
        unread.went(Reader::Stale, at(11), 7);
        assert_eq!((counts(&unread), unread.ended(Reader::Stale)), ([0, 0, 0], 0));
        assert_eq!(unread.next(Reader::Stale), None);
    }

    #[test]
    fn every_arrival_is_before_one_reader_whatever_comes_between() {
        for seed in 0..60 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut unread, mut now, mut seq) = (Unread::default(), START, 0);
            // Records by sequence that no reader has passed yet.
            let mut owed = std::collections::BTreeMap::new();
            for _ in 0..400 {
                match random.u8(0..10) {
                    0..5 => {
                        for _ in 0..random.u64(1..200) {
                            seq += 1;
                            let lane =
                                if random.u8(0..8) == 0 { Lane::Backlog } else { Lane::Live };
                            unread.arrived(lane, at(seq), now);
                            owed.insert(seq, lane);
                        }
                    }
                    5 => now = now.after(Duration::from_millis(random.u64(1..6_000))),
                    6 => unread.cut_off(now, seq + 1),
                    _ => {
                        let reader = Reader::ALL[random.usize(0..3)];
                        let Some((from, end)) = unread.next(reader) else { continue };
                        let stop = (from.seq + random.u64(1..300)).min(end).min(seq + 1);
                        let found: Vec<u64> = owed
                            .range(from.seq..stop)
                            .filter(|(at, lane)| reader.takes(0, **at, **lane))
                            .map(|(at, _)| *at)
                            .collect();
                        for at in &found {
                            owed.remove(at);
                        }
                        unread.went(reader, at(stop), found.len() as u64);
                        if stop == end {
                            assert_eq!(unread.ended(reader), 0, "seed {seed}");
                        }
                    }
                }
                let all: u64 = counts(&unread).iter().sum();
                assert_eq!(all, owed.len() as u64, "seed {seed}");
            }
        }
    }
}
