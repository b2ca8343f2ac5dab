//! Why a spool did not do what it was asked.

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No room; it ends when something was delivered.
    #[error(
        "spool has no room: {used_bytes} of {limit_bytes} bytes in use, or the disk itself is full"
    )]
    Full {
        /// Bytes in use.
        used_bytes: u64,
        /// Bytes allowed.
        limit_bytes: u64,
    },
    /// [`super::Batch::request`] is known, with another fingerprint.
    #[error("idempotency key was used for another request")]
    KeyReused,
    /// The bounded inbox of the store is full.
    #[error("spool has too many writes waiting")]
    Busy,
    /// [`super::Spool::close`] was called.
    #[error("spool is closing")]
    Closed,
    /// The batch could not fit even in an empty store.
    #[error("batch of {bytes} bytes is over the {limit_bytes} bytes that the spool takes at once")]
    TooLarge {
        /// Bytes of the batch.
        bytes: u64,
        /// Bytes allowed at once.
        limit_bytes: u64,
    },
    /// No answer in time: the batch may be stored.
    #[error("store did not answer in time")]
    Unsure,
    /// The store is broken.
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

impl AppendError {
    /// The stable word for metrics and answers.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "spool_full",
            Self::KeyReused => "idempotency_key_reused",
            Self::Busy => "overloaded",
            Self::Closed => "draining",
            Self::TooLarge { .. } => "body_too_large",
            Self::Unsure | Self::Fault(_) => "store_unavailable",
        }
    }
}

/// Why a lease was not ended.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The lease expired before; the delivery may be sent again by its next holder.
    #[error("lease was lost")]
    LeaseLost,
    /// The store is broken.
    #[error(transparent)]
    Fault(#[from] StoreFault),
}

/// A store that cannot be trusted any further: the process ends and recovery decides.
#[derive(Clone, Debug, thiserror::Error)]
#[error("spool fault while {doing}: {cause}")]
pub struct StoreFault {
    /// What was being done, as `syncing log/3.seg`.
    pub doing: String,
    /// The system's words.
    pub cause: String,
}

impl StoreFault {
    /// A fault of an operating system call.
    pub fn io(doing: impl Into<String>, cause: &std::io::Error) -> Self {
        Self { doing: doing.into(), cause: cause.to_string() }
    }
}
