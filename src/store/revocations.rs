//! The revocations we owe: rows are added and change state, and are never deleted.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::engine::{on, row, sheets};
use super::{Error, Tx};

row! {
    /// A revocation.
    #[derive(PartialEq)]
    pub struct RevocationRow {
        /// Derived from the device and the event that began the custody.
        pub id: Uuid,
        /// The device that was left.
        pub device_id: Uuid,
        /// The custody it answers.
        pub custody_id: Uuid,
        /// Whose tokens.
        pub person_id: Option<Uuid>,
        /// The account, where the person is not known.
        pub account_id: Option<Uuid>,
        /// Why it is owed.
        pub reason: String,
        /// Where it stands.
        pub state: String,
        /// Why it waits.
        pub why: Option<String>,
        /// What a person or a late event had to say.
        pub note: Option<String>,
        /// When they left.
        pub departed_at: DateTime<Utc>,
        /// The event that showed it.
        pub departed_by: Uuid,
        /// The event that made it owed.
        pub because: Uuid,
        /// From when somebody else could use the access.
        pub exposed_from: DateTime<Utc>,
        /// When it was written down.
        pub owed_at: DateTime<Utc>,
        /// Smaller goes first.
        pub urgency: i64,
        /// Not before.
        pub due_at: DateTime<Utc>,
        /// Attempts without success in a row.
        pub failed: i64,
        /// Answers 404 in a row.
        pub unfound: i64,
        /// Lost answers in a row that could not be checked.
        pub blind: i64,
        /// The attempt under way, or the one that answered it.
        pub attempt_id: Option<Uuid>,
        /// The revocation whose attempt answered it.
        pub covered_by: Option<Uuid>,
        /// When the directory said yes.
        pub accepted_at: Option<DateTime<Utc>>,
        /// When the effect was seen.
        pub verified_at: Option<DateTime<Utc>>,
        /// When it was closed.
        pub closed_at: Option<DateTime<Utc>>,
        /// Counts its changes.
        pub version: i64,
    }
}

const COLUMNS: &str = "id, device_id, custody_id, person_id, account_id, reason, state, why, note, departed_at, departed_by, \
     because, exposed_from, owed_at, urgency, due_at, failed, unfound, blind, attempt_id, covered_by, accepted_at, \
     verified_at, closed_at, version";

/// Writes down what is owed; what is owed already stays as it is.
pub async fn owe(tx: &mut Tx, revocations: &[RevocationRow]) -> Result<(), Error> {
    for sheet in sheets(revocations) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(format!("INSERT INTO revocations ({COLUMNS}) "));
            sheet.put(&mut query, |mut tuple, owed| {
                tuple
                    .push_bind(owed.id)
                    .push_bind(owed.device_id)
                    .push_bind(owed.custody_id)
                    .push_bind(owed.person_id)
                    .push_bind(owed.account_id)
                    .push_bind(owed.reason.clone())
                    .push_bind(owed.state.clone())
                    .push_bind(owed.why.clone())
                    .push_bind(owed.note.clone())
                    .push_bind(owed.departed_at)
                    .push_bind(owed.departed_by)
                    .push_bind(owed.because)
                    .push_bind(owed.exposed_from)
                    .push_bind(owed.owed_at)
                    .push_bind(owed.urgency)
                    .push_bind(owed.due_at)
                    .push_bind(owed.failed)
                    .push_bind(owed.unfound)
                    .push_bind(owed.blind)
                    .push_bind(owed.attempt_id)
                    .push_bind(owed.covered_by)
                    .push_bind(owed.accepted_at)
                    .push_bind(owed.verified_at)
                    .push_bind(owed.closed_at)
                    .push_bind(owed.version);
            });
            query.push(" ON CONFLICT (id) DO NOTHING").build().execute(c).await.map(drop)
        })?;
    }
    Ok(())
}

/// Writes a revocation as it is now, if nobody changed it since it was loaded. Says whether it did.
pub async fn save(tx: &mut Tx, owed: &RevocationRow) -> Result<bool, Error> {
    const SAVE: &str =
        "UPDATE revocations SET custody_id = $3, person_id = $4, account_id = $5, reason = $6, state = $7, why = $8,
             note = $9, departed_at = $10, departed_by = $11, because = $12, exposed_from = $13, urgency = $14,
             due_at = $15, failed = $16, unfound = $17, blind = $18, attempt_id = $19, covered_by = $20,
             accepted_at = $21, verified_at = $22, closed_at = $23, version = version + 1
         WHERE id = $1 AND version = $2";
    let changed = on!(tx, |c| {
        sqlx::query(SAVE)
            .bind(owed.id)
            .bind(owed.version)
            .bind(owed.custody_id)
            .bind(owed.person_id)
            .bind(owed.account_id)
            .bind(&owed.reason)
            .bind(&owed.state)
            .bind(&owed.why)
            .bind(&owed.note)
            .bind(owed.departed_at)
            .bind(owed.departed_by)
            .bind(owed.because)
            .bind(owed.exposed_from)
            .bind(owed.urgency)
            .bind(owed.due_at)
            .bind(owed.failed)
            .bind(owed.unfound)
            .bind(owed.blind)
            .bind(owed.attempt_id)
            .bind(owed.covered_by)
            .bind(owed.accepted_at)
            .bind(owed.verified_at)
            .bind(owed.closed_at)
            .execute(c)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

/// One revocation.
pub async fn load(tx: &mut Tx, id: Uuid) -> Result<Option<RevocationRow>, Error> {
    const LOAD: &str = "SELECT id, device_id, custody_id, person_id, account_id, reason, state, why, note, departed_at, departed_by,
             because, exposed_from, owed_at, urgency, due_at, failed, unfound, blind, attempt_id, covered_by, accepted_at,
             verified_at, closed_at, version
         FROM revocations WHERE id = $1";
    Ok(on!(tx, |c| sqlx::query_as(LOAD).bind(id).fetch_optional(c).await)?)
}

/// The revocations of a device whose departure lies at `from` or later.
pub async fn of_device(tx: &mut Tx, device: Uuid, from: Option<DateTime<Utc>>) -> Result<Vec<RevocationRow>, Error> {
    const OF: &str = "SELECT id, device_id, custody_id, person_id, account_id, reason, state, why, note, departed_at, departed_by,
             because, exposed_from, owed_at, urgency, due_at, failed, unfound, blind, attempt_id, covered_by, accepted_at,
             verified_at, closed_at, version
         FROM revocations WHERE device_id = $1 ORDER BY departed_at, id";
    let all: Vec<RevocationRow> = on!(tx, |c| sqlx::query_as(OF).bind(device).fetch_all(c).await)?;
    Ok(all.into_iter().filter(|owed| from.is_none_or(|from| owed.departed_at >= from)).collect())
}

/// The revocations of a person, or of an account that nobody was found for, that are in `state`.
pub async fn waiting_for(tx: &mut Tx, who: Uuid, state: &str) -> Result<Vec<RevocationRow>, Error> {
    const WAITING: &str = "SELECT id, device_id, custody_id, person_id, account_id, reason, state, why, note, departed_at, departed_by,
             because, exposed_from, owed_at, urgency, due_at, failed, unfound, blind, attempt_id, covered_by, accepted_at,
             verified_at, closed_at, version
         FROM revocations WHERE (person_id = $1 OR account_id = $1) AND state = $2 ORDER BY owed_at, id";
    Ok(on!(tx, |c| sqlx::query_as(WAITING).bind(who).bind(state).fetch_all(c).await)?)
}

/// The revocations that an attempt covers.
pub async fn of_attempt(tx: &mut Tx, attempt: Uuid) -> Result<Vec<RevocationRow>, Error> {
    const OF: &str = "SELECT r.id, r.device_id, r.custody_id, r.person_id, r.account_id, r.reason, r.state, r.why, r.note, r.departed_at,
             r.departed_by, r.because, r.exposed_from, r.owed_at, r.urgency, r.due_at, r.failed, r.unfound, r.blind,
             r.attempt_id, r.covered_by, r.accepted_at, r.verified_at, r.closed_at, r.version
         FROM revocations r JOIN attempt_revocations a ON a.revocation_id = r.id
         WHERE a.attempt_id = $1 ORDER BY r.id";
    Ok(on!(tx, |c| sqlx::query_as(OF).bind(attempt).fetch_all(c).await)?)
}

row! {
    /// A person for whom something is due.
    pub struct DuePerson {
        /// Who.
        pub person_id: Uuid,
        /// The smallest urgency among what is due for them.
        pub urgency: i64,
        /// Since when something has been due for them.
        pub due_at: DateTime<Utc>,
    }
}

/// The people for whom a revocation is due and no attempt is under way, the riskiest first. Whatever is due after `never`
/// is due too: nothing waits so long, so our clock was put back (E8).
pub async fn due_people(
    tx: &mut Tx,
    now: DateTime<Utc>,
    never: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<DuePerson>, Error> {
    const DUE: &str = "SELECT person_id, MIN(urgency) AS urgency, MIN(due_at) AS due_at FROM revocations r
         WHERE state = 'open' AND (due_at <= $1 OR due_at > $2) AND person_id IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.person_id = r.person_id AND a.state = 'in_flight')
         GROUP BY person_id ORDER BY MIN(urgency), MIN(due_at), person_id LIMIT $3";
    Ok(on!(tx, |c| sqlx::query_as(DUE).bind(now).bind(never).bind(limit).fetch_all(c).await)?)
}

/// Moves what is owed by one person to another that turned out to be the same.
pub async fn move_person(tx: &mut Tx, from: Uuid, to: Uuid) -> Result<(), Error> {
    const REVOCATIONS: &str = "UPDATE revocations SET person_id = $2, version = version + 1 WHERE person_id = $1";
    const CUSTODIES: &str = "UPDATE custodies SET person_id = $2 WHERE person_id = $1";
    const DEVICES: &str = "UPDATE devices SET holder_person = $2 WHERE holder_person = $1";
    const ATTEMPTS: &str = "UPDATE attempts SET person_id = $2 WHERE person_id = $1 AND state <> 'in_flight'";
    for statement in [REVOCATIONS, CUSTODIES, DEVICES, ATTEMPTS] {
        on!(tx, |c| sqlx::query(statement).bind(from).bind(to).execute(c).await.map(drop))?;
    }
    Ok(())
}
