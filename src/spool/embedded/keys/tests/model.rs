//! Random calls, closes and crashes, compared with a map.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{slot as slot_of, *};

const KEYS: u8 = 2;
const WINDOWS: [Duration; 2] = [HOUR, DAY];
const OWED: u32 = 0b11;

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    End(u8, u8, u8),
    Revive(u8, u8, u8),
    Advance(u32),
    Settle,
    Close,
    /// Ends without a close; what is not covered is fed again.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..KEYS, 0..2_u8).prop_map(|(k, w)| Step::Put(k, w)),
        9 => (0..KEYS, 0..2_u8, 0..2_u8).prop_map(|(k, w, s)| Step::End(k, w, s)),
        4 => (0..KEYS, 0..2_u8, 0..2_u8).prop_map(|(k, w, s)| Step::Revive(k, w, s)),
        2 => (1..3_000_u32).prop_map(Step::Advance),
        1 => Just(Step::Settle),
        1 => Just(Step::Close),
        2 => Just(Step::Crash),
    ]
}

/// One record of the log, as recovery would feed it.
#[derive(Clone, Copy)]
enum Told {
    Key(DedupeKey, Duration, KeyEntry),
    End(DedupeKey, u64, u8),
    Revival(DedupeKey, u64, u8),
}

fn tell(keys: &Keys, told: Told, position: u64) {
    match told {
        Told::Key(key, window, entry) => keys.put(&[(key, window, entry)], position),
        Told::End(key, seq, slot) => keys
            .end(&key, slot_of(seq, slot, OWED), Ending::Dead, START)
            .and_then(|()| keys.put(&[], position)),
        Told::Revival(key, seq, slot) => keys
            .revive(&key, slot_of(seq, slot, OWED), position)
            .and_then(|()| keys.put(&[], position)),
    }
    .unwrap();
}

/// The two windows of one number are two keys, as for two sources.
fn key_of(number: u8, window: u8) -> DedupeKey {
    key(u64::from(window) << 32 | u64::from(number))
}

#[derive(Default)]
struct Model {
    log: Vec<Told>,
    latest: HashMap<DedupeKey, KeyEntry>,
    ended: HashMap<(DedupeKey, u64), u32>,
}

impl Model {
    fn tell(&mut self, keys: &Keys, told: Told) {
        self.log.push(told);
        match told {
            Told::Key(key, _, entry) => {
                self.latest.insert(key, entry);
            }
            Told::End(key, seq, slot) => *self.ended.entry((key, seq)).or_default() |= 1 << slot,
            Told::Revival(key, seq, slot) => {
                *self.ended.entry((key, seq)).or_default() &= !(1 << slot);
            }
        }
        tell(keys, told, self.log.len() as u64);
    }

    fn get(&self, key: DedupeKey, window: Duration, now: Timestamp) -> Option<KeyEntry> {
        let entry = *self.latest.get(&key)?;
        let free = self.ended.get(&(key, entry.seq)) == Some(&OWED);
        (!free && now.since(entry.id.at()) < window).then_some(entry)
    }
}

fn run(steps: Vec<Step>, limits: Limits) {
    let home = Home::new();
    let mut keys = home.open(limits, START);
    let mut now = START;
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Put(number, window) => {
                let seq = model.log.len() as u64 + 1;
                let window_of = WINDOWS[usize::from(window)];
                model.tell(&keys, Told::Key(key_of(number, window), window_of, entry(seq, now)));
            }
            Step::End(number, window, slot) => {
                let key = key_of(number, window);
                if let Some(entry) = model.latest.get(&key) {
                    model.tell(&keys, Told::End(key, entry.seq, slot));
                }
            }
            Step::Revive(number, window, slot) => {
                let key = key_of(number, window);
                if let Some(entry) = model.latest.get(&key) {
                    model.tell(&keys, Told::Revival(key, entry.seq, slot));
                }
            }
            Step::Advance(seconds) => now = now.after(Duration::from_secs(seconds.into())),
            // Not by `settle`, whose positions are not of this log.
            Step::Settle => {
                if limits.sync_every < HOUR {
                    keys.shared.wait_covered(model.log.len() as u64);
                }
            }
            Step::Close => {
                keys.close().unwrap();
                keys = home.open(limits, now);
                assert_eq!(keys.covered(), model.log.len() as u64);
            }
            Step::Crash => {
                drop(keys);
                keys = home.open(limits, now);
                let covered = keys.covered();
                for (position, told) in (1..).zip(&model.log) {
                    if position > covered {
                        tell(&keys, *told, position);
                    }
                }
            }
        }
        for number in 0..KEYS {
            for (window, window_of) in (0..).zip(WINDOWS) {
                let key = key_of(number, window);
                let found = keys.get(&key, window_of, now).unwrap();
                assert_eq!(found, model.get(key, window_of, now), "{number} in {window_of:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_calls_and_crashes_agree_with_a_map(
        steps in prop::collection::vec(step(), 1..80),
        delta_max in 1..6_usize,
        lazy in any::<bool>(),
    ) {
        let limits = if lazy { LAZY } else { BRISK };
        run(steps, Limits { delta_max, ..limits });
    }
}
