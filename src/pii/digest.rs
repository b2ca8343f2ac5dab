//! The digest that stands in for a person.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// SHA-256 of a normal form, as the 64 lower-case hexadecimal digits that the upstream matches.
#[must_use]
pub fn sha256_hex(normal: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(normal.as_bytes()) {
        let written = write!(hex, "{byte:02x}");
        debug_assert!(written.is_ok(), "a string takes every write");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::sha256_hex;

    #[test]
    fn a_digest_is_lower_case_hexadecimal() {
        assert_eq!(
            sha256_hex(""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            sha256_hex("maria"),
            "94aec9fbed989ece189a7e172c9cf41669050495152bc4c1dbf2a38d7fd85627"
        );
    }
}
