//! The mapping file: how a shop's columns become an order. Flags outrank it.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use serde::Deserialize;

use super::members;
use super::moment::{Offset, Pattern};
use crate::cli::Refused;

/// What a file's decimal sign is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Decimal {
    /// 1.899,90
    Comma,
    /// 1,899.90
    Point,
}

/// How a file's bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charset(pub(super) &'static Encoding);

impl FromStr for Charset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = match text.to_ascii_lowercase().as_str() {
            "utf-8" | "utf8" => UTF_8,
            "utf-16" | "utf-16le" => UTF_16LE,
            "utf-16be" => UTF_16BE,
            // Every byte has a meaning there, ISO 8859-1 is a part of it.
            "windows-1252" | "cp1252" | "latin1" | "iso-8859-1" => WINDOWS_1252,
            _ => return Err("is none of utf-8, utf-16le, utf-16be, windows-1252".to_owned()),
        };
        Ok(Self(found))
    }
}

/// The byte between two fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delimiter(pub(super) u8);

impl FromStr for Delimiter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tab" | "\\t" | "\t" => Ok(Self(b'\t')),
            "," | ";" | "|" => Ok(Self(text.as_bytes()[0])),
            _ => Err("is none of ; , | tab".to_owned()),
        }
    }
}

/// One column, or several whose fields are joined by a space.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Heads {
    One(String),
    Joined(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    delimiter: Option<String>,
    encoding: Option<String>,
    decimal: Option<Decimal>,
    created_at_format: Option<String>,
    created_at_offset: Option<String>,
    #[serde(default)]
    columns: BTreeMap<String, Heads>,
    #[serde(default)]
    fixed: BTreeMap<String, String>,
}

/// How a file is read.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) delimiter: Option<Delimiter>,
    pub(super) charset: Option<Charset>,
    pub(super) decimal: Option<Decimal>,
    pub(super) pattern: Option<Pattern>,
    pub(super) offset: Option<Offset>,
    /// Heads of the columns of a member, by its place among all.
    pub(super) columns: BTreeMap<usize, Vec<String>>,
    /// The same for every order.
    pub(super) fixed: BTreeMap<usize, String>,
}

impl Map {
    /// Reads a mapping file.
    pub(super) fn read(path: &Path) -> Result<Self, Refused> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Refused(format!("cannot read {name}: {error}")))?;
        Self::parse(&text).map_err(|what| Refused(format!("{name}: {what}")))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let written: Written = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text[..at.min(text.len())].matches('\n').count() + 1;
            format!("line {line}: {}", error.message())
        })?;
        let said = |key: &str, fault: String| format!("{key} {fault}");
        let mut map = Self { decimal: written.decimal, ..Self::default() };
        if let Some(text) = &written.delimiter {
            map.delimiter = Some(text.parse().map_err(|fault| said("delimiter", fault))?);
        }
        if let Some(text) = &written.encoding {
            map.charset = Some(text.parse().map_err(|fault| said("encoding", fault))?);
        }
        if let Some(text) = &written.created_at_format {
            map.pattern = Some(
                Pattern::parse(text)
                    .map_err(|fault| said("created_at_format", fault.to_owned()))?,
            );
        }
        if let Some(text) = &written.created_at_offset {
            let offset = Offset::parse(text).ok_or("created_at_offset is not like \"-03:00\"")?;
            if map.pattern.is_none() {
                return Err("created_at_offset needs a created_at_format beside it".to_owned());
            }
            map.offset = Some(offset);
        }
        for (name, heads) in written.columns {
            let heads = match heads {
                Heads::One(head) => vec![head],
                Heads::Joined(heads) if !heads.is_empty() => heads,
                Heads::Joined(_) => return Err(format!("columns.{name} names no column")),
            };
            map.columns.insert(member("columns", &name)?, heads);
        }
        for (name, value) in written.fixed {
            let place = member("fixed", &name)?;
            if map.columns.contains_key(&place) {
                return Err(format!("{name} has a column and a fixed value: leave one of them"));
            }
            map.fixed.insert(place, value);
        }
        Ok(map)
    }
}

fn member(table: &str, name: &str) -> Result<usize, String> {
    let known = members::MEMBERS.iter().position(|member| member.name == name);
    known.ok_or_else(|| {
        let hint = members::nearest(name);
        let hint = hint.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        format!("{table}.{name} is no member of an order or an item{hint}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_file_is_told_with_its_remedy() {
        for (text, told) in [
            ("delimiter = \"x\"", "delimiter is none of ; , | tab"),
            (
                "encoding = \"ebcdic\"",
                "encoding is none of utf-8, utf-16le, utf-16be, windows-1252",
            ),
            (
                "[columns]\norder_di = \"N\"",
                "columns.order_di is no member of an order or an item; did you mean order_id?",
            ),
            ("[columns]\nsku = []", "columns.sku names no column"),
            (
                "[columns]\nsku = \"A\"\n[fixed]\nsku = \"B\"",
                "sku has a column and a fixed value: leave one of them",
            ),
            (
                "created_at_format = \"DD/MM\"",
                "created_at_format lacks YYYY: it needs YYYY, MM, DD, and may have hh, mm, ss",
            ),
            (
                "created_at_offset = \"-03:00\"",
                "created_at_offset needs a created_at_format beside it",
            ),
            (
                "\ncolums = 1",
                "line 2: unknown field `colums`, expected one of `delimiter`, `encoding`, `decimal`, `created_at_format`, `created_at_offset`, `columns`, `fixed`",
            ),
        ] {
            assert_eq!(Map::parse(text).map(drop), Err(told.to_owned()), "{text}");
        }
    }
}
