//! A pace that several processes keep together. Who keeps count is not this room's business.

use std::time::Duration;

use futures_util::future::BoxFuture;

/// Which of the two quotas a call counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Revokes.
    Write,
    /// Everything that has no effect.
    Read,
}

impl Lane {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Write => Self::Read,
            Self::Read => Self::Write,
        }
    }

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// A turn, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// One is reserved, in so long.
    In(Duration),
    /// None is reserved, as it would come only in so long.
    TooFar(Duration),
}

/// The pace of everybody who shares a quota. All processes together never leave faster than one call each `gap`, after a
/// rest at most one second's worth at once.
pub trait Pace: Send + Sync {
    /// Reserves the next turn, if it comes within `patience`. One that is not used passes.
    fn take(&self, lane: Lane, gap: Duration, patience: Duration) -> BoxFuture<'_, Turn>;

    /// How long until a turn is free, zero when one is. Takes none.
    fn free_in(&self, lane: Lane, gap: Duration) -> BoxFuture<'_, Duration>;

    /// For how long nobody leaves by this lane, because the server said so.
    fn closed_for(&self, lane: Lane) -> BoxFuture<'_, Duration>;

    /// The server said: nobody leaves before so long.
    fn close(&self, lane: Lane, gap: Duration, wait: Duration) -> BoxFuture<'_, ()>;

    /// An answer that was no 429, and how much of the limit is used up, where the server said it.
    fn answered(&self, lane: Lane, pressure: Option<f64>) -> BoxFuture<'_, ()>;
}
