//! A request's body: gathered within time and size, its content codings undone.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use super::problem::{Code, Problem};
use crate::source::coding::{Coding, Codings};
use crate::source::inflate::{InflateFault, inflate};
use crate::source::media::Media;
use crate::source::{Decode, Raw};

/// What one body may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, as it came and inflated.
    pub bytes_max: usize,
    /// Longest wait for a whole body.
    pub within: Duration,
    /// How many times its size a coded body may inflate to, beyond [`FREE_BYTES`].
    pub inflate_ratio_max: usize,
}

/// What any coded body may inflate to: a small and regular document compresses very well.
pub const FREE_BYTES: usize = 64 << 10;

/// Bodies up to this size, before and after, are inflated where they are read. Measured in a
/// release build: 0.04 ms (brotli, text) to 0.18 ms (zstd, noise). More holds up other connections.
const INLINE_BYTES: usize = 64 << 10;

impl Limits {
    /// Bytes that a body of `came` coded bytes may inflate to.
    fn inflated_max(&self, came: usize) -> usize {
        came.saturating_mul(self.inflate_ratio_max).max(FREE_BYTES).min(self.bytes_max)
    }
}

/// What came, not yet inflated.
#[derive(Debug)]
pub(super) struct Came {
    bytes: Bytes,
    codings: Codings,
    media: Media,
}

/// Reads bodies and inflates them.
#[derive(Debug)]
pub(super) struct Reader {
    limits: Limits,
    /// Bodies being inflated on threads of their own: no more than there are processors.
    inflating: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(limits: Limits) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { limits, inflating: Arc::new(Semaphore::new(processors)) }
    }

    /// Reads a body that `decode` can take, within the limits of size and time.
    pub(super) async fn read(
        &self,
        decode: Decode,
        parts: &Parts,
        body: Body,
    ) -> Result<Came, Problem> {
        let media = Media::of(lines(&parts.headers, CONTENT_TYPE));
        let Some(media) = media.filter(|media| decode.takes(*media)) else {
            let detail = match decode {
                Decode::Json => "send the body as application/json",
                Decode::Beacon => {
                    "send the body as application/json or application/x-www-form-urlencoded"
                }
            };
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        };
        let Some(codings) = Codings::of(lines(&parts.headers, CONTENT_ENCODING)) else {
            let known = Coding::ALL.map(Coding::as_str).join(", ");
            let detail = format!("send the body in up to {} of: {known}", Codings::MAX);
            return Err(Problem::new(Code::UnsupportedMediaType, detail).accepting(known));
        };
        let within = self.limits.within;
        match tokio::time::timeout(within, collect(body, self.limits.bytes_max)).await {
            Ok(bytes) => Ok(Came { bytes: bytes?, codings, media }),
            Err(_elapsed) => {
                let detail = format!("the body did not come within {} s", within.as_secs_f32());
                Err(Problem::new(Code::BodyTimeout, detail))
            }
        }
    }

    /// Undoes the content codings of what came, waiting at most `within` for a processor.
    pub(super) async fn inflate(&self, came: Came, within: Duration) -> Result<Raw, Problem> {
        let Came { bytes, codings, media } = came;
        if codings.is_identity() {
            return Ok(Raw { body: bytes, media });
        }
        let most = self.limits.inflated_max(bytes.len());
        let inline = (bytes.len() <= INLINE_BYTES)
            .then(|| inflate(codings, &bytes, most.min(INLINE_BYTES)))
            // Over the smaller limit says nothing about the larger one.
            .filter(|done| {
                most <= INLINE_BYTES || !matches!(done, Err(InflateFault::TooLarge { .. }))
            });
        let inflated = match inline {
            Some(inflated) => inflated,
            None => self.inflate_aside(codings, bytes, most, within).await?,
        };
        inflated.map(|body| Raw { body: body.into(), media }).map_err(Problem::from)
    }

    /// Inflates on a thread of its own. Once begun it ends by itself, even if the caller leaves.
    async fn inflate_aside(
        &self,
        codings: Codings,
        bytes: Bytes,
        most: usize,
        within: Duration,
    ) -> Result<Result<Vec<u8>, InflateFault>, Problem> {
        let turn = Arc::clone(&self.inflating).acquire_owned();
        let Ok(Ok(turn)) = tokio::time::timeout(within, turn).await else {
            let detail = "more bodies wait to be inflated than there are processors for";
            return Err(Problem::new(Code::Overloaded, detail));
        };
        let inflating = tokio::task::spawn_blocking(move || {
            let inflated = inflate(codings, &bytes, most);
            drop(turn);
            inflated
        });
        let internal = |_| Problem::new(Code::Internal, "a bug in the relay: its log says more");
        inflating.await.map_err(internal)
    }
}

fn lines(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes)
}

impl From<InflateFault> for Problem {
    fn from(fault: InflateFault) -> Self {
        let code = match fault {
            InflateFault::Corrupt => Code::BadEncoding,
            InflateFault::TooLarge { .. } => Code::BodyTooLarge,
        };
        Self::new(code, fault.to_string())
    }
}

/// Gathers a body of at most `most` bytes. A body of one frame, which most are, is not copied.
async fn collect(mut body: Body, most: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is over {most} bytes");
        Problem::new(Code::BodyTooLarge, detail)
    };
    let declared = http_body::Body::size_hint(&body).lower();
    if declared > most as u64 {
        return Err(too_large());
    }
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Problem::new(Code::MalformedJson, "the body broke off"));
        };
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > most {
            return Err(too_large());
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMITS: Limits =
        Limits { bytes_max: 1 << 20, within: Duration::from_secs(1), inflate_ratio_max: 200 };

    fn gzipped(bytes: &[u8]) -> Came {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        let codings = Codings::of([&b"gzip"[..]]).unwrap();
        Came { bytes: encoder.finish().unwrap().into(), codings, media: Media::Json }
    }

    #[test]
    fn a_limit_is_the_size_or_the_ratio_but_never_less_than_what_is_free() {
        for (came, most) in [
            (0, FREE_BYTES),
            (100, FREE_BYTES),
            (1000, 200_000),
            (1 << 20, 1 << 20),
            (usize::MAX, 1 << 20),
        ] {
            assert_eq!(LIMITS.inflated_max(came), most, "{came}");
        }
        let small = Limits { bytes_max: 1000, ..LIMITS };
        assert_eq!(small.inflated_max(100), 1000);
    }

    #[tokio::test]
    async fn large_bodies_take_turns_and_small_ones_wait_for_nobody() {
        let reader = Reader::new(LIMITS);
        let (small, large) = (vec![b' '; INLINE_BYTES], vec![b' '; INLINE_BYTES + 1]);
        let all = u32::try_from(reader.inflating.available_permits()).unwrap();
        let turns = Arc::clone(&reader.inflating).acquire_many_owned(all).await.unwrap();
        let raw = reader.inflate(gzipped(&small), Duration::ZERO).await.unwrap();
        assert_eq!(raw.body, small);
        let told = reader.inflate(gzipped(&large), Duration::from_millis(1)).await;
        let told = told.map(|raw| raw.body).unwrap_err().to_string();
        assert!(told.starts_with("overloaded: "), "{told}");
        drop(turns);
        let raw = reader.inflate(gzipped(&large), Duration::from_secs(5)).await.unwrap();
        assert_eq!(raw.body, large);
        assert_eq!(reader.inflating.available_permits(), all as usize, "its turn is given back");
    }
}
