//! The lines of a table before they are fields: how long one may be, how it ends, and what stands
//! between its fields.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

/// What a reader of lines and the leash that it is on tell each other.
pub(super) struct Slack {
    /// Bytes that the line may yet have.
    pub(super) left: Cell<usize>,
    /// Whether the reader was told that nothing more comes.
    pub(super) is_over: Cell<bool>,
}

/// Lets a line have only so many bytes, and ends each line, the last one too, in a line feed alone:
/// the reader counts those, and one after a carriage return only with the next line.
pub(super) struct Leash<R> {
    input: R,
    slack: Rc<Slack>,
    /// A carriage return whose next byte is not seen yet.
    is_held: bool,
    is_ended: bool,
}

impl<R> Leash<R> {
    /// Lets each line of `input` have the bytes that `slack` has left when it begins.
    pub(super) const fn new(input: R, slack: Rc<Slack>) -> Self {
        Self { input, slack, is_held: false, is_ended: false }
    }
}

impl<R: BufRead> Read for Leash<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.slack.left.get();
        if left == 0 {
            let what = "a line is over 1 MiB; a quote may lack its end";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let most = into.len().min(left);
        let mut written = 0;
        while written < most {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() {
                if std::mem::take(&mut self.is_held) {
                    into[written] = b'\r';
                } else if std::mem::replace(&mut self.is_ended, true) {
                    break;
                } else {
                    into[written] = b'\n';
                }
                written += 1;
                continue;
            }
            let mut used = 0;
            while written < most
                && let Some(&byte) = chunk.get(used)
            {
                if self.is_held && byte != b'\n' {
                    into[written] = b'\r';
                    (written, self.is_held) = (written + 1, false);
                    continue;
                }
                used += 1;
                self.is_held = byte == b'\r';
                if !self.is_held {
                    into[written] = byte;
                    written += 1;
                }
            }
            self.input.consume(used);
        }
        self.slack.left.set(left - written);
        self.slack.is_over.set(written == 0);
        Ok(written)
    }
}

/// The delimiter that a first line of `sep=;` names, and the length of that line.
pub(super) fn said_delimiter(head: &[u8]) -> Option<(u8, usize)> {
    let sign = *head.strip_prefix(b"sep=")?.first()?;
    let rest = &head[5..];
    let end = if rest.starts_with(b"\r\n") { 2 } else { usize::from(rest.starts_with(b"\n")) };
    (end > 0).then_some((sign, 5 + end))
}

/// The delimiter that stands most often in the first line, outside quotes.
pub(super) fn likely_delimiter(head: &[u8]) -> u8 {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)];
    let mut is_quoted = false;
    for &byte in head {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\n' | b'\r' if !is_quoted => break,
            _ if is_quoted => {}
            _ => {
                for (sign, count) in &mut counts {
                    *count += usize::from(*sign == byte);
                }
            }
        }
    }
    counts.iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(sign, _)| *sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delimiter_is_that_of_the_first_line() {
        for (head, sign) in [
            ("a,b,c", b','),
            ("a;b;\"c,d,e\"", b';'),
            ("a\tb", b'\t'),
            ("a|b|c\n1,2,3,4,5", b'|'),
            ("alone", b','),
        ] {
            assert_eq!(likely_delimiter(head.as_bytes()), sign, "{head}");
        }
        assert_eq!(said_delimiter(b"sep=;\r\na"), Some((b';', 7)));
        assert_eq!(said_delimiter(b"sep=;x"), None);
    }
}
