//! Custodies: of a device, of a person, and who had a device at an instant.
//!
//! A stretch in the rack has a row beside the custodies, so that [`at`] is one look-up in `custodies_by_device`: the newest
//! stretch that had begun by then. Lists of custodies leave the rack out.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::AssertSqlSafe;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Error, Page, Paging, Span, Who, kept, who};
use crate::store::Tx;
use crate::store::engine::{on, row};

/// One person, or somebody unknown, had one device; or, in the timeline and as the answer to who had it, a stretch in the
/// rack.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Custody {
    /// The event that began it.
    pub id: Uuid,
    /// The device, by its serial number or, without one, the next best name.
    pub device: String,
    /// `person`, `unknown` or `pool`.
    pub state: String,
    /// Who had it; `null` unless the state is `person`.
    pub person: Option<Who>,
    /// The account that had it, as the UEM names it.
    pub account: Option<String>,
    /// Whether it is not known yet if the account is a person or the pool.
    pub undecided: bool,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How the beginning is known: `observed`, `inferred` or `reconciled`.
    pub started: String,
    /// When it ended; `null` while it lasts.
    pub ended_at: Option<DateTime<Utc>>,
    /// How the end is known.
    pub ended: Option<String>,
    /// How it ended: `return`, `next`, `re_enrolled`, `gone` or `erased`.
    pub departure: Option<String>,
    /// How long it lasted; `null` while it lasts.
    pub seconds: Option<i64>,
    /// Who had the device next, whatever time it spent in the rack between; `null` while nobody followed.
    pub next: Option<Next>,
    /// What became of the revocation that the departure made owed; `null` where none is owed.
    pub revocation: Option<RevocationState>,
}

/// Who followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Next {
    /// The user principal name; `null` where the next holder is unknown.
    pub upn: Option<String>,
    /// The directory's id.
    pub object_id: Option<Uuid>,
    /// `person` or `unknown`.
    pub state: String,
    /// The account, as the UEM names it.
    pub account: Option<String>,
}

/// A revocation, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RevocationState {
    /// Which.
    pub id: Uuid,
    /// Its state.
    pub state: String,
}

/// Who had a device at an instant.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HolderAt {
    /// The device, as in [`Custody::device`].
    pub device: String,
    /// The instant.
    pub at: DateTime<Utc>,
    /// `person`, `pool` or `unknown`; `unknown` also before the first event and after the device left our sight.
    pub state: String,
    /// Who had it; `null` unless the state is `person`.
    pub holder: Option<Who>,
    /// The stretch that covers the instant; `null` where none does.
    pub custody: Option<Custody>,
    /// What became of the revocation of that custody.
    pub revocation: Option<RevocationState>,
    /// The newest custody before it, whoever had it: the person that the next one must not be.
    pub previous: Option<Custody>,
}

row! {
    pub(super) struct CustodyRow {
        pub(super) id: Uuid,
        device: Option<String>,
        device_id: Uuid,
        holder: String,
        upn: Option<String>,
        object_id: Option<Uuid>,
        account: Option<String>,
        standing: Option<String>,
        pub(super) started_at: DateTime<Utc>,
        started: String,
        ended_at: Option<DateTime<Utc>>,
        ended: Option<String>,
        departure: Option<String>,
        next_holder: Option<String>,
        next_upn: Option<String>,
        next_object_id: Option<Uuid>,
        next_account: Option<String>,
        revocation_id: Option<Uuid>,
        revocation_state: Option<String>,
    }
}

impl From<CustodyRow> for Custody {
    fn from(row: CustodyRow) -> Self {
        Self {
            id: row.id,
            device: row.device.unwrap_or_else(|| row.device_id.to_string()),
            undecided: row.holder == "unknown" && row.standing.as_deref() == Some("undecided"),
            state: row.holder,
            person: who(row.upn, row.object_id),
            account: row.account,
            started_at: row.started_at,
            started: row.started,
            seconds: row.ended_at.map(|ended_at| (ended_at - row.started_at).num_seconds()),
            ended_at: row.ended_at,
            ended: row.ended,
            departure: row.departure,
            next: row.next_holder.map(|state| Next {
                upn: row.next_upn,
                object_id: row.next_object_id,
                state,
                account: row.next_account,
            }),
            revocation: row.revocation_id.zip(row.revocation_state).map(|(id, state)| RevocationState { id, state }),
        }
    }
}

/// The page is cut out first, so that everything beside it is looked up for the page alone.
macro_rules! custody {
    ($($which:tt)+) => {
        concat!(
            "SELECT c.id, COALESCE(d.serial, d.udid, d.uem_uuid, d.uem_id) AS device, c.device_id, c.holder,
                p.upn, p.object_id, COALESCE(a.user_name, a.email, a.uem_id, a.uem_uuid) AS account, a.standing,
                c.started_at, c.started, c.ended_at, c.ended, c.departure,
                n.holder AS next_holder, np.upn AS next_upn, np.object_id AS next_object_id,
                COALESCE(na.user_name, na.email, na.uem_id, na.uem_uuid) AS next_account,
                r.id AS revocation_id, r.state AS revocation_state
             FROM (SELECT s.id, s.device_id, s.holder, s.person_id, s.account_id, s.started_at, s.started, s.ended_at,
                    s.ended, s.departure,
                    (SELECT x.id FROM custodies x
                     WHERE x.device_id = s.device_id AND (x.started_at, x.id) > (s.started_at, s.id) AND x.holder <> 'pool'
                     ORDER BY x.started_at, x.id LIMIT 1) AS next_id
                FROM ",
            $($which)+,
            ") c
             JOIN devices d ON d.id = c.device_id
             LEFT JOIN people p ON p.id = c.person_id
             LEFT JOIN accounts a ON a.id = c.account_id
             LEFT JOIN custodies n ON n.id = c.next_id
             LEFT JOIN people np ON np.id = n.person_id
             LEFT JOIN accounts na ON na.id = n.account_id
             LEFT JOIN revocations r ON r.custody_id = c.id
             ORDER BY c.started_at DESC, c.id DESC"
        )
    };
}

/// The stretches of a device follow one another, so that none older than the one at the span's beginning can reach into it:
/// there the walk ends, however long the history before it is.
const OF_DEVICE: &str = custody!(
    "custodies s WHERE s.device_id = $1 AND (s.started_at, s.id) < ($2, $3) AND s.holder <> 'pool'
        AND s.started_at >= COALESCE((SELECT x.started_at FROM custodies x WHERE x.device_id = $1 AND x.started_at <= $4
            ORDER BY x.started_at DESC LIMIT 1), $4)
        AND (s.ended_at IS NULL OR s.ended_at > $4) AND s.started_at < $5
     ORDER BY s.started_at DESC, s.id DESC LIMIT $6"
);

/// The custodies of a device that overlap a span, newest first.
///
/// # Errors
/// [`Error::Cursor`], or when the database fails.
pub async fn of_device(tx: &mut Tx, device: Uuid, span: Span, paging: &Paging) -> Result<Page<Custody>, Error> {
    let (place, id) = begin_from(span, paging)?;
    let rows = on!(tx, |c| sqlx::query_as::<_, CustodyRow>(OF_DEVICE)
        .bind(device)
        .bind(place)
        .bind(id)
        .bind(span.from())
        .bind(span.to())
        .bind(paging.rows())
        .fetch_all(c)
        .await)?;
    Ok(page(rows, paging))
}

/// A person may have several devices at once, so that a custody of long ago may reach into any span. Three walks find those
/// that do, and each is short: of custodies that lasted a day at most, those that began no earlier than a day before the span
/// (`$7`); of the few that lasted longer, all before that; and what the person has now.
macro_rules! of_person {
    ($lasted_long:literal) => {
        custody!(
            "(SELECT * FROM (
                SELECT * FROM (SELECT x.* FROM custodies x
                    WHERE x.person_id = $1 AND (x.started_at, x.id) < ($2, $3) AND x.started_at < $5
                        AND x.started_at > $7 AND x.ended_at > $4
                    ORDER BY x.started_at DESC, x.id DESC LIMIT $6) AS late
                UNION ALL
                SELECT * FROM (SELECT x.* FROM custodies x
                    WHERE x.person_id = $1 AND (x.started_at, x.id) < ($2, $3) AND x.started_at < $5
                        AND x.started_at <= $7 AND x.ended_at > $4 AND ",
            $lasted_long,
            "       ORDER BY x.started_at DESC, x.id DESC LIMIT $6) AS long
                UNION ALL
                SELECT * FROM (SELECT x.* FROM devices d JOIN custodies x ON x.device_id = d.id AND x.started_at = d.since
                    WHERE d.holder_person = $1 AND x.person_id = $1 AND x.ended_at IS NULL
                        AND (x.started_at, x.id) < ($2, $3) AND x.started_at < $5
                    ORDER BY x.started_at DESC, x.id DESC LIMIT $6) AS lasting
             ) AS found ORDER BY found.started_at DESC, found.id DESC LIMIT $6) s
             ORDER BY s.started_at DESC, s.id DESC"
        )
    };
}

const OF_PERSON_SQLITE: &str = of_person!("julianday(x.ended_at) - julianday(x.started_at) > 1.0");
const OF_PERSON_POSTGRES: &str = of_person!("x.ended_at - x.started_at > INTERVAL '1 day'");

/// How much earlier than a span a custody may begin and still be looked for among all others: the day that the index of the
/// long ones begins with, and a second for the milliseconds in which SQLite counts days.
const A_DAY: TimeDelta = TimeDelta::seconds(86_401);

fn of_person_text(tx: &Tx) -> &'static str {
    tx.either(OF_PERSON_SQLITE, OF_PERSON_POSTGRES)
}

/// The moment before which only long custodies reach into what begins at `from`.
fn reach(from: DateTime<Utc>) -> DateTime<Utc> {
    kept(from.checked_sub_signed(A_DAY).unwrap_or(from))
}

/// The custodies of a person that overlap a span, newest first.
///
/// # Errors
/// [`Error::Cursor`], or when the database fails.
pub async fn of_person(tx: &mut Tx, person: Uuid, span: Span, paging: &Paging) -> Result<Page<Custody>, Error> {
    let (place, id) = begin_from(span, paging)?;
    let statement = of_person_text(tx);
    let rows = on!(tx, |c| sqlx::query_as::<_, CustodyRow>(statement)
        .bind(person)
        .bind(place)
        .bind(id)
        .bind(span.from())
        .bind(span.to())
        .bind(paging.rows())
        .bind(reach(span.from()))
        .fetch_all(c)
        .await)?;
    Ok(page(rows, paging))
}

/// Where a page of a span begins: where the span ends first, that is the better place.
fn begin_from(span: Span, paging: &Paging) -> Result<(DateTime<Utc>, Uuid), Error> {
    let (place, id) = paging.older_than("custodies")?;
    Ok(if span.to() < place { (span.to(), Uuid::nil()) } else { (place, id) })
}

fn page(rows: Vec<CustodyRow>, paging: &Paging) -> Page<Custody> {
    let page = paging.page("custodies", rows, |row| (row.started_at.timestamp_micros(), row.id));
    Page { items: page.items.into_iter().map(Custody::from).collect(), next: page.next }
}

const STRETCHES: &str = custody!(
    "custodies s WHERE s.device_id = $1 AND s.started_at <= $2 AND (s.started_at < $2 OR $3 OR s.id < $4)
     ORDER BY s.started_at DESC, s.id DESC LIMIT $5"
);

/// The stretches of a device up to a place in its order, the rack included, newest first: before the moment, or at it and
/// with `all_then` or a smaller id.
pub(super) async fn stretches(
    tx: &mut Tx,
    device: Uuid,
    (at, all_then, id): (DateTime<Utc>, bool, Uuid),
    limit: i64,
) -> Result<Vec<Custody>, Error> {
    let rows = on!(tx, |c| sqlx::query_as::<_, CustodyRow>(STRETCHES)
        .bind(device)
        .bind(at)
        .bind(all_then)
        .bind(id)
        .bind(limit)
        .fetch_all(c)
        .await)?;
    Ok(rows.into_iter().map(Custody::from).collect())
}

const AT: &str = custody!(
    "custodies s WHERE s.device_id = $1 AND s.started_at <= $2
     ORDER BY s.started_at DESC, s.id DESC LIMIT 1"
);

const BEFORE: &str = custody!(
    "custodies s WHERE s.device_id = $1 AND (s.started_at, s.id) < ($2, $3) AND s.holder <> 'pool'
     ORDER BY s.started_at DESC, s.id DESC LIMIT 1"
);

const CALLED: &str = "SELECT COALESCE(d.serial, d.udid, d.uem_uuid, d.uem_id) FROM devices d WHERE d.id = $1";

/// Who had the device at that instant. The moment an iPad changes hands belongs to the one who takes it.
///
/// # Errors
/// When the database fails.
pub async fn at(tx: &mut Tx, device: Uuid, at: DateTime<Utc>) -> Result<HolderAt, Error> {
    let at = kept(at);
    let found = on!(tx, |c| sqlx::query_as::<_, CustodyRow>(AT).bind(device).bind(at).fetch_optional(c).await)?;
    let Some(newest) = found.map(Custody::from) else {
        let called: Option<(Option<String>,)> =
            on!(tx, |c| sqlx::query_as(CALLED).bind(device).fetch_optional(c).await)?;
        return Ok(HolderAt {
            device: called.and_then(|(name,)| name).unwrap_or_else(|| device.to_string()),
            at,
            state: String::from("unknown"),
            holder: None,
            custody: None,
            revocation: None,
            previous: None,
        });
    };
    let previous = on!(tx, |c| sqlx::query_as::<_, CustodyRow>(BEFORE)
        .bind(device)
        .bind(newest.started_at)
        .bind(newest.id)
        .fetch_optional(c)
        .await)?
    .map(Custody::from);
    let covers = newest.ended_at.is_none_or(|ended_at| ended_at > at);
    if covers {
        return Ok(HolderAt {
            device: newest.device.clone(),
            at,
            state: newest.state.clone(),
            holder: newest.person.clone(),
            revocation: newest.revocation.clone(),
            custody: Some(newest),
            previous,
        });
    }
    let previous = if newest.state == "pool" { previous } else { Some(newest.clone()) };
    Ok(HolderAt {
        device: newest.device,
        at,
        state: String::from("unknown"),
        holder: None,
        custody: None,
        revocation: None,
        previous,
    })
}

/// How the database goes about the questions of history: for each, the index that it has to walk, and its plan. A plan that
/// reads a whole table would make history slower with every year.
///
/// # Errors
/// When the database fails.
pub async fn plans(
    tx: &mut Tx,
    device: Uuid,
    person: Uuid,
    at: DateTime<Utc>,
) -> Result<[(&'static str, String); 4], Error> {
    let (at, end) = (kept(at), super::END_OF_TIME);
    let column = tx.either("detail", "QUERY PLAN");
    let ask = |statement: &str| AssertSqlSafe(format!("{}{statement}", tx.either("EXPLAIN QUERY PLAN ", "EXPLAIN ")));
    let (who_then, of_device, of_person) = (ask(AT), ask(OF_DEVICE), ask(of_person_text(tx)));
    let who_then = on!(tx, |c| told(sqlx::query(who_then).bind(device).bind(at).fetch_all(c).await, column))?;
    let of_device = on!(tx, |c| told(
        sqlx::query(of_device)
            .bind(device)
            .bind(end)
            .bind(Uuid::max())
            .bind(at)
            .bind(end)
            .bind(50_i64)
            .fetch_all(c)
            .await,
        column
    ))?;
    let of_person = on!(tx, |c| told(
        sqlx::query(of_person)
            .bind(person)
            .bind(end)
            .bind(Uuid::max())
            .bind(at)
            .bind(end)
            .bind(50_i64)
            .bind(reach(at))
            .fetch_all(c)
            .await,
        column
    ))?;
    Ok([
        ("custodies_by_device", who_then),
        ("custodies_by_device", of_device),
        ("custodies_by_person", of_person.clone()),
        ("custodies_long_by_person", of_person),
    ])
}

fn told<R>(rows: Result<Vec<R>, sqlx::Error>, column: &'static str) -> Result<String, sqlx::Error>
where
    R: sqlx::Row,
    &'static str: sqlx::ColumnIndex<R>,
    for<'r> String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    let lines: Result<Vec<String>, _> = rows?.iter().map(|row| row.try_get(column)).collect();
    Ok(lines?.join("\n"))
}
