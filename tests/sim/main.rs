//! Hours of a relay's life in seconds: forwarders and a spool in memory on a held clock, callers,
//! operators and outages made up from a seed, and an observer on the wire who knows the promises.
//!
//! Each seed is a life of its own. A failure prints its seed: `SIM_SEED=n` repeats it to the letter,
//! `SIM_SEEDS=n` lives through the first so many.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod lives;
mod relay;
mod scripts;
mod upstream;
mod wire;
