//! Notifications of partners: who may send them, and what becomes of them.

mod auth;
mod faults;
mod impact;
mod odd;
mod olx;
mod pages;
mod properties;
mod third;
