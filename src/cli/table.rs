//! Tables for people: columns as wide as they must be, colours where a terminal takes them.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use serde_json::Value;

/// How a cell looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Look {
    #[default]
    Plain,
    /// Something is wrong.
    Bad,
}

/// Rows under a head.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<(String, Look)>>,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|name| ((*name).to_owned(), Look::Plain)).collect()] }
    }

    pub(super) fn row(&mut self, cells: Vec<(String, Look)>) {
        self.rows.push(cells);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// Its lines, with escapes for colours that the stream takes out where they are not wanted.
    pub(super) fn render(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|(text, _)| text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for ((text, look), width) in row.iter().zip(&widths) {
                let style = match look {
                    _ if number == 0 => Style::new().bold(),
                    Look::Plain => Style::new(),
                    Look::Bad => Style::new().fg_color(Some(AnsiColor::Red.into())),
                };
                let pad = " ".repeat(width - text.chars().count() + 2);
                line.push_str(&format!("{style}{text}{style:#}{pad}"));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// A plain cell of what an answer says; `-` where it says nothing.
pub(super) fn cell(value: &Value) -> (String, Look) {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    (text, Look::Plain)
}

/// Prints what is coloured only where a terminal takes colours.
pub(super) fn print(text: &str) {
    let _unheard = write!(anstream::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["ID", "STATE"]);
        assert!(table.is_empty());
        table.row(vec![("12345".to_owned(), Look::Plain), ("ok".to_owned(), Look::Bad)]);
        table.row(vec![cell(&Value::Null), cell(&"é".into())]);
        let plain = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(plain, "ID     STATE\n12345  ok\n-      é\n");
    }
}
