//! What a `Content-Type` says a body is.

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// One JSON document, which may be a list.
    Json,
    /// A JSON document a line.
    Lines,
    /// Pairs of keys and values, as web pages send them.
    Form,
    /// The same in the query of a request that has no body.
    Query,
}

/// Media by their names.
const NAMES: [(&[u8], Media); 4] = [
    (b"application/json", Media::Json),
    // Browsers' `sendBeacon` sends a string so.
    (b"text/plain", Media::Json),
    (b"application/x-ndjson", Media::Lines),
    (b"application/x-www-form-urlencoded", Media::Form),
];

impl Media {
    /// The media of every `Content-Type` line; nothing for what is not taken, and for lines that
    /// disagree. Without any it is JSON.
    ///
    /// Any case and parameters: a `charset` says nothing that the bytes, which must be UTF-8, do
    /// not say themselves.
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut media = None;
        for line in lines {
            let essence = line.split(|byte| *byte == b';').next()?.trim_ascii();
            let known = NAMES.iter().find(|(name, _)| essence.eq_ignore_ascii_case(name));
            let (_, found) = known?;
            if media.is_some_and(|media| media != *found) {
                return None;
            }
            media = Some(*found);
        }
        Some(media.unwrap_or(Self::Json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Option<Media> {
        Media::of(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn json_is_json_in_any_spelling() {
        let taken = [
            "application/json",
            "application/JSON; charset=utf-8",
            "application/json;charset=ISO-8859-1",
            " Application/Json ;charset=\"UTF-8\"",
            "text/plain;charset=UTF-8",
        ];
        for value in taken {
            assert_eq!(of(&[value]), Some(Media::Json), "{value}");
        }
        assert_eq!(of(&[]), Some(Media::Json));
        assert_eq!(of(&["application/json", "Application/JSON"]), Some(Media::Json));
    }

    #[test]
    fn a_form_is_a_form() {
        let value = "application/X-WWW-form-urlencoded;charset=UTF-8";
        assert_eq!(of(&[value]), Some(Media::Form));
    }

    #[test]
    fn lines_are_lines() {
        assert_eq!(of(&["application/x-ndjson; charset=utf-8"]), Some(Media::Lines));
    }

    #[test]
    fn other_types_and_lines_that_disagree_are_not_taken() {
        for value in ["", "application/xml", "application/jsonp", "multipart/form-data; boundary=x"]
        {
            assert_eq!(of(&[value]), None, "{value}");
        }
        assert_eq!(of(&["application/json", "application/x-www-form-urlencoded"]), None);
    }
}
