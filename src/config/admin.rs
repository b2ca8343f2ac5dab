//! `[admin]`: where operators are, and by what they are known.

use std::net::SocketAddr;

use super::fault::{Faults, Place};
use super::layers::Table;
use super::plan::address;
use super::reader::{Found, Reader};
use super::secret::{self, Outside};
use crate::http::admin::Token;

/// The admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The token of its API.
    pub token: Option<Token>,
    /// The token of those who may also see values of bodies.
    pub reveal: Option<Token>,
}

/// Reads the table. What is wrong is noted.
pub(super) fn read(reader: Reader<'_>, outside: &dyn Outside) -> Option<Admin> {
    let listen = address(&reader);
    let own = secret::read(&reader, outside, "token_env", "token_file");
    let reveal = secret::read(&reader, outside, "reveal_token_env", "reveal_token_file");
    reader.finish();
    let token = |secret: Option<Vec<u8>>| secret.map(|secret| Token::new(&secret));
    Some(Admin { listen: listen?, token: token(own), reveal: token(reveal) })
}

/// Reads the table of merged layers as one who asks a running relay: what is wrong elsewhere is the
/// relay's business, and a secret that is not there is none.
///
/// # Errors
/// The [`Faults`] of files that cannot be read, and of an address that is none.
pub(super) fn read_alone(
    root: &Table,
    found: Found,
    outside: &dyn Outside,
) -> Result<Admin, Faults> {
    let faults = found.into_sorted();
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    let unsaid = Found::default();
    let reader = Reader::new(root, String::new(), Place::outside("the configuration"), &unsaid);
    let admin = reader.table("admin").and_then(|reader| read(reader, outside));
    admin.ok_or_else(|| Faults(unsaid.into_sorted()))
}
