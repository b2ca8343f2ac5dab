//! Notifications of partners: who may send them, and what becomes of them.

mod auth;
mod faults;
mod odd;
