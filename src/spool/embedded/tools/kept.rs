//! What is not settled yet, record by record.

use std::sync::Arc;

use super::super::LogKind;
use super::super::crypt::Seal;
use super::super::record::{Sources, View};
use super::super::walk::{self, Readable};
use super::{Look, Progress, Survey};
use crate::clock::Timestamp;
use crate::event::{DestinationName, Event};
use crate::spool::{DeliveryId, Refusal, StoreFault};

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Waits for a first attempt, as far as the disk knows.
    Pending,
    /// Waits for another.
    Retrying,
    /// Was given up.
    Dead,
}

impl Stage {
    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Dead => "dead",
        }
    }

    pub(super) const fn of(log: LogKind) -> Self {
        match log {
            LogKind::Accepted => Self::Pending,
            LogKind::Parked => Self::Retrying,
            LogKind::Dead => Self::Dead,
        }
    }
}

/// One record of which something is owed still.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The event.
    pub event: Arc<Event>,
    /// How far its deliveries have come.
    pub stage: Stage,
    /// Whom it is owed to, with the delivery; empty when a header that named them is lost.
    pub to: Vec<(DestinationName, DeliveryId)>,
    /// Attempts made.
    pub attempts: u32,
    /// When it is due, or was given up; nothing for what is pending.
    pub at: Option<Timestamp>,
    /// Why it was given up.
    pub refusal: Option<Refusal>,
    /// The file it stands in, from the directory on.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// Its sequence in its log.
    pub sequence: u64,
    /// Whether its checksum holds; it cannot be told when the header of its file is lost.
    pub is_checked: bool,
}

impl Kept {
    /// The record at hand, when this program knows its codes.
    pub(super) fn of(
        view: &View<'_>,
        stage: Stage,
        to: Vec<(DestinationName, DeliveryId)>,
        file: &str,
        offset: u64,
        seal: Option<&Seal>,
        sources: &mut Sources,
    ) -> Option<Self> {
        let record = view.decode(sources, seal)?;
        Some(Self {
            event: record.event,
            stage,
            to,
            attempts: record.attempts,
            at: (stage != Stage::Pending).then_some(record.at),
            refusal: record.refusal,
            file: file.to_owned(),
            offset,
            sequence: view.seq(),
            is_checked: true,
        })
    }
}

impl Look {
    /// Hands every record of which something is owed to `visit`, log by log in the order of their
    /// sequences, until that says `false`. Answers what is damaged.
    ///
    /// # Errors
    /// [`StoreFault`] when the directory cannot be read.
    pub fn kept(
        &self,
        progress: Progress<'_>,
        mut visit: impl FnMut(Kept) -> bool,
    ) -> Result<Survey, StoreFault> {
        let (read, survey) = self.read(progress)?;
        let mut sources = Sources::default();
        let mut goes_on = true;
        for log in LogKind::ALL {
            for segment in read.state.track(log).segments.values() {
                if !goes_on || segment.bits.unset() == 0 {
                    continue;
                }
                let first = segment.head.first;
                let file = segment.head.path();
                walk::visit(&Readable::of(segment), |view, offset| {
                    if !goes_on {
                        return Ok(());
                    }
                    let seq = view.seq();
                    let to: Vec<_> = (0..)
                        .zip(&segment.head.names)
                        .filter(|(slot, _)| !segment.bits.is_set(seq - first, *slot))
                        .map(|(slot, name)| {
                            let begun = DeliveryId::begun_by(seq, slot);
                            (name.clone(), view.delivery().unwrap_or(begun))
                        })
                        .collect();
                    if !to.is_empty()
                        && let Some(kept) = Kept::of(
                            view,
                            Stage::of(log),
                            to,
                            &file,
                            offset,
                            segment.file.seal(),
                            &mut sources,
                        )
                    {
                        goes_on = visit(kept);
                    }
                    Ok(())
                })?;
            }
        }
        Ok(survey)
    }
}
