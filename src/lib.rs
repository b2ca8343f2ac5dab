//! beacon-relay takes events from a shop's apps and tills to the ad platform's events API.

pub mod clock;
pub mod event;
pub mod json;
pub mod ledger;
pub mod metrics;
pub mod schema;
pub mod spool;
pub mod sandbox;
