//! How many revocations there are in each state.
//!
//! What is unfinished is counted anew each time: it is little, and it has an index. What is finished only ever grows, and after
//! years takes seconds to count; then it is counted so seldom that it takes a hundredth of the time at most, and is a little
//! out of date in between.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::engine::{on, row};
use super::{Error, Tx};

/// What counting may take for what is counted not to be kept.
const QUICK: Duration = Duration::from_millis(50);

/// For how many times as long as it took to count them the numbers are kept.
const KEPT_FOR: u32 = 100;

row! {
    /// The revocations in one state.
    pub struct Tally {
        /// The state.
        pub state: String,
        /// How many.
        pub many: i64,
        /// When the oldest of them became owed.
        pub oldest: DateTime<Utc>,
    }
}

/// The finished ones, as they were counted last.
#[derive(Default)]
pub struct Finished(Mutex<Option<Counted>>);

struct Counted {
    tallies: Vec<Tally>,
    at: Instant,
    took: Duration,
}

impl Counted {
    fn is_good_at(&self, now: Instant) -> bool {
        self.took > QUICK && now.saturating_duration_since(self.at) < self.took * KEPT_FOR
    }
}

const UNFINISHED: &str = "SELECT state, COUNT(*) AS many, MIN(owed_at) AS oldest FROM revocations
     WHERE state IN ('open', 'in_flight', 'accepted', 'held', 'needs_operator') GROUP BY state ORDER BY state";

const FINISHED: &str = "SELECT state, COUNT(*) AS many, MIN(owed_at) AS oldest FROM revocations
     WHERE state IN ('covered_by_other', 'moot', 'not_effective', 'shadow', 'verified', 'waived') GROUP BY state ORDER BY state";

impl Finished {
    /// Every state in which there is a revocation.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn and_unfinished(&self, tx: &mut Tx) -> Result<Vec<Tally>, Error> {
        let mut tallies: Vec<Tally> = on!(tx, |c| sqlx::query_as(UNFINISHED).fetch_all(c).await)?;
        tallies.extend(self.counted(tx).await?);
        Ok(tallies)
    }

    async fn counted(&self, tx: &mut Tx) -> Result<Vec<Tally>, Error> {
        let kept = |now| {
            let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            counted.as_ref().filter(|counted| counted.is_good_at(now)).map(|counted| counted.tallies.clone())
        };
        let at = Instant::now();
        if let Some(tallies) = kept(at) {
            return Ok(tallies);
        }
        let tallies: Vec<Tally> = on!(tx, |c| sqlx::query_as(FINISHED).fetch_all(c).await)?;
        let counted = Counted { tallies: tallies.clone(), at, took: at.elapsed() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(counted);
        Ok(tallies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custody::Standpoint;

    #[test]
    fn every_state_is_counted_once() {
        for state in Standpoint::ALL {
            let name = format!("'{}'", state.name());
            assert_eq!(UNFINISHED.contains(&name), state.is_unfinished(), "{name}");
            assert_eq!(FINISHED.contains(&name), !state.is_unfinished(), "{name}");
        }
    }

    #[test]
    fn numbers_are_kept_for_a_hundred_times_as_long_as_it_took_to_count_them() {
        let at = Instant::now();
        let counted = |took| Counted { tallies: Vec::new(), at, took };
        let slow = counted(Duration::from_secs(2));

        assert!(slow.is_good_at(at + Duration::from_secs(199)));
        assert!(!slow.is_good_at(at + Duration::from_secs(200)));
        assert!(!counted(QUICK).is_good_at(at));
    }
}
