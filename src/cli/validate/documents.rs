//! The documents of a file, one after another: no more of it is in memory than one document.
//!
//! This only finds where documents begin and end, by brackets and quotes; whether they are JSON
//! is for the parser to say. A broken line costs no other line.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use bytes::Bytes;

/// How documents follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Form {
    /// Not looked at yet.
    Unknown,
    /// One a line.
    Lines,
    /// Over several lines each, a new one on a new line.
    Spread,
    /// Items of one array.
    Array,
    /// Behind the array's end.
    Behind,
    /// Nothing more comes.
    Ended,
}

impl Form {
    /// What a file's name tells.
    pub(in crate::cli) fn of(path: &Path) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension {
            Some("ndjson" | "jsonl") => Self::Lines,
            Some(_) | None => Self::Unknown,
        }
    }
}

/// One document and where it begins.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Document {
    /// From 1.
    pub(in crate::cli) line: usize,
    /// In bytes, from 1.
    pub(in crate::cli) column: usize,
    pub(in crate::cli) text: Text,
}

/// What stands there.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum Text {
    /// A document's bytes, without white space around them.
    Whole(Bytes),
    /// More bytes than a document may have.
    TooLarge,
    /// What is wrong with the file around its documents.
    Broken(&'static str),
}

/// Reads documents one by one.
pub(in crate::cli) struct Documents<R> {
    input: BufReader<R>,
    form: Form,
    bytes_max: usize,
    /// Where the next byte stands.
    line: usize,
    column: usize,
    /// Documents handed out.
    count: usize,
}

/// What ended a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Line,
    Comma,
    Bracket,
    Input,
}

/// One document as it is gathered.
struct Gathered {
    line: usize,
    column: usize,
    bytes: Vec<u8>,
    is_too_large: bool,
    /// Whether it went on behind a line's end.
    is_spread: bool,
    end: End,
}

impl<R: Read> Documents<R> {
    /// Documents of `input`, each of at most `bytes_max`.
    pub(in crate::cli) fn new(input: R, form: Form, bytes_max: usize) -> Self {
        let input = BufReader::with_capacity(64 << 10, input);
        Self { input, form, bytes_max, line: 1, column: 1, count: 0 }
    }

    /// The next document. After an error or the end, ask no more.
    pub(in crate::cli) fn next(&mut self) -> io::Result<Option<Document>> {
        if (self.line, self.column) == (1, 1) && !self.skip_mark()? {
            self.form = Form::Ended;
            let text = Text::Broken("the file is not text in UTF-8");
            return Ok(Some(Document { line: 1, column: 1, text }));
        }
        let Some(first) = self.skip_space()? else { return Ok(self.at_end()) };
        let (line, column) = (self.line, self.column);
        let broken = |what| Some(Document { line, column, text: Text::Broken(what) });
        if self.form == Form::Unknown && first == b'[' {
            self.form = Form::Array;
            self.step()?;
            match self.skip_space()? {
                Some(b']') => {
                    self.step()?;
                    self.form = Form::Behind;
                    return self.next();
                }
                Some(_) => {}
                None => return Ok(self.at_end()),
            }
        }
        match self.form {
            Form::Ended => return Ok(None),
            Form::Behind => {
                self.form = Form::Ended;
                return Ok(broken("something stands behind the end of the array"));
            }
            Form::Unknown | Form::Lines | Form::Spread | Form::Array => {}
        }
        let gathered = self.gather()?;
        if self.form == Form::Unknown {
            self.form = if gathered.is_spread { Form::Spread } else { Form::Lines };
        } else if gathered.end == End::Bracket {
            self.form = Form::Behind;
        }
        self.count += 1;
        let Gathered { line, column, mut bytes, is_too_large, .. } = gathered;
        bytes.truncate(bytes.trim_ascii_end().len());
        let text = if is_too_large { Text::TooLarge } else { Text::Whole(bytes.into()) };
        Ok(Some(Document { line, column, text }))
    }

    /// What the end of the input means.
    fn at_end(&mut self) -> Option<Document> {
        let what = match self.form {
            Form::Array => Some("the array has no end"),
            Form::Unknown | Form::Lines | Form::Spread if self.count == 0 => {
                Some("there is no document")
            }
            Form::Unknown | Form::Lines | Form::Spread | Form::Behind | Form::Ended => None,
        };
        self.form = Form::Ended;
        let (line, column) = (self.line, self.column);
        what.map(|what| Document { line, column, text: Text::Broken(what) })
    }

    /// Gathers bytes up to what ends a document of this form, and steps over that.
    fn gather(&mut self) -> io::Result<Gathered> {
        let mut gathered = Gathered {
            line: self.line,
            column: self.column,
            bytes: Vec::new(),
            is_too_large: false,
            is_spread: false,
            end: End::Input,
        };
        let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
        while let Some(byte) = self.peek()? {
            let is_array = self.form == Form::Array;
            match byte {
                // No text goes on behind a line's end: a quote is missing, and the parser says so.
                b'\n' if depth == 0 && !is_array || self.form == Form::Lines => {
                    gathered.end = End::Line;
                }
                b'\n' => (is_text, is_escaped, gathered.is_spread) = (false, false, true),
                _ if is_escaped => is_escaped = false,
                b'\\' if is_text => is_escaped = true,
                b'"' => is_text = !is_text,
                _ if is_text => {}
                b',' if is_array && depth == 0 => gathered.end = End::Comma,
                b']' if is_array && depth == 0 => gathered.end = End::Bracket,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.step()?;
            if gathered.end != End::Input {
                break;
            }
            if gathered.bytes.len() < self.bytes_max {
                gathered.bytes.push(byte);
            } else if !byte.is_ascii_whitespace() {
                gathered.is_too_large = true;
            }
        }
        Ok(gathered)
    }

    /// Steps over a byte-order mark; tells whether the file goes on as text may.
    fn skip_mark(&mut self) -> io::Result<bool> {
        if self.peek()? != Some(b'\xef') {
            return Ok(true);
        }
        for expected in *b"\xef\xbb\xbf" {
            if self.peek()? != Some(expected) {
                return Ok(false);
            }
            self.step()?;
        }
        self.column = 1;
        Ok(true)
    }

    /// Steps over white space and tells what stands behind it.
    fn skip_space(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.peek()? {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.step()?,
                other => return Ok(other),
            }
        }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.input.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Steps over the byte that [`Documents::peek`] tells.
    fn step(&mut self) -> io::Result<()> {
        if let Some(byte) = self.peek()? {
            self.input.consume(1);
            let is_line_end = byte == b'\n';
            self.line += usize::from(is_line_end);
            self.column = if is_line_end { 1 } else { self.column + 1 };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte a read, so that nothing rests on where a buffer ends.
    struct Slow<'t>(&'t [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(self.0.len()).min(1);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn split(text: &str, form: Form) -> Vec<String> {
        let mut documents = Documents::new(Slow(text.as_bytes()), form, 16);
        let mut found = Vec::new();
        while let Some(Document { line, column, text }) = documents.next().unwrap() {
            let shown = match text {
                Text::Whole(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                Text::TooLarge => "too large".to_owned(),
                Text::Broken(what) => format!("broken: {what}"),
            };
            found.push(format!("{line}:{column} {shown}"));
        }
        found
    }

    #[test]
    fn one_document_may_stand_on_one_line_or_many() {
        assert_eq!(split("{\"a\":1}", Form::Unknown), ["1:1 {\"a\":1}"]);
        assert_eq!(split("\n {\n\"a\":1\n}\n\n", Form::Unknown), ["2:2 {\n\"a\":1\n}"]);
        assert_eq!(split("{\n}\n{\n}\r\n", Form::Unknown), ["1:1 {\n}", "3:1 {\n}"]);
        assert_eq!(split("5", Form::Unknown), ["1:1 5"]);
    }

    #[test]
    fn a_broken_line_costs_no_other() {
        let lines = "{\"a\":1}\n{\"b\":\r\n\n\"c\n{\"d\":\"}\"}\n";
        let expected = ["1:1 {\"a\":1}", "2:1 {\"b\":", "4:1 \"c", "5:1 {\"d\":\"}\"}"];
        assert_eq!(split(lines, Form::Unknown), expected);
        assert_eq!(split("{\"a\n{}\n", Form::Lines), ["1:1 {\"a", "2:1 {}"]);
        assert_eq!(split("[1]\n[2]\n", Form::Lines), ["1:1 [1]", "2:1 [2]"]);
    }

    #[test]
    fn an_array_is_taken_apart() {
        assert_eq!(
            split(r#"[{"a":[1,2]}, "],\"" ,{"b":{}}]"#, Form::Unknown),
            [r#"1:2 {"a":[1,2]}"#, r#"1:15 "],\"""#, r#"1:23 {"b":{}}"#]
        );
        assert_eq!(split("[\n{},\n{}\n]\n", Form::Unknown), ["2:1 {}", "3:1 {}"]);
        assert_eq!(split("[ ]", Form::Unknown), [""; 0]);
        assert_eq!(split("[{},]", Form::Unknown), ["1:2 {}", "1:5 "]);
        assert_eq!(split("[{} {}]", Form::Unknown), ["1:2 {} {}"]);
    }

    #[test]
    fn what_is_wrong_around_documents_is_told() {
        let none = "broken: there is no document";
        assert_eq!(split("", Form::Unknown), [format!("1:1 {none}")]);
        assert_eq!(split(" \n", Form::Lines), [format!("2:1 {none}")]);
        let endless = "broken: the array has no end";
        assert_eq!(split("[", Form::Unknown), [format!("1:2 {endless}")]);
        assert_eq!(split("[{}", Form::Unknown), ["1:2 {}".into(), format!("1:4 {endless}")]);
        let behind = "broken: something stands behind the end of the array";
        assert_eq!(split("[1] x {}", Form::Unknown), ["1:2 1".into(), format!("1:5 {behind}")]);
    }

    #[test]
    fn a_document_over_the_limit_is_stepped_over() {
        let large = format!("{{\"a\":\"{}\"}}\n{{}}\n", "}\\\"".repeat(100));
        assert_eq!(split(&large, Form::Unknown), ["1:1 too large", "2:1 {}"]);
        assert_eq!(
            split("[1234567890123456 ,{\"a\":12345678901},2]", Form::Unknown),
            ["1:2 1234567890123456", "1:20 too large", "1:38 2"]
        );
    }

    #[test]
    fn a_byte_order_mark_in_front_is_none_of_the_text() {
        let text = b"\xef\xbb\xbf{}\n{}\n".as_slice();
        let mut documents = Documents::new(Slow(text), Form::Unknown, 16);
        let first = documents.next().unwrap().unwrap();
        let expected = Text::Whole(Bytes::from_static(b"{}"));
        assert_eq!((first.line, first.column, first.text), (1, 1, expected));
        let mut documents = Documents::new(Slow(b"\xef\xbb{}"), Form::Unknown, 16);
        let first = documents.next().unwrap().unwrap();
        assert_eq!(first.text, Text::Broken("the file is not text in UTF-8"));
        assert_eq!(documents.next().unwrap(), None);
    }
}
