//! Reads everything once: what each log holds, what each destination is owed, what is damaged.

mod segment;
mod sums;

use std::sync::Arc;

use super::super::acks::{BLOCK, Note};
use super::super::damage::{self, QUARANTINE};
use super::super::format::{self, Found};
use super::super::noted;
use super::super::segment::{DATA_START, Head, Segment, SegmentId};
use super::super::state::State;
use super::super::walk::{self, Expected, Readable};
use super::super::{LogKind, open};
use super::{Finding, Look, Progress, Wrong, keys, read_whole};
use crate::spool::StoreFault;

use segment::{Ack, Loaded, look_at_acks};
use sums::destinations;

pub use sums::{DestinationSum, Files, LogSum, Survey};

impl Look {
    /// Reads the whole directory.
    ///
    /// # Errors
    /// [`StoreFault`] when it cannot be read. What is damaged is no error.
    pub fn survey(&self, progress: Progress<'_>) -> Result<Survey, StoreFault> {
        let (read, mut survey) = self.read(progress)?;
        survey.destinations = destinations(&read)?;
        survey.logs = LogKind::ALL.map(|log| read.sum(log)).into();
        self.beside(&mut survey)?;
        Ok(survey)
    }

    /// Reads the logs: what is there, what is settled, what is damaged.
    pub(super) fn read(&self, progress: Progress<'_>) -> Result<(Read, Survey), StoreFault> {
        let mut survey = Survey { format: self.format, ..Survey::default() };
        match format::read(&self.disk)? {
            Found::Unreadable => survey.findings.push(at_start("FORMAT", Wrong::Format)),
            Found::Number(_) | Found::None => {}
        }
        let mut read = Read { state: State::default(), lost: [0; 3] };
        let mut loaded = Vec::new();
        let mut total = 0;
        for log in LogKind::ALL {
            let segments = self.load(log, &mut read.state, &mut survey)?;
            total += segments.iter().map(|of| of.segment.size).sum::<u64>();
            loaded.push(segments);
        }
        let note = self.note(loaded.iter().any(|of| !of.is_empty()), &mut survey)?;
        let mut done = 0;
        progress(done, total);
        let mut priors = Vec::new();
        for (log, segments) in LogKind::ALL.into_iter().zip(loaded) {
            let ids: Vec<SegmentId> = segments.iter().map(|of| of.segment.head.id()).collect();
            self.orphans(log, &ids, note, &mut survey)?;
            for (at, loaded) in segments.into_iter().enumerate() {
                let next_first = ids.get(at + 1).map(|id| id.first);
                let segment = self.enter(loaded, next_first, note, &mut read, &mut survey)?;
                walk::visit(&Readable::of(&segment), |view, _| {
                    priors.extend(view.prior());
                    Ok(())
                })?;
                done += segment.size;
                progress(done, total);
                let track = read.state.track_mut(log);
                track.segments.insert(segment.head.id(), segment);
            }
        }
        for prior in priors {
            read.state.set(prior);
        }
        Ok((read, survey))
    }

    /// The segments of a log in order; what cannot be read is among the findings.
    fn load(
        &self,
        log: LogKind,
        state: &mut State,
        survey: &mut Survey,
    ) -> Result<Vec<Loaded>, StoreFault> {
        for (name, size) in self.list(log.dir())? {
            let path = std::path::Path::new(&name);
            let known =
                path.file_stem().is_some_and(|stem| stem.to_string_lossy().parse::<u64>().is_ok());
            match path.extension().and_then(|ext| ext.to_str()) {
                Some("spare") if known => survey.spares.add(size),
                Some("seg" | "ack" | "idx") if known => {}
                // Made from the records when it is asked for, and again when it does not pass.
                Some("idx") if known && log == LogKind::Dead => {}
                Some(_) | None => {
                    survey.findings.push(at_start(format!("{}/{name}", log.dir()), Wrong::Stray));
                }
            }
        }
        let mut loaded = Vec::new();
        for (number, size) in self.numbered(log, ".seg")? {
            let name = format!("{}/{number}.seg", log.dir());
            let file = self.disk.open(&name)?;
            let is_ours = |head: &Head| head.log == log && head.number == number;
            let copies = Head::read_both(&file)?.map(|head| head.filter(is_ours));
            for (index, _) in copies.iter().enumerate().filter(|(_, copy)| copy.is_none()) {
                if copies.iter().any(Option::is_some) {
                    let (offset, bytes) = (index as u64 * DATA_START / 2, DATA_START / 2);
                    let wrong = Wrong::HeaderCopy;
                    let file = name.clone();
                    survey.findings.push(Finding { file, offset, bytes, sequences: 0..0, wrong });
                }
            }
            let Some(head) = copies.into_iter().flatten().next() else {
                let sequences = self.told(log, number)?.map_or(0..0, |note| {
                    note.first..note.first + note.sealed.map_or(0, |sealed| sealed.records)
                });
                let wrong = Wrong::Header;
                survey.findings.push(Finding {
                    file: name,
                    offset: 0,
                    bytes: size,
                    sequences,
                    wrong,
                });
                continue;
            };
            let lines: Vec<usize> = head.names.iter().map(|name| state.line(name)).collect();
            // Without its key a record is checked all the same, and not shown.
            let seal = self.disk.keys().seal_of(&head).ok().flatten();
            let segment = Segment::new(head, lines, Arc::new(file.sealed(seal)), size);
            loaded.push(self.load_ack(segment)?);
        }
        loaded.sort_by_key(|of| of.segment.head.id());
        Ok(loaded)
    }

    /// What the acknowledgements of a segment say about it.
    pub(super) fn told(&self, log: LogKind, number: u64) -> Result<Option<Note>, StoreFault> {
        let name = format!("{}/{number}.ack", log.dir());
        if !self.disk.path(&name).is_file() {
            return Ok(None);
        }
        Ok(Note::decode(&self.disk.open(&name)?.read(0, BLOCK)?))
    }

    fn load_ack(&self, segment: Segment) -> Result<Loaded, StoreFault> {
        let name = segment.head.ack_path();
        let mut loaded = Loaded { segment, sealed: None, blocks: Vec::new(), ack: Ack::Missing };
        if !self.disk.path(&name).is_file() {
            return Ok(loaded);
        }
        let mut bytes = self.whole(&name)?;
        match Note::decode(&bytes).filter(|note| note.is_of(&loaded.segment.head)) {
            Some(note) => {
                loaded.sealed = note.sealed.filter(|sealed| sealed.end >= DATA_START);
                loaded.blocks = bytes.split_off(BLOCK.min(bytes.len()));
                loaded.ack = Ack::Whole;
            }
            // Made, but not written before a stop.
            None if bytes.iter().all(|byte| *byte == 0) => {}
            None => loaded.ack = Ack::Damaged(bytes.len() as u64),
        }
        Ok(loaded)
    }

    /// Walks through one segment, and takes over what is settled of it.
    fn enter(
        &self,
        loaded: Loaded,
        next_first: Option<u64>,
        note: noted::Note,
        read: &mut Read,
        survey: &mut Survey,
    ) -> Result<Segment, StoreFault> {
        let Loaded { mut segment, sealed, blocks, ack } = loaded;
        let log = segment.head.log;
        let (synced, settled) = (note.synced[log.index()], note.settled[log.index()]);
        let extent = walk::walk(&segment, &Expected { sealed, next_first, synced })?;
        let records = extent.owed.len() as u64;
        segment.bits.extend(records);
        segment.end = extent.end;
        segment.sealed = sealed.is_some() || next_first.is_some();
        for index in 0..segment.bits.blocks() {
            let block = blocks.get(index * BLOCK..(index + 1) * BLOCK).unwrap_or_default();
            segment.bits.load(index, block, segment.seed);
        }
        segment.bits.recount();
        look_at_acks(
            &segment,
            &blocks,
            ack,
            (settled + 1).min(segment.head.first + records),
            survey,
        );
        for gap in &extent.gaps {
            let lost = segment.unsettled(gap.seqs.clone());
            let aside = damage::aside(log, segment.head.number, gap.from);
            let wrong = match lost.iter().map(|run| run.end - run.start).sum() {
                0 if self.disk.path(&aside).is_file() => Wrong::SetAside,
                owed => Wrong::Records { owed },
            };
            read.lost[log.index()] += gap.seqs.end - gap.seqs.start;
            survey.findings.push(Finding {
                file: segment.head.path(),
                offset: gap.from,
                bytes: gap.to.saturating_sub(gap.from),
                sequences: gap.seqs.clone(),
                wrong,
            });
        }
        for (index, owed) in (0..).zip(&extent.owed) {
            for slot in (0..segment.head.names.len() as u8).filter(|slot| owed >> slot & 1 == 0) {
                segment.bits.set(index, slot);
            }
        }
        if let Some((offset, bytes)) = walk::tail(&segment, &extent)? {
            let file = segment.head.path();
            let wrong = Wrong::TornTail;
            survey.findings.push(Finding { file, offset, bytes, sequences: 0..0, wrong });
        }
        Ok(segment)
    }

    /// Acknowledgements whose segment is gone, unless all of it was settled.
    fn orphans(
        &self,
        log: LogKind,
        ids: &[SegmentId],
        note: noted::Note,
        survey: &mut Survey,
    ) -> Result<(), StoreFault> {
        for (number, size) in self.numbered(log, ".ack")? {
            let name = format!("{}/{number}.seg", log.dir());
            if ids.iter().any(|id| id.number == number) || self.disk.path(&name).is_file() {
                continue;
            }
            let bytes = self.whole(&format!("{}/{number}.ack", log.dir()))?;
            let known = Note::decode(&bytes).and_then(|told| {
                let id = SegmentId { first: told.first, number: told.number };
                let behind = ids.iter().find(|of| **of > id).map(|of| of.first);
                let synced = note.synced[log.index()] + 1;
                let next = match told.sealed {
                    Some(sealed) => told.first + sealed.records,
                    None => behind.unwrap_or(synced),
                };
                (told.first <= next).then_some((told, told.first..next))
            });
            let sequences = known.as_ref().map_or(0..0, |(_, seqs)| seqs.clone());
            let owed = known.map(|(told, seqs)| super::super::recover::owed(&told, seqs, &bytes));
            if owed.is_none_or(|owed| !owed.is_empty()) {
                let wrong = Wrong::Vanished;
                survey.findings.push(Finding {
                    file: name,
                    offset: 0,
                    bytes: size,
                    sequences,
                    wrong,
                });
            }
        }
        Ok(())
    }

    /// How far the logs are synced, by the note beside them.
    fn note(&self, has_segments: bool, survey: &mut Survey) -> Result<noted::Note, StoreFault> {
        if !self.disk.path(noted::FILE).is_file() {
            if has_segments {
                survey.findings.push(at_start(noted::FILE, Wrong::Note));
            }
            return Ok(noted::Note::default());
        }
        let file = self.disk.open(noted::FILE)?;
        let bytes = read_whole(&file)?;
        let blocks = noted::blocks(&bytes);
        for (index, block) in (0_u64..).zip(&blocks) {
            if block.is_none() {
                let (offset, bytes) = (index * BLOCK as u64, BLOCK as u64);
                let (file, wrong) = (noted::FILE.to_owned(), Wrong::Note);
                survey.findings.push(Finding { file, offset, bytes, sequences: 0..0, wrong });
            }
        }
        Ok(noted::newest(&bytes))
    }

    /// What lies beside the logs.
    fn beside(&self, survey: &mut Survey) -> Result<(), StoreFault> {
        for (_, size) in self.list(QUARANTINE)? {
            survey.quarantine.add(size);
        }
        let (files, rows) = keys::look(&self.disk.path(open::KEYS));
        survey.keys = files;
        match rows {
            Ok(rows) => survey.key_rows = rows,
            Err(wrong) => survey.findings.push(at_start(open::KEYS, wrong)),
        }
        Ok(())
    }
}

/// The logs as they were read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) state: State,
    /// Records of each log that do not pass.
    lost: [u64; 3],
}

impl Read {
    fn sum(&self, log: LogKind) -> LogSum {
        let mut sum =
            LogSum { name: log.dir(), segments: Files::default(), records: 0, unsettled: 0 };
        for segment in self.state.track(log).segments.values() {
            sum.segments.add(segment.size);
            sum.records += segment.bits.len();
            sum.unsettled += segment.bits.unset();
        }
        sum.records = sum.records.saturating_sub(self.lost[log.index()]);
        sum
    }
}

/// A finding about a whole file or directory.
fn at_start(file: impl Into<String>, wrong: Wrong) -> Finding {
    Finding { file: file.into(), offset: 0, bytes: 0, sequences: 0..0, wrong }
}
