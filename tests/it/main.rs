//! Features from outside: a relay with a real spool, over real TCP, in front of the sandbox.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod admin;
mod beacon;
mod bodies;
mod browser;
mod by_url;
mod cli;
mod clients;
mod config;
mod delivery;
mod destinations;
mod edge_cases;
mod egress;
mod guides;
mod identity;
mod lookup;
mod many;
mod openapi;
mod outage;
mod pages;
mod properties;
mod rates;
mod refusals;
mod repeats;
mod rogues;
mod sandbox;
mod steer;
mod steer_cli;
mod support;
mod tls;
mod validate;
mod webhooks;
