//! What a store knows of requests it has answered.

use super::Appended;

/// What a batch was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// One answer for each event of the batch, in order. When `repeated`, the answers of the first
    /// request: as many as that had events, which is another number only if the rules that admit
    /// items have changed between the two.
    pub appended: Vec<Appended>,
    /// The request was known by its key, with the same body: nothing was stored by this one.
    pub repeated: bool,
}
