//! Who may do what only one may do at a time.
//!
//! A lease has a holder, an end on the database's clock, and a term that counts the holders. What its holder writes is
//! fenced: [`is_held`] keeps the row from changing hands until the transaction ends, so that a holder whose time was up, or
//! who slept through it, changes nothing.

use chrono::{DateTime, Utc};

use super::engine::{on, row};
use super::{Error, Tx};

/// The lease of whoever sweeps and keeps house.
pub const LEAD: &str = "lead";

row! {
    /// A lease.
    #[derive(PartialEq, Eq)]
    pub struct LeaseRow {
        /// An instance.
        pub holder: String,
        /// Which holder in a row that is.
        pub term: i64,
        /// Until when, on the database's clock.
        pub until: DateTime<Utc>,
    }
}

const READ: &str = "SELECT holder, term, until FROM leases WHERE name = $1";

/// Who has it, or had it last.
pub async fn read(tx: &mut Tx, name: &str) -> Result<Option<LeaseRow>, Error> {
    Ok(on!(tx, |c| sqlx::query_as(READ).bind(name).fetch_optional(c).await)?)
}

/// Takes a lease that nobody has, or whose end has passed. Gives the term; `None` when somebody else was sooner.
pub async fn take(
    tx: &mut Tx,
    name: &str,
    holder: &str,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Option<i64>, Error> {
    const TAKE: &str = "INSERT INTO leases (name, holder, term, until) VALUES ($1, $2, 1, $4)
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, term = leases.term + 1, until = excluded.until
         WHERE leases.until <= $3
         RETURNING term";
    Ok(on!(tx, |c| sqlx::query_scalar(TAKE).bind(name).bind(holder).bind(now).bind(until).fetch_optional(c).await)?)
}

/// Keeps a lease for longer. `false` when it is not this holder's any more, or its end has passed.
pub async fn renew(
    tx: &mut Tx,
    name: &str,
    (holder, term): (&str, i64),
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<bool, Error> {
    const RENEW: &str = "UPDATE leases SET until = $5 WHERE name = $1 AND holder = $2 AND term = $3 AND until > $4";
    let changed = on!(tx, |c| sqlx::query(RENEW)
        .bind(name)
        .bind(holder)
        .bind(term)
        .bind(now)
        .bind(until)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(changed == 1)
}

/// Lets a lease go at once, if it is still this holder's. Says whether it was.
pub async fn release(tx: &mut Tx, name: &str, (holder, term): (&str, i64), now: DateTime<Utc>) -> Result<bool, Error> {
    const RELEASE: &str = "UPDATE leases SET until = $4 WHERE name = $1 AND holder = $2 AND term = $3 AND until > $4";
    let changed = on!(tx, |c| sqlx::query(RELEASE)
        .bind(name)
        .bind(holder)
        .bind(term)
        .bind(now)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(changed == 1)
}

/// Whether a lease is this holder's, and will be until this transaction ends: nobody can take it over meanwhile.
///
/// `ours` is the time where the database has no clock of its own.
pub async fn is_held(tx: &mut Tx, name: &str, (holder, term): (&str, i64), ours: DateTime<Utc>) -> Result<bool, Error> {
    // SQLite has one writer: whoever is in a writing transaction has it to themselves.
    let text = tx.either(READ, "SELECT holder, term, until FROM leases WHERE name = $1 FOR SHARE");
    let row: Option<LeaseRow> = on!(tx, |c| sqlx::query_as(text).bind(name).fetch_optional(c).await)?;
    // Asked for after the row was locked: getting the lock may have taken its time.
    let now = tx.clock(ours).await?;
    Ok(row.is_some_and(|row| row.holder == holder && row.term == term && row.until > now))
}

/// Ends a lease whoever has it, where it is certain that nobody else runs (SQLite).
pub async fn expire(tx: &mut Tx, now: DateTime<Utc>) -> Result<(), Error> {
    const EXPIRE: &str = "UPDATE leases SET until = $1 WHERE until > $1";
    on!(tx, |c| sqlx::query(EXPIRE).bind(now).execute(c).await.map(drop))?;
    Ok(())
}
