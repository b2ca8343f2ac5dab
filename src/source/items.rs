//! From one request's body to its items: slices of the one buffer that was received.

use super::media::Media;
use super::{Raw, Reject, Takes};
use crate::json::items::{self, Bounds, ItemsFault};

/// What a body holds.
#[derive(Debug)]
pub enum Items {
    /// One item, answered alone.
    One(Result<Raw, Reject>),
    /// A list or lines, each with a result of its own.
    Many(Vec<Result<Raw, Reject>>),
}

impl Items {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(items) => items.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A body has more items than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request may bring {most} items")]
pub struct TooMany {
    most: usize,
}

/// Finds the items of a body. A list that is no JSON as a whole is one item, which is refused.
///
/// # Errors
/// [`TooMany`]: the sender must send them in several requests.
pub fn split(body: Raw, takes: Takes, bounds: Bounds) -> Result<Items, TooMany> {
    let found = match (takes, body.media) {
        (Takes::Many, Media::Json) if items::is_list(&body.body) => {
            items::array(&body.body, bounds)
        }
        (Takes::Many, Media::Lines) => items::lines(&body.body, bounds),
        (Takes::One | Takes::Many, Media::Json | Media::Form | Media::Lines | Media::Query) => {
            return Ok(Items::One(bounded(body, bounds)));
        }
    };
    match found {
        Ok(slices) => {
            let raw = |body| bounded(Raw { body, media: Media::Json }, bounds);
            Ok(Items::Many(slices.into_iter().map(raw).collect()))
        }
        Err(ItemsFault::Json(fault)) => Ok(Items::One(Err(Reject::Syntax(fault)))),
        Err(ItemsFault::TooMany { most }) => Err(TooMany { most }),
    }
}

fn bounded(item: Raw, bounds: Bounds) -> Result<Raw, Reject> {
    let most = bounds.item_bytes_max;
    if item.body.len() > most { Err(Reject::TooLarge { most }) } else { Ok(item) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const BOUNDS: Bounds = Bounds { items_max: 3, item_bytes_max: 8, depth_max: 4 };

    /// The items as texts, with the code word of each refusal; one alone without brackets.
    fn told(body: &str, media: Media, takes: Takes) -> String {
        let raw = Raw { body: Bytes::from(body.to_owned()), media };
        let one = |item: &Result<Raw, Reject>| match item {
            Ok(raw) => String::from_utf8_lossy(&raw.body).into_owned(),
            Err(reject) => format!("{reject:?}").split([' ', '(']).next().unwrap().to_owned(),
        };
        match split(raw, takes, BOUNDS) {
            Ok(Items::One(item)) => one(&item),
            Ok(Items::Many(items)) => format!("{:?}", items.iter().map(one).collect::<Vec<_>>()),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn a_body_is_one_item_or_many_by_its_form() {
        use Media::{Form, Json, Lines};
        use Takes::{Many, One};
        for (body, media, takes, items) in [
            ("{\"a\":1}", Json, Many, "{\"a\":1}"),
            ("[1, {}]", Json, Many, r#"["1", "{}"]"#),
            ("[]", Json, Many, "[]"),
            ("[1, {}]", Json, One, "[1, {}]"),
            ("1\n{\n", Lines, Many, r#"["1", "{"]"#),
            ("", Lines, Many, "[]"),
            ("a=1", Form, Many, "a=1"),
            ("[1", Json, Many, "Syntax"),
            ("[1,\"2345678\"]", Json, Many, r#"["1", "TooLarge"]"#),
            ("{\"a\":1234}", Json, Many, "TooLarge"),
            ("[1,2,3,4]", Json, Many, "a request may bring 3 items"),
        ] {
            assert_eq!(told(body, media, takes), items, "{body}");
        }
    }
}
