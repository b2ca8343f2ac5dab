//! The first pass over a table: what must hold for all of it before anything of it is sent.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Read;

use super::map::{Decimal, Map};
use super::number::Hint;
use super::table::{Table, TableFault};

/// Orders of one file: 16 bytes each are kept, 128 MiB in all.
const ORDERS_MAX: usize = 8 << 20;

/// What the whole table tells.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) decimal: Decimal,
    /// Heads of columns that nothing is made of.
    pub(super) unused: Vec<String>,
}

/// Reads a table to its end.
///
/// # Errors
/// A line that is no row, an order whose lines stand apart, numbers that can be read two ways.
pub(super) fn survey(input: impl Read, map: &Map) -> Result<Survey, TableFault> {
    let mut table = Table::new(input, map, Decimal::Point)?;
    let unused = table.unused().into_iter().map(str::to_owned).collect();
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let (mut firsts, mut current): (Vec<(u64, u64)>, _) = (Vec::new(), None);
    let mut signs = Signs::default();
    while table.advance()? {
        let line = table.line();
        if map.decimal.is_none() {
            for (hint, column) in table.numbers() {
                signs.take(hint, line, column)?;
            }
        }
        let key = table.key();
        if current.as_ref() != Some(&key) {
            if firsts.len() == ORDERS_MAX {
                let what = format!("there are over {ORDERS_MAX} orders: split the file");
                return Err(TableFault::line(line, what));
            }
            firsts.push((hasher.hash_one(&key), line));
            current = Some(key);
        }
    }
    // Two orders of one hash among eight millions: once in half a million files, and then sorting
    // it differently is no help, but renaming one order is.
    firsts.sort_unstable();
    let twice = firsts.windows(2).find(|pair| pair[0].0 == pair[1].0);
    if let Some([(_, first), (_, line)]) = twice {
        let what = format!(
            "this order began at line {first} already, with others between: sort the file by \
             order, so that its lines stand together"
        );
        return Err(TableFault::line(*line, what));
    }
    let decimal = map.decimal.map_or_else(|| signs.decide(), Ok)?;
    Ok(Survey { decimal, unused })
}

/// What the numbers so far tell of the decimal sign, each with line and column of the first.
#[derive(Default)]
struct Signs {
    comma: Option<(u64, String)>,
    point: Option<(u64, String)>,
    either: Option<(u64, String)>,
}

impl Signs {
    fn take(&mut self, hint: Hint, line: u64, column: &str) -> Result<(), TableFault> {
        let (own, other) = match hint {
            Hint::None => return Ok(()),
            Hint::Either => (&mut self.either, None),
            Hint::Only(Decimal::Comma) => (&mut self.comma, self.point.as_ref()),
            Hint::Only(Decimal::Point) => (&mut self.point, self.comma.as_ref()),
        };
        if own.is_none() {
            *own = Some((line, column.to_owned()));
        }
        match other {
            None => Ok(()),
            Some((first, _)) => Err(TableFault::Field {
                line,
                column: column.to_owned(),
                what: format!(
                    "another decimal sign than at line {first}: write all numbers alike, or name \
                     the right sign in --decimal"
                ),
            }),
        }
    }

    fn decide(self) -> Result<Decimal, TableFault> {
        match (self.comma, self.point, self.either) {
            (Some(_), _, _) => Ok(Decimal::Comma),
            (None, Some(_), _) | (None, None, None) => Ok(Decimal::Point),
            (None, None, Some((line, column))) => Err(TableFault::Field {
                line,
                column,
                what: "the number can be read two ways, and no other number tells which: say \
                       --decimal comma or --decimal point"
                    .to_owned(),
            }),
        }
    }
}
