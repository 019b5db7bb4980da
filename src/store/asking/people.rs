//! People: how a person is named, and what is known of one.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Error, PersonName};
use crate::store::Tx;
use crate::store::engine::{on, row};

/// A person, and what they have.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Person {
    /// The user principal name, as last seen.
    pub upn: String,
    /// The directory's id; `null` until the directory has been asked.
    pub object_id: Option<Uuid>,
    /// Whether the directory has this person as a guest, whose tokens cannot be revoked here.
    pub guest: bool,
    /// When this person was first heard of.
    pub first_seen_at: DateTime<Utc>,
    /// Every UPN, newest first.
    pub names: Vec<Name>,
    /// The devices this person has now, newest first; 100 at most.
    pub devices: Vec<Held>,
    /// How many revocations of this person are not finished.
    pub open_revocations: i64,
}

/// A UPN that a person has, or had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Name {
    /// The UPN.
    pub upn: String,
    /// Since when.
    pub from: DateTime<Utc>,
    /// Until when; `null` while it is in use.
    pub until: Option<DateTime<Utc>>,
}

/// A device that a person has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Held {
    /// The device, by its serial number or, without one, the next best name.
    pub device: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// The custody.
    pub custody: Uuid,
}

row! {
    struct NamedRow {
        id: Uuid,
        upn: String,
        object_id: Option<Uuid>,
        former: bool,
    }
}

/// Current names come first, then former ones, so that a UPN that was given to somebody else means its present owner.
const NAMED: &str = "SELECT p.id, p.upn, p.object_id, (p.upn_key <> $1) AS former FROM people p
     WHERE p.id IN (
        SELECT n.person_id FROM person_names n WHERE n.upn_key = $1
        UNION SELECT m.id FROM people m WHERE m.upn_key = $1 AND m.object_id IS NULL)
     ORDER BY (p.upn_key <> $1), p.id LIMIT 20";

const BY_OBJECT_ID: &str = "SELECT p.id FROM people p WHERE p.object_id = $1";

/// Which person is called so: by object id, or by UPN in any ASCII case. A present UPN goes before a former one.
///
/// # Errors
/// [`Error::Ambiguous`] when it is the name of several, or when the database fails.
pub async fn identify(tx: &mut Tx, name: &str) -> Result<Option<Uuid>, Error> {
    let (upn_key, object_id) = match PersonName::of(name) {
        PersonName { object_id: Some(object_id), .. } => (String::new(), Some(object_id)),
        PersonName { upn_key, .. } => (upn_key.unwrap_or_default(), None),
    };
    if let Some(object_id) = object_id {
        let found: Option<(Uuid,)> = on!(tx, |c| sqlx::query_as(BY_OBJECT_ID).bind(object_id).fetch_optional(c).await)?;
        return Ok(found.map(|(id,)| id));
    }
    let mut found = on!(tx, |c| sqlx::query_as::<_, NamedRow>(NAMED).bind(&upn_key).fetch_all(c).await)?;
    if found.iter().any(|person| !person.former) {
        found.retain(|person| !person.former);
    }
    match found.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.id)),
        several => Err(Error::Ambiguous {
            name: String::from(name.trim()),
            candidates: several
                .iter()
                .map(|person| match person.object_id {
                    Some(object_id) => format!("{} ({object_id})", person.upn),
                    None => format!("{} (not known to the directory)", person.upn),
                })
                .collect(),
        }),
    }
}

row! {
    struct PersonRow {
        upn: String,
        object_id: Option<Uuid>,
        guest: bool,
        first_seen_at: DateTime<Utc>,
        open_revocations: i64,
    }
}

const ONE: &str = "SELECT p.upn, p.object_id, p.guest, p.first_seen_at,
        (SELECT COUNT(*) FROM revocations r WHERE r.person_id = p.id
            AND r.state IN ('open', 'in_flight', 'accepted', 'held', 'needs_operator')) AS open_revocations
     FROM people p WHERE p.id = $1";

row! {
    struct NameRow {
        upn: String,
        from_at: DateTime<Utc>,
        until_at: Option<DateTime<Utc>>,
    }
}

const NAMES: &str = "SELECT n.upn, n.from_at, n.until_at FROM person_names n WHERE n.person_id = $1
     ORDER BY n.from_at DESC, n.upn_key DESC LIMIT 500";

row! {
    struct HeldRow {
        device: Option<String>,
        device_id: Uuid,
        since: DateTime<Utc>,
        custody: Uuid,
    }
}

const HOLDS: &str = "SELECT COALESCE(d.serial, d.udid, d.uem_uuid, d.uem_id) AS device, d.id AS device_id,
        c.started_at AS since, c.id AS custody
     FROM devices d JOIN custodies c ON c.device_id = d.id AND c.started_at = d.since
     WHERE d.holder_person = $1 AND c.person_id = $1 AND c.ended_at IS NULL ORDER BY c.started_at DESC, c.id DESC LIMIT 100";

/// The person of that id.
///
/// # Errors
/// When the database fails.
pub async fn one(tx: &mut Tx, id: Uuid) -> Result<Option<Person>, Error> {
    let person = on!(tx, |c| sqlx::query_as::<_, PersonRow>(ONE).bind(id).fetch_optional(c).await)?;
    let Some(person) = person else { return Ok(None) };
    let names = on!(tx, |c| sqlx::query_as::<_, NameRow>(NAMES).bind(id).fetch_all(c).await)?;
    let held = on!(tx, |c| sqlx::query_as::<_, HeldRow>(HOLDS).bind(id).fetch_all(c).await)?;
    Ok(Some(Person {
        upn: person.upn,
        object_id: person.object_id,
        guest: person.guest,
        first_seen_at: person.first_seen_at,
        names: names.into_iter().map(|n| Name { upn: n.upn, from: n.from_at, until: n.until_at }).collect(),
        devices: held
            .into_iter()
            .map(|h| Held {
                device: h.device.unwrap_or_else(|| h.device_id.to_string()),
                since: h.since,
                custody: h.custody,
            })
            .collect(),
        open_revocations: person.open_revocations,
    }))
}
