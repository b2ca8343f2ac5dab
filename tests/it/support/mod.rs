//! What the integration tests stand on.
#![allow(dead_code, unused_imports, reason = "each test binary uses the pieces that it needs")]
#![allow(clippy::unwrap_used, reason = "a piece that fails fails its test")]

mod broken_spool;
mod counted_upstream;
mod fake_upstream;
mod fake_vendor;
mod raw_client;
mod rogue_upstream;
mod test_relay;
mod tunnel_proxy;

pub(crate) use self::broken_spool::{BrokenSpool, LateSpool};
pub(crate) use self::counted_upstream::{CountedUpstream, Farewell, Seen};
pub(crate) use self::fake_upstream::{FakeUpstream, KeptPort, any_json};
pub(crate) use self::fake_vendor::FakeVendor;
pub(crate) use self::raw_client::{End, RawAnswer, RawClient, post};
pub(crate) use self::rogue_upstream::{Rogue, RogueUpstream};
pub(crate) use self::test_relay::{ORDER, TestRelay, patient};
pub(crate) use self::tunnel_proxy::TunnelProxy;

/// Longest that a test waits for what should come at once. A busy machine may keep a test waiting
/// for seconds; only what never comes is to fail it.
pub(crate) const SOON: std::time::Duration = std::time::Duration::from_secs(30);
