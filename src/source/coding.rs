//! What a `Content-Encoding` says was done to a body on its way.

/// One content coding that is undone here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952, one member or several.
    Gzip,
    /// RFC 7932, without its large-window extension.
    Brotli,
    /// RFC 8878, one frame or several.
    Zstd,
    /// RFC 1950; without its frame (RFC 1951) as well, which some clients send under this name.
    Deflate,
}

impl Coding {
    /// Every coding, in the order in which a refusal names them.
    pub const ALL: [Self; 4] = [Self::Gzip, Self::Brotli, Self::Zstd, Self::Deflate];

    /// Its name in a header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Deflate => "deflate",
        }
    }

    fn of(name: &[u8]) -> Option<Self> {
        // RFC 9110, section 8.4.1.3: `x-gzip` is `gzip`.
        let name = if name.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { name };
        Self::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.as_str().as_bytes()))
    }
}

/// The codings of a body in the order in which they were applied, which is often none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Codings([Option<Coding>; Codings::MAX]);

impl Codings {
    /// Codings on top of each other: a library and a proxy that each compress. More is an attack.
    pub const MAX: usize = 2;

    /// The codings of every `Content-Encoding` line, in order; nothing when one is unknown or they
    /// are more than [`Codings::MAX`].
    pub fn of<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut codings = Self::default();
        let mut free = codings.0.iter_mut();
        let names = lines.into_iter().flat_map(|line| line.split(|byte| *byte == b','));
        for name in names.map(<[u8]>::trim_ascii) {
            if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            *free.next()? = Some(Coding::of(name)?);
        }
        Some(codings)
    }

    /// Whether the body is as it was written.
    #[must_use]
    pub fn is_identity(self) -> bool {
        self == Self::default()
    }

    /// The codings in the order in which they are undone: the last applied first.
    pub fn outermost_first(self) -> impl Iterator<Item = Coding> {
        self.0.into_iter().rev().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Option<Vec<Coding>> {
        let codings = Codings::of(lines.iter().map(|line| line.as_bytes()))?;
        Some(codings.outermost_first().collect())
    }

    #[test]
    fn codings_are_undone_from_the_last_to_the_first() {
        assert_eq!(of(&[]), Some(vec![]));
        assert_eq!(of(&["", "Identity", "identity, identity,identity"]), Some(vec![]));
        assert_eq!(of(&["GZIP"]), Some(vec![Coding::Gzip]));
        assert_eq!(of(&["x-gzip , identity"]), Some(vec![Coding::Gzip]));
        assert_eq!(of(&["br,zstd"]), Some(vec![Coding::Zstd, Coding::Brotli]));
        assert_eq!(of(&["deflate", "gzip"]), Some(vec![Coding::Gzip, Coding::Deflate]));
    }

    #[test]
    fn an_unknown_or_a_third_coding_is_not_taken() {
        for lines in [&["compress"][..], &["gzip;q=1"], &["gzip, x"], &["gzip,gzip", "gzip"]] {
            assert_eq!(of(lines), None, "{lines:?}");
        }
    }
}
