//! A JSON array of arrivals as a body that is written while it is read.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec::IntoIter;

use bytes::Bytes;
use http_body::{Body, Frame};

use super::arrival::Arrival;

/// Bytes that are gathered before they are handed on.
const FRAME: usize = 64 * 1024;

/// The arrivals that a client asked for. Only those being sent are in memory as JSON.
pub(super) struct Listing {
    arrivals: IntoIter<Arc<Arrival>>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    Middle,
    End,
}

impl Listing {
    pub(super) fn new(arrivals: Vec<Arc<Arrival>>) -> Self {
        Self { arrivals: arrivals.into_iter(), stage: Stage::Start }
    }

    /// The next part of the text; nothing after the end.
    fn next_part(&mut self) -> Option<Bytes> {
        let mut separator: &[u8] = match self.stage {
            Stage::Start => b"[",
            Stage::Middle => b",\n",
            Stage::End => return None,
        };
        let mut part = Vec::new();
        while part.len() < FRAME {
            let Some(arrival) = self.arrivals.next() else {
                let end: &[u8] =
                    if self.stage == Stage::Start && part.is_empty() { b"[]" } else { b"]" };
                part.extend_from_slice(end);
                part.push(b'\n');
                self.stage = Stage::End;
                return Some(part.into());
            };
            part.extend_from_slice(separator);
            part.append(&mut arrival.to_json());
            separator = b",\n";
        }
        self.stage = Stage::Middle;
        Some(part.into())
    }
}

impl Body for Listing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next_part().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.stage == Stage::End
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::arrival::sample;
    use super::*;

    fn parts(bodies: &[&'static [u8]]) -> Vec<Bytes> {
        let arrivals = bodies.iter().zip(1..);
        let arrivals = arrivals.map(|(body, n)| Arc::new(Arrival { n, ..sample("/", body) }));
        let mut listing = Listing::new(arrivals.collect());
        std::iter::from_fn(|| listing.next_part()).collect()
    }

    #[test]
    fn the_parts_are_one_array() {
        static LARGE: [u8; FRAME] = [b'x'; FRAME];
        let cases: [(&[&'static [u8]], usize); 5] = [
            (&[], 1),
            (&[b"a"], 1),
            (&[b"a", b"b", b"c"], 1),
            (&[&LARGE], 2),
            (&[b"a", &LARGE, b"c", &LARGE, &LARGE], 4),
        ];
        for (bodies, count) in cases {
            let parts = parts(bodies);
            assert_eq!(parts.len(), count);
            let listed: Vec<Value> = serde_json::from_slice(&parts.concat()).unwrap();
            let listed: Vec<&str> = listed.iter().filter_map(|it| it["body"].as_str()).collect();
            let sent: Vec<&str> =
                bodies.iter().map(|body| std::str::from_utf8(body).unwrap()).collect();
            assert_eq!(listed, sent);
        }
    }
}
