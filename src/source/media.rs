//! What a `Content-Type` and a `Content-Encoding` say a body is.

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// One JSON document.
    Json,
}

impl Media {
    /// The media of a `Content-Type`, any case and parameters; nothing for what is not taken.
    ///
    /// A missing header is read as JSON, and `text/plain` too: browsers' `sendBeacon` sends a
    /// string so.
    #[must_use]
    pub fn of(content_type: Option<&[u8]>) -> Option<Self> {
        let Some(value) = content_type else { return Some(Self::Json) };
        let essence = value.split(|byte| *byte == b';').next()?.trim_ascii();
        let json = [b"application/json".as_slice(), b"text/plain"];
        json.iter().any(|known| essence.eq_ignore_ascii_case(known)).then_some(Self::Json)
    }
}

/// Whether a `Content-Encoding` leaves the body as it is.
#[must_use]
pub fn is_identity(content_encoding: Option<&[u8]>) -> bool {
    content_encoding.is_none_or(|value| {
        let value = value.trim_ascii();
        value.is_empty() || value.eq_ignore_ascii_case(b"identity")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_json_in_any_spelling() {
        let taken = [
            "application/json",
            "application/JSON; charset=utf-8",
            " Application/Json ;charset=\"UTF-8\"",
            "text/plain;charset=UTF-8",
        ];
        for value in taken {
            assert_eq!(Media::of(Some(value.as_bytes())), Some(Media::Json), "{value}");
        }
        assert_eq!(Media::of(None), Some(Media::Json));
        for value in ["", "application/xml", "application/jsonp", "multipart/form-data; boundary=x"]
        {
            assert_eq!(Media::of(Some(value.as_bytes())), None, "{value}");
        }
    }

    #[test]
    fn only_an_absent_or_identity_coding_leaves_a_body_alone() {
        assert!(is_identity(None) && is_identity(Some(b"Identity")));
        assert!(!is_identity(Some(b"gzip")));
    }
}
