//! How many bytes of bodies are in memory at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Code, Problem};

/// Bytes that all bodies together may have, as they came and inflated.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

/// Bytes of one body, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Budget,
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Nothing yet.
    pub(super) fn hold(&self) -> Held {
        Held { budget: self.clone(), permit: None }
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.0.available_permits()
    }
}

impl Held {
    /// Holds `bytes` more, without waiting.
    ///
    /// # Errors
    /// `overloaded` when all bodies together would have more than they may.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        if self.try_grow(bytes) {
            return Ok(());
        }
        let detail = "the bodies under way have as many bytes as the relay keeps in memory";
        Err(Problem::new(Code::Overloaded, detail))
    }

    /// The same; whether there was room.
    pub(super) fn try_grow(&mut self, bytes: usize) -> bool {
        let more = u32::try_from(bytes).ok();
        let more =
            more.and_then(|more| Arc::clone(&self.budget.0).try_acquire_many_owned(more).ok());
        match (more, &mut self.permit) {
            (None, _) => false,
            (Some(more), Some(permit)) => {
                permit.merge(more);
                true
            }
            (Some(more), None) => {
                self.permit = Some(more);
                true
            }
        }
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_back_and_no_more_is_given() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (budget.hold(), budget.hold());
        assert!(one.try_grow(60) && other.try_grow(30) && one.try_grow(10));
        assert_eq!((one.bytes(), other.bytes(), budget.left()), (70, 30, 0));
        assert!(other.try_grow(0) && !other.try_grow(1));
        assert!(other.grow(usize::MAX).is_err_and(|told| told.code() == Code::Overloaded));
        drop(one);
        assert_eq!(budget.left(), 70);
        assert!(other.try_grow(70));
    }
}
