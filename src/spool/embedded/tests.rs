//! The contract on this store, and what only this store can meet: kills, torn tails, damage, disks
//! that refuse.

mod contract;
mod damaged;
mod encrypted;
mod failing;
mod full_disk;
mod letters;
mod order;
mod recovery;
mod sim;
pub(super) mod stage;
mod torn;
