//! The sources as far as they were heard, what they sent that could not be read, and how far imports have come.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::engine::{on, row};
use super::{Error, Tx};

row! {
    /// A source.
    pub struct SourceRow {
        /// Its configured name.
        pub name: String,
        /// When it was last heard.
        pub last_heard_at: Option<DateTime<Utc>>,
        /// When it was last swept to the end.
        pub last_swept_at: Option<DateTime<Utc>>,
        /// Our receipt minus its own time, in microseconds: the median of the last 50 events.
        pub offset_us: Option<i64>,
    }
}

/// Writes down that a source was heard.
pub async fn heard(tx: &mut Tx, name: &str, at: DateTime<Utc>, offset_us: Option<i64>) -> Result<(), Error> {
    const HEARD: &str = "INSERT INTO sources (name, last_heard_at, offset_us) VALUES ($1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET last_heard_at = excluded.last_heard_at,
             offset_us = COALESCE(excluded.offset_us, sources.offset_us)";
    on!(tx, |c| sqlx::query(HEARD).bind(name).bind(at).bind(offset_us).execute(c).await.map(drop))?;
    Ok(())
}

/// Writes down that a source was swept to the end.
pub async fn swept(tx: &mut Tx, name: &str, at: DateTime<Utc>) -> Result<(), Error> {
    const SWEPT: &str = "INSERT INTO sources (name, last_swept_at) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET last_swept_at = excluded.last_swept_at";
    on!(tx, |c| sqlx::query(SWEPT).bind(name).bind(at).execute(c).await.map(drop))?;
    Ok(())
}

/// All sources that were ever heard or swept.
pub async fn all(tx: &mut Tx) -> Result<Vec<SourceRow>, Error> {
    const ALL: &str = "SELECT name, last_heard_at, last_swept_at, offset_us FROM sources ORDER BY name";
    Ok(on!(tx, |c| sqlx::query_as(ALL).fetch_all(c).await)?)
}

/// The offset of the source that named an event.
pub async fn offset_of_event(tx: &mut Tx, event: Uuid) -> Result<Option<i64>, Error> {
    const OFFSET: &str =
        "SELECT sources.offset_us FROM events JOIN sources ON sources.name = events.source WHERE events.id = $1";
    let found: Option<Option<i64>> = on!(tx, |c| sqlx::query_scalar(OFFSET).bind(event).fetch_optional(c).await)?;
    Ok(found.flatten())
}

row! {
    /// A body that could not be read.
    pub struct QuarantineRow {
        /// Derived from source and body: the same body twice is one row.
        pub id: Uuid,
        /// Who sent it.
        pub source: String,
        /// When.
        pub received_at: DateTime<Utc>,
        /// `malformed` or `unknown`.
        pub kind: String,
        /// What was wrong with it.
        pub why: String,
        /// Of the body.
        pub content_type: Option<String>,
        /// The body, whole or its first 4 KiB.
        pub body: Vec<u8>,
        /// When it was read after all.
        pub read_at: Option<DateTime<Utc>>,
    }
}

/// Puts a body into quarantine. Says whether it is new there.
pub async fn quarantine(tx: &mut Tx, body: &QuarantineRow) -> Result<bool, Error> {
    const QUARANTINE: &str = "INSERT INTO quarantine (id, source, received_at, kind, why, content_type, body)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING";
    let added = on!(tx, |c| {
        sqlx::query(QUARANTINE)
            .bind(body.id)
            .bind(&body.source)
            .bind(body.received_at)
            .bind(&body.kind)
            .bind(&body.why)
            .bind(&body.content_type)
            .bind(&body.body)
            .execute(c)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(added == 1)
}

/// Drops the oldest malformed bodies beyond the newest `keep` (E11). What may be read again is never dropped.
pub async fn bound_quarantine(tx: &mut Tx, keep: i64) -> Result<u64, Error> {
    const BOUND: &str = "DELETE FROM quarantine WHERE kind = 'malformed' AND id NOT IN
         (SELECT id FROM quarantine WHERE kind = 'malformed' ORDER BY received_at DESC, id LIMIT $1)";
    Ok(on!(tx, |c| sqlx::query(BOUND).bind(keep).execute(c).await.map(|done| done.rows_affected()))?)
}

/// Bodies in quarantine that have not been read after all, oldest first.
pub async fn quarantined(tx: &mut Tx, limit: i64) -> Result<Vec<QuarantineRow>, Error> {
    const WAITING: &str = "SELECT id, source, received_at, kind, why, content_type, body, read_at FROM quarantine
         WHERE read_at IS NULL AND kind = 'unknown' ORDER BY received_at, id LIMIT $1";
    Ok(on!(tx, |c| sqlx::query_as(WAITING).bind(limit).fetch_all(c).await)?)
}

/// Writes down that a body was read after all. `false` when that stands there already.
pub async fn read_after_all(tx: &mut Tx, id: Uuid, at: DateTime<Utc>) -> Result<bool, Error> {
    const READ: &str = "UPDATE quarantine SET read_at = $2 WHERE id = $1 AND read_at IS NULL";
    let changed = on!(tx, |c| sqlx::query(READ).bind(id).bind(at).execute(c).await.map(|done| done.rows_affected()))?;
    Ok(changed == 1)
}

/// How many lines of a file were taken in, and whether that was all of it.
pub async fn import(tx: &mut Tx, digest: &[u8]) -> Result<Option<(i64, bool)>, Error> {
    const IMPORT: &str = "SELECT lines, finished_at IS NOT NULL FROM imports WHERE digest = $1";
    Ok(on!(tx, |c| sqlx::query_as(IMPORT).bind(digest).fetch_optional(c).await)?)
}

/// Writes down how far an import has come.
pub async fn import_reached(
    tx: &mut Tx,
    digest: &[u8],
    name: &str,
    lines: i64,
    finished_at: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    const REACHED: &str = "INSERT INTO imports (digest, name, lines, finished_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (digest) DO UPDATE SET lines = excluded.lines, finished_at = excluded.finished_at";
    on!(tx, |c| sqlx::query(REACHED).bind(digest).bind(name).bind(lines).bind(finished_at).execute(c).await.map(drop))?;
    Ok(())
}
