//! Everything that happened to a device, in one order.
//!
//! Five lists are merged, each walked along its own index from the same place. Of one moment, what follows from another
//! stands after it: event, custody, revocation, attempt, action; the newest is shown first.
//!
//! What would surprise: events and custodies stand at the source's time, the rest at ours. Where the two clocks differ, a
//! revocation may stand before the event that made it owed.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::custodies::{self, Custody};
use super::{Error, Page, Paging, Who, audit, moment, who};
use crate::store::Tx;
use crate::store::engine::{on, row};

/// Something that happened to a device.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TimelineEntry {
    /// When.
    pub at: DateTime<Utc>,
    /// The event, custody, revocation, attempt or audit entry.
    pub id: Uuid,
    /// What it is, in a sentence.
    pub sentence: String,
    /// The particulars.
    #[serde(flatten)]
    pub what: TimelineItem,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum TimelineItem {
    /// A source said something.
    Event(EventSeen),
    /// A custody, or a stretch in the rack, began.
    Custody(CustodyBegun),
    /// A revocation became owed.
    Revocation(RevocationOwed),
    /// A call to Graph began.
    Attempt(AttemptMade),
    /// An operator did something.
    Action(ActionTaken),
}

impl TimelineItem {
    fn rank(&self) -> u8 {
        match self {
            Self::Event(_) => 0,
            Self::Custody(_) => 1,
            Self::Revocation(_) => 2,
            Self::Attempt(_) => 3,
            Self::Action(_) => 4,
        }
    }
}

/// What a source said.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct EventSeen {
    /// Which source.
    pub source: String,
    /// The class of event, as the source's file names it.
    pub class: String,
    /// The vendor's name of the kind of event.
    pub label: Option<String>,
    /// What it says about who has the device: `with`, `enrolled`, `nameless`, `gone`, `erased` or `silent`.
    pub said: String,
    /// `told`, or `read` where we asked.
    pub how: String,
    /// The account it names.
    pub account: Option<String>,
    /// The source's own time, as it said it.
    pub occurred_at: Option<DateTime<Utc>>,
    /// When we got it, by our clock.
    pub received_at: DateTime<Utc>,
    /// `folded` or `too_late`.
    pub disposition: String,
    /// What does not fit about it.
    pub oddity: Option<String>,
}

/// A custody, or a stretch in the rack.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CustodyBegun {
    /// The whole of it.
    pub custody: Custody,
}

/// A revocation, in short.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RevocationOwed {
    /// Its state now.
    pub state: String,
    /// Why it became owed.
    pub reason: String,
    /// Whose tokens.
    pub person: Option<Who>,
    /// The custody it answers.
    pub custody: Uuid,
    /// When the person left.
    pub departed_at: DateTime<Utc>,
    /// When the effect was seen.
    pub verified_at: Option<DateTime<Utc>>,
}

/// A call to Graph.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AttemptMade {
    /// `in_flight`, `accepted`, `verified`, `unproven` or `failed`.
    pub state: String,
    /// What the answer meant.
    pub outcome: Option<String>,
    /// The HTTP status.
    pub status: Option<i64>,
    /// Graph's id of the request.
    pub request_id: Option<String>,
    /// Whose tokens.
    pub person: Option<Who>,
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ActionTaken {
    /// The name of the token.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// What it was done to.
    pub subject: Option<Uuid>,
    /// The particulars.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

/// Where one of the five lists goes on: before the moment; or at it, with any id or a smaller one.
type Place = (DateTime<Utc>, bool, Uuid);

/// The place of the list of `rank`, after the entry at `(at, rank, id)`: entries of a smaller rank at that very moment are
/// still to come, those of a greater one have been.
fn place(list: u8, (at, rank, id): (DateTime<Utc>, u8, Uuid)) -> Place {
    match list.cmp(&rank) {
        std::cmp::Ordering::Less => (at, true, id),
        std::cmp::Ordering::Equal => (at, false, id),
        std::cmp::Ordering::Greater => (at, false, Uuid::nil()),
    }
}

/// A page of the device's timeline, newest first.
///
/// # Errors
/// [`Error::Cursor`], or when the database fails.
pub async fn of_device(tx: &mut Tx, device: Uuid, paging: &Paging) -> Result<Page<TimelineEntry>, Error> {
    let after = match paging.place::<(i64, u8, Uuid)>("timeline")? {
        Some((micros, rank, id)) => (moment(micros)?, rank, id),
        None => (super::END_OF_TIME, u8::MAX, Uuid::max()),
    };
    let rows = paging.rows();
    let mut entries = events(tx, device, place(0, after), rows).await?;
    entries.extend(custodies::stretches(tx, device, place(1, after), rows).await?.into_iter().map(begun));
    entries.append(&mut revocations(tx, device, place(2, after), rows).await?);
    entries.append(&mut attempts(tx, device, place(3, after), rows).await?);
    entries.extend(audit::actions(tx, device, place(4, after), rows).await?.into_iter().map(taken));
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.at, entry.what.rank(), entry.id)));
    Ok(paging.page("timeline", entries, |entry| (entry.at.timestamp_micros(), entry.what.rank(), entry.id)))
}

row! {
    struct EventRow {
        id: Uuid,
        at: DateTime<Utc>,
        source: String,
        class: String,
        label: Option<String>,
        what: String,
        how: String,
        account: Option<String>,
        occurred_at: Option<DateTime<Utc>>,
        received_at: DateTime<Utc>,
        disposition: String,
        oddity: Option<String>,
    }
}

const EVENTS: &str = "SELECT e.id, e.at, e.source, e.class, e.label, e.what, e.how,
        COALESCE(a.user_name, a.email, a.uem_id, a.uem_uuid) AS account,
        e.occurred_at, e.received_at, e.disposition, e.oddity
     FROM events e LEFT JOIN accounts a ON a.id = e.account_id
     WHERE e.device_id = $1 AND e.at <= $2 AND (e.at < $2 OR $3 OR e.id < $4)
     ORDER BY e.at DESC, e.id DESC LIMIT $5";

async fn events(tx: &mut Tx, device: Uuid, (at, all, id): Place, limit: i64) -> Result<Vec<TimelineEntry>, Error> {
    let rows = on!(tx, |c| sqlx::query_as::<_, EventRow>(EVENTS)
        .bind(device)
        .bind(at)
        .bind(all)
        .bind(id)
        .bind(limit)
        .fetch_all(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(|row| TimelineEntry {
            at: row.at,
            id: row.id,
            sentence: event_sentence(&row),
            what: TimelineItem::Event(EventSeen {
                source: row.source,
                class: row.class,
                label: row.label,
                said: row.what,
                how: row.how,
                account: row.account,
                occurred_at: row.occurred_at,
                received_at: row.received_at,
                disposition: row.disposition,
                oddity: row.oddity,
            }),
        })
        .collect())
}

fn event_sentence(row: &EventRow) -> String {
    let source = &row.source;
    let verb = if row.how == "read" { "was asked and said" } else { "said" };
    let account = row.account.as_deref().unwrap_or("an account without a name");
    match row.what.as_str() {
        "with" => format!("{source} {verb} that the device is with {account}"),
        "enrolled" => format!("{source} {verb} that the device was enrolled and is with {account}"),
        "nameless" => format!("{source} {verb} that somebody has the device, and not who"),
        "gone" => format!("{source} {verb} that the device left its management"),
        "erased" => format!("{source} {verb} that the device was erased"),
        _ => format!("{source} {verb} nothing about who has the device"),
    }
}

fn begun(custody: Custody) -> TimelineEntry {
    let sentence = match (custody.state.as_str(), &custody.person, &custody.account) {
        ("person", Some(person), _) => format!("{} has the device", person.upn),
        ("pool", _, _) => String::from("nobody has the device"),
        (_, _, Some(account)) => format!("{account} has the device, and it is not known who that is"),
        (_, _, None) => String::from("somebody has the device, and it is not known who"),
    };
    TimelineEntry {
        at: custody.started_at,
        id: custody.id,
        sentence,
        what: TimelineItem::Custody(CustodyBegun { custody }),
    }
}

row! {
    struct OwedRow {
        id: Uuid,
        at: DateTime<Utc>,
        state: String,
        reason: String,
        upn: Option<String>,
        object_id: Option<Uuid>,
        custody_id: Uuid,
        departed_at: DateTime<Utc>,
        verified_at: Option<DateTime<Utc>>,
    }
}

const REVOCATIONS: &str =
    "SELECT r.id, r.owed_at AS at, r.state, r.reason, p.upn, p.object_id, r.custody_id, r.departed_at,
        r.verified_at
     FROM revocations r LEFT JOIN people p ON p.id = r.person_id
     WHERE r.device_id = $1 AND r.owed_at <= $2 AND (r.owed_at < $2 OR $3 OR r.id < $4)
     ORDER BY r.owed_at DESC, r.id DESC LIMIT $5";

async fn revocations(tx: &mut Tx, device: Uuid, (at, all, id): Place, limit: i64) -> Result<Vec<TimelineEntry>, Error> {
    let rows = on!(tx, |c| sqlx::query_as::<_, OwedRow>(REVOCATIONS)
        .bind(device)
        .bind(at)
        .bind(all)
        .bind(id)
        .bind(limit)
        .fetch_all(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(|row| TimelineEntry {
            at: row.at,
            id: row.id,
            sentence: format!(
                "a revocation of {} became owed; it is {} now",
                row.upn.as_deref().unwrap_or("somebody unknown"),
                row.state.replace('_', " ")
            ),
            what: TimelineItem::Revocation(RevocationOwed {
                state: row.state,
                reason: row.reason,
                person: who(row.upn, row.object_id),
                custody: row.custody_id,
                departed_at: row.departed_at,
                verified_at: row.verified_at,
            }),
        })
        .collect())
}

row! {
    struct AttemptRow {
        id: Uuid,
        at: DateTime<Utc>,
        state: String,
        outcome: Option<String>,
        status: Option<i64>,
        request_id: Option<String>,
        upn: Option<String>,
        object_id: Option<Uuid>,
    }
}

const ATTEMPTS: &str = "SELECT a.id, a.began_at AS at, a.state, a.outcome, a.status, a.request_id, p.upn, p.object_id
     FROM attempts a LEFT JOIN people p ON p.id = a.person_id
     WHERE a.id IN (SELECT ar.attempt_id FROM revocations r
            JOIN attempt_revocations ar ON ar.revocation_id = r.id WHERE r.device_id = $1)
        AND a.began_at <= $2 AND (a.began_at < $2 OR $3 OR a.id < $4)
     ORDER BY a.began_at DESC, a.id DESC LIMIT $5";

async fn attempts(tx: &mut Tx, device: Uuid, (at, all, id): Place, limit: i64) -> Result<Vec<TimelineEntry>, Error> {
    let rows = on!(tx, |c| sqlx::query_as::<_, AttemptRow>(ATTEMPTS)
        .bind(device)
        .bind(at)
        .bind(all)
        .bind(id)
        .bind(limit)
        .fetch_all(c)
        .await)?;
    Ok(rows
        .into_iter()
        .map(|row| TimelineEntry {
            at: row.at,
            id: row.id,
            sentence: format!(
                "Entra was asked to revoke the tokens of {}: {}",
                row.upn.as_deref().unwrap_or("somebody unknown"),
                row.outcome.as_deref().unwrap_or("no answer yet")
            ),
            what: TimelineItem::Attempt(AttemptMade {
                state: row.state,
                outcome: row.outcome,
                status: row.status,
                request_id: row.request_id,
                person: who(row.upn, row.object_id),
            }),
        })
        .collect())
}

fn taken(entry: audit::AuditEntry) -> TimelineEntry {
    TimelineEntry {
        at: entry.at,
        id: entry.id,
        sentence: format!("{}: {}", entry.actor, entry.action),
        what: TimelineItem::Action(ActionTaken {
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            detail: entry.detail,
        }),
    }
}
