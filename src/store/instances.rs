//! The instances that run, or ran until lately. For people to look at: nothing is decided by it.

use chrono::{DateTime, Utc};

use super::engine::{on, row};
use super::{Error, Tx, leases};

row! {
    /// An instance.
    pub struct InstanceRow {
        /// As leases and attempts name it.
        pub id: String,
        /// The machine, or container, it runs on.
        pub host: String,
        /// Its version.
        pub version: String,
        /// When it started, on the database's clock.
        pub started_at: DateTime<Utc>,
        /// When it was last there, on the database's clock.
        pub seen_at: DateTime<Utc>,
        /// Whether it sweeps and keeps house.
        pub leads: bool,
    }
}

/// Writes down that an instance is there. One that is known stays as it is, but for when it was seen.
pub async fn seen(tx: &mut Tx, id: &str, host: &str, version: &str, now: DateTime<Utc>) -> Result<(), Error> {
    const SEEN: &str = "INSERT INTO instances (id, host, version, started_at, seen_at) VALUES ($1, $2, $3, $4, $4)
         ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at";
    on!(tx, |c| sqlx::query(SEEN).bind(id).bind(host).bind(version).bind(now).execute(c).await.map(drop))?;
    Ok(())
}

/// Takes an instance off the list.
pub async fn gone(tx: &mut Tx, id: &str) -> Result<(), Error> {
    const GONE: &str = "DELETE FROM instances WHERE id = $1";
    on!(tx, |c| sqlx::query(GONE).bind(id).execute(c).await.map(drop))?;
    Ok(())
}

/// Takes those off the list that have not been seen since `before`.
pub async fn forget(tx: &mut Tx, before: DateTime<Utc>) -> Result<u64, Error> {
    const FORGET: &str = "DELETE FROM instances WHERE seen_at < $1";
    Ok(on!(tx, |c| sqlx::query(FORGET).bind(before).execute(c).await.map(|done| done.rows_affected()))?)
}

/// All of them, the oldest first. `now` is the time on the database's clock.
pub async fn all(tx: &mut Tx, now: DateTime<Utc>) -> Result<Vec<InstanceRow>, Error> {
    const ALL: &str = "SELECT id, host, version, started_at, seen_at,
             EXISTS (SELECT 1 FROM leases WHERE name = $1 AND holder = instances.id AND until > $2) AS leads
         FROM instances ORDER BY started_at, id LIMIT 500";
    Ok(on!(tx, |c| sqlx::query_as(ALL).bind(leases::LEAD).bind(now).fetch_all(c).await)?)
}

/// Those that have been seen since `since`.
pub async fn running(tx: &mut Tx, since: DateTime<Utc>) -> Result<Vec<String>, Error> {
    const RUNNING: &str = "SELECT id FROM instances WHERE seen_at >= $1 ORDER BY id";
    Ok(on!(tx, |c| sqlx::query_scalar(RUNNING).bind(since).fetch_all(c).await)?)
}
