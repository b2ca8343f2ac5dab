//! Nothing of raw identity is stored, sent or answered.
#![no_main]

#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::hold(properties::identity, bytes));
