//! ECMAScript patterns with flag `u`.

use std::fmt;

use super::automaton::Automata;

/// The longest text in bytes that a pattern is run over which needs backtracking; a longer text
/// counts as no match.
///
/// These are patterns with back-references, with look-around elsewhere than at the start, `\b`,
/// `\p{…}` or characters beyond ASCII. A quadratic one takes a tenth of a second for such a text.
/// All others read a text of any length once.
pub const PATTERN_TEXT_MAX: usize = 4096;

/// A compiled pattern.
pub(super) enum Pattern {
    Automata(Automata),
    Backtracking(regress::Regex),
}

impl Pattern {
    /// Compiles `source`; the error says what is wrong with it.
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        let flags = regress::Flags { unicode: true, ..regress::Flags::default() };
        let regex = regress::Regex::with_flags(source, flags).map_err(|error| error.to_string())?;
        Ok(Automata::of(source).map_or(Self::Backtracking(regex), Self::Automata))
    }

    /// Whether the pattern is found in `text`.
    pub(super) fn is_in(&self, text: &str) -> bool {
        match self {
            Self::Automata(automata) => automata.find(text),
            Self::Backtracking(_) if text.len() > PATTERN_TEXT_MAX => false,
            Self::Backtracking(regex) if text.is_ascii() => regex.find_ascii(text).is_some(),
            Self::Backtracking(regex) => regex.find(text).is_some(),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pattern")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_anywhere_in_a_text_of_bounded_length() {
        let pattern = Pattern::compile("a.?é|x").unwrap();
        assert!(pattern.is_in("--a\u{1f600}é--"));
        assert!(!pattern.is_in("a\né"));
        assert!(pattern.is_in(&"x".repeat(PATTERN_TEXT_MAX)));
        assert!(Pattern::compile("x$").unwrap().is_in(&"x".repeat(PATTERN_TEXT_MAX + 1)));
        assert!(!pattern.is_in(&"x".repeat(PATTERN_TEXT_MAX + 1)));
        assert!(Pattern::compile("(").is_err());
        assert!(Pattern::compile(r"\-").is_err(), "flag u refuses idle escapes");
    }
}
