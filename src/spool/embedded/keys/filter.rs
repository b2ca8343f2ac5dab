//! A bloom filter that one thread may fill while another asks: nearly every key is new, and a
//! filter says so in one cache line where a table takes microseconds.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::event::DedupeKey;

/// One cache line; a key sets one bit in each word.
const WORDS: usize = 8;

/// 39 keys a line are 13 bits a key, of which about 3 in 1,000 strangers find every bit set.
const KEYS_PER_LINE: usize = 39;

/// Says of a key "never seen" or "perhaps". Filling it beyond its capacity makes it say "perhaps"
/// more often, and is no error.
#[derive(Debug)]
pub(super) struct Filter {
    lines: Box<[[AtomicU64; WORDS]]>,
    capacity: usize,
    len: AtomicUsize,
}

impl Filter {
    /// An empty filter for about `capacity` keys.
    pub(super) fn new(capacity: usize) -> Self {
        let lines = capacity.div_ceil(KEYS_PER_LINE).max(1);
        let line = || std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            lines: std::iter::repeat_with(line).take(lines).collect(),
            capacity: lines * KEYS_PER_LINE,
            len: AtomicUsize::new(0),
        }
    }

    /// Keys added, repeats counted again.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether another key would be one too many.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// Relaxed writes are enough: whoever must see them takes a lock that is freed after them.
    pub(super) fn add(&self, key: &DedupeKey) {
        let (line, bits) = self.place(key);
        for (word, bit) in line.iter().zip(bits) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    /// False only if the key was never added.
    pub(super) fn perhaps(&self, key: &DedupeKey) -> bool {
        let (line, bits) = self.place(key);
        line.iter().zip(bits).all(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// The line of a key, and the bit of each of its words.
    fn place(&self, key: &DedupeKey) -> (&[AtomicU64; WORDS], [u64; WORDS]) {
        let key = u128::from_le_bytes(key.0);
        // Keys are hashes already; mixing keeps the filter right for any that are not.
        let hash = mix((key as u64).wrapping_add(mix((key >> 64) as u64)));
        // The high half picks the line without a division, which takes 0..lines by proportion.
        let line = (u128::from(hash) * self.lines.len() as u128) >> 64;
        let choice = mix(hash);
        let bits = std::array::from_fn(|word| 1 << (choice >> (word * 6) & 63));
        (&self.lines[line as usize], bits)
    }
}

/// A permutation of 64 bits in which each input bit moves about half of the output's: the last step
/// of SplitMix64, with Stafford's thirteenth pair of constants.
const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> DedupeKey {
        DedupeKey(u128::from(number).to_be_bytes())
    }

    #[test]
    fn every_key_added_is_found_and_few_strangers_are() {
        // Counting numbers are the worst keys there are: only the mixing tells them apart.
        let filter = Filter::new(100_000);
        for number in 0..100_000 {
            filter.add(&key(number));
        }
        assert!((0..100_000).all(|number| filter.perhaps(&key(number))));
        let strangers = (100_000..300_000).filter(|number| filter.perhaps(&key(*number))).count();
        assert!(strangers < 1_000, "{strangers} of 200,000 strangers were taken for known");
        assert!(filter.is_full() || filter.len() == 100_000);
    }

    #[test]
    fn an_overfull_filter_still_finds_every_key() {
        let filter = Filter::new(0);
        for number in 0..1_000 {
            filter.add(&key(number));
        }
        assert!(filter.is_full());
        assert!((0..1_000).all(|number| filter.perhaps(&key(number))));
    }
}
