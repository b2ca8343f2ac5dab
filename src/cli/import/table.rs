//! A table of orders: one line an item, the lines of an order one below the other.
//!
//! No more of it is in memory than one order. A value never leaves it but in an order.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use csv::{ErrorKind, StringRecord};

use super::columns::Columns;
use super::gathered::Gathered;
use super::lines::{Leash, Slack, likely_delimiter, said_delimiter};
use super::map::{Decimal, Map};
use super::members::{self, MEMBERS, Place, Shape};
use super::number::{self, Hint};
use super::order::{Fault, Name, ORDER_BYTES_MAX, Order};

/// Why a table cannot be read. Nothing of it is sent then.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableFault {
    #[error("{0}")]
    Read(io::Error),
    #[error("line {line}: {what}")]
    Line { line: u64, what: String },
    #[error("line {line}, column {column}: {what}")]
    Field { line: u64, column: String, what: String },
}

impl TableFault {
    pub(super) fn line(line: u64, what: impl Into<String>) -> Self {
        Self::Line { line, what: what.into() }
    }
}

/// Reads a table line by line.
pub(super) struct Table<'m, R> {
    rows: csv::Reader<Leash<BufReader<R>>>,
    slack: Rc<Slack>,
    columns: Columns,
    map: &'m Map,
    decimal: Decimal,
    /// Lines before those that the reader counts.
    before: u64,
    row: StringRecord,
    /// Whether `row` is the first of an order that was not taken yet.
    is_ahead: bool,
}

impl<'m, R: Read> Table<'m, R> {
    /// A table whose numbers are read with `decimal`.
    pub(super) fn new(input: R, map: &'m Map, decimal: Decimal) -> Result<Self, TableFault> {
        let mut input = BufReader::with_capacity(ORDER_BYTES_MAX, input);
        let mut before = 0;
        let mut delimiter = map.delimiter.map(|delimiter| delimiter.0);
        if let Some((said, length)) = said_delimiter(input.fill_buf().map_err(TableFault::Read)?) {
            input.consume(length);
            delimiter = delimiter.or(Some(said));
            before = 1;
        }
        let head = input.fill_buf().map_err(TableFault::Read)?;
        let delimiter = delimiter.unwrap_or_else(|| likely_delimiter(head));
        let (left, is_over) = (Cell::new(ORDER_BYTES_MAX), Cell::new(false));
        let slack = Rc::new(Slack { left, is_over });
        let leash = Leash::new(input, Rc::clone(&slack));
        let mut rows =
            csv::ReaderBuilder::new().has_headers(false).delimiter(delimiter).from_reader(leash);
        let mut heads = StringRecord::new();
        let is_there = rows.read_record(&mut heads).map_err(|error| fault(error, 1))?;
        if !is_there {
            return Err(TableFault::line(1, "the file is empty: its first line names the columns"));
        }
        let columns = Columns::of(&heads, map, before + 1)?;
        let (row, is_ahead) = (StringRecord::new(), false);
        Ok(Self { rows, slack, columns, map, decimal, before, row, is_ahead })
    }

    /// Heads of columns that nothing is made of.
    pub(super) fn unused(&self) -> Vec<&str> {
        let used: Vec<usize> = self.columns.of_member.iter().flatten().copied().collect();
        let heads = self.columns.heads.iter().enumerate();
        let unused = heads.filter(|(at, head)| !used.contains(at) && !head.is_empty());
        unused.map(|(_, head)| head.as_str()).collect()
    }

    /// What each number of the current row tells of the decimal sign, with the head of its column.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (Hint, &str)> {
        let numbers = MEMBERS.iter().zip(&self.columns.of_member);
        let numbers = numbers.filter(|(member, _)| member.shape == Shape::Number);
        numbers.flat_map(|(_, columns)| columns).map(|&column| {
            let text = self.row.get(column).unwrap_or_default();
            (number::hint(text), self.columns.heads[column].as_str())
        })
    }

    /// The line where the current row begins. The reader's own word for it counts empty lines before
    /// the row as its own; behind the row it has counted every line end.
    pub(super) fn line(&self) -> u64 {
        let within: usize = self.row.iter().map(|field| field.matches('\n').count()).sum();
        let behind = self.rows.position().line() + self.before;
        behind.saturating_sub(1 + within as u64)
    }

    /// Publisher and order of the current row.
    pub(super) fn key(&self) -> (String, String) {
        let text = |name: &str| {
            members::find(name).and_then(|member| self.text(member)).unwrap_or_default()
        };
        (text("publisher_id"), text("order_id"))
    }

    /// Goes to the next row that holds something.
    pub(super) fn advance(&mut self) -> Result<bool, TableFault> {
        loop {
            self.slack.left.set(ORDER_BYTES_MAX);
            let read = self.rows.read_record(&mut self.row);
            if matches!(read, Ok(false)) {
                return Ok(false);
            }
            // Every input ends in a line feed: a field that has it ends nowhere. The reader takes
            // that for the end of a row, and half of it for the whole.
            let last = self.row.iter().next_back().unwrap_or_default();
            if self.slack.is_over.get() && last.ends_with('\n') {
                let what = "a quote has no end: the file may be cut off";
                return Err(TableFault::line(self.line() + 1, what));
            }
            read.map_err(|error| fault(error, self.line()))?;
            // Spreadsheets leave rows of empty cells behind.
            if self.row.iter().any(|field| !field.trim().is_empty()) {
                return Ok(true);
            }
        }
    }

    /// The next order.
    pub(super) fn next(&mut self) -> Result<Option<Order>, TableFault> {
        if !self.is_ahead && !self.advance()? {
            return Ok(None);
        }
        self.is_ahead = false;
        let (line, key) = (self.line(), self.key());
        let mut gathered = Gathered::default();
        let mut last_line = line;
        loop {
            self.gather(&mut gathered);
            last_line = last_line.max(self.line());
            if !self.advance()? {
                break;
            }
            if self.key() != key {
                self.is_ahead = true;
                break;
            }
        }
        let named = |text: String| (!text.is_empty()).then_some(text);
        let name = Name { publisher_id: named(key.0), order_id: named(key.1) };
        Ok(Some(Order { line, last_line, name, body: gathered.finish() }))
    }

    /// What the current row says of a member; nothing where its field is empty.
    fn text(&self, member: usize) -> Option<String> {
        let columns = &self.columns.of_member[member];
        if columns.is_empty() {
            return self.columns.fixed[member].clone();
        }
        let fields = columns.iter().filter_map(|&column| self.row.get(column)).map(str::trim);
        let text = fields.filter(|field| !field.is_empty()).collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(text)
    }

    /// Takes the current row into its order.
    fn gather(&self, gathered: &mut Gathered) {
        let line = self.line();
        let mut item = Vec::new();
        for (at, member) in MEMBERS.iter().enumerate() {
            let Some(text) = self.text(at) else { continue };
            let taken = match (self.value(member.shape, &text), member.place) {
                (Ok(value), Place::Item) => {
                    item.push((member.name, value));
                    Ok(())
                }
                (Ok(value), Place::Order) => gathered.member(at, value),
                (Err(message), Place::Item | Place::Order) => Err(message),
            };
            if let Err(message) = taken {
                gathered.fault(Fault { line, column: self.columns.name(at), message });
            }
        }
        gathered.item(item);
    }

    /// The JSON of a field.
    fn value(&self, shape: Shape, text: &str) -> Result<String, &'static str> {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match shape {
            Shape::Text => Ok(quoted(text)),
            Shape::Number => number::read(text, self.decimal).ok_or(match self.decimal {
                Decimal::Comma => "is no number with a decimal comma: write 1899,00 or 1.899,00",
                Decimal::Point => "is no number with a decimal point: write 1899.00 or 1,899.00",
            }),
            Shape::YesNo => match text.to_lowercase().as_str() {
                "true" | "1" | "yes" | "y" | "sim" | "s" => Ok("true".to_owned()),
                "false" | "0" | "no" | "n" | "não" | "nao" => Ok("false".to_owned()),
                _ => Err("is neither true nor false, yes nor no, sim nor não, 1 nor 0"),
            },
            Shape::Moment => match &self.map.pattern {
                None => Ok(quoted(text)),
                Some(pattern) => pattern
                    .read(text, self.map.offset.as_ref())
                    .map(|text| quoted(&text))
                    .ok_or("is not written as created_at_format says"),
            },
        }
    }
}

fn fault(error: csv::Error, line: u64) -> TableFault {
    match error.into_kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => TableFault::line(
            line,
            format!(
                "the line has {len} fields where the first line names {expected_len}: put quotes \
             around a field that holds the delimiter, or name the right --delimiter"
            ),
        ),
        ErrorKind::Io(error) => TableFault::Read(error),
        // The text is UTF-8 by now, and nothing is sought or deserialized; what more may be is the
        // crate's to say.
        ErrorKind::Utf8 { .. }
        | ErrorKind::Seek
        | ErrorKind::Serialize(_)
        | ErrorKind::Deserialize { .. }
        | _ => TableFault::line(line, "the line cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::Wrong;
    use super::*;

    const HEAD: &str = "order_id,publisher_id,created_at,sku,quantity,price,promotional_price";

    /// Where orders stand, as lines, in a file with these line ends.
    fn places(text: &str, end: &str) -> Vec<(String, u64, u64)> {
        let (text, map) = (text.replace('\n', end), Map::default());
        let mut table = Table::new(text.as_bytes(), &map, Decimal::Point).unwrap();
        let mut found = Vec::new();
        while let Some(order) = table.next().unwrap() {
            found.push((order.name.order_id.unwrap_or_default(), order.line, order.last_line));
        }
        found
    }

    #[test]
    fn lines_are_told_as_an_editor_counts_them() {
        let row = |id: &str, sku: &str| format!("{id},p,2026-11-20T09:20:00Z,{sku},1,1,1");
        let rows =
            [row("a", "1"), row("a", "2"), String::new(), row("b", "\"x\ny\""), row("c", "3")];
        let text = format!("{HEAD}\n{}", rows.join("\n"));
        let told = [("a", 2, 3), ("b", 5, 5), ("c", 7, 7)];
        let told = told.map(|(id, line, last)| (id.to_owned(), line, last));
        for end in ["\n", "\r\n"] {
            assert_eq!(places(&text, end), told, "{end:?}");
            assert_eq!(places(&format!("{text}\n"), end), told, "{end:?} at its end too");
            let said = places(&format!("sep=,\n{text}"), end);
            assert_eq!(said.iter().map(|(_, line, _)| *line).collect::<Vec<_>>(), [3, 6, 8]);
        }
    }

    #[test]
    fn a_file_that_is_cut_off_within_quotes_is_told_with_the_line_of_the_quote() {
        let map = Map::default();
        let told = |end: &str| {
            let text = format!("{HEAD},city\na,p,t,1,1,1,1,Natal\nb,p,t,1,1,1,{end}");
            let mut table = Table::new(text.as_bytes(), &map, Decimal::Point).unwrap();
            loop {
                match table.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => return "sound".to_owned(),
                    Err(fault) => return fault.to_string(),
                }
            }
        };
        for end in ["1,Bauru", "1,\"Bauru\"", "1,\"Bauru\n\"", "1,\"Bauru\n\"\n", "1,\"Bauru\"\r\n"]
        {
            assert_eq!(told(end), "sound", "{end:?}");
        }
        for end in ["1,\"Bau", "1,\"Bau\n", "1,\"Bau\"\"", "1,\"Bau\nc,p,t,1,1,1,1,x\n", "\"1"] {
            assert_eq!(told(end), "line 3: a quote has no end: the file may be cut off", "{end:?}");
        }
    }

    #[test]
    fn an_order_whose_lines_disagree_is_not_sent() {
        let map = Map::default();
        let text =
            format!("{HEAD},city\na,p,t,1,1,1,1,Natal\na,p,t,1,1,1,1,\na,p,t,1,1,1,1,Bauru\n");
        let mut table = Table::new(text.as_bytes(), &map, Decimal::Point).unwrap();
        let order = table.next().unwrap().unwrap();
        let message = "differs from an earlier line of the same order";
        let fault = Fault { line: 4, column: "city".to_owned(), message };
        assert_eq!(order.body, Err(Wrong::Fields(vec![fault])));
        assert_eq!(table.next().unwrap(), None);
    }
}
