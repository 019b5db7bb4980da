//! Revocations: what is owed and why, with every attempt and the receipt.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;
use sqlx::QueryBuilder;
use sqlx::types::Json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Error, Page, Paging, Who, who};
use crate::custody::{Standpoint, Why};
use crate::store::Tx;
use crate::store::engine::{on, row};

/// How long an access token that was issued before a revocation may still work at the most.
///
/// Entra gives access tokens a life of 60 to 90 minutes. Resources with continuous access evaluation refuse them within
/// 15 minutes; that a resource has it is not ours to know, so the outer bound counts.
const ACCESS_TOKEN_LIFE: TimeDelta = TimeDelta::minutes(90);

/// What we owe because of a departure.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Revocation {
    /// Which.
    pub id: Uuid,
    /// `open`, `in_flight`, `accepted`, `verified`, `held`, `needs_operator`, `covered_by_other`, `moot`,
    /// `not_effective`, `waived` or `shadow`.
    pub state: String,
    /// Why it became owed: `next_user`, `unknown_user`, `left_sight` or `return`.
    pub reason: String,
    /// Whose tokens; `null` where the account could not be tied to a person.
    pub person: Option<Who>,
    /// The account, as the UEM names it.
    pub account: Option<String>,
    /// The device, by its serial number or, without one, the next best name.
    pub device: String,
    /// The custody it answers.
    pub custody: Uuid,
    /// When the person left, by the source's clock.
    pub departed_at: DateTime<Utc>,
    /// When it was written down, by our clock.
    pub owed_at: DateTime<Utc>,
    /// When it is sent (again), not before; `null` unless it is `open`.
    pub due_at: Option<DateTime<Utc>>,
    /// When it was closed without a receipt of its own.
    pub closed_at: Option<DateTime<Utc>>,
    /// Why it waits: `late`, `unknown_person`, `several_people`, `forbidden`, `refused` or `unreadable`.
    pub why: Option<String>,
    /// What a person or a late event had to say about it.
    pub note: Option<String>,
    /// The calls that were made for it, newest first.
    pub attempts: Vec<Attempt>,
    /// When the directory said yes.
    pub accepted_at: Option<DateTime<Utc>>,
    /// When the effect was seen.
    pub verified_at: Option<DateTime<Utc>>,
    /// `signInSessionsValidFromDateTime` as read before the attempt that answered it.
    pub stamp_before: Option<DateTime<Utc>>,
    /// The same as read after it.
    pub stamp_after: Option<DateTime<Utc>>,
    /// How long somebody else could use the person's access.
    pub exposure: Exposure,
    /// Custodies of the same person that were open on other devices when the attempt began.
    pub collateral: Vec<Collateral>,
    /// The revocation whose attempt answered this one too.
    pub covered_by: Option<Uuid>,
    /// Why it is in its state, in a sentence.
    pub explanation: String,
}

/// One call to Graph.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Attempt {
    /// When it began, by our clock.
    pub began_at: DateTime<Utc>,
    /// When its outcome was written down, by our clock.
    pub ended_at: Option<DateTime<Utc>>,
    /// `in_flight`, `accepted`, `verified`, `unproven` or `failed`.
    pub state: String,
    /// What the answer meant; `null` while there is none.
    pub outcome: Option<String>,
    /// The HTTP status.
    pub status: Option<i64>,
    /// Graph's own code of the error.
    pub error_code: Option<String>,
    /// Graph's id of the request.
    pub request_id: Option<String>,
    /// Ours.
    pub client_request_id: Uuid,
    /// The answer's own time, on Graph's clock.
    pub graph_date: Option<DateTime<Utc>>,
    /// The stamp as read before.
    pub stamp_before: Option<DateTime<Utc>>,
    /// The stamp as read after.
    pub stamp_after: Option<DateTime<Utc>>,
}

/// How long somebody else could use the previous person's access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Exposure {
    /// From here: when another, or an unknown, holder got the device; or the departure where nobody is known to follow.
    pub from: DateTime<Utc>,
    /// Refresh tokens could be used until here: the verification, else the acceptance; `null` while there is neither.
    pub refresh_tokens_until: Option<DateTime<Utc>>,
    /// Access tokens that had been issued before could be used until here at the most: 90 minutes more. Resources with
    /// continuous access evaluation refuse them after 15.
    pub access_tokens_until: Option<DateTime<Utc>>,
}

/// A custody of the same person on another device, which the revocation signed out as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Collateral {
    /// The custody, as it was known when the attempt began.
    pub custody: Uuid,
    /// Its device; `null` where the custody has been found not to be one since.
    pub device: Option<String>,
}

row! {
    struct RevocationRow {
        id: Uuid,
        state: String,
        reason: String,
        why: Option<String>,
        note: Option<String>,
        upn: Option<String>,
        object_id: Option<Uuid>,
        account: Option<String>,
        device: Option<String>,
        device_id: Uuid,
        custody_id: Uuid,
        departed_at: DateTime<Utc>,
        exposed_from: DateTime<Utc>,
        owed_at: DateTime<Utc>,
        due_at: DateTime<Utc>,
        failed: i64,
        accepted_at: Option<DateTime<Utc>>,
        verified_at: Option<DateTime<Utc>>,
        closed_at: Option<DateTime<Utc>>,
        covered_by: Option<Uuid>,
        attempt_state: Option<String>,
        stamp_before: Option<DateTime<Utc>>,
        stamp_after: Option<DateTime<Utc>>,
        collateral: Option<Json<Vec<Uuid>>>,
    }
}

row! {
    struct AttemptRow {
        revocation_id: Uuid,
        id: Uuid,
        state: String,
        began_at: DateTime<Utc>,
        ended_at: Option<DateTime<Utc>>,
        outcome: Option<String>,
        status: Option<i64>,
        error_code: Option<String>,
        request_id: Option<String>,
        graph_date: Option<DateTime<Utc>>,
        stamp_before: Option<DateTime<Utc>>,
        stamp_after: Option<DateTime<Utc>>,
    }
}

/// A revocation with its receipt. What another revocation's attempt answered shows that attempt's receipt.
macro_rules! revocation {
    ($which:literal) => {
        concat!(
            "SELECT r.id, r.state, r.reason, r.why, r.note, p.upn, p.object_id,
                COALESCE(c.user_name, c.email, c.uem_id, c.uem_uuid) AS account,
                COALESCE(d.serial, d.udid, d.uem_uuid, d.uem_id) AS device, r.device_id, r.custody_id,
                r.departed_at, r.exposed_from, r.owed_at, r.due_at, r.failed,
                COALESCE(r.accepted_at, o.accepted_at) AS accepted_at,
                COALESCE(r.verified_at, o.verified_at) AS verified_at,
                r.closed_at, r.covered_by, a.state AS attempt_state, a.stamp_before, a.stamp_after, a.collateral
             FROM revocations r
             JOIN devices d ON d.id = r.device_id
             LEFT JOIN people p ON p.id = r.person_id
             LEFT JOIN accounts c ON c.id = r.account_id
             LEFT JOIN revocations o ON o.id = r.covered_by AND r.state = 'covered_by_other'
             LEFT JOIN attempts a ON a.id = COALESCE(o.attempt_id, r.attempt_id) ",
            $which
        )
    };
}

/// Which revocations are asked for. What is absent does not narrow.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this state.
    pub state: Option<Standpoint>,
    /// Because of a departure from this device.
    pub device: Option<Uuid>,
    /// Of this person.
    pub person: Option<Uuid>,
}

const NEWEST: &str = revocation!(
    "WHERE (r.owed_at, r.id) < ($1, $2)
        AND $4 IS NULL AND $5 IS NULL AND $6 IS NULL
     ORDER BY r.owed_at DESC, r.id DESC LIMIT $3"
);

const OF_STATE: &str = revocation!(
    "WHERE r.state = $4 AND (r.owed_at, r.id) < ($1, $2)
        AND $5 IS NULL AND $6 IS NULL
     ORDER BY r.owed_at DESC, r.id DESC LIMIT $3"
);

const OF_PERSON: &str = revocation!(
    "WHERE r.person_id = $6 AND (r.owed_at, r.id) < ($1, $2)
        AND ($4 IS NULL OR r.state = $4) AND $5 IS NULL
     ORDER BY r.owed_at DESC, r.id DESC LIMIT $3"
);

const OF_DEVICE: &str = revocation!(
    "WHERE r.device_id = $5 AND (r.owed_at, r.id) < ($1, $2)
        AND ($4 IS NULL OR r.state = $4) AND ($6 IS NULL OR r.person_id = $6)
     ORDER BY r.owed_at DESC, r.id DESC LIMIT $3"
);

/// A page of revocations, the last to be owed first. Each filter that narrows most has a statement of its own, so that
/// every page is a walk along one index.
///
/// # Errors
/// [`Error::Cursor`], or when the database fails.
pub async fn list(tx: &mut Tx, filter: &Filter, paging: &Paging) -> Result<Page<Revocation>, Error> {
    let (place, id) = paging.older_than("revocations")?;
    let statement = match filter {
        Filter { device: Some(_), .. } => OF_DEVICE,
        Filter { person: Some(_), .. } => OF_PERSON,
        Filter { state: Some(_), .. } => OF_STATE,
        Filter { state: None, device: None, person: None } => NEWEST,
    };
    let rows = on!(tx, |c| sqlx::query_as::<_, RevocationRow>(statement)
        .bind(place)
        .bind(id)
        .bind(paging.rows())
        .bind(filter.state.map(Standpoint::name))
        .bind(filter.device)
        .bind(filter.person)
        .fetch_all(c)
        .await)?;
    let page = paging.page("revocations", rows, |row| (row.owed_at.timestamp_micros(), row.id));
    Ok(Page { items: whole(tx, page.items).await?, next: page.next })
}

const ONE: &str = revocation!("WHERE r.id = $1");

/// The revocation of that id.
///
/// # Errors
/// When the database fails.
pub async fn one(tx: &mut Tx, id: Uuid) -> Result<Option<Revocation>, Error> {
    let rows = on!(tx, |c| sqlx::query_as::<_, RevocationRow>(ONE).bind(id).fetch_all(c).await)?;
    Ok(whole(tx, rows).await?.pop())
}

/// Ends in an open list of revocations.
const ATTEMPTS: &str =
    "SELECT ar.revocation_id, a.id, a.state, a.began_at, a.ended_at, a.outcome, a.status, a.error_code,
        a.request_id, a.graph_date, a.stamp_before, a.stamp_after
     FROM attempt_revocations ar JOIN attempts a ON a.id = ar.attempt_id
     WHERE ar.revocation_id IN (";

/// Ends in an open list of custodies.
const DEVICES_OF: &str = "SELECT c.id, COALESCE(d.serial, d.udid, d.uem_uuid, d.uem_id) AS device
     FROM custodies c JOIN devices d ON d.id = c.device_id
     WHERE c.id IN (";

/// How many custodies are asked for in one statement; SQLite takes 32,766 places, PostgreSQL 65,535.
const AT_ONCE: usize = 1000;

row! {
    struct DeviceOfRow {
        id: Uuid,
        device: Option<String>,
    }
}

/// The devices of custodies.
async fn devices_of(tx: &mut Tx, custodies: &[Uuid]) -> Result<HashMap<Uuid, Option<String>>, Error> {
    let mut devices = HashMap::new();
    for some in custodies.chunks(AT_ONCE) {
        let rows: Vec<DeviceOfRow> = on!(tx, |c| {
            let mut query = QueryBuilder::new(DEVICES_OF);
            let mut ids = query.separated(", ");
            for id in some {
                ids.push_bind(*id);
            }
            query.push(")").build_query_as().fetch_all(c).await
        })?;
        devices.extend(rows.into_iter().map(|row| (row.id, row.device)));
    }
    Ok(devices)
}

/// The revocations with their attempts and collateral, which are read for all of them at once.
async fn whole(tx: &mut Tx, rows: Vec<RevocationRow>) -> Result<Vec<Revocation>, Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let attempts: Vec<AttemptRow> = on!(tx, |c| {
        let mut query = QueryBuilder::new(ATTEMPTS);
        let mut ids = query.separated(", ");
        for row in &rows {
            ids.push_bind(row.id);
        }
        query.push(") ORDER BY a.began_at DESC, a.id DESC").build_query_as().fetch_all(c).await
    })?;
    let mut of: HashMap<Uuid, Vec<Attempt>> = HashMap::new();
    for attempt in attempts {
        of.entry(attempt.revocation_id).or_default().push(Attempt::from(attempt));
    }
    let mut signed_out: Vec<_> =
        rows.iter().flat_map(|row| row.collateral.iter().flat_map(|list| list.0.iter().copied())).collect();
    signed_out.sort_unstable();
    signed_out.dedup();
    let devices = devices_of(tx, &signed_out).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let attempts = of.remove(&row.id).unwrap_or_default();
            Revocation::of(row, attempts, &devices)
        })
        .collect())
}

impl From<AttemptRow> for Attempt {
    fn from(row: AttemptRow) -> Self {
        Self {
            began_at: row.began_at,
            ended_at: row.ended_at,
            state: row.state,
            outcome: row.outcome,
            status: row.status,
            error_code: row.error_code,
            request_id: row.request_id,
            client_request_id: row.id,
            graph_date: row.graph_date,
            stamp_before: row.stamp_before,
            stamp_after: row.stamp_after,
        }
    }
}

impl Revocation {
    fn of(row: RevocationRow, attempts: Vec<Attempt>, devices: &HashMap<Uuid, Option<String>>) -> Self {
        let refresh_tokens_until = row.verified_at.or(row.accepted_at);
        Self {
            explanation: explanation(&row),
            due_at: (row.state == Standpoint::Open.name()).then_some(row.due_at),
            id: row.id,
            state: row.state,
            reason: row.reason,
            person: who(row.upn, row.object_id),
            account: row.account,
            device: row.device.unwrap_or_else(|| row.device_id.to_string()),
            custody: row.custody_id,
            departed_at: row.departed_at,
            owed_at: row.owed_at,
            closed_at: row.closed_at,
            why: row.why,
            note: row.note,
            attempts,
            accepted_at: row.accepted_at,
            verified_at: row.verified_at,
            stamp_before: row.stamp_before,
            stamp_after: row.stamp_after,
            exposure: Exposure {
                from: row.exposed_from,
                refresh_tokens_until,
                access_tokens_until: refresh_tokens_until.map(|at| at + ACCESS_TOKEN_LIFE),
            },
            collateral: row.collateral.map_or_else(Vec::new, |Json(custodies)| {
                custodies
                    .into_iter()
                    .map(|custody| Collateral { custody, device: devices.get(&custody).cloned().flatten() })
                    .collect()
            }),
            covered_by: row.covered_by,
        }
    }
}

fn spelled(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Why the revocation is in its state.
fn explanation(row: &RevocationRow) -> String {
    let Some(state) = Standpoint::named(&row.state) else { return String::from("its state is not known") };
    match state {
        Standpoint::Open if row.failed > 0 => {
            let times = if row.failed == 1 { String::from("once") } else { format!("{} times in a row", row.failed) };
            format!("it was tried {times} without success; the next attempt is due at {}", spelled(row.due_at))
        }
        Standpoint::Open => format!("it is to be sent; due at {}", spelled(row.due_at)),
        Standpoint::InFlight => String::from("an attempt is under way"),
        Standpoint::Accepted if row.attempt_state.as_deref() == Some("unproven") => String::from(
            "Entra accepted it, but the person's stamp was not seen to move; the acceptance is all the proof there is",
        ),
        Standpoint::Accepted => String::from("Entra accepted it; its effect is being read back"),
        Standpoint::Verified => match row.stamp_after {
            Some(stamp) => {
                format!("Entra refuses every refresh token of this person that was issued before {}", spelled(stamp))
            }
            None => noted("its effect was seen in the directory", row.note.as_deref()),
        },
        Standpoint::Held | Standpoint::NeedsOperator => waiting(row.why.as_deref(), row.note.as_deref()),
        Standpoint::CoveredByOther => {
            String::from("an attempt for the same person that answered another revocation answers this one too")
        }
        Standpoint::Moot => noted("there is nothing to revoke any more", row.note.as_deref()),
        Standpoint::NotEffective => {
            String::from("the person is a guest and signs in at home, where this directory cannot revoke anything")
        }
        Standpoint::Waived => noted("an operator closed it without sending it", row.note.as_deref()),
        Standpoint::Shadow => String::from("shadow mode: it would have been sent"),
    }
}

fn waiting(why: Option<&str>, note: Option<&str>) -> String {
    const WHYS: [Why; 7] = [
        Why::Late,
        Why::UnknownPerson,
        Why::SeveralPeople,
        Why::Forbidden,
        Why::Refused,
        Why::Unreadable,
        Why::Restored,
    ];
    let known = WHYS.into_iter().find(|known| Some(known.name()) == why);
    match (known, why) {
        (Some(known), _) => String::from(known.explained()),
        (None, Some(why)) => noted(&format!("it waits for an operator ({why})"), note),
        (None, None) => noted("it waits for an operator", note),
    }
}

fn noted(sentence: &str, note: Option<&str>) -> String {
    note.map_or_else(|| String::from(sentence), |note| format!("{sentence}: {note}"))
}
