//! Brotli, RFC 7932.

use brotli_decompressor::{
    Allocator, BrotliDecoderErrorCode, BrotliDecompressStream, BrotliResult, BrotliState,
    StandardAlloc,
};

use super::{InflateFault, Out};

/// Undoes one brotli stream.
pub(super) fn undo(body: &[u8], out: &mut Out<'_>) -> Result<(), InflateFault> {
    let alloc = StandardAlloc::default;
    // "Strict" is without the large-window extension, which no content coding has.
    let mut state = BrotliState::new_strict(Capped::to(out.most), alloc(), alloc());
    let (mut left, mut at, mut total) = (body.len(), 0, 0);
    loop {
        let room = out.room()?;
        let (mut free, mut written) = (room.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut at,
            body,
            &mut free,
            &mut written,
            room,
            &mut total,
            &mut state,
        );
        out.filled += written;
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess if left == 0 => return Ok(()),
            BrotliResult::ResultFailure if was_capped(state.error_code) => {
                return Err(out.too_large());
            }
            // All of the body was at hand, so that wanting more means it was cut off.
            BrotliResult::ResultSuccess
            | BrotliResult::NeedsMoreInput
            | BrotliResult::ResultFailure => return Err(InflateFault::Corrupt),
        }
    }
}

fn was_capped(code: BrotliDecoderErrorCode) -> bool {
    matches!(
        code,
        BrotliDecoderErrorCode::BROTLI_DECODER_ERROR_ALLOC_RING_BUFFER_1
            | BrotliDecoderErrorCode::BROTLI_DECODER_ERROR_ALLOC_RING_BUFFER_2
    )
}

/// Hands out no cell that only a body over the limit asks for.
///
/// A metablock tells its size, up to 16 MiB, and the decoder fills a ring of up to twice what is
/// known to come before it hands out the first byte: without a cap a body of 20 bytes takes all
/// of that whatever its limit is.
struct Capped {
    bytes_max: usize,
}

/// What the decoder may ask for beside the ring: words of its dictionary behind the ring's end,
/// and context maps of 64 times 256 bytes.
const BESIDE: usize = 32 << 10;

impl Capped {
    fn to(most: usize) -> Self {
        Self { bytes_max: most.saturating_mul(2).saturating_add(BESIDE) }
    }
}

impl Allocator<u8> for Capped {
    type AllocatedMemory = <StandardAlloc as Allocator<u8>>::AllocatedMemory;

    fn alloc_cell(&mut self, bytes: usize) -> Self::AllocatedMemory {
        // An empty cell is how an allocator says no.
        let bytes = if bytes > self.bytes_max { 0 } else { bytes };
        StandardAlloc::default().alloc_cell(bytes)
    }

    fn free_cell(&mut self, cell: Self::AllocatedMemory) {
        drop(cell);
    }
}
