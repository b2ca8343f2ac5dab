//! Undoes content codings, spending memory and time only up to a limit.
//!
//! Every decoder is Rust: a body comes from anyone, and a fault of a decoder must end in a
//! refusal, not in someone else's memory. Bodies are whole before they are inflated, so nothing
//! here waits, and an asynchronous decoder would only add a copy.
//!
//! What follows the end of a coded body is refused, so that no two readers of the same bytes
//! disagree about where it ends.

mod brotli;
mod zstd;

use std::io::Read;

use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use super::coding::{Coding, Codings};

/// Why a body could not be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateFault {
    /// It is damaged, cut off, or goes on behind its end.
    #[error("the body is not what its content coding says")]
    Corrupt,
    /// It inflates to more than the limit, at one of its codings.
    #[error("the body inflates to more than {most} bytes")]
    TooLarge {
        /// The limit.
        most: usize,
    },
    /// There is no memory for it now.
    #[error("there is no room to inflate the body")]
    NoRoom,
}

/// Room that is made at once; one read of a decoder gives no more.
const STEP: usize = 32 << 10;

/// Members or frames of one body. Tools that compress in parallel write one for each 64 KiB, so
/// this is 32 MiB of theirs. An empty one costs 2 µs for its 20 bytes: without a bound a body of
/// such alone would cost far more time than its size suggests.
const PARTS_MAX: usize = 512;

/// Undoes `codings`; each of them may give at most `most` bytes. An empty body is empty under any
/// coding: some clients set the header once for all their requests.
///
/// # Errors
/// [`InflateFault`]: the sender must mend the body.
pub fn inflate(codings: Codings, body: &[u8], most: usize) -> Result<Vec<u8>, InflateFault> {
    inflate_into(codings, body, most, &mut |_| true)
}

/// The same, asking `grow` before so many bytes more are taken. What a decoder itself needs beside
/// is bounded and not asked for.
///
/// # Errors
/// The same, and [`InflateFault::NoRoom`] when `grow` says no: the body may be sent again.
pub fn inflate_into(
    codings: Codings,
    body: &[u8],
    most: usize,
    grow: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<u8>, InflateFault> {
    let mut layers = codings.outermost_first();
    let mut body = match layers.next() {
        Some(coding) if !body.is_empty() => undo(coding, body, most, grow)?,
        Some(_) | None => body.to_vec(),
    };
    for coding in layers {
        if !body.is_empty() {
            body = undo(coding, &body, most, grow)?;
        }
    }
    Ok(body)
}

fn undo(
    coding: Coding,
    body: &[u8],
    most: usize,
    grow: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<u8>, InflateFault> {
    let mut out = Out { bytes: Vec::new(), filled: 0, most, grow };
    match coding {
        Coding::Gzip => gzip(body, &mut out)?,
        Coding::Brotli => brotli::undo(body, &mut out)?,
        Coding::Zstd => zstd::undo(body, &mut out)?,
        Coding::Deflate => deflate(body, &mut out)?,
    }
    if out.filled > most {
        return Err(out.too_large());
    }
    out.bytes.truncate(out.filled);
    Ok(out.bytes)
}

/// What was inflated so far.
struct Out<'g> {
    /// The first `filled` bytes are; the rest is room.
    bytes: Vec<u8>,
    filled: usize,
    most: usize,
    grow: &'g mut dyn FnMut(usize) -> bool,
}

impl Out<'_> {
    /// Room for at least one more byte, growing as it fills but never past the limit and one.
    fn room(&mut self) -> Result<&mut [u8], InflateFault> {
        if self.filled > self.most {
            return Err(self.too_large());
        }
        if self.filled == self.bytes.len() {
            // One byte over tells a body that is too large from one that just fits.
            let step = self.filled.max(STEP);
            let size = self.filled.saturating_add(step).min(self.most.saturating_add(1));
            if !(self.grow)(size - self.filled) {
                return Err(InflateFault::NoRoom);
            }
            self.bytes.reserve_exact(size - self.filled);
            self.bytes.resize(size, 0);
        }
        Ok(&mut self.bytes[self.filled..])
    }

    /// Takes all that `from` gives.
    fn read(&mut self, from: &mut impl Read) -> Result<(), InflateFault> {
        loop {
            match from.read(self.room()?) {
                Ok(0) => return Ok(()),
                Ok(count) => self.filled += count,
                Err(_) => return Err(InflateFault::Corrupt),
            }
        }
    }

    /// # Errors
    /// [`InflateFault::TooLarge`] when `more` bytes beside those taken would not fit.
    fn fits(&self, more: u64) -> Result<(), InflateFault> {
        let room = self.most.saturating_sub(self.filled);
        let fits = usize::try_from(more).is_ok_and(|more| more <= room);
        if fits { Ok(()) } else { Err(self.too_large()) }
    }

    fn too_large(&self) -> InflateFault {
        InflateFault::TooLarge { most: self.most }
    }
}

fn gzip(mut body: &[u8], out: &mut Out<'_>) -> Result<(), InflateFault> {
    for _part in 0..PARTS_MAX {
        out.read(&mut GzDecoder::new(&mut body))?;
        if body.is_empty() {
            return Ok(());
        }
    }
    Err(InflateFault::Corrupt)
}

fn deflate(body: &[u8], out: &mut Out<'_>) -> Result<(), InflateFault> {
    // The low half of a frame's first byte is 8. No encoder begins a bare stream so: it would be
    // a stored block whose padding is not zero.
    let framed = body.first().is_some_and(|first| first & 0x0f == 8);
    let mut decoder = Decompress::new(framed);
    let taken = |total: u64| usize::try_from(total).unwrap_or(usize::MAX);
    loop {
        let (rest, room) = (body.get(taken(decoder.total_in())..), out.room()?);
        let rest = rest.ok_or(InflateFault::Corrupt)?;
        let before = (decoder.total_in(), decoder.total_out());
        let status = decoder.decompress(rest, room, FlushDecompress::None);
        let status = status.map_err(|_| InflateFault::Corrupt)?;
        let after = (decoder.total_in(), decoder.total_out());
        out.filled += taken(after.1 - before.1);
        match status {
            Status::StreamEnd if taken(after.0) == body.len() => return Ok(()),
            Status::StreamEnd => return Err(InflateFault::Corrupt),
            // There was room, so more input was wanted: it was cut off.
            Status::Ok | Status::BufError if before == after => return Err(InflateFault::Corrupt),
            Status::Ok | Status::BufError => {}
        }
    }
}

#[cfg(test)]
mod tests;
