//! From a body, or a query in its place, to the JSON that is checked and what is sent on.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use bytes::Bytes;

use super::media::Media;
use super::{Raw, Received};
use crate::json;
use crate::schema::moment::{Moment, Zone};

/// What a source makes of its bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decode {
    /// One JSON document.
    Json,
    /// What web pages and pixels send: one JSON document; a form, which becomes an object of texts
    /// in the order of the form; or nothing, when the query has members that the schema names.
    Beacon,
    /// One JSON document, or a form, which becomes an object of texts in its order.
    JsonOrForm,
}

impl Decode {
    /// Whether bodies of this media are taken.
    #[must_use]
    pub const fn takes(self, media: Media) -> bool {
        match (self, media) {
            (Self::Json | Self::Beacon | Self::JsonOrForm, Media::Json) => true,
            (Self::Beacon | Self::JsonOrForm, Media::Form) => true,
            (Self::Json, Media::Form) | (_, Media::Lines | Media::Query) => false,
        }
    }
}

/// What a source makes of a GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Get {
    /// It is refused, as is every method but POST.
    Refused,
    /// It is answered and means nothing: partners look so whether a path is there.
    Nothing,
    /// Its query is the item: an object of texts in its order.
    Query,
}

/// An item, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// The JSON text that the schema judges.
    pub checked: Bytes,
    /// What goes upstream: the same text, or nothing where the query spoke for an empty body.
    pub sent: Bytes,
}

impl Decoded {
    fn whole(text: Bytes) -> Self {
        Self { checked: text.clone(), sent: text }
    }
}

/// Where a pair of key and value stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a form.
    Form,
    /// In the query.
    Query,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "form in the body",
            Self::Query => "query",
        })
    }
}

/// Why pairs of keys and values are no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairsFault {
    /// A key comes twice, and which one counts would be anyone's guess.
    #[error("the {0} names a key twice")]
    RepeatedKey(Place),
    /// Decoded, it is not UTF-8, and so cannot become JSON.
    #[error("the {0} is not UTF-8")]
    NotUtf8(Place),
}

/// Decodes one item of a source whose schema names `members`.
///
/// # Errors
/// [`PairsFault`]. What is no JSON is told by whoever parses it.
pub(super) fn decode(
    decode: Decode,
    members: &[String],
    received: &Received,
    raw: &Raw,
) -> Result<Decoded, PairsFault> {
    // The parser passes over one, and what it passes over must not be sent on.
    let body = raw.body.slice_ref(json::without_boms(&raw.body));
    match (decode, raw.media) {
        (_, Media::Query) => from_pairs(&body, Place::Query).map(Decoded::whole),
        // Templates of JSON are sent under whichever type the partner's system has for them.
        (Decode::JsonOrForm, Media::Form) if is_like_json(&body) => Ok(Decoded::whole(body)),
        (Decode::JsonOrForm, Media::Form) => from_pairs(&body, Place::Form).map(Decoded::whole),
        (Decode::Json | Decode::JsonOrForm, _) => Ok(Decoded::whole(body)),
        (Decode::Beacon, _) if body.is_empty() => {
            // Without such a member this stays empty, which is not JSON: nothing is no event.
            let checked = from_query(&received.target, members)?.unwrap_or_default();
            Ok(Decoded { checked, sent: body })
        }
        (Decode::Beacon, Media::Form) => Ok(Decoded::whole(from_form(&body)?)),
        (Decode::Beacon, Media::Json | Media::Lines) => Ok(Decoded::whole(body)),
    }
}

/// The JSON object of a form. At worst six times its size: a control character becomes `\u0001`.
fn from_form(form: &[u8]) -> Result<Bytes, PairsFault> {
    let not_utf8 = |_| PairsFault::NotUtf8(Place::Form);
    let mut object = Object::with_room(form.len() + form.len() / 4);
    for (key, value) in pairs(form) {
        let (key, value) = (text(key).map_err(not_utf8)?, text(value).map_err(not_utf8)?);
        object.push(key, &value).map_err(|Repeated| PairsFault::RepeatedKey(Place::Form))?;
    }
    Ok(object.close())
}

/// Whether a body that is said to be a form begins as no form does, and JSON does.
fn is_like_json(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// The JSON object of pairs that a partner's template was filled into.
///
/// A key that comes again with the same value says nothing new. A `+` that was to be one, before
/// the offset of a time, is one: `2024-09-10T10:42:38+02:00` was not encoded.
fn from_pairs(encoded: &[u8], place: Place) -> Result<Bytes, PairsFault> {
    let mut object = Object::with_room(encoded.len() + encoded.len() / 4);
    let mut known: HashMap<Cow<'_, str>, String> = HashMap::new();
    for (key, value) in pairs(encoded) {
        let (key, value) = match (text(key), text(value)) {
            (Ok(key), Ok(value)) => (key, value),
            _ => return Err(PairsFault::NotUtf8(place)),
        };
        let value = with_its_plus(&value).unwrap_or_else(|| value.into_owned());
        match known.get(&key) {
            Some(before) if *before == value => continue,
            Some(_) => return Err(PairsFault::RepeatedKey(place)),
            None => {}
        }
        object.push(key.clone(), &value).map_err(|Repeated| PairsFault::RepeatedKey(place))?;
        known.insert(key, value);
    }
    Ok(object.close())
}

/// A time whose offset lost its plus, with it; nothing when the text is anything else.
fn with_its_plus(text: &str) -> Option<String> {
    let (time, offset) = text.rsplit_once(' ')?;
    let mended = format!("{time}+{offset}");
    Moment::read(&mended).is_some_and(|moment| moment.zone == Zone::Offset).then_some(mended)
}

/// The JSON object of those members of a target's query that have a value; nothing without any.
///
/// The other parts of the query are nobody's business: they are signed, and travel as they are.
pub(super) fn from_query(target: &[u8], members: &[String]) -> Result<Option<Bytes>, PairsFault> {
    let Some(at) = target.iter().position(|byte| *byte == b'?') else { return Ok(None) };
    let mut object = Object::with_room(128);
    for (key, value) in pairs(&target[at + 1..]) {
        let Ok(key) = text(key) else { continue };
        if value.is_empty() || !members.iter().any(|member| *member == key) {
            continue;
        }
        let value = text(value).map_err(|_| PairsFault::NotUtf8(Place::Query))?;
        object.push(key, &value).map_err(|Repeated| PairsFault::RepeatedKey(Place::Query))?;
    }
    Ok((!object.keys.is_empty()).then(|| object.close()))
}

/// The value of the member of a target's query called `name`, decoded. Of several that have
/// different ones there is none: nobody can say which of them a receiver goes by.
pub(super) fn query_value(target: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut values = query_values(target, name);
    let value = values.next()?;
    values.all(|other| other == value).then_some(value)
}

/// Every value of a target's query that is called `name`, decoded; an empty one is none.
pub fn query_values<'q>(target: &'q [u8], name: &'q str) -> impl Iterator<Item = Vec<u8>> + 'q {
    let query = target.iter().position(|byte| *byte == b'?').map(|at| &target[at + 1..]);
    let of_name = move |(key, value): &(&[u8], &[u8])| {
        text(key).is_ok_and(|key| key == name) && !value.is_empty()
    };
    let values = pairs(query.unwrap_or_default()).filter(of_name);
    values.map(|(_, value)| percent_decoded(&spaced(value)))
}

/// The text that a segment of a path stands for; nothing when it is not UTF-8.
#[must_use]
pub fn segment(encoded: &str) -> Option<String> {
    String::from_utf8(percent_decoded(encoded.as_bytes())).ok()
}

/// The pairs of `a=1&b=2`, still encoded; a pair without `=` has no value, an empty one is none.
fn pairs(encoded: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = encoded.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &[][..]),
    })
}

/// The text that `encoded` stands for: `+` is a space, `%C3%A9` is é.
pub(super) fn text(encoded: &[u8]) -> Result<Cow<'_, str>, std::str::Utf8Error> {
    if !encoded.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return std::str::from_utf8(encoded).map(Cow::Borrowed);
    }
    let spaced: Vec<u8> =
        encoded.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    String::from_utf8(percent_decoded(&spaced)).map(Cow::Owned).map_err(|error| error.utf8_error())
}

/// A form's `+` is a space.
pub(super) fn spaced(encoded: &[u8]) -> Vec<u8> {
    encoded.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect()
}

/// `%C3%A9` is é. A `%` without two hex digits stands for itself, as the URL standard has it.
pub(super) fn percent_decoded(encoded: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, behind @ ..] = rest {
        rest = behind;
        bytes.push(match (first, behind) {
            (b'%', [high, low, behind @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = behind;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => *byte,
        });
    }
    bytes
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// A JSON object of texts in the making.
struct Object<'a> {
    json: Vec<u8>,
    keys: HashSet<Cow<'a, str>>,
}

/// A key was there before.
struct Repeated;

impl<'a> Object<'a> {
    fn with_room(bytes: usize) -> Self {
        let mut json = Vec::with_capacity(bytes);
        json.push(b'{');
        Self { json, keys: HashSet::new() }
    }

    fn push(&mut self, key: Cow<'a, str>, value: &str) -> Result<(), Repeated> {
        if !self.keys.is_empty() {
            self.json.push(b',');
        }
        quote(&key, &mut self.json);
        self.json.push(b':');
        quote(value, &mut self.json);
        if self.keys.insert(key) { Ok(()) } else { Err(Repeated) }
    }

    fn close(mut self) -> Bytes {
        self.json.push(b'}');
        self.json.into()
    }
}

fn quote(text: &str, json: &mut Vec<u8>) {
    serde_json::to_writer(json, text).expect("memory takes every text");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(form: &[u8]) -> Result<String, PairsFault> {
        from_form(form).map(|json| String::from_utf8(json.into()).unwrap())
    }

    fn query(target: &str) -> Result<Option<String>, PairsFault> {
        let members = ["user_id".to_owned(), "session_id".to_owned()];
        let json = from_query(target.as_bytes(), &members)?;
        Ok(json.map(|json| String::from_utf8(json.into()).unwrap()))
    }

    #[test]
    fn a_form_becomes_an_object_of_texts_in_its_order() {
        let cases = [
            ("session_id=a&user_id=b", r#"{"session_id":"a","user_id":"b"}"#),
            ("z=1&a=%2B+%20&e=%C3%A9%c3%a9", r#"{"z":"1","a":"+  ","e":"éé"}"#),
            ("a&b=&=c&&", r#"{"a":"","b":"","":"c"}"#),
            ("a=b=c&q=\"\\%00%0A", r#"{"a":"b=c","q":"\"\\\u0000\n"}"#),
            ("a=%&b=%4&c=%zz&d=%%41", r#"{"a":"%","b":"%4","c":"%zz","d":"%A"}"#),
            ("caf\u{e9}=1", "{\"caf\u{e9}\":\"1\"}"),
            ("&&&", "{}"),
        ];
        for (sent, expected) in cases {
            assert_eq!(form(sent.as_bytes()).as_deref(), Ok(expected), "{sent}");
        }
    }

    #[test]
    fn a_form_that_could_be_read_in_two_ways_is_refused() {
        let repeated = Err(PairsFault::RepeatedKey(Place::Form));
        assert_eq!(form(b"a=1&b=2&a=1"), repeated);
        assert_eq!(form(b"a=1&%61=2"), repeated);
        for bytes in [&b"a=%FF"[..], b"%C3=1", b"a=\xff", b"a=%ED%A0%80"] {
            assert_eq!(form(bytes), Err(PairsFault::NotUtf8(Place::Form)), "{bytes:?}");
        }
    }

    #[test]
    fn a_partners_query_becomes_an_object_of_texts_in_its_order() {
        let query = |query: &str| {
            let json = from_pairs(query.as_bytes(), Place::Query)?;
            Ok(String::from_utf8(json.into()).unwrap())
        };
        for (sent, expected) in [
            ("b=5.00&a=%7BPayout%7D&c=1,234.56", r#"{"b":"5.00","a":"{Payout}","c":"1,234.56"}"#),
            ("", "{}"),
            ("a=1&a=1&b", r#"{"a":"1","b":""}"#),
            ("d=2024-09-10T10:42:38+02:00", r#"{"d":"2024-09-10T10:42:38+02:00"}"#),
            ("d=2024-09-10+10:42:38.5+0200", r#"{"d":"2024-09-10 10:42:38.5+0200"}"#),
            ("d=2024-09-10T10:42:38-02:00", r#"{"d":"2024-09-10T10:42:38-02:00"}"#),
            ("d=2024-09-10+10:42:38", r#"{"d":"2024-09-10 10:42:38"}"#),
            ("n=Ana+Maria&t=at+10:42", r#"{"n":"Ana Maria","t":"at 10:42"}"#),
        ] {
            assert_eq!(query(sent).as_deref(), Ok(expected), "{sent}");
        }
        let repeated = Err(PairsFault::RepeatedKey(Place::Query));
        assert_eq!(query("a=1&a=2"), repeated);
        assert_eq!(query("a=%FF"), Err(PairsFault::NotUtf8(Place::Query)));
    }

    #[test]
    fn only_members_of_the_schema_with_a_value_speak_for_an_empty_body() {
        let cases = [
            ("/c/1", None),
            ("/c/1?", None),
            ("/c/1?user_id=&pos=1", None),
            ("/c/1?pos=1&session_id=s+1", Some(r#"{"session_id":"s 1"}"#)),
            ("/c/1?user_id=&user_id=u&z=1&z=2", Some(r#"{"user_id":"u"}"#)),
            ("/c/1?x=%FF&%FF=1&user%5Fid=u", Some(r#"{"user_id":"u"}"#)),
            ("/c/user_id=u", None),
        ];
        for (target, expected) in cases {
            assert_eq!(query(target), Ok(expected.map(str::to_owned)), "{target}");
        }
        assert_eq!(query("/?user_id=a&user_id=b"), Err(PairsFault::RepeatedKey(Place::Query)));
        assert_eq!(query("/?user_id=%FF"), Err(PairsFault::NotUtf8(Place::Query)));
    }
}
