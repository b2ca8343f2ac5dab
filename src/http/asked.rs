//! What a request asks of the relay itself: members of its query that go no further, and the key
//! that it wants to be known by.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::problem::{Code, Problem};
use crate::intake::Unity;
use crate::source::idempotency::KEY_BYTES_MAX;
use crate::spool::Lane;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// `atomic`: whether a refused item takes the others with it.
    pub(super) unity: Unity,
    /// `lane`: how urgent the items are.
    pub(super) lane: Lane,
}

impl Asked {
    /// Nothing.
    pub(super) const NOTHING: Self = Self { unity: Unity::Each, lane: Lane::Live };

    /// Reads and takes out the relay's own members; the rest of `target` stays byte for byte.
    ///
    /// `atomic` in any spelling but `false` and `0` asks for all or nothing: who wrote it meant
    /// something, and storing half would be the worse mistake.
    pub(super) fn take(target: &str) -> (Self, Bytes) {
        let mut asked = Self::NOTHING;
        let Some((path, query)) = target.split_once('?') else {
            return (asked, Bytes::copy_from_slice(target.as_bytes()));
        };
        let others = query.split('&').filter(|member| match member.split_once('=') {
            Some(("atomic", "false" | "0")) => false,
            Some(("atomic", _)) => {
                asked.unity = Unity::AllOrNothing;
                false
            }
            Some(("lane", lane)) => {
                asked.lane =
                    if lane == Lane::Backlog.as_str() { Lane::Backlog } else { Lane::Live };
                false
            }
            None if *member == "atomic" => {
                asked.unity = Unity::AllOrNothing;
                false
            }
            Some(_) | None => true,
        });
        let others: Vec<&str> = others.collect();
        let is_bare = others.is_empty() && !query.is_empty();
        let rest = if is_bare { path.to_owned() } else { format!("{path}?{}", others.join("&")) };
        (asked, rest.into())
    }
}

/// Names a request, so that sending it again is safe whatever became of it.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The key that a request comes with.
///
/// # Errors
/// `bad_idempotency_key` for one that is empty, too long, or one of several.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<Bytes>, Problem> {
    let mut lines = headers.get_all(IDEMPOTENCY_KEY).iter().map(HeaderValue::as_bytes);
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(key), None) if (1..=KEY_BYTES_MAX).contains(&key.len()) => {
            Ok(Some(Bytes::copy_from_slice(key)))
        }
        (Some(_), _) => {
            let detail = format!("send one Idempotency-Key of 1 to {KEY_BYTES_MAX} bytes");
            Err(Problem::new(Code::BadIdempotencyKey, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_relays_own_members_are_taken_out() {
        let (all, each) = (Unity::AllOrNothing, Unity::Each);
        for (target, rest, unity, lane) in [
            ("/x", "/x", each, Lane::Live),
            ("/x?", "/x?", each, Lane::Live),
            ("/x?atomic=true", "/x", all, Lane::Live),
            ("/x?a=%20&atomic&b=1&&", "/x?a=%20&b=1&&", all, Lane::Live),
            ("/x?atomic=false&lane=backlog", "/x", each, Lane::Backlog),
            ("/x?lane=live&atomic=0&q=atomic=1", "/x?q=atomic=1", each, Lane::Live),
            ("/x?Atomic=true&lanes=backlog", "/x?Atomic=true&lanes=backlog", each, Lane::Live),
        ] {
            let (asked, found) = Asked::take(target);
            assert_eq!((&found[..], asked), (rest.as_bytes(), Asked { unity, lane }), "{target}");
        }
    }
}
