//! Nothing of raw identity is stored, sent or answered.
#![no_main]

#[path = "../properties.rs"]
mod properties;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(request) = properties::Request::of(bytes) {
        properties::identity(&request);
    }
});
