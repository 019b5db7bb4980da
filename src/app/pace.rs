//! The pace that all instances keep together towards Graph, counted in the database.
//!
//! When the database does not answer, nobody leaves: what was sent could not be written down either.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::entra::{Lane, Pace, Turn};
use crate::store::{Error, Store, paces};

/// How long a caller waits when the database does not answer.
const NO_ANSWER: Duration = Duration::from_secs(1);

/// See the head of this file.
pub(crate) struct SharedPace {
    store: Store,
    /// Whether calm answers have something to undo, by lane, as the last turn showed it.
    strained: [AtomicBool; 2],
}

impl SharedPace {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, strained: [AtomicBool::new(true), AtomicBool::new(true)] }
    }

    fn strained(&self, lane: Lane) -> &AtomicBool {
        match lane {
            Lane::Write => &self.strained[0],
            Lane::Read => &self.strained[1],
        }
    }

    async fn try_take(&self, lane: Lane, gap: Duration, patience: Duration) -> Result<Turn, Error> {
        let mut tx = self.store.autocommit().await?;
        let (gap, patience) = (micros(gap), micros(patience));
        if let Some(turn) = paces::take(&mut tx, lane.name(), gap, patience).await? {
            self.strained(lane).store(turn.strained, Ordering::Relaxed);
            return Ok(Turn::In(span(turn.wait)));
        }
        let standing = paces::standing(&mut tx, lane.name(), gap).await?;
        // Nobody had used the lane before, or it has become free since.
        if standing.free <= patience
            && let Some(turn) = paces::take(&mut tx, lane.name(), gap, patience).await?
        {
            return Ok(Turn::In(span(turn.wait)));
        }
        Ok(Turn::TooFar(span(standing.free)))
    }

    async fn standing(&self, lane: Lane, gap: Duration) -> Result<paces::Standing, Error> {
        paces::standing(&mut self.store.autocommit().await?, lane.name(), micros(gap)).await
    }

    async fn hear(&self, lane: Lane, pressure: Option<f64>) -> Result<(), Error> {
        let pressed = pressure.filter(|pressure| *pressure >= 1.0);
        if pressed.is_none() && !self.strained(lane).load(Ordering::Relaxed) {
            return Ok(());
        }
        let thousandths = pressed.map(|pressure| micros(Duration::from_secs_f64(pressure.min(4.0))) / 1000);
        self.strained(lane).store(thousandths.is_some(), Ordering::Relaxed);
        paces::answered(&mut self.store.autocommit().await?, lane.name(), thousandths).await
    }
}

impl Pace for SharedPace {
    fn take(&self, lane: Lane, gap: Duration, patience: Duration) -> BoxFuture<'_, Turn> {
        Box::pin(async move {
            self.try_take(lane, gap, patience).await.unwrap_or_else(|error| {
                tell(&error);
                Turn::TooFar(NO_ANSWER)
            })
        })
    }

    fn free_in(&self, lane: Lane, gap: Duration) -> BoxFuture<'_, Duration> {
        Box::pin(async move { self.standing(lane, gap).await.map_or(NO_ANSWER, |standing| span(standing.free)) })
    }

    fn closed_for(&self, lane: Lane) -> BoxFuture<'_, Duration> {
        Box::pin(async move {
            self.standing(lane, Duration::ZERO).await.map_or(NO_ANSWER, |standing| span(standing.closed))
        })
    }

    fn close(&self, lane: Lane, gap: Duration, wait: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.strained(lane).store(true, Ordering::Relaxed);
            let closed = async {
                paces::close(&mut self.store.autocommit().await?, lane.name(), micros(gap), micros(wait)).await
            };
            closed.await.unwrap_or_else(|error| tell(&error));
        })
    }

    fn answered(&self, lane: Lane, pressure: Option<f64>) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.hear(lane, pressure).await.unwrap_or_else(|error| tell(&error)) })
    }
}

fn tell(error: &Error) {
    tracing::warn!(error = %error, "the pace shared with the other instances cannot be kept; calls wait");
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 4)
}

fn span(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
