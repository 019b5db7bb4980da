//! History by the month: where it lies on PostgreSQL, and how it is dropped for its age on both engines.
//!
//! On PostgreSQL `events` and `audit` are partitioned by their ids, which begin with the time. A month is a partition of its
//! own; what fits into none lies in `…_rest` until its month is added. On SQLite there are no partitions: what is too old is
//! deleted row by row.

use chrono::{DateTime, Datelike as _, Months, NaiveDate, NaiveTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::types::Json;
use uuid::Uuid;

use super::engine::on;
use super::snapshot::Snapshot;
use super::times::moment;
use super::{Error, Tx};
use crate::custody::EventId;

/// A month of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(NaiveDate);

impl Month {
    /// The month that this lies in.
    pub fn of(at: DateTime<Utc>) -> Self {
        let day = at.date_naive();
        Self(day.with_day(1).unwrap_or(day))
    }

    /// So many months later.
    #[must_use]
    pub fn later(self, months: u32) -> Self {
        Self(self.0.checked_add_months(Months::new(months)).unwrap_or(NaiveDate::MAX))
    }

    /// So many months earlier.
    #[must_use]
    pub fn earlier(self, months: u32) -> Self {
        Self(self.0.checked_sub_months(Months::new(months)).unwrap_or(NaiveDate::MIN))
    }

    /// Its first moment.
    pub fn begins(self) -> DateTime<Utc> {
        self.0.and_time(NaiveTime::MIN).and_utc()
    }

    /// The least id of it.
    fn first_id(self) -> Uuid {
        Uuid::from_bytes(EventId::first_at(moment(self.begins())).0)
    }

    /// `2026m11`, as partitions are called.
    fn name(self) -> String {
        format!("{:04}m{:02}", self.0.year(), self.0.month())
    }

    fn named(name: &str) -> Option<Self> {
        let (year, month) = name.split_once('m')?;
        NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1).map(Self)
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m"))
    }
}

/// What lies by the month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shelf {
    /// `events`.
    Events,
    /// `audit`.
    Audit,
}

impl Shelf {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Events, Self::Audit];

    /// The table.
    pub fn table(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Audit => "audit",
        }
    }

    fn columns(self) -> &'static str {
        match self {
            Self::Events => {
                "id, device_id, source, class, kind, label, what, how, account_id, occurred_at, at, received_at, \
                 disposition, oddity, content_type, raw"
            }
            Self::Audit => "id, at, actor, action, device_id, person_id, subject, detail",
        }
    }

    fn partition(self, month: Month) -> String {
        format!("{}_{}", self.table(), month.name())
    }
}

/// The months that have a place of their own. Empty on SQLite, which has no partitions.
pub async fn laid(tx: &mut Tx, shelf: Shelf) -> Result<Vec<Month>, Error> {
    const LAID: &str = "SELECT CAST(child.relname AS text) FROM pg_inherits
         JOIN pg_class child ON child.oid = pg_inherits.inhrelid
         WHERE pg_inherits.inhparent = to_regclass($1) ORDER BY child.relname";
    let text = tx.either("SELECT NULL WHERE $1 IS NULL", LAID);
    let names: Vec<String> = on!(tx, |c| sqlx::query_scalar(text).bind(shelf.table()).fetch_all(c).await)?;
    let month = |name: &String| Month::named(name.strip_prefix(shelf.table())?.strip_prefix('_')?);
    Ok(names.iter().filter_map(month).collect())
}

/// Whether history is laid by the month here at all.
pub fn has_months(tx: &Tx) -> bool {
    tx.either("", "months") == "months"
}

/// The months, from `from` up to and with `to`, of which rows still lie in `…_rest`, and how many.
pub async fn in_rest(tx: &mut Tx, shelf: Shelf, from: Month, to: Month) -> Result<Vec<(Month, i64)>, Error> {
    if !has_months(tx) {
        return Ok(Vec::new());
    }
    // The first 48 bits of an id are the milliseconds of its time.
    let text = format!(
        "SELECT date_trunc('month', to_timestamp(('x' || substr(replace(CAST(id AS text), '-', ''), 1, 12))::bit(48)::bigint / 1000.0), 'UTC'), COUNT(*)
         FROM {}_rest WHERE id >= $1 AND id < $2 GROUP BY 1 ORDER BY 1",
        shelf.table()
    );
    let starts: Vec<(DateTime<Utc>, i64)> = on!(tx, |c| sqlx::query_as(AssertSqlSafe(text))
        .bind(from.first_id())
        .bind(to.later(1).first_id())
        .fetch_all(c)
        .await)?;
    Ok(starts.into_iter().map(|(start, rows)| (Month::of(start), rows)).collect())
}

/// Gives a month a place of its own, and moves what lies in `…_rest` there. Says how many rows that were. Whoever writes
/// meanwhile waits; nothing happens if that would take more than two seconds to come about.
pub async fn lay(tx: &mut Tx, shelf: Shelf, month: Month) -> Result<u64, Error> {
    let (table, partition, columns) = (shelf.table(), shelf.partition(month), shelf.columns());
    let (from, to) = (month.first_id(), month.later(1).first_id());
    let before = [
        String::from("SET LOCAL lock_timeout = '2s'"),
        format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"),
        format!("CREATE TABLE {partition} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"),
    ];
    for text in before {
        on!(tx, |c| sqlx::query(AssertSqlSafe(text)).execute(c).await.map(drop))?;
    }
    let moving = format!(
        "WITH moved AS (DELETE FROM {table}_rest WHERE id >= $1 AND id < $2 RETURNING {columns})
         INSERT INTO {partition} ({columns}) SELECT {columns} FROM moved"
    );
    let moved = on!(tx, |c| sqlx::query(AssertSqlSafe(moving))
        .bind(from)
        .bind(to)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))?;
    let attach = format!("ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ('{from}') TO ('{to}')");
    on!(tx, |c| sqlx::query(AssertSqlSafe(attach)).execute(c).await.map(drop))?;
    Ok(moved)
}

/// Drops a month with all that lies in it. Says how many rows that were.
pub async fn drop_month(tx: &mut Tx, shelf: Shelf, month: Month) -> Result<u64, Error> {
    let partition = shelf.partition(month);
    let lock = "SET LOCAL lock_timeout = '2s'";
    on!(tx, |c| sqlx::query(lock).execute(c).await.map(drop))?;
    let count = format!("SELECT COUNT(*) FROM {partition}");
    let rows: i64 = on!(tx, |c| sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(c).await)?;
    let gone = format!("DROP TABLE {partition}");
    on!(tx, |c| sqlx::query(AssertSqlSafe(gone)).execute(c).await.map(drop))?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

/// The devices whose origin has to be moved to `cut`, because they have events before it, and whose base has folded all of
/// them: late events are folded from there.
pub async fn to_move(tx: &mut Tx, cut: DateTime<Utc>, limit: i64) -> Result<Vec<Uuid>, Error> {
    const BEHIND: &str = "SELECT id FROM devices
         WHERE (origin_at IS NULL OR origin_at < $1)
           AND EXISTS (SELECT 1 FROM events WHERE device_id = devices.id AND at < $1)
           AND NOT EXISTS (SELECT 1 FROM events WHERE device_id = devices.id AND at < $1 AND disposition = 'folded'
                           AND (devices.base_at IS NULL OR at >= devices.base_at))
         ORDER BY id LIMIT $2";
    Ok(on!(tx, |c| sqlx::query_scalar(BEHIND).bind(cut).bind(limit).fetch_all(c).await)?)
}

/// Whether a device has events before `cut` that its origin does not answer for.
pub async fn any_unmoved(tx: &mut Tx, cut: DateTime<Utc>) -> Result<bool, Error> {
    const ANY: &str = "SELECT EXISTS (SELECT 1 FROM devices WHERE (origin_at IS NULL OR origin_at < $1)
           AND EXISTS (SELECT 1 FROM events WHERE device_id = devices.id AND at < $1))";
    Ok(on!(tx, |c| sqlx::query_scalar(ANY).bind(cut).fetch_one(c).await)?)
}

/// The fold's state that what is left of a device's events is folded from. Absent: the beginning.
pub async fn origin(tx: &mut Tx, device: Uuid) -> Result<Option<Snapshot>, Error> {
    const ORIGIN: &str = "SELECT origin FROM devices WHERE id = $1";
    let found: Option<Option<Json<Snapshot>>> =
        on!(tx, |c| sqlx::query_scalar(ORIGIN).bind(device).fetch_optional(c).await)?;
    Ok(found.flatten().map(|origin| origin.0))
}

/// Moves a device's origin. Its row must be locked.
pub async fn set_origin(tx: &mut Tx, device: Uuid, origin: Snapshot, at: DateTime<Utc>) -> Result<(), Error> {
    const SET: &str = "UPDATE devices SET origin = $2, origin_at = $3 WHERE id = $1";
    on!(tx, |c| sqlx::query(SET).bind(device).bind(Json(origin)).bind(at).execute(c).await.map(drop))?;
    Ok(())
}

/// What was dropped of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Events, without those of whole months.
    pub events: u64,
    /// Stretches of a holder that ended before.
    pub custodies: u64,
    /// Revocations that were closed before.
    pub revocations: u64,
}

/// Drops what a device has before `cut`: events that lie in no month of their own, custodies that ended, revocations that
/// were closed. What is unfinished stays, and so does the custody it is about.
pub async fn drop_of_device(tx: &mut Tx, device: Uuid, cut: DateTime<Utc>) -> Result<Dropped, Error> {
    const REVOCATIONS: &str = "DELETE FROM revocations WHERE device_id = $1 AND closed_at < $2 AND departed_at < $2";
    const CUSTODIES: &str = "DELETE FROM custodies WHERE device_id = $1 AND ended_at < $2
         AND NOT EXISTS (SELECT 1 FROM revocations WHERE custody_id = custodies.id)";
    let events = tx.either(
        "DELETE FROM events WHERE device_id = $1 AND at < $2",
        "DELETE FROM events_rest WHERE device_id = $1 AND at < $2",
    );
    let mut counts = [0; 3];
    for (count, text) in counts.iter_mut().zip([events, REVOCATIONS, CUSTODIES]) {
        *count =
            on!(tx, |c| sqlx::query(text).bind(device).bind(cut).execute(c).await.map(|done| done.rows_affected()))?;
    }
    let [events, revocations, custodies] = counts;
    Ok(Dropped { events, custodies, revocations })
}

/// Drops attempts that ended before `cut` and answer nothing that is still kept. Says how many.
pub async fn drop_attempts(tx: &mut Tx, cut: DateTime<Utc>) -> Result<u64, Error> {
    const ANSWERS: &str = "DELETE FROM attempt_revocations
         WHERE attempt_id IN (SELECT id FROM attempts WHERE ended_at < $1)
           AND NOT EXISTS (SELECT 1 FROM revocations WHERE id = attempt_revocations.revocation_id)";
    const ATTEMPTS: &str = "DELETE FROM attempts WHERE ended_at < $1
         AND NOT EXISTS (SELECT 1 FROM attempt_revocations WHERE attempt_id = attempts.id)";
    on!(tx, |c| sqlx::query(ANSWERS).bind(cut).execute(c).await.map(drop))?;
    Ok(on!(tx, |c| sqlx::query(ATTEMPTS).bind(cut).execute(c).await.map(|done| done.rows_affected()))?)
}

/// Drops up to `limit` audit entries from before `cut` that lie in no month of their own. Says how many.
pub async fn drop_entries(tx: &mut Tx, cut: DateTime<Utc>, limit: i64) -> Result<u64, Error> {
    let text = tx.either(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at, id LIMIT $2)",
        "DELETE FROM audit_rest WHERE id IN (SELECT id FROM audit_rest WHERE at < $1 ORDER BY at, id LIMIT $2)",
    );
    Ok(on!(tx, |c| sqlx::query(text).bind(cut).bind(limit).execute(c).await.map(|done| done.rows_affected()))?)
}

/// Drops bodies that came into quarantine before `cut`. Says how many.
pub async fn drop_quarantine(tx: &mut Tx, cut: DateTime<Utc>) -> Result<u64, Error> {
    const OLD: &str = "DELETE FROM quarantine WHERE received_at < $1";
    Ok(on!(tx, |c| sqlx::query(OLD).bind(cut).execute(c).await.map(|done| done.rows_affected()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_knows_its_ends_its_name_and_its_neighbours() {
        let month = Month::of("2026-11-30T23:59:59.999999Z".parse().unwrap());

        assert_eq!(month.begins().to_rfc3339(), "2026-11-01T00:00:00+00:00");
        assert_eq!(month.later(2).begins().to_rfc3339(), "2027-01-01T00:00:00+00:00");
        assert_eq!(month.earlier(72).to_string(), "2020-11");
        assert_eq!((month.name(), Month::named("2026m11")), (String::from("2026m11"), Some(month)));
        assert_eq!(Month::named("rest"), None);
        assert_eq!(month.first_id().to_string(), "01a19467-e800-0000-0000-000000000000");
    }
}
