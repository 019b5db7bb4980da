//! A transaction that lost a race, or its connection, is begun again (S11).
//!
//! What would surprise: a commit whose answer was lost is neither done nor undone as far as we know, and is not begun again
//! here. Whoever may do a thing twice does so by itself; anybody else is told that it is not known, and comes again. A loop's
//! turn needs none of this: it is begun again from the tables.

use std::time::Duration;

use crate::app::dice;
use crate::store::Error;

/// How often a transaction is begun.
pub(crate) const TRIES: u32 = 5;

/// Does `deed`, a transaction from its beginning to its commit, up to five times with a growing, jittered wait.
///
/// # Errors
/// What it failed for the last time, or for a reason that does not pass.
pub(crate) async fn again<T, F: Future<Output = Result<T, Error>>>(deed: impl Fn() -> F) -> Result<T, Error> {
    let mut tries = 1;
    loop {
        match deed().await {
            Err(error) if error.is_passing() && tries < TRIES => {
                metrics::counter!("handover_transactions_again_total").increment(1);
                tokio::time::sleep(pause(tries)).await;
                tries += 1;
            }
            done => return done,
        }
    }
}

/// How long is waited after so many tries: up to 50 ms for each. Finding a new primary waits by itself.
pub(crate) fn pause(tries: u32) -> Duration {
    Duration::from_millis(u64::from(dice().0) / 20 * u64::from(tries))
}
