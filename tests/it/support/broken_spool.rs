//! Stores that do not store: one has failed, one is late or never answers.

use std::time::Duration;

use beacon_relay::clock::Timestamp;
use beacon_relay::event::{DedupeKey, DestinationName, EventKind};
use beacon_relay::spool::{
    AppendError, Appended, Batch, DeadLetter, DeadPage, DeadQuery, DeliveryId, Found, Lease,
    Receipt, Replayed, SettleError, Settlement, Shelf, Spool, SpoolFuture, SpoolStats, StoreFault,
    Want,
};
use bytes::Bytes;

/// A store that has failed: every call ends with its fault.
pub(crate) struct BrokenSpool;

/// A store that answers so late what it is to store; the rest of it has failed.
pub(crate) struct LateSpool(pub(crate) Duration);

fn fault() -> StoreFault {
    StoreFault { doing: "syncing".to_owned(), cause: "input/output error".to_owned() }
}

impl Spool for BrokenSpool {
    fn append(&self, _: Batch) -> SpoolFuture<'_, Receipt, AppendError> {
        Box::pin(async { Err(fault().into()) })
    }

    fn lease<'a>(
        &'a self,
        _: &'a DestinationName,
        _: Want,
        _: Duration,
    ) -> SpoolFuture<'a, Vec<Lease>> {
        Box::pin(async { Err(fault()) })
    }

    fn aging<'a>(
        &'a self,
        _: &'a DestinationName,
        _: [Timestamp; EventKind::ALL.len()],
    ) -> SpoolFuture<'a, u64> {
        Box::pin(async { Err(fault()) })
    }

    fn hasten<'a>(&'a self, _: &'a DestinationName) -> SpoolFuture<'a, ()> {
        Box::pin(async { Err(fault()) })
    }

    fn settle(&self, _: Lease, _: Settlement) -> SpoolFuture<'_, (), SettleError> {
        Box::pin(async { Err(fault().into()) })
    }

    fn dead(&self, _: DeadQuery) -> SpoolFuture<'_, DeadPage> {
        Box::pin(async { Err(fault()) })
    }

    fn dead_letter(&self, _: DeliveryId) -> SpoolFuture<'_, Option<DeadLetter>> {
        Box::pin(async { Err(fault()) })
    }

    fn replay<'a>(&'a self, _: &'a [DeliveryId]) -> SpoolFuture<'a, Replayed, AppendError> {
        Box::pin(async { Err(fault().into()) })
    }

    fn foresee<'a>(&'a self, _: &'a [DeliveryId]) -> SpoolFuture<'a, Replayed, AppendError> {
        Box::pin(async { Err(fault().into()) })
    }

    fn drop_dead<'a>(&'a self, _: &'a [DeliveryId]) -> SpoolFuture<'a, usize> {
        Box::pin(async { Err(fault()) })
    }

    fn find(&self, _: DedupeKey) -> SpoolFuture<'_, Option<Found>> {
        Box::pin(async { Err(fault()) })
    }

    fn note(&self, _: Shelf, _: Bytes, _: Option<Bytes>) -> SpoolFuture<'_, (), AppendError> {
        Box::pin(async { Err(fault().into()) })
    }

    fn notes(&self, _: Shelf, _: Option<Bytes>, _: usize) -> SpoolFuture<'_, Vec<(Bytes, Bytes)>> {
        Box::pin(async { Err(fault()) })
    }

    fn stats(&self) -> SpoolFuture<'_, SpoolStats> {
        Box::pin(async { Err(fault()) })
    }

    fn close(&self) -> SpoolFuture<'_, ()> {
        Box::pin(async { Err(fault()) })
    }
}

impl Spool for LateSpool {
    fn append(&self, batch: Batch) -> SpoolFuture<'_, Receipt, AppendError> {
        Box::pin(async move {
            tokio::time::sleep(self.0).await;
            let stored = batch.events.iter().map(|event| Appended::Stored(event.event.id));
            Ok(Receipt { appended: stored.collect(), repeated: false })
        })
    }

    fn lease<'a>(
        &'a self,
        _: &'a DestinationName,
        _: Want,
        _: Duration,
    ) -> SpoolFuture<'a, Vec<Lease>> {
        Box::pin(async { Err(fault()) })
    }

    fn aging<'a>(
        &'a self,
        _: &'a DestinationName,
        _: [Timestamp; EventKind::ALL.len()],
    ) -> SpoolFuture<'a, u64> {
        Box::pin(async { Err(fault()) })
    }

    fn hasten<'a>(&'a self, _: &'a DestinationName) -> SpoolFuture<'a, ()> {
        Box::pin(async { Err(fault()) })
    }

    fn settle(&self, _: Lease, _: Settlement) -> SpoolFuture<'_, (), SettleError> {
        Box::pin(async { Err(fault().into()) })
    }

    fn dead(&self, _: DeadQuery) -> SpoolFuture<'_, DeadPage> {
        Box::pin(async { Err(fault()) })
    }

    fn dead_letter(&self, _: DeliveryId) -> SpoolFuture<'_, Option<DeadLetter>> {
        Box::pin(async { Err(fault()) })
    }

    fn replay<'a>(&'a self, _: &'a [DeliveryId]) -> SpoolFuture<'a, Replayed, AppendError> {
        Box::pin(async { Err(fault().into()) })
    }

    fn foresee<'a>(&'a self, _: &'a [DeliveryId]) -> SpoolFuture<'a, Replayed, AppendError> {
        Box::pin(async { Err(fault().into()) })
    }

    fn drop_dead<'a>(&'a self, _: &'a [DeliveryId]) -> SpoolFuture<'a, usize> {
        Box::pin(async { Err(fault()) })
    }

    fn find(&self, _: DedupeKey) -> SpoolFuture<'_, Option<Found>> {
        Box::pin(async { Err(fault()) })
    }

    fn note(&self, _: Shelf, _: Bytes, _: Option<Bytes>) -> SpoolFuture<'_, (), AppendError> {
        Box::pin(async { Err(fault().into()) })
    }

    fn notes(&self, _: Shelf, _: Option<Bytes>, _: usize) -> SpoolFuture<'_, Vec<(Bytes, Bytes)>> {
        Box::pin(async { Err(fault()) })
    }

    fn stats(&self) -> SpoolFuture<'_, SpoolStats> {
        Box::pin(async { Err(fault()) })
    }

    fn close(&self) -> SpoolFuture<'_, ()> {
        Box::pin(async { Err(fault()) })
    }
}
