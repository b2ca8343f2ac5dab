//! No bytes make the relay panic, or inflate beyond their limit.
#![no_main]

#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::hold(properties::decode, bytes));
