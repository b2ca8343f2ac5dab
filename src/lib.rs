//! beacon-relay takes events from a shop's apps and tills to the ad platform's events API.
//!
//! # The path of one event
//!
//! ```text
//!   caller                                                             upstream events API
//!     │ POST                                                                    ▲
//!     ▼                                                                         │ kept-alive connection
//!   http::receive ─► intake ─► Spool::append ══ durable ══ Spool::lease ─► forward
//!     ▲                │                                                        │
//!     └─ 202, 422, 503 ┘                                                        └─► Spool::settle
//!                                                                    delivered │ retry at │ dead letter
//!   asks source: decode, check, key                       asks request, verdict, backoff, gate
//! ```
//!
//! 1. [`http::receive`] bounds size and time and keeps path and query as received: the provider
//!    says that event URLs are never to be built by hand, so they are never rebuilt.
//! 2. [`source::Source::admit`] judges each item, purely: parse once, check, vouch, key.
//! 3. [`spool::Spool::append`] answers once an event when the batch is synced: stored, or a
//!    duplicate and of what.
//! 4. 202 means durable. 503 promises nothing: sending it again is right.
//! 5. Each destination has a [`forward::Forwarder`]: lease, send, turn the answer into a
//!    [`forward::verdict::Verdict`], settle.
//!
//! No event goes back to a room it has left, except by the spool's own clock.
//!
//! # The rooms, in reading order
//!
//! A module imports only from rows above its own; `tests/tidy.rs` holds that law.

// Words.
pub mod clock;
pub mod units;

pub mod event;
pub mod json;
pub mod origin;

pub mod ledger;
pub mod metrics;

// What is asked: pure.
pub mod schema;

pub mod pii;

pub mod spool;

pub mod caller;

pub mod source;

// What moves.
pub mod forward;
pub mod intake;

pub mod lookup;

pub mod http;

pub mod sandbox;

// The rim.
pub mod log;
pub mod shutdown;

pub mod config;

pub mod app;

pub mod cli;
