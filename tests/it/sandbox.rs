//! The sandbox from outside, over real sockets.

mod answers;
mod bounds;
mod faults;
