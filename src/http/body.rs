//! A request's body: gathered within time and size, its content codings undone.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::budget::{Budget, Held};
use super::problem::{Code, Problem};
use crate::json::items::{self, Bounds};
use crate::source::coding::{Coding, Codings};
use crate::source::inflate::{InflateFault, inflate_into};
use crate::source::items::{Items, split};
use crate::source::media::Media;
use crate::source::{Decode, Raw, Takes};

/// What one body may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one event, as it came and inflated.
    pub bytes_max: usize,
    /// Bytes of a body with many, likewise.
    pub many_bytes_max: usize,
    /// Bytes of all bodies together, as they came and inflated, until they are answered.
    pub all_bytes_max: usize,
    /// Items of one body.
    pub items_max: usize,
    /// Levels of nesting in one event.
    pub depth_max: usize,
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
    /// Bytes that a body of `came` coded bytes may inflate to, at most `most`.
    fn inflated_max(&self, came: usize, most: usize) -> usize {
        came.saturating_mul(self.inflate_ratio_max).max(FREE_BYTES).min(most)
    }

    /// Bytes of a body with as many items.
    const fn of(&self, takes: Takes) -> usize {
        match takes {
            Takes::One => self.bytes_max,
            Takes::Many => self.many_bytes_max,
        }
    }

    /// What a list may be, itself a level above its items.
    pub(super) const fn bounds(&self) -> Bounds {
        let depth_max = self.depth_max;
        Bounds { items_max: self.items_max, item_bytes_max: self.bytes_max, depth_max }
    }
}

/// What bodies a path takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepts {
    /// What one item may be.
    pub(super) decode: Decode,
    /// Whether bodies of other media are read all the same, to be kept.
    pub(super) anything: bool,
    /// How many there may be.
    pub(super) takes: Takes,
}

/// What came, not yet inflated.
#[derive(Debug)]
pub(super) struct Came {
    bytes: Bytes,
    codings: Codings,
    media: Media,
    takes: Takes,
    held: Held,
}

/// Reads bodies and inflates them.
#[derive(Debug)]
pub(super) struct Reader {
    limits: Limits,
    budget: Budget,
    /// Bodies being worked on by threads of their own: no more than there are processors.
    turns: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(limits: Limits) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let budget = Budget::new(limits.all_bytes_max);
        Self { limits, budget, turns: Arc::new(Semaphore::new(processors)) }
    }

    /// Reads a body of what is accepted, within the limits of size and time; until `by` where the
    /// sender's own time is shorter.
    pub(super) async fn read(
        &self,
        Accepts { decode, anything, takes }: Accepts,
        parts: &Parts,
        body: Body,
        by: Option<Instant>,
    ) -> Result<Came, Problem> {
        let media = Media::of(lines(&parts.headers, CONTENT_TYPE));
        let is_taken = |media: &Media| match (takes, media) {
            (Takes::Many, Media::Lines) => true,
            (Takes::One | Takes::Many, media) => decode.takes(*media),
        };
        let media = media.filter(is_taken).or(anything.then_some(Media::Json));
        let Some(media) = media else {
            let detail = match (decode, takes) {
                (Decode::Json, Takes::One) => "send the body as application/json",
                (Decode::Json, Takes::Many) => {
                    "send the body as application/json or application/x-ndjson"
                }
                (Decode::Beacon | Decode::JsonOrForm, Takes::One | Takes::Many) => {
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
        let left = by.map(|by| by.saturating_duration_since(Instant::now()));
        let within = left.map_or(self.limits.within, |left| left.min(self.limits.within));
        let mut most = Most { bytes: self.limits.of(takes), of_one: None };
        if codings.is_identity() && media != Media::Lines {
            most.of_one = Some(self.limits.bytes_max);
        }
        let mut held = self.budget.hold();
        match tokio::time::timeout(within, collect(body, most, &mut held)).await {
            Ok(bytes) => Ok(Came { bytes: bytes?, codings, media, takes, held }),
            Err(_elapsed) => {
                let detail = format!("the body did not come within {} s", within.as_secs_f32());
                Err(Problem::new(Code::BodyTimeout, detail))
            }
        }
    }

    /// What came in the query of a request that has no body.
    pub(super) fn query(&self, query: Bytes, takes: Takes) -> Came {
        let codings = Codings::default();
        Came { bytes: query, codings, media: Media::Query, takes, held: self.budget.hold() }
    }

    /// Undoes the content codings of what came until `by`; with what is held for it, to be dropped
    /// when the body is.
    pub(super) async fn inflate(&self, came: Came, by: Instant) -> Result<(Raw, Held), Problem> {
        let Came { bytes, codings, media, takes, held } = came;
        if codings.is_identity() {
            return Ok((Raw { body: bytes, media }, held));
        }
        let most = self.limits.inflated_max(bytes.len(), self.limits.of(takes));
        let mut room = self.budget.hold();
        if bytes.len() <= INLINE_BYTES {
            let least = most.min(INLINE_BYTES);
            let done = inflate_into(codings, &bytes, least, &mut |more| room.try_grow(more));
            // Over the smaller limit says nothing about the larger one.
            if most <= INLINE_BYTES || !matches!(done, Err(InflateFault::TooLarge { .. })) {
                return Ok((Raw { body: done?.into(), media }, room));
            }
        }
        // What the first try took is free again.
        drop(room);
        let mut room = self.budget.hold();
        let work = move || {
            let done = inflate_into(codings, &bytes, most, &mut |more| room.try_grow(more));
            // What came is no more.
            drop((bytes, held));
            (done, room)
        };
        let (done, room) = self.aside(by, work).await?;
        Ok((Raw { body: done?.into(), media }, room))
    }

    /// Finds the items of a body, and whatever else `looked` for in it, until `by`.
    pub(super) async fn split<T: Send + 'static>(
        &self,
        raw: Raw,
        takes: Takes,
        looked: impl FnOnce(&[u8]) -> T + Send + 'static,
        by: Instant,
    ) -> Result<(Items, T), Problem> {
        let bounds = self.limits.bounds();
        let is_large = raw.body.len() > INLINE_BYTES;
        let work = move || (looked(&raw.body), split(raw, takes, bounds));
        let (found, items) = if is_large { self.aside(by, work).await? } else { work() };
        Ok((items?, found))
    }

    /// Does `work` on a thread of its own until `by`. Once begun it ends by itself, and keeps its turn
    /// until then, even if nobody waits for it any more.
    async fn aside<T: Send + 'static>(
        &self,
        by: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        let late = || {
            let detail = "more large bodies are worked on than there are processors for";
            Problem::new(Code::Overloaded, detail)
        };
        let Ok(Ok(turn)) = tokio::time::timeout_at(by, turn).await else { return Err(late()) };
        let working = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        let internal = |_| Problem::new(Code::Internal, "a bug in the relay: its log says more");
        let done = tokio::time::timeout_at(by, working).await;
        done.map_err(|_elapsed| late())?.map_err(internal)
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
            InflateFault::NoRoom => Code::Overloaded,
        };
        Self::new(code, fault.to_string())
    }
}

/// Bytes that a body may have.
#[derive(Clone, Copy)]
struct Most {
    bytes: usize,
    /// When it turns out to be no list.
    of_one: Option<usize>,
}

impl Most {
    /// The bound that is known now that a body starts with `start`.
    fn given(self, start: &[u8]) -> usize {
        match self.of_one {
            Some(of_one) if !items::may_be_list(start) => of_one,
            Some(_) | None => self.bytes,
        }
    }
}

/// A buffer of up to this size is made at once for a body that declares so much; a larger one
/// doubles as bytes come, for a length is quickly declared.
const AT_ONCE: usize = 256 << 10;

/// Gathers a body of at most `most` bytes, each of them held before there is memory for it. A body
/// of one frame, which most are, is not copied.
async fn collect(mut body: Body, most: Most, held: &mut Held) -> Result<Bytes, Problem> {
    let declared = http_body::Body::size_hint(&body).lower();
    let declared = usize::try_from(declared).unwrap_or(usize::MAX);
    if declared > most.bytes {
        return Err(Problem::too_large(most.bytes));
    }
    let (mut first, mut whole) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Problem::new(Code::MalformedJson, "the body broke off"));
        };
        let Ok(data) = frame.into_data() else { continue };
        let length = first.len().max(whole.len()) + data.len();
        let most = most.given(match (whole.is_empty(), first.is_empty()) {
            (false, _) => &whole,
            (true, false) => &first,
            (true, true) => &data,
        });
        if length > most || declared > most {
            return Err(Problem::too_large(most));
        }
        if first.is_empty() && whole.is_empty() {
            held.grow(data.len())?;
            first = data;
            continue;
        }
        if length > whole.capacity() {
            let size = if declared <= AT_ONCE { declared } else { length * 2 };
            let size = size.clamp(length, most);
            held.grow(size - whole.capacity())?;
            whole.reserve_exact(size - whole.len());
        }
        // The first frame gives back its part of the connection's buffer; what was held for it
        // stays, for that buffer is there until the request is answered.
        whole.extend_from_slice(&std::mem::take(&mut first));
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.into() })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::Frame;

    use super::*;

    const LIMITS: Limits = Limits {
        bytes_max: 1 << 20,
        many_bytes_max: 1 << 21,
        all_bytes_max: 3 << 20,
        items_max: 10,
        depth_max: 64,
        within: Duration::from_secs(1),
        inflate_ratio_max: 200,
    };

    fn gzipped(reader: &Reader, bytes: &[u8]) -> Came {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        let codings = Codings::of([&b"gzip"[..]]).unwrap();
        let bytes = encoder.finish().unwrap().into();
        let held = reader.budget.hold();
        Came { bytes, codings, media: Media::Json, takes: Takes::One, held }
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
            assert_eq!(LIMITS.inflated_max(came, 1 << 20), most, "{came}");
        }
        assert_eq!(LIMITS.inflated_max(100, 1000), 1000);
    }

    #[tokio::test]
    async fn large_bodies_take_turns_and_small_ones_wait_for_nobody() {
        let reader = Reader::new(LIMITS);
        let (small, large) = (vec![b' '; INLINE_BYTES], vec![b' '; INLINE_BYTES + 1]);
        let all = u32::try_from(reader.turns.available_permits()).unwrap();
        let turns = Arc::clone(&reader.turns).acquire_many_owned(all).await.unwrap();
        let (raw, _held) = reader.inflate(gzipped(&reader, &small), Instant::now()).await.unwrap();
        assert_eq!(raw.body, small);
        let told = reader.inflate(gzipped(&reader, &large), Instant::now()).await;
        let told = told.map(|(raw, _)| raw.body).unwrap_err().to_string();
        assert!(told.starts_with("overloaded: "), "{told}");
        drop(turns);
        let (raw, _held) = reader.inflate(gzipped(&reader, &large), soon()).await.unwrap();
        assert_eq!(raw.body, large);
        assert_eq!(reader.turns.available_permits(), all as usize, "its turn is given back");
    }

    #[tokio::test]
    async fn nobody_waits_for_work_that_is_late_and_it_keeps_its_turn_to_its_end() {
        let reader = Reader::new(LIMITS);
        let all = reader.turns.available_permits();
        let (go_on, until) = std::sync::mpsc::channel::<()>();
        let soon = Instant::now() + Duration::from_millis(50);
        let told = reader.aside(soon, move || until.recv().is_ok()).await;
        assert_eq!(told.map_err(|problem| problem.code()), Err(Code::Overloaded));
        assert_eq!(reader.turns.available_permits(), all - 1);
        go_on.send(()).unwrap();
        let turns = u32::try_from(all).unwrap();
        reader.turns.acquire_many(turns).await.unwrap().forget();
    }

    #[tokio::test]
    async fn every_byte_is_held_until_the_body_is_dropped() {
        let reader = Reader::new(LIMITS);
        let left = || reader.budget.left();
        let all = left();
        let most = Most { bytes: 1 << 20, of_one: None };
        let mut held = reader.budget.hold();
        let one = collect(Body::from("{}"), most, &mut held).await.unwrap();
        assert_eq!((one.len(), all - left()), (2, 2));
        drop(held);
        // In frames, of a length that nobody declared.
        let mut held = reader.budget.hold();
        let many = collect(Body::new(Frames(40)), most, &mut held).await.unwrap();
        assert_eq!(many.len(), 400_000);
        assert!((400_000..900_000).contains(&(all - left())), "{}", all - left());
        drop(held);
        let mut random = fastrand::Rng::with_seed(1);
        let large: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(1 << 20).collect();
        let (raw, room) = reader.inflate(gzipped(&reader, &large), soon()).await.unwrap();
        assert!(all - left() >= raw.body.len(), "{}", all - left());
        let (_raw2, room2) = reader.inflate(gzipped(&reader, &large), soon()).await.unwrap();
        let told = reader.inflate(gzipped(&reader, &large), soon()).await;
        assert_eq!(told.map(|(raw, _)| raw.body).unwrap_err().code(), Code::Overloaded);
        drop((room, room2));
        assert_eq!(left(), all);
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    /// A body of so many frames of 10,000 bytes each.
    struct Frames(usize);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
            self.0 = left;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b' '; 10_000])))))
        }
    }
}
