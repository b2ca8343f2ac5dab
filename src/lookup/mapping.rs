//! From a vendor's answer to the notification that would have said it. Pure.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::Outcome;
use crate::json::{self, Node};

/// The member that marks what was looked up; no mapping may write it.
pub const MARK: &str = "looked_up";

/// Levels of nesting in an answer, as the relay's own default for bodies.
const DEPTH_MAX: usize = 64;

/// How an answer becomes a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The notification's members, in order.
    pub members: Vec<Member>,
    /// What an answer says that is given before there is anything to tell.
    pub pending: Option<Pending>,
}

/// One member of the notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub to: Box<str>,
    /// Where it comes from.
    pub content: Content,
}

/// What a member holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// What the answer has there, byte for byte; without it there is no such member.
    From {
        /// A JSON pointer.
        pointer: Box<str>,
        /// Texts of the vendor's, and what its notifications say for them.
        words: Vec<(Box<str>, Box<str>)>,
    },
    /// A text, with the awaited id for `{id}`.
    Fixed(Box<str>),
}

/// An answer that is given too early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// A JSON pointer to the text that says so.
    pub at: Box<str>,
    /// The texts.
    pub is: Vec<Box<str>>,
}

impl Mapping {
    /// The notification that `answer` comes to, for the awaited `id`.
    ///
    /// # Errors
    /// [`Outcome::Unusable`] when the answer is no JSON, and [`Outcome::Pending`].
    pub fn notification(&self, id: &str, answer: &[u8]) -> Result<Vec<u8>, Outcome> {
        let document = json::parse(answer, DEPTH_MAX).map_err(|_| Outcome::Unusable)?;
        let text = std::str::from_utf8(json::without_bom(answer)).map_err(|_| Outcome::Unusable)?;
        if self.pending.as_ref().is_some_and(|pending| pending.is_in(&document)) {
            return Err(Outcome::Pending);
        }
        let mut notification = String::from("{");
        for member in &self.members {
            let Some(value) = member.content.value(id, text) else { continue };
            notification.push_str(&quoted(&member.to));
            notification.push(':');
            notification.push_str(&value);
            notification.push(',');
        }
        notification.push_str(&quoted(MARK));
        notification.push_str(":true}");
        Ok(notification.into_bytes())
    }
}

impl Pending {
    fn is_in(&self, document: &Node<'_>) -> bool {
        let text = document.at(&self.at).and_then(Node::as_str);
        text.is_some_and(|text| self.is.iter().any(|one| **one == *text))
    }
}

impl Content {
    fn value(&self, id: &str, answer: &str) -> Option<String> {
        match self {
            Self::Fixed(text) => Some(quoted(&text.replace("{id}", id))),
            Self::From { pointer, words } => {
                let raw = at(answer, pointer)?;
                let said = serde_json::from_str::<String>(raw).ok();
                let word = said.and_then(|said| words.iter().find(|(of, _)| **of == *said));
                Some(word.map_or_else(|| raw.to_owned(), |(_, word)| quoted(word)))
            }
        }
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The text of the value that a pointer names, as it was written: numbers keep their spelling.
fn at<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
    pointer.strip_prefix('/')?.split('/').try_fold(text.trim(), |text, step| {
        let step = step.replace("~1", "/").replace("~0", "~");
        if text.starts_with('{') {
            let members: HashMap<String, &'a RawValue> = serde_json::from_str(text).ok()?;
            members.get(&step).copied().map(RawValue::get)
        } else if text.starts_with('[') {
            let items: Vec<&'a RawValue> = serde_json::from_str(text).ok()?;
            items.get(step.parse::<usize>().ok()?).copied().map(RawValue::get)
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(to: &str, pointer: &str) -> Member {
        let words = vec![("POSTED".into(), "advert_posted_success".into())];
        Member { to: to.into(), content: Content::From { pointer: pointer.into(), words } }
    }

    fn mapping() -> Mapping {
        let fixed =
            |to: &str, text: &str| Member { to: to.into(), content: Content::Fixed(text.into()) };
        let members = vec![
            from("transaction", "/t"),
            fixed("object", "{id}"),
            from("event", "/data/status"),
            from("price", "/data/list/1"),
            from("never", "/data/absent"),
            from("state", "/data/a~1b"),
        ];
        let pending = Pending { at: "/data/status".into(), is: vec!["TO_POST".into()] };
        Mapping { members, pending: Some(pending) }
    }

    #[test]
    fn an_answer_becomes_the_notification_byte_for_byte() {
        let answer =
            r#" {"t":"T-1","data":{"status":"POSTED","list":[1,1899.00],"a/b":{"x" : 1e2}}}"#;
        let made = mapping().notification("a\"1", answer.as_bytes()).unwrap();
        let wanted = r#"{"transaction":"T-1","object":"a\"1","event":"advert_posted_success","price":1899.00,"state":{"x" : 1e2},"looked_up":true}"#;
        assert_eq!(String::from_utf8(made).unwrap(), wanted);
        let other = mapping().notification("1", br#"{"data":{"status":"OTHER"}}"#).unwrap();
        assert_eq!(other, br#"{"object":"1","event":"OTHER","looked_up":true}"#);
    }

    #[test]
    fn what_is_told_too_early_or_is_no_document_becomes_none() {
        let told = |answer: &[u8]| mapping().notification("1", answer);
        assert_eq!(told(br#"{"data":{"status":"TO_POST"}}"#), Err(Outcome::Pending));
        for wrong in [&b"<html>"[..], b"", br#"{"t":1,"t":2}"#, b"\"\xff\""] {
            assert_eq!(told(wrong), Err(Outcome::Unusable));
        }
    }
}
