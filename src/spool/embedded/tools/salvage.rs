//! What can still be read of files that lost their headers, and of what was set aside.

use super::super::acks::Note;
use super::super::crypt::Seal;
use super::super::damage::QUARANTINE;
use super::super::record::{self, Checked, Sources, View};
use super::super::recover;
use super::super::segment::Head;
use super::super::{LogKind, acks};
use super::{Kept, Look, Progress, Stage, Survey, Wrong};
use crate::spool::StoreFault;

/// Records begin on these.
const ALIGNED: usize = 8;

impl Look {
    /// Hands to `visit` what [`Look::kept`] does, and besides whatever looks like a record in files
    /// whose headers are lost and in what was set aside. Of those it is not always known whom they
    /// are owed to, nor whether they were delivered.
    ///
    /// # Errors
    /// [`StoreFault`] when the directory cannot be read.
    pub fn salvage(
        &self,
        progress: Progress<'_>,
        mut visit: impl FnMut(Kept) -> bool,
    ) -> Result<Survey, StoreFault> {
        let mut goes_on = true;
        let survey = self.kept(progress, |kept| {
            goes_on = visit(kept);
            goes_on
        })?;
        let mut pieces = Vec::new();
        for finding in survey.findings.iter().filter(|finding| finding.wrong == Wrong::Header) {
            pieces.extend(self.headless(&finding.file)?);
        }
        for (name, _) in self.list(QUARANTINE)? {
            pieces.extend(self.set_aside(&name)?);
        }
        let mut sources = Sources::default();
        for piece in pieces {
            if !goes_on {
                break;
            }
            goes_on = self.search(&piece, &mut sources, &mut visit)?;
        }
        Ok(survey)
    }

    /// A file in its place whose header is lost.
    fn headless(&self, file: &str) -> Result<Option<Piece>, StoreFault> {
        let Some((log, number)) = named(file, '/', ".seg") else { return Ok(None) };
        let note = self.told(log, number)?;
        let nonce = note.map(|note| note.nonce);
        Ok(Some(self.piece(file.to_owned(), log, nonce, note)))
    }

    /// A file of the quarantine: a whole segment, or some bytes of one.
    fn set_aside(&self, name: &str) -> Result<Option<Piece>, StoreFault> {
        let file = format!("{QUARANTINE}/{name}");
        if let Some((log, number)) = named(name, '-', ".seg") {
            let ack = format!("{QUARANTINE}/{}-{number}.ack", log.dir());
            let note = if self.disk.path(&ack).is_file() {
                Note::decode(&self.disk.open(&ack)?.read(0, acks::BLOCK)?)
            } else {
                None
            };
            return Ok(Some(self.piece(file, log, note.map(|note| note.nonce), None)));
        }
        let Some((of, _)) = name.strip_suffix(".bytes").and_then(|stem| stem.rsplit_once('-'))
        else {
            return Ok(None);
        };
        let Some((log, number)) = named(of, '-', "") else { return Ok(None) };
        let segment = format!("{}/{number}.seg", log.dir());
        let mut nonce = None;
        if self.disk.path(&segment).is_file() {
            nonce = Head::read(&self.disk.open(&segment)?)?.map(|head| head.nonce);
        }
        Ok(Some(self.piece(file, log, nonce, None)))
    }

    fn piece(
        &self,
        file: String,
        log: LogKind,
        nonce: Option<[u8; 16]>,
        note: Option<Note>,
    ) -> Piece {
        let seed = nonce.map(|nonce| crc32c::crc32c(&nonce));
        let seals = nonce.map(|nonce| self.disk.keys().seals_of(&nonce)).unwrap_or_default();
        Piece { file, log, seed, seals, note }
    }

    /// Visits whatever looks like a record in `piece`; answers whether to go on.
    fn search(
        &self,
        piece: &Piece,
        sources: &mut Sources,
        visit: &mut impl FnMut(Kept) -> bool,
    ) -> Result<bool, StoreFault> {
        let bytes = self.whole(&piece.file)?;
        let owed = self.owed(piece)?;
        let mut at = 0;
        while at + record::HEAD <= bytes.len() {
            let rest = &bytes[at..];
            let (len, is_checked) = match piece.seed.map(|seed| record::check(rest, seed)) {
                Some(Checked::Whole(len)) => (Some(len), true),
                Some(Checked::Short(_) | Checked::Bad) => (None, true),
                None => (record::plausible(rest), false),
            };
            let Some(len) = len else {
                at += ALIGNED;
                continue;
            };
            let view = View::of(&rest[..len]);
            let is_owed =
                owed.as_ref().is_none_or(|runs| runs.iter().any(|run| run.contains(&view.seq())));
            let stage = Stage::of(piece.log);
            // Which key it was is lost with the header: only the right one opens it.
            let mut seals = std::iter::once(None).chain(piece.seals.iter().map(Some));
            let kept = is_owed.then(|| {
                seals.find_map(|seal| {
                    let nobody = Vec::new();
                    Kept::of(&view, stage, nobody, &piece.file, at as u64, seal, sources)
                })
            });
            if let Some(kept) = kept.flatten()
                && !visit(Kept { is_checked, ..kept })
            {
                return Ok(false);
            }
            at += record::aligned(len);
        }
        Ok(true)
    }

    /// The sequences that were not settled, when the acknowledgements tell.
    fn owed(&self, piece: &Piece) -> Result<Option<Vec<std::ops::Range<u64>>>, StoreFault> {
        let Some((note, sealed)) = piece.note.and_then(|note| Some((note, note.sealed?))) else {
            return Ok(None);
        };
        let acks = self.whole(&format!("{}/{}.ack", piece.log.dir(), note.number))?;
        let seqs = note.first..note.first + sealed.records;
        Ok(Some(recover::owed(&note, seqs, &acks)))
    }
}

/// A file to be searched.
struct Piece {
    file: String,
    log: LogKind,
    /// Of the checksums; without it a record is known by its shape alone.
    seed: Option<u32>,
    seals: Vec<Seal>,
    note: Option<Note>,
}

/// The log and the number in a name like `log-5.seg`.
fn named(name: &str, between: char, suffix: &str) -> Option<(LogKind, u64)> {
    let (dir, number) = name.strip_suffix(suffix)?.split_once(between)?;
    let log = LogKind::ALL.into_iter().find(|log| log.dir() == dir)?;
    Some((log, number.parse().ok()?))
}
