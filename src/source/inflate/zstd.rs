//! Zstandard, RFC 8878.

use std::io::Read;

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{InflateFault, Out, PARTS_MAX};

/// Largest window of a frame: RFC 9659 lets no sender of this coding go beyond.
const WINDOW_MAX: u64 = 8 << 20;

/// Largest block, and so the least window that a narrowed frame keeps: no block may be larger
/// than its window.
const BLOCK_MAX: u64 = 128 << 10;

/// Magic number, descriptor, and what may be the window's.
const HEAD: usize = 6;

/// Undoes one or several frames.
pub(super) fn undo(mut body: &[u8], out: &mut Out<'_>) -> Result<(), InflateFault> {
    for _part in 0..PARTS_MAX {
        frame(&mut body, out)?;
        if body.is_empty() {
            return Ok(());
        }
    }
    Err(InflateFault::Corrupt)
}

/// One frame. A new decoder each time takes memory as it is filled; one that is used again would
/// take a whole window, which the frame's own head asks for.
fn frame(body: &mut &[u8], out: &mut Out<'_>) -> Result<(), InflateFault> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(WINDOW_MAX);
    let (head, rest) = body.split_at_checked(HEAD).ok_or(InflateFault::Corrupt)?;
    let head = narrowed(head, out.most);
    match decoder.init(head.as_slice().chain(rest)) {
        Ok(()) => {}
        Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
            length,
            ..
        })) => {
            // Behind its magic number and its length, of four bytes each.
            let end = usize::try_from(length).ok().and_then(|length| length.checked_add(8));
            *body = end.and_then(|end| body.get(end..)).ok_or(InflateFault::Corrupt)?;
            return Ok(());
        }
        Err(_) => return Err(InflateFault::Corrupt),
    }
    let (declared, begun) = (decoder.content_size(), out.filled);
    out.fits(declared)?;
    let behind_head = usize::try_from(decoder.bytes_read_from_source()).unwrap_or(usize::MAX);
    *body = body.get(behind_head..).ok_or(InflateFault::Corrupt)?;
    while !decoder.is_finished() {
        let block = decoder.decode_blocks(&mut *body, BlockDecodingStrategy::UptoBlocks(1));
        block.map_err(|_| InflateFault::Corrupt)?;
        out.read(&mut decoder)?;
    }
    // No size and a size of zero look the same here.
    let given = u64::try_from(out.filled - begun).unwrap_or(u64::MAX);
    let sized = declared == 0 || declared == given;
    let summed = decoder.get_checksum_from_data();
    let sound = summed.is_none() || summed == decoder.get_calculated_checksum();
    if sized && sound { Ok(()) } else { Err(InflateFault::Corrupt) }
}

/// The head of a frame with its window narrowed to what a body of `most` bytes can reach back to.
///
/// The decoder hands out nothing before its window is full. A stream of unknown length has a
/// window of 2 to 8 MiB, so that a body over the limit would be noticed only there.
fn narrowed(head: &[u8], most: usize) -> [u8; HEAD] {
    let mut own = [0; HEAD];
    own.copy_from_slice(head);
    let [m0, m1, m2, m3, descriptor, window] = own;
    let single_segment = descriptor & 0x20 != 0;
    let is_frame = u32::from_le_bytes([m0, m1, m2, m3]) == 0xfd2f_b528;
    if !is_frame || single_segment || window_of(window) > WINDOW_MAX {
        return own;
    }
    let reach = u64::try_from(most).unwrap_or(u64::MAX).max(BLOCK_MAX);
    let narrow = (0..window >> 3).map(|exponent| exponent << 3).find(|it| window_of(*it) >= reach);
    own[HEAD - 1] = narrow.unwrap_or(window);
    own
}

/// The window that a descriptor stands for, RFC 8878, section 3.1.1.1.2.
const fn window_of(descriptor: u8) -> u64 {
    let base = 1_u64 << (10 + (descriptor >> 3));
    base + base / 8 * (descriptor & 7) as u64
}
