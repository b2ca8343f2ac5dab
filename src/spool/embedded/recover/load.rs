//! Finds the files of one log: segments with their headers and bits, spares, leftovers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::LogKind;
use super::super::acks::{self, BLOCK, BLOCK_BITS, Note, Sealed};
use super::super::damage::QUARANTINE;
use super::super::dead::index;
use super::super::files::LogFile;
use super::super::segment::{DATA_START, Head, Segment};
use super::super::state::State;
use super::{Recovery, orphan};
use crate::spool::StoreFault;

/// A segment whose header was read.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) segment: Segment,
    pub(super) sealed: Option<Sealed>,
    /// Its `.ack`, behind the note.
    pub(super) blocks: Vec<u8>,
    /// Whether every block is whole that was synced for certain.
    pub(super) bits_read: bool,
}

/// The segments of `log` in order.
pub(super) fn load(
    with: Recovery<'_>,
    log: LogKind,
    entered: &BTreeMap<(LogKind, u64), u64>,
    state: &mut State,
) -> Result<Vec<Loaded>, StoreFault> {
    let (mut segments, mut acks, mut spares) = (Vec::new(), Vec::new(), Vec::new());
    let mut indexes = Vec::new();
    for (name, size) in with.disk.list(log.dir())? {
        let path = format!("{}/{name}", log.dir());
        let number = |suffix| name.strip_suffix(suffix).and_then(|n: &str| n.parse::<u64>().ok());
        if let Some(number) = number(".seg") {
            with.pool.found(number, size);
            segments.push((number, size));
        } else if let Some(number) = number(".ack") {
            acks.push(number);
        } else if let Some(number) = number(".spare") {
            if is_second_name(with, &path)? {
                // The file is not gone with one of its names.
                with.pool.found(number, 0);
                with.disk.remove(&path)?;
                continue;
            }
            with.pool.found(number, size);
            spares.push((path, size));
        } else if let Some(number) = number(".idx") {
            indexes.push(number);
        } else {
            tracing::warn!(file = path, "a file that is not the spool's lies in its directory");
        }
    }
    for (path, size) in spares {
        // It may hold records from before there was a key.
        if with.disk.keys().is_active() {
            with.disk.remove(&path)?;
            with.pool.give_back(size);
            continue;
        }
        if let Some(spare) = with.pool.put(&path, size, 0)? {
            with.pool.keep(spare);
        }
    }
    // An index that outlived its segment says nothing.
    for number in indexes.into_iter().filter(|number| !segments.iter().any(|(of, _)| of == number))
    {
        with.disk.remove(&index::path(number))?;
    }
    let mut loaded = Vec::new();
    for (number, size) in segments.iter().copied() {
        let has_ack = acks.contains(&number);
        let path = format!("{}/{number}.seg", log.dir());
        let file = with.disk.open(&path)?;
        match Head::read(&file)?.filter(|head| head.log == log && head.number == number) {
            Some(head) => loaded.push(load_one(with, head, file, size, has_ack, state)?),
            None => set_file_aside(with, log, number, has_ack, state)?,
        }
    }
    loaded.sort_by_key(|of| of.segment.head.id());
    let is_there = |number: u64| segments.iter().any(|(of, _)| *of == number);
    for ((_, number), first) in entered.iter().filter(|((of, _), _)| *of == log) {
        if !is_there(*number) && !acks.contains(number) {
            orphan::tell_vanished(with, log, *number, *first, &loaded, state);
        }
    }
    for orphan in acks.iter().copied().filter(|number| !is_there(*number)) {
        orphan::judge(with, log, orphan, &loaded, state)?;
    }
    Ok(loaded)
}

/// Whether a spare is a segment that is there under its own name: a rename between two directories
/// that a power cut left half done. Taken for a spare it would be overwritten.
fn is_second_name(with: Recovery<'_>, spare: &str) -> Result<bool, StoreFault> {
    let Some(head) = Head::read(&with.disk.open(spare)?)? else { return Ok(false) };
    let path = head.path();
    let dir = with.disk.list(head.log.dir())?;
    if !dir.iter().any(|(name, _)| path.ends_with(&format!("/{name}"))) {
        return Ok(false);
    }
    let there = Head::read(&with.disk.open(&path)?)?;
    Ok(there.is_some_and(|there| there.nonce == head.nonce))
}

fn load_one(
    with: Recovery<'_>,
    head: Head,
    file: LogFile,
    size: u64,
    has_ack: bool,
    state: &mut State,
) -> Result<Loaded, StoreFault> {
    let settled = with.noted.settled[head.log.index()];
    let lines = head.names.iter().map(|name| state.line(name)).collect::<Vec<_>>();
    lines.iter().for_each(|line| state.lines[*line].named = true);
    let seal = with.disk.keys().seal_of(&head);
    let seal = seal.map_err(|missing| missing.fault(&head.path(), with.disk.keys()))?;
    let mut segment = Segment::new(head, lines, Arc::new(file.sealed(seal)), size);
    let (mut sealed, mut blocks) = (None, Vec::new());
    if has_ack {
        let ack = with.disk.open(&segment.head.ack_path())?;
        let size = usize::try_from(ack.size()?).unwrap_or(0);
        let mut bytes = ack.read(0, size)?;
        if let Some(note) = Note::decode(&bytes).filter(|note| note.is_of(&segment.head)) {
            sealed = note.sealed.filter(|sealed| sealed.end >= DATA_START);
            blocks = bytes.split_off(BLOCK.min(bytes.len()));
            segment.ack = Some(Arc::new(ack));
        }
    }
    let records = sealed.map_or(u64::MAX, |sealed| sealed.records);
    let certain = (settled + 1).saturating_sub(segment.head.first).min(records);
    let needed = certain.div_ceil(BLOCK_BITS) as usize * segment.head.names.len();
    let bits_read = (0..needed).all(|index| {
        let block = blocks.get(index * BLOCK..(index + 1) * BLOCK);
        block.is_some_and(|block| acks::is_whole(block, index, segment.seed))
    });
    if !bits_read {
        tracing::warn!(
            file = segment.head.ack_path(),
            "acknowledgements are damaged: what they told may be delivered again"
        );
    }
    if let Some(sealed) = sealed {
        segment.bits.extend(sealed.records);
        blocks_into(&mut segment, &blocks);
    }
    Ok(Loaded { segment, sealed, blocks, bits_read })
}

/// Takes over the blocks of a `.ack`. One that is not whole reads as nothing settled.
///
/// All of them are written anew: after a sync that failed the page cache shows blocks that the disk
/// does not have, and the next start need not find out again what a damaged one hid.
pub(super) fn blocks_into(segment: &mut Segment, blocks: &[u8]) {
    for index in 0..segment.bits.blocks() {
        let block = blocks.get(index * BLOCK..(index + 1) * BLOCK).unwrap_or_default();
        segment.bits.load(index, block, segment.seed);
        segment.bits.mark_dirty(index);
    }
    segment.bits.recount();
}

/// Sets a file aside whose header is lost in both copies. How many records it had is known only if
/// its note says so.
fn set_file_aside(
    with: Recovery<'_>,
    log: LogKind,
    number: u64,
    has_ack: bool,
    state: &mut State,
) -> Result<(), StoreFault> {
    let (segment, ack) =
        (format!("{}/{number}.seg", log.dir()), format!("{}/{number}.ack", log.dir()));
    let mut note = None;
    if has_ack {
        note = Note::decode(&with.disk.open(&ack)?.read(0, BLOCK)?);
        with.disk.rename(&ack, &format!("{QUARANTINE}/{}-{number}.ack", log.dir()))?;
    }
    with.disk.rename(&segment, &format!("{QUARANTINE}/{}-{number}.seg", log.dir()))?;
    with.disk.sync_dir(QUARANTINE)?;
    with.disk.sync_dir(log.dir())?;
    let synced = with.noted.synced[log.index()];
    let seqs = note.map(|note| {
        let next = note.sealed.map_or(synced + 1, |sealed| note.first + sealed.records);
        note.first..next
    });
    let records = seqs.as_ref().map_or(1, |seqs| seqs.end.saturating_sub(seqs.start));
    tracing::error!(file = segment, records, "both headers are damaged: set aside in quarantine");
    state.damaged += records;
    if let (LogKind::Accepted, Some(seqs)) = (log, seqs) {
        state.lost.push(seqs);
    }
    Ok(())
}
