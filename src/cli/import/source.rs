//! The orders of a file, one after another, whatever its form.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::content::{Content, Text};
use super::map::{Decimal, Map};
use super::order::{Name, ORDER_BYTES_MAX, Order, Wrong};
use super::table::{Table, TableFault};
use crate::cli::validate::documents::{self, Documents, Form};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// One line an item
    Csv,
    /// One JSON order a line
    Ndjson,
}

impl Format {
    /// By the file's name, and where that does not tell by what it begins with.
    pub(super) fn of(path: &Path, encoding: &'static encoding_rs::Encoding) -> io::Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("csv" | "tsv") => return Ok(Self::Csv),
            Some("ndjson" | "jsonl" | "json") => return Ok(Self::Ndjson),
            Some(_) | None => {}
        }
        let mut head = [0; 256];
        let read = Text::new(File::open(path)?, encoding).read(&mut head)?;
        let first = head[..read].iter().find(|byte| !byte.is_ascii_whitespace());
        Ok(if matches!(first, Some(b'{' | b'[')) { Self::Ndjson } else { Self::Csv })
    }
}

/// Reads a file's orders.
pub(super) enum Orders<'m> {
    Table(Box<Table<'m, Text<File>>>),
    Documents(Documents<Text<File>>),
}

impl<'m> Orders<'m> {
    pub(super) fn open(
        path: &Path,
        content: &Content,
        format: Format,
        map: &'m Map,
        decimal: Decimal,
    ) -> Result<Self, TableFault> {
        let file = File::open(path).map_err(TableFault::Read)?;
        let text = Text::new(file, content.encoding);
        Ok(match format {
            Format::Csv => Self::Table(Box::new(Table::new(text, map, decimal)?)),
            Format::Ndjson => {
                Self::Documents(Documents::new(text, Form::of(path), ORDER_BYTES_MAX))
            }
        })
    }

    /// The next order. After a fault, ask no more.
    pub(super) fn next(&mut self) -> Result<Option<Order>, TableFault> {
        match self {
            Self::Table(table) => table.next(),
            Self::Documents(documents) => {
                let next = documents.next().map_err(TableFault::Read)?;
                Ok(next.map(of_document))
            }
        }
    }
}

#[derive(Deserialize)]
struct Named {
    publisher_id: Option<serde_json::Value>,
    order_id: Option<serde_json::Value>,
}

fn of_document(document: documents::Document) -> Order {
    let line = document.line as u64;
    let (mut last_line, mut name) = (line, Name::default());
    let body = match document.text {
        documents::Text::TooLarge => Err(Wrong::TooLarge),
        documents::Text::Broken(what) => Err(Wrong::Around(what)),
        documents::Text::Whole(text) => {
            last_line += text.iter().filter(|byte| **byte == b'\n').count() as u64;
            match serde_json::from_slice::<IgnoredAny>(&text) {
                Ok(_) => {
                    name = named(&text);
                    Ok(on_one_line(text))
                }
                Err(error) => {
                    let before = if error.line() <= 1 { document.column - 1 } else { 0 };
                    let line = line + (error.line().max(1) - 1) as u64;
                    Err(Wrong::Json { line, column: (before + error.column().max(1)) as u64 })
                }
            }
        }
    };
    Order { line, last_line, name, body }
}

fn named(text: &[u8]) -> Name {
    let text_of = |value: serde_json::Value| value.as_str().map(str::to_owned);
    // What is no object, or names a key twice, is refused by the relay and has no name.
    let Ok(named) = serde_json::from_slice::<Named>(text) else { return Name::default() };
    Name {
        publisher_id: named.publisher_id.and_then(text_of),
        order_id: named.order_id.and_then(text_of),
    }
}

/// The same document without line ends, which stand between its parts: it is JSON, so none is in a
/// string.
fn on_one_line(text: Bytes) -> Bytes {
    if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return text;
    }
    let space = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
    text.iter().map(space).collect::<Vec<u8>>().into()
}
