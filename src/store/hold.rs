//! What a restore holds back, and what has to be known before it lets go.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::engine::{on, row};
use super::{Error, Tx};

/// Holds everything that is not finished. Gives how many revocations that were.
///
/// An accepted one that was closed because its stamp may not be read is finished.
pub async fn hold_unfinished(tx: &mut Tx, why: &str) -> Result<u64, Error> {
    const HOLD: &str = "UPDATE revocations SET state = 'held', why = $1, version = version + 1
         WHERE state IN ('open', 'in_flight', 'accepted') AND closed_at IS NULL";
    Ok(on!(tx, |c| sqlx::query(HOLD).bind(why).execute(c).await.map(|done| done.rows_affected()))?)
}

/// Ends attempts whose outcome will not be known by this database: those in flight, which may have had their effect, and those
/// whose effect was still being read back. Gives how many.
pub async fn end_attempts(tx: &mut Tx, now: DateTime<Utc>) -> Result<u64, Error> {
    const IN_FLIGHT: &str =
        "UPDATE attempts SET state = 'unproven', outcome = 'ambiguous', lease_until = NULL, ended_at = $1
         WHERE state = 'in_flight'";
    const READ_BACK: &str = "UPDATE attempts SET state = 'unproven', read_at = NULL WHERE read_at IS NOT NULL";
    let in_flight = on!(tx, |c| sqlx::query(IN_FLIGHT).bind(now).execute(c).await.map(|done| done.rows_affected()))?;
    let read_back = on!(tx, |c| sqlx::query(READ_BACK).execute(c).await.map(|done| done.rows_affected()))?;
    Ok(in_flight + read_back)
}

/// Holds what is to be sent although the restore may have forgotten its answer: departures from before it, and departures that
/// only a comparison with the source showed until `until`, which may be as old. Gives how many revocations that were.
pub async fn hold_suspects(
    tx: &mut Tx,
    why: &str,
    restored_at: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<u64, Error> {
    const HOLD: &str = "UPDATE revocations SET state = 'held', why = $1, version = version + 1
         WHERE state = 'open' AND (departed_at < $2 OR (departed_at <= $3 AND EXISTS
             (SELECT 1 FROM custodies c WHERE c.id = revocations.custody_id AND c.ended <> 'observed')))";
    let query = on!(tx, |c| sqlx::query(HOLD)
        .bind(why)
        .bind(restored_at)
        .bind(until)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(query)
}

/// The people with revocations that are held for a reason, those first who have waited longest.
pub async fn held_people(tx: &mut Tx, why: &str, limit: i64) -> Result<Vec<Uuid>, Error> {
    const PEOPLE: &str = "SELECT person_id FROM revocations
         WHERE state = 'held' AND why = $1 AND person_id IS NOT NULL
         GROUP BY person_id ORDER BY MIN(owed_at), person_id LIMIT $2";
    Ok(on!(tx, |c| sqlx::query_scalar(PEOPLE).bind(why).bind(limit).fetch_all(c).await)?)
}

row! {
    /// How much is held for a reason.
    #[derive(Copy, PartialEq, Eq)]
    pub struct Held {
        /// People.
        pub people: i64,
        /// Their revocations.
        pub revocations: i64,
    }
}

/// How much is held for a reason.
pub async fn held(tx: &mut Tx, why: &str) -> Result<Held, Error> {
    const HELD: &str = "SELECT COUNT(DISTINCT person_id) AS people, COUNT(*) AS revocations FROM revocations
         WHERE state = 'held' AND why = $1";
    Ok(on!(tx, |c| sqlx::query_as(HELD).bind(why).fetch_one(c).await)?)
}

row! {
    /// What the comparison with the sources still waits for.
    #[derive(Copy, PartialEq, Eq)]
    pub struct Unsettled {
        /// Devices that are to be looked at again because of a time up to then.
        pub looks: i64,
        /// Devices whose account is not known to be a person or the pool.
        pub undecided: i64,
    }
}

/// What the comparison with the sources up to a time still waits for.
pub async fn unsettled(tx: &mut Tx, until: DateTime<Utc>) -> Result<Unsettled, Error> {
    const WAITING: &str = "SELECT (SELECT COUNT(*) FROM looks WHERE asked_at <= $1) AS looks,
         (SELECT COUNT(*) FROM devices WHERE undecided) AS undecided";
    Ok(on!(tx, |c| sqlx::query_as(WAITING).bind(until).fetch_one(c).await)?)
}
