//! One order of a file, as it goes out.

use bytes::Bytes;

/// Bytes of one line, and of one order. A quote without its end would take in the whole file.
pub(super) const ORDER_BYTES_MAX: usize = 1 << 20;

/// One order, and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// From 1.
    pub(super) line: u64,
    pub(super) last_line: u64,
    pub(super) name: Name,
    /// Its JSON on one line, or why it cannot be sent.
    pub(super) body: Result<Bytes, Wrong>,
}

/// By what a shop knows its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) publisher_id: Option<String>,
    pub(super) order_id: Option<String>,
}

/// Why an order of the file is not sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Some of its fields cannot be read.
    Fields(Vec<Fault>),
    /// It is longer than an order may be.
    TooLarge,
    /// It is no JSON, at a line and a column of the file.
    Json { line: u64, column: u64 },
    /// What is wrong with the file around it.
    Around(&'static str),
}

/// One field that cannot be read. Its value is not told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: u64,
    /// The head of its column.
    pub(super) column: String,
    pub(super) message: &'static str,
}
