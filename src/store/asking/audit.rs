//! The audit history: what was done, by whom.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::types::Json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Error, Page, Paging, Span, Who, who};
use crate::store::Tx;
use crate::store::engine::{on, row};

/// One deed.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AuditEntry {
    /// Which entry.
    pub id: Uuid,
    /// When, by our clock.
    pub at: DateTime<Utc>,
    /// Who did it: a source, `handover`, or the name of an API token.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// The device it is about, by its serial number or, without one, the next best name.
    pub device: Option<String>,
    /// The person it is about.
    pub person: Option<Who>,
    /// The event, revocation, attempt, account or token it is about.
    pub subject: Option<Uuid>,
    /// The particulars.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

row! {
    pub(super) struct EntryRow {
        pub(super) id: Uuid,
        pub(super) at: DateTime<Utc>,
        actor: String,
        action: String,
        device: Option<String>,
        upn: Option<String>,
        object_id: Option<Uuid>,
        subject: Option<Uuid>,
        detail: Json<serde_json::Value>,
    }
}

impl From<EntryRow> for AuditEntry {
    fn from(row: EntryRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            actor: row.actor,
            action: row.action,
            device: row.device,
            person: who(row.upn, row.object_id),
            subject: row.subject,
            detail: row.detail.0,
        }
    }
}

macro_rules! entry {
    ($which:literal) => {
        concat!(
            "SELECT u.id, u.at, u.actor, u.action, COALESCE(d.serial, d.udid, d.uem_uuid, d.uem_id) AS device,
                p.upn, p.object_id, u.subject, u.detail
             FROM audit u
             LEFT JOIN devices d ON d.id = u.device_id
             LEFT JOIN people p ON p.id = u.person_id ",
            $which
        )
    };
}

/// Which entries are asked for. What is absent does not narrow.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// About this device.
    pub device: Option<Uuid>,
    /// About this person.
    pub person: Option<Uuid>,
    /// Of this action.
    pub action: Option<String>,
    /// In this span.
    pub span: Span,
}

const NEWEST: &str = entry!(
    "WHERE (u.at, u.id) < ($1, $2) AND u.at >= $4
        AND ($5 IS NULL OR u.action = $5) AND $6 IS NULL AND $7 IS NULL
     ORDER BY u.at DESC, u.id DESC LIMIT $3"
);

const OF_PERSON: &str = entry!(
    "WHERE u.person_id = $7 AND (u.at, u.id) < ($1, $2) AND u.at >= $4
        AND ($5 IS NULL OR u.action = $5) AND $6 IS NULL
     ORDER BY u.at DESC, u.id DESC LIMIT $3"
);

const OF_DEVICE: &str = entry!(
    "WHERE u.device_id = $6 AND (u.at, u.id) < ($1, $2) AND u.at >= $4
        AND ($5 IS NULL OR u.action = $5) AND ($7 IS NULL OR u.person_id = $7)
     ORDER BY u.at DESC, u.id DESC LIMIT $3"
);

/// A page of the audit history, newest first.
///
/// # Errors
/// [`Error::Cursor`], or when the database fails.
pub async fn list(tx: &mut Tx, filter: &Filter, paging: &Paging) -> Result<Page<AuditEntry>, Error> {
    let (place, id) = paging.older_than("audit")?;
    // The span's end is not included, so the least id of that moment is the place to begin from.
    let (place, id) = if filter.span.to() < place { (filter.span.to(), Uuid::nil()) } else { (place, id) };
    let statement = match filter {
        Filter { device: Some(_), .. } => OF_DEVICE,
        Filter { person: Some(_), .. } => OF_PERSON,
        Filter { device: None, person: None, .. } => NEWEST,
    };
    let rows = on!(tx, |c| sqlx::query_as::<_, EntryRow>(statement)
        .bind(place)
        .bind(id)
        .bind(paging.rows())
        .bind(filter.span.from())
        .bind(&filter.action)
        .bind(filter.device)
        .bind(filter.person)
        .fetch_all(c)
        .await)?;
    let page = paging.page("audit", rows, |row| (row.at.timestamp_micros(), row.id));
    Ok(Page { items: page.items.into_iter().map(AuditEntry::from).collect(), next: page.next })
}

/// Who acts by themselves: sources, and Handover. Everybody else is a person with a token.
const ACTIONS: &str = entry!(
    "WHERE u.device_id = $1 AND u.at <= $2 AND (u.at < $2 OR $3 OR u.id < $4)
        AND u.actor <> 'handover' AND NOT EXISTS (SELECT 1 FROM sources s WHERE s.name = u.actor)
     ORDER BY u.at DESC, u.id DESC LIMIT $5"
);

/// What operators did about a device up to a place in the timeline, newest first.
pub(super) async fn actions(
    tx: &mut Tx,
    device: Uuid,
    (at, all_then, id): (DateTime<Utc>, bool, Uuid),
    limit: i64,
) -> Result<Vec<AuditEntry>, Error> {
    let rows = on!(tx, |c| sqlx::query_as::<_, EntryRow>(ACTIONS)
        .bind(device)
        .bind(at)
        .bind(all_then)
        .bind(id)
        .bind(limit)
        .fetch_all(c)
        .await)?;
    Ok(rows.into_iter().map(AuditEntry::from).collect())
}
