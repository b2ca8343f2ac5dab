//! Encryption at rest: what was to be sent and what was answered, unreadable without a key.
//!
//! Each segment has a data key of its own, derived from the operator's key and the segment's
//! random nonce, so a sequence is a nonce that is never used twice under one key. Ids, times,
//! names, dedupe keys and digests stay as they are: recovery and the key index need them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
use ring::digest::{self, SHA256};
use ring::hkdf::{HKDF_SHA256, Salt};

use super::LogKind;
use super::files::{Disk, Real};
use super::segment::Head;
use crate::spool::StoreFault;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes that a sealed record has more than a plain one.
pub(super) const TAG_BYTES: usize = 16;
/// Keys that one ring may hold: the one that writes, and older ones.
const KEYS_MAX: usize = 8;
/// What the data keys are for; another use would name another.
const PURPOSE: &[u8] = b"beacon-relay spool record 1";
/// What the names of keys are made with, so that a name says nothing about its key.
const NAMING: &[u8] = b"beacon-relay spool key name 1";

/// Tells one key from another without telling anything about it.
pub(super) type KeyId = [u8; 16];

/// The keys of a store: the first writes, the others still open what they wrote.
#[derive(Clone, Default)]
pub struct Keyring(Arc<[Key]>);

struct Key {
    id: KeyId,
    bytes: [u8; KEY_BYTES],
}

impl Key {
    fn derive(&self, nonce: &[u8; 16]) -> Option<Seal> {
        let derived = Salt::new(HKDF_SHA256, nonce).extract(&self.bytes);
        // Only a length beyond the digest's reach fails, and this one is the cipher's own.
        let data = derived.expand(&[PURPOSE], &CHACHA20_POLY1305).ok()?;
        Some(Seal(Arc::new(LessSafeKey::new(UnboundKey::from(data)))))
    }
}

/// Why a text holds no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringFault {
    /// One of the words is no key.
    #[error("holds what is no key of 32 bytes, in 64 hex digits or in base64")]
    Malformed,
    /// The same key stands there twice.
    #[error("holds the same key twice")]
    Repeated,
    /// More than can be tried.
    #[error("holds more than 8 keys")]
    TooMany,
}

impl Keyring {
    /// Reads keys between white space, each of 32 bytes in hex or base64.
    ///
    /// # Errors
    /// [`KeyringFault`], which quotes nothing.
    pub fn parse(text: &[u8]) -> Result<Self, KeyringFault> {
        let text = std::str::from_utf8(text).map_err(|_| KeyringFault::Malformed)?;
        let mut keys: Vec<Key> = Vec::new();
        for word in text.split_whitespace() {
            let bytes = from_hex(word).or_else(|| from_base64(word));
            let bytes = bytes.ok_or(KeyringFault::Malformed)?;
            let id = name(&bytes);
            if keys.iter().any(|key| key.id == id) {
                return Err(KeyringFault::Repeated);
            }
            if keys.len() == KEYS_MAX {
                return Err(KeyringFault::TooMany);
            }
            keys.push(Key { id, bytes });
        }
        if keys.is_empty() { Err(KeyringFault::Malformed) } else { Ok(Self(keys.into())) }
    }

    /// Whether new segments are encrypted.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.0.is_empty()
    }

    /// The name of the key that writes.
    pub(super) fn active(&self) -> Option<KeyId> {
        self.0.first().map(|key| key.id)
    }

    /// What opens and closes the records of a segment; nothing when they are plain.
    ///
    /// # Errors
    /// [`Missing`] when its key is not among these.
    pub(super) fn seal_of(&self, head: &Head) -> Result<Option<Seal>, Missing> {
        let Some(id) = head.key else { return Ok(None) };
        let key = self.0.iter().find(|key| key.id == id);
        Ok(Some(key.and_then(|key| key.derive(&head.nonce)).ok_or(Missing(id))?))
    }

    /// What each key would open and close the records of that segment with.
    pub(super) fn seals_of(&self, nonce: &[u8; 16]) -> Vec<Seal> {
        self.0.iter().filter_map(|key| key.derive(nonce)).collect()
    }
}

/// Names no key, not even by its length.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} keys)", self.0.len())
    }
}

impl PartialEq for Keyring {
    fn eq(&self, other: &Self) -> bool {
        let ids = |of: &Self| of.0.iter().map(|key| key.id).collect::<Vec<_>>();
        ids(self) == ids(other)
    }
}

impl Eq for Keyring {}

/// A segment's key is not there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing(KeyId);

impl Missing {
    /// What an operator needs to know.
    pub(super) fn fault(self, file: &str, keys: &Keyring) -> StoreFault {
        let begin: String = self.0[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let what =
            if keys.is_active() { "another key than those" } else { "a key, and there is none" };
        StoreFault {
            doing: format!("opening {file}"),
            cause: format!(
                "it was encrypted with {what} of spool.encryption_key_env or \
                 spool.encryption_key_file (its name begins {begin}); put that key there, behind \
                 the new one if there is one; nothing was changed"
            ),
        }
    }
}

/// Opens and closes the records of one segment.
#[derive(Clone, Debug)]
pub(super) struct Seal(Arc<LessSafeKey>);

impl Seal {
    /// Closes `bytes` from `from` on in place and adds the tag. What stands before is covered.
    pub(super) fn close(&self, seq: u64, bytes: &mut Vec<u8>, start: usize, from: usize) {
        let (covered, secret) = bytes.split_at_mut(from);
        let sealed =
            self.0.seal_in_place_separate_tag(nonce(seq), Aad::from(&covered[start..]), secret);
        // It fails for lengths beyond 256 GiB alone, and a record is far shorter.
        let tag = sealed.expect("a record is shorter than the cipher's limit");
        bytes.extend_from_slice(tag.as_ref());
    }

    /// Opens what stands behind `covered`; nothing when either was changed.
    pub(super) fn open(&self, seq: u64, covered: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (secret, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
        let (mut plain, tag) = (secret.to_vec(), Tag::try_from(tag).ok()?);
        let opened =
            self.0.open_in_place_separate_tag(nonce(seq), Aad::from(covered), tag, &mut plain, 0..);
        opened.ok()?;
        Some(plain)
    }
}

fn nonce(seq: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&seq.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn name(key: &[u8; KEY_BYTES]) -> KeyId {
    let mut context = digest::Context::new(&SHA256);
    context.update(NAMING);
    context.update(key);
    let mut id = KeyId::default();
    id.copy_from_slice(&context.finish().as_ref()[..16]);
    id
}

fn from_hex(word: &str) -> Option<[u8; KEY_BYTES]> {
    if word.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (byte, pair) in key.iter_mut().zip(word.as_bytes().chunks_exact(2)) {
        let digit = |of: u8| char::from(of).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(key)
}

/// Either alphabet, with or without the padding.
fn from_base64(word: &str) -> Option<[u8; KEY_BYTES]> {
    let digits = word.strip_suffix('=').unwrap_or(word);
    if digits.len() != (KEY_BYTES * 8).div_ceil(6) {
        return None;
    }
    let (mut bits, mut held, mut key) = (0_u32, 0, Vec::with_capacity(KEY_BYTES));
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            key.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    // What is left over must be nothing, or two texts would be one key.
    if bits == 0 { key.try_into().ok() } else { None }
}

/// A store was encrypted with a key that is not configured: nothing of it may be touched.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct KeyMissing(StoreFault);

/// Looks whether the keys of a store are all there, if there is one in `path`.
///
/// # Errors
/// [`KeyMissing`] with the remedy. What cannot be read is for the opening of the store to tell.
pub fn check_keys(path: &Path, keys: &Keyring) -> Result<(), KeyMissing> {
    let disk = Disk::new(Arc::new(Real), path.to_owned()).with_keys(keys.clone());
    let missing = LogKind::ALL.into_iter().find_map(|log| missing(&disk, log).ok().flatten());
    missing.map_or(Ok(()), |fault| Err(KeyMissing(fault)))
}

/// Looks at every segment before anything is changed: is its key there?
pub(super) fn check(disk: &Disk) -> Result<(), StoreFault> {
    for log in LogKind::ALL {
        if let Some(fault) = missing(disk, log)? {
            return Err(fault);
        }
    }
    Ok(())
}

/// What is to be said of the first segment whose key is not there.
fn missing(disk: &Disk, log: LogKind) -> Result<Option<StoreFault>, StoreFault> {
    if !disk.has(log.dir()) {
        return Ok(None);
    }
    for (name, _) in disk.list(log.dir())? {
        let path = format!("{}/{name}", log.dir());
        if name.ends_with(".seg")
            && let Some(head) = Head::read(&disk.open(&path)?)?
            && let Err(missing) = disk.keys().seal_of(&head)
        {
            return Ok(Some(missing.fault(&path, disk.keys())));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &[u8] = b"000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
    const BASE64: &[u8] = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn a_key_is_the_same_in_hex_and_base64_and_is_never_shown() {
        let hex = Keyring::parse(HEX).unwrap();
        assert_eq!(hex, Keyring::parse(BASE64).unwrap());
        assert_eq!(hex, Keyring::parse(&BASE64[..43]).unwrap());
        assert_eq!(format!("{hex:?}"), "Keyring(1 keys)");
        let two = [HEX, b"\n", "ff".repeat(32).as_bytes()].concat();
        assert_eq!(Keyring::parse(&two).unwrap().active(), hex.active(), "the first writes");
        let twice = [HEX, b" ", BASE64].concat();
        assert_eq!(Keyring::parse(&twice), Err(KeyringFault::Repeated));
        for bad in [&b""[..], b" ", &HEX[1..], &BASE64[1..], b"\xff", &[b'='; 44], &[b'A'; 42]] {
            assert_eq!(Keyring::parse(bad), Err(KeyringFault::Malformed));
        }
        let last = [&BASE64[..42], b"9"].concat();
        assert_eq!(Keyring::parse(&last), Err(KeyringFault::Malformed), "bits left over");
    }

    #[test]
    fn what_is_sealed_opens_only_as_it_was_and_where_it_was() {
        let keys = Keyring::parse(HEX).unwrap();
        let head =
            |number| Head::new(LogKind::Accepted, number, 1, Vec::new()).encrypted(keys.active());
        let (head, other) = (head(1), head(1));
        let (seal, other) =
            (keys.seal_of(&head).unwrap().unwrap(), keys.seal_of(&other).unwrap().unwrap());
        let mut bytes = b"beforeheadsecret".to_vec();
        seal.close(7, &mut bytes, 6, 10);
        assert_eq!((&bytes[..10], bytes.len()), (&b"beforehead"[..], 16 + TAG_BYTES));
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
        assert_eq!(seal.open(7, b"head", &bytes[10..]).as_deref(), Some(&b"secret"[..]));
        assert_eq!(seal.open(8, b"head", &bytes[10..]), None, "another sequence");
        assert_eq!(seal.open(7, b"heat", &bytes[10..]), None, "another head");
        assert_eq!(other.open(7, b"head", &bytes[10..]), None, "another segment");
        assert_eq!(seal.open(7, b"head", &bytes[10..20]), None);
        for at in 10..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(seal.open(7, b"head", &changed[10..]), None, "byte {at}");
        }
    }
}
