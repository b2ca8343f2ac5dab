//! A file's bytes: which file it is, how they are read, and the text they come to.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use sha2::{Digest, Sha256};

use super::map::Charset;
use crate::cli::Refused;

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// A byte of a file becomes at most three of UTF-8, and the decoder wants some to spare.
const TEXT_BYTES: usize = 3 * CHUNK_BYTES + 16;

/// What one look at every byte tells.
pub(super) struct Content {
    /// SHA-256 in hexadecimal: which file this is.
    pub(super) digest: String,
    pub(super) encoding: &'static Encoding,
    /// For a bar; line ends within quotes count too.
    pub(super) lines: u64,
    /// Whether it holds nothing but white space and a byte-order mark.
    pub(super) is_blank: bool,
    /// As it was before the first look.
    pub(super) stamp: Stamp,
}

/// By what a file is seen to be another one, or to have been written to, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let seen = path.metadata()?;
        let (file, modified) = ((seen.dev(), seen.ino()), (seen.mtime(), seen.mtime_nsec()));
        Ok(Self { file, bytes: seen.len(), modified })
    }
}

impl Content {
    /// Looks at every byte of the file once.
    pub(super) fn of(path: &Path, said: Option<Charset>) -> anyhow::Result<Self> {
        let stamp = Stamp::of(path)?;
        let mut file = File::open(path)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let (mut sha, mut utf8, mut lines) = (Sha256::new(), Utf8::default(), 1);
        let mut is_blank = true;
        let mut head: Vec<u8> = Vec::new();
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            let bytes = &chunk[..read];
            sha.update(bytes);
            is_blank = is_blank && bytes.iter().all(|byte| is_space_or_mark(*byte));
            utf8.take(bytes);
            lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            let missing = 4_usize.saturating_sub(head.len()).min(bytes.len());
            head.extend_from_slice(&bytes[..missing]);
        }
        let encoding = match (said, Encoding::for_bom(&head), &head[..]) {
            (Some(Charset(encoding)), _, _) => encoding,
            (None, Some((encoding, _)), _) => encoding,
            // UTF-16 without its mark: an ASCII sign, and half of nothing.
            (None, None, [0, 1..=255, ..]) => UTF_16BE,
            (None, None, [1..=255, 0, ..]) => UTF_16LE,
            (None, None, _) if utf8.first_broken().is_none() => UTF_8,
            (None, None, _) => WINDOWS_1252,
        };
        if encoding == UTF_8
            && let Some(line) = utf8.first_broken()
        {
            let what = format!(
                "{}:{line}: the line is not UTF-8; say --encoding windows-1252 if that is what \
                 wrote it",
                path.display()
            );
            return Err(Refused(what).into());
        }
        Ok(Self { digest: format!("{:x}", Hex(&sha.finalize())), encoding, lines, is_blank, stamp })
    }
}

/// Bytes that white space and the byte-order mark are of, whatever the encoding.
const fn is_space_or_mark(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, 0 | 0xef | 0xbb | 0xbf | 0xfe | 0xff)
}

struct Hex<'b>(&'b [u8]);

impl std::fmt::LowerHex for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(parts: &[&[u8]]) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
    format!("{:x}", Hex(&sha.finalize()))
}

/// Whether bytes that come in pieces are UTF-8.
#[derive(Default)]
struct Utf8 {
    /// The beginning of a character whose end is in the next piece.
    open: Vec<u8>,
    lines: u64,
    broken: Option<u64>,
}

impl Utf8 {
    fn take(&mut self, bytes: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        self.open.extend_from_slice(bytes);
        let (valid, is_broken) = match std::str::from_utf8(&self.open) {
            Ok(text) => (text.len(), false),
            Err(error) => (error.valid_up_to(), error.error_len().is_some()),
        };
        self.lines += self.open[..valid].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.open.drain(..valid);
        if is_broken {
            self.broken = Some(self.lines + 1);
        }
    }

    fn first_broken(&self) -> Option<u64> {
        self.broken.or_else(|| (!self.open.is_empty()).then_some(self.lines + 1))
    }
}

/// The text of a file, as UTF-8 without a byte-order mark.
pub(super) struct Text<R> {
    input: R,
    decoder: Decoder,
    raw: Vec<u8>,
    raw_used: usize,
    text: Vec<u8>,
    text_used: usize,
    is_at_end: bool,
    is_flushed: bool,
}

impl<R: Read> Text<R> {
    pub(super) fn new(input: R, encoding: &'static Encoding) -> Self {
        Self {
            input,
            decoder: encoding.new_decoder_with_bom_removal(),
            raw: Vec::new(),
            raw_used: 0,
            text: Vec::new(),
            text_used: 0,
            is_at_end: false,
            is_flushed: false,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        if self.raw_used == self.raw.len() && !self.is_at_end {
            self.raw.resize(CHUNK_BYTES, 0);
            let read = self.input.read(&mut self.raw)?;
            self.raw.truncate(read);
            self.raw_used = 0;
            self.is_at_end = read == 0;
        }
        self.text.resize(TEXT_BYTES, 0);
        let from = &self.raw[self.raw_used..];
        let (result, used, written) =
            self.decoder.decode_to_utf8_without_replacement(from, &mut self.text, self.is_at_end);
        self.raw_used += used;
        self.text.truncate(written);
        self.text_used = 0;
        match result {
            DecoderResult::InputEmpty => self.is_flushed = self.is_at_end,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => {
                let what = "the file is not text in its encoding; name the right one in --encoding";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Text<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.text_used == self.text.len() {
            if self.is_flushed {
                return Ok(0);
            }
            self.refill()?;
        }
        let from = &self.text[self.text_used..];
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        self.text_used += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(bytes: &[u8]) -> (&'static str, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("orders.csv");
        std::fs::write(&path, bytes).unwrap();
        let content = Content::of(&path, None).unwrap();
        let mut text = String::new();
        let mut input = Text::new(bytes, content.encoding);
        input.read_to_string(&mut text).unwrap();
        (content.encoding.name(), text)
    }

    #[test]
    fn the_encodings_of_spreadsheets_are_told_apart() {
        let sixteen = |big: bool, mark: bool| -> Vec<u8> {
            let mark = if mark { "\u{feff}" } else { "" };
            let units: Vec<u16> = format!("{mark}São;1").encode_utf16().collect();
            let bytes = |unit: &u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
            units.iter().flat_map(bytes).collect()
        };
        for (bytes, encoding) in [
            ("São;1".as_bytes().to_vec(), "UTF-8"),
            ("\u{feff}São;1".as_bytes().to_vec(), "UTF-8"),
            (b"S\xe3o;1".to_vec(), "windows-1252"),
            (sixteen(false, true), "UTF-16LE"),
            (sixteen(true, true), "UTF-16BE"),
            (sixteen(false, false), "UTF-16LE"),
            (sixteen(true, false), "UTF-16BE"),
        ] {
            assert_eq!(looked(&bytes), (encoding, "São;1".to_owned()), "{bytes:?}");
        }
    }

    #[test]
    fn a_character_across_two_reads_breaks_nothing() {
        let long = "ã".repeat(CHUNK_BYTES) + "x";
        assert_eq!(looked(long.as_bytes()), ("UTF-8", long.clone()));
        let (encoding, text) = looked(&b"x\xe3".repeat(CHUNK_BYTES));
        assert_eq!((encoding, text), ("windows-1252", "xã".repeat(CHUNK_BYTES)));
    }

    #[test]
    fn a_file_that_is_not_what_it_is_said_to_be_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.csv");
        std::fs::write(&path, b"a\nb\nS\xe3o\n").unwrap();
        let told = Content::of(&path, Some(Charset(UTF_8))).map(drop).unwrap_err().to_string();
        assert!(told.contains("o.csv:3: the line is not UTF-8"), "{told}");
    }
}
