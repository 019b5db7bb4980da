//! The attempts: one call to Graph for one person, written down before it is made (R6).
//!
//! The row is the fence (R9): an attempt ends by a change from `in_flight` that names its owner, so a worker whose lease was
//! taken over changes nothing.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use sqlx::types::Json;
use uuid::Uuid;

use super::engine::{on, row};
use super::{Error, Tx};

row! {
    /// An attempt.
    pub struct AttemptRow {
        /// Also the `client-request-id`.
        pub id: Uuid,
        /// For whom.
        pub person_id: Uuid,
        /// `in_flight`, `accepted`, `verified`, `unproven` or `failed`.
        pub state: String,
        /// When its intent was written down.
        pub began_at: DateTime<Utc>,
        /// The instance that makes the call.
        pub owner: String,
        /// Until when it is that instance's.
        pub lease_until: Option<DateTime<Utc>>,
        /// The stamp read just before.
        pub stamp_before: Option<DateTime<Utc>>,
        /// The newest stamp that had proved anything until then.
        pub stamp_verified: Option<DateTime<Utc>>,
        /// The verdict.
        pub outcome: Option<String>,
        /// HTTP status.
        pub status: Option<i64>,
        /// Graph's error code.
        pub error_code: Option<String>,
        /// Graph's id of the request.
        pub request_id: Option<String>,
        /// The answer's own time.
        pub graph_date: Option<DateTime<Utc>>,
        /// Graph's clock minus ours, in microseconds.
        pub graph_offset_us: Option<i64>,
        /// When the outcome was written down.
        pub ended_at: Option<DateTime<Utc>>,
        /// How often the stamp was read back.
        pub reads: i64,
        /// When it is read (again).
        pub read_at: Option<DateTime<Utc>>,
        /// The stamp that showed the effect.
        pub stamp_after: Option<DateTime<Utc>>,
        /// Custodies of the person that were open when it began.
        pub collateral: Json<Vec<Uuid>>,
    }
}

/// Writes the intent down. `false` when another attempt for the person is in flight (R7).
pub async fn begin(tx: &mut Tx, attempt: &AttemptRow, covers: &[Uuid]) -> Result<bool, Error> {
    const BEGIN: &str =
        "INSERT INTO attempts (id, person_id, state, began_at, owner, lease_until, stamp_before, stamp_verified,
             graph_offset_us, reads, collateral)
         VALUES ($1, $2, 'in_flight', $3, $4, $5, $6, $7, $8, 0, $9)
         ON CONFLICT (person_id) WHERE state = 'in_flight' DO NOTHING";
    let begun = on!(tx, |c| {
        sqlx::query(BEGIN)
            .bind(attempt.id)
            .bind(attempt.person_id)
            .bind(attempt.began_at)
            .bind(&attempt.owner)
            .bind(attempt.lease_until)
            .bind(attempt.stamp_before)
            .bind(attempt.stamp_verified)
            .bind(attempt.graph_offset_us)
            .bind(attempt.collateral.clone())
            .execute(c)
            .await
            .map(|done| done.rows_affected())
    })?;
    if begun == 1 {
        on!(tx, |c| {
            QueryBuilder::new("INSERT INTO attempt_revocations (attempt_id, revocation_id) ")
                .push_values(covers, |mut tuple, revocation| {
                    tuple.push_bind(attempt.id).push_bind(*revocation);
                })
                .build()
                .execute(c)
                .await
                .map(drop)
        })?;
    }
    Ok(begun == 1)
}

/// Ends an attempt that `owner` still has. `false` when it is not theirs any more: then nothing was changed.
pub async fn end(tx: &mut Tx, attempt: &AttemptRow, owner: &str) -> Result<bool, Error> {
    const END: &str = "UPDATE attempts SET state = $3, lease_until = NULL, outcome = $4, status = $5, error_code = $6,
             request_id = $7, graph_date = $8, ended_at = $9, reads = $10, read_at = $11, stamp_after = $12
         WHERE id = $1 AND owner = $2 AND state = 'in_flight'";
    let changed = on!(tx, |c| {
        sqlx::query(END)
            .bind(attempt.id)
            .bind(owner)
            .bind(&attempt.state)
            .bind(&attempt.outcome)
            .bind(attempt.status)
            .bind(&attempt.error_code)
            .bind(&attempt.request_id)
            .bind(attempt.graph_date)
            .bind(attempt.ended_at)
            .bind(attempt.reads)
            .bind(attempt.read_at)
            .bind(attempt.stamp_after)
            .execute(c)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

/// Writes down a read of the stamp after an accepted attempt, if nobody else did since `reads` reads.
pub async fn read_back(tx: &mut Tx, attempt: &AttemptRow, reads: i64) -> Result<bool, Error> {
    const READ: &str = "UPDATE attempts SET state = $3, reads = $4, read_at = $5, stamp_after = $6
         WHERE id = $1 AND reads = $2 AND state = 'accepted'";
    let changed = on!(tx, |c| {
        sqlx::query(READ)
            .bind(attempt.id)
            .bind(reads)
            .bind(&attempt.state)
            .bind(attempt.reads)
            .bind(attempt.read_at)
            .bind(attempt.stamp_after)
            .execute(c)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

/// Accepted attempts whose stamp is to be read now. Whatever is to be read after `never` is to be read too (E8).
pub async fn to_read(
    tx: &mut Tx,
    now: DateTime<Utc>,
    never: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<AttemptRow>, Error> {
    const TO_READ: &str = "SELECT id, person_id, state, began_at, owner, lease_until, stamp_before, stamp_verified, outcome, status,
             error_code, request_id, graph_date, graph_offset_us, ended_at, reads, read_at, stamp_after, collateral
         FROM attempts WHERE read_at IS NOT NULL AND (read_at <= $1 OR read_at > $2) AND state = 'accepted' ORDER BY read_at, id LIMIT $3";
    Ok(on!(tx, |c| sqlx::query_as(TO_READ).bind(now).bind(never).bind(limit).fetch_all(c).await)?)
}

/// Takes up stamps that are to be read now, so that nobody else does before `until`. Whoever dies with one leaves it due then.
pub async fn claim_reads(
    tx: &mut Tx,
    now: DateTime<Utc>,
    never: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<AttemptRow>, Error> {
    let text = tx.either(
        "WITH mine (which) AS MATERIALIZED (SELECT id FROM attempts
             WHERE read_at IS NOT NULL AND (read_at <= $1 OR read_at > $2) AND state = 'accepted'
             ORDER BY read_at, id LIMIT $4)
         UPDATE attempts SET read_at = $3 FROM mine WHERE id = mine.which
         RETURNING id, person_id, state, began_at, owner, lease_until, stamp_before, stamp_verified, outcome, status,
             error_code, request_id, graph_date, graph_offset_us, ended_at, reads, read_at, stamp_after, collateral",
        "WITH mine (which) AS MATERIALIZED (SELECT id FROM attempts
             WHERE read_at IS NOT NULL AND (read_at <= $1 OR read_at > $2) AND state = 'accepted'
             ORDER BY read_at, id LIMIT $4 FOR UPDATE SKIP LOCKED)
         UPDATE attempts SET read_at = $3 FROM mine WHERE id = mine.which
         RETURNING id, person_id, state, began_at, owner, lease_until, stamp_before, stamp_verified, outcome, status,
             error_code, request_id, graph_date, graph_offset_us, ended_at, reads, read_at, stamp_after, collateral",
    );
    Ok(on!(tx, |c| sqlx::query_as(text).bind(now).bind(never).bind(until).bind(limit).fetch_all(c).await)?)
}

/// Attempts whose owner's time is up: their outcome is not known.
pub async fn orphaned(tx: &mut Tx, now: DateTime<Utc>, limit: i64) -> Result<Vec<AttemptRow>, Error> {
    const ORPHANED: &str =
        "SELECT id, person_id, state, began_at, owner, lease_until, stamp_before, stamp_verified, outcome, status,
             error_code, request_id, graph_date, graph_offset_us, ended_at, reads, read_at, stamp_after, collateral
         FROM attempts WHERE lease_until IS NOT NULL AND lease_until < $1 ORDER BY lease_until, id LIMIT $2";
    Ok(on!(tx, |c| sqlx::query_as(ORPHANED).bind(now).bind(limit).fetch_all(c).await)?)
}

/// Takes an attempt over from an owner whose time is up. `false` when somebody else did, or it was renewed.
pub async fn take_over(
    tx: &mut Tx,
    id: Uuid,
    from: &str,
    to: &str,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<bool, Error> {
    const TAKE: &str = "UPDATE attempts SET owner = $3, lease_until = $5
         WHERE id = $1 AND owner = $2 AND state = 'in_flight' AND lease_until < $4";
    let changed = on!(tx, |c| sqlx::query(TAKE)
        .bind(id)
        .bind(from)
        .bind(to)
        .bind(now)
        .bind(until)
        .execute(c)
        .await
        .map(|d| d.rows_affected()))?;
    Ok(changed == 1)
}

/// Keeps an attempt for longer. `false` when it is not `owner`'s any more, or its time was up before `now`: then it is
/// anybody's.
pub async fn renew(
    tx: &mut Tx,
    id: Uuid,
    owner: &str,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<bool, Error> {
    const RENEW: &str = "UPDATE attempts SET lease_until = $4
         WHERE id = $1 AND owner = $2 AND state = 'in_flight' AND lease_until >= $3";
    let changed = on!(tx, |c| sqlx::query(RENEW)
        .bind(id)
        .bind(owner)
        .bind(now)
        .bind(until)
        .execute(c)
        .await
        .map(|d| d.rows_affected()))?;
    Ok(changed == 1)
}

/// Ends the leases of everybody else, where it is certain that nobody else runs (SQLite).
pub async fn expire_leases(tx: &mut Tx, now: DateTime<Utc>) -> Result<u64, Error> {
    const EXPIRE: &str = "UPDATE attempts SET lease_until = $1 WHERE lease_until IS NOT NULL AND lease_until > $1";
    Ok(on!(tx, |c| sqlx::query(EXPIRE).bind(now).execute(c).await.map(|d| d.rows_affected()))?)
}

row! {
    /// What proved an earlier attempt for a person.
    pub struct Proven {
        /// The attempt.
        pub id: Uuid,
        /// When it began.
        pub began_at: DateTime<Utc>,
        /// One of the revocations it answered.
        pub revocation_id: Uuid,
    }
}

/// The newest proven attempt for a person.
pub async fn newest_proven(tx: &mut Tx, person: Uuid) -> Result<Option<Proven>, Error> {
    const NEWEST: &str = "SELECT a.id, a.began_at, r.revocation_id FROM attempts a
         JOIN attempt_revocations r ON r.attempt_id = a.id
         WHERE a.person_id = $1 AND a.state = 'verified' ORDER BY a.began_at DESC, r.revocation_id LIMIT 1";
    Ok(on!(tx, |c| sqlx::query_as(NEWEST).bind(person).fetch_optional(c).await)?)
}

/// The custodies of a person that are open now: whom an attempt would interrupt.
pub async fn open_custodies(tx: &mut Tx, person: Uuid) -> Result<Vec<Uuid>, Error> {
    const OPEN: &str = "SELECT c.id FROM devices d JOIN custodies c ON c.device_id = d.id AND c.started_at = d.since
         WHERE d.holder_person = $1 AND c.person_id = $1 AND c.ended_at IS NULL ORDER BY c.started_at, c.id";
    Ok(on!(tx, |c| sqlx::query_scalar(OPEN).bind(person).fetch_all(c).await)?)
}

row! {
    /// What may have had an effect.
    pub struct Effect {
        /// The answer's own time.
        pub graph_date: Option<DateTime<Utc>>,
        /// Our clock at the end.
        pub ended_at: Option<DateTime<Utc>>,
        /// Graph's clock minus ours, in microseconds.
        pub graph_offset_us: Option<i64>,
    }
}

/// The newest time on Graph's clock at which an earlier attempt for a person may have moved the stamp: the answer's own
/// time, or where the answer was lost the end of the attempt by our clock, moved onto Graph's.
pub async fn newest_effect(tx: &mut Tx, person: Uuid) -> Result<Option<DateTime<Utc>>, Error> {
    const EFFECTS: &str = "SELECT graph_date, ended_at, graph_offset_us FROM attempts
         WHERE person_id = $1 AND state <> 'in_flight' AND (outcome = 'accepted' OR outcome = 'ambiguous')
         ORDER BY began_at DESC LIMIT 10";
    let effects: Vec<Effect> = on!(tx, |c| sqlx::query_as(EFFECTS).bind(person).fetch_all(c).await)?;
    let at = |effect: Effect| {
        let moved = effect.ended_at.map(|at| at + chrono::TimeDelta::microseconds(effect.graph_offset_us.unwrap_or(0)));
        effect.graph_date.or(moved)
    };
    Ok(effects.into_iter().filter_map(at).max())
}

row! {
    /// The stamps that an attempt has read.
    struct StampsRead {
        stamp_before: Option<DateTime<Utc>>,
        stamp_after: Option<DateTime<Utc>>,
    }
}

/// The newest stamp of a person that an attempt has read, before or after its call.
pub async fn newest_stamp(tx: &mut Tx, person: Uuid) -> Result<Option<DateTime<Utc>>, Error> {
    const STAMPS: &str =
        "SELECT stamp_before, stamp_after FROM attempts WHERE person_id = $1 ORDER BY began_at DESC LIMIT 10";
    let stamps: Vec<StampsRead> = on!(tx, |c| sqlx::query_as(STAMPS).bind(person).fetch_all(c).await)?;
    Ok(stamps.into_iter().flat_map(|read| [read.stamp_before, read.stamp_after]).flatten().max())
}

/// How many attempts are in flight, whoever makes them.
pub async fn in_flight(tx: &mut Tx) -> Result<i64, Error> {
    const IN_FLIGHT: &str = "SELECT COUNT(*) FROM attempts WHERE state = 'in_flight'";
    Ok(on!(tx, |c| sqlx::query_scalar(IN_FLIGHT).fetch_one(c).await)?)
}
