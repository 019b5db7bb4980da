//! Devices: the list, one of them, and how a device is named.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Error, Page, Paging, PersonName, Who, anywhere, who};
use crate::store::Tx;
use crate::store::engine::{on, row};

/// One iPad, and who has it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Device {
    /// Its serial number.
    pub serial: Option<String>,
    /// Its UDID.
    pub udid: Option<String>,
    /// The UEM's number of it.
    pub uem_id: Option<String>,
    /// The UEM's uuid of it.
    pub uem_uuid: Option<String>,
    /// Its name in the UEM.
    pub name: Option<String>,
    /// Its asset number.
    pub asset_number: Option<String>,
    /// The site (organisation group) it belongs to.
    pub site: Option<String>,
    /// `person`, `pool` or `unknown`.
    pub state: String,
    /// Who has it; `null` unless the state is `person`.
    pub holder: Option<Who>,
    /// The account that has it, as the UEM names it.
    pub account: Option<String>,
    /// Whether it is not known yet if its account is a person or the pool.
    pub undecided: bool,
    /// Since when it is in this state.
    pub since: Option<DateTime<Utc>>,
    /// The source's own time of its newest event.
    pub last_event_at: Option<DateTime<Utc>>,
    /// How many revocations of this device are not finished.
    pub open_revocations: i64,
}

row! {
    struct DeviceRow {
        id: Uuid,
        serial: Option<String>,
        udid: Option<String>,
        uem_id: Option<String>,
        uem_uuid: Option<String>,
        name: Option<String>,
        asset_number: Option<String>,
        site: Option<String>,
        state: String,
        holder_upn: Option<String>,
        holder_object_id: Option<Uuid>,
        account: Option<String>,
        undecided: bool,
        since: Option<DateTime<Utc>>,
        last_event_at: Option<DateTime<Utc>>,
        open_revocations: i64,
    }
}

impl From<DeviceRow> for Device {
    fn from(row: DeviceRow) -> Self {
        Self {
            serial: row.serial,
            udid: row.udid,
            uem_id: row.uem_id,
            uem_uuid: row.uem_uuid,
            name: row.name,
            asset_number: row.asset_number,
            site: row.site,
            state: row.state,
            holder: who(row.holder_upn, row.holder_object_id),
            account: row.account,
            undecided: row.undecided,
            since: row.since,
            last_event_at: row.last_event_at,
            open_revocations: row.open_revocations,
        }
    }
}

/// Which devices are asked for. What is absent does not narrow.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Held by this person: a UPN, also a former one, or an object id.
    pub holder: Option<String>,
    /// In this state.
    pub state: Option<String>,
    /// Of this site, in any ASCII case.
    pub site: Option<String>,
    /// With this text in serial number, UDID, name, asset number, holder or account.
    pub q: Option<String>,
}

macro_rules! device {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.serial, d.udid, d.uem_id, d.uem_uuid, d.name, d.asset_number, d.site, d.state,
                p.upn AS holder_upn, p.object_id AS holder_object_id,
                COALESCE(a.user_name, a.email, a.uem_id, a.uem_uuid) AS account,
                d.undecided, d.since, d.last_event_at,
                (SELECT COUNT(*) FROM revocations r WHERE r.device_id = d.id
                    AND r.state IN ('open', 'in_flight', 'accepted', 'held', 'needs_operator')) AS open_revocations
             FROM devices d
             LEFT JOIN people p ON p.id = d.holder_person
             LEFT JOIN accounts a ON a.id = d.holder_account ",
            $rest
        )
    };
}

/// The devices with a serial number, by serial number. The places $1 and $2 are where to go on.
const WITH_SERIAL: &str = device!(
    "WHERE (d.serial, d.id) > ($1, $2)
        AND ($4 IS NULL OR d.state = $4)
        AND ($5 IS NULL OR lower(d.site) = lower($5))
        AND (($6 IS NULL AND $7 IS NULL) OR d.holder_person IN (
            SELECT n.person_id FROM person_names n WHERE n.upn_key = $6
            UNION ALL SELECT m.id FROM people m WHERE m.upn_key = $6 AND m.object_id IS NULL
            UNION ALL SELECT o.id FROM people o WHERE o.object_id = $7))
        AND ($8 IS NULL OR lower(d.serial) LIKE lower($8) ESCAPE '!' OR lower(d.udid) LIKE lower($8) ESCAPE '!'
            OR lower(d.name) LIKE lower($8) ESCAPE '!' OR lower(d.asset_number) LIKE lower($8) ESCAPE '!'
            OR lower(p.upn) LIKE lower($8) ESCAPE '!' OR lower(a.user_name) LIKE lower($8) ESCAPE '!')
     ORDER BY d.serial, d.id LIMIT $3"
);

/// The devices whose serial number nobody has said, after all the others.
const WITHOUT_SERIAL: &str = device!(
    "WHERE d.serial IS NULL AND d.id > $2 AND $1 IS NOT NULL
        AND ($4 IS NULL OR d.state = $4)
        AND ($5 IS NULL OR lower(d.site) = lower($5))
        AND (($6 IS NULL AND $7 IS NULL) OR d.holder_person IN (
            SELECT n.person_id FROM person_names n WHERE n.upn_key = $6
            UNION ALL SELECT m.id FROM people m WHERE m.upn_key = $6 AND m.object_id IS NULL
            UNION ALL SELECT o.id FROM people o WHERE o.object_id = $7))
        AND ($8 IS NULL OR lower(d.udid) LIKE lower($8) ESCAPE '!'
            OR lower(d.name) LIKE lower($8) ESCAPE '!' OR lower(d.asset_number) LIKE lower($8) ESCAPE '!'
            OR lower(p.upn) LIKE lower($8) ESCAPE '!' OR lower(a.user_name) LIKE lower($8) ESCAPE '!')
     ORDER BY d.id LIMIT $3"
);

/// A page of devices by serial number; those without one come last.
///
/// # Errors
/// [`Error::Cursor`], or when the database fails.
pub async fn list(tx: &mut Tx, filter: &Filter, paging: &Paging) -> Result<Page<Device>, Error> {
    let place: Option<(Option<String>, Uuid)> = paging.place("devices")?;
    let mut rows = match &place {
        Some((None, _)) => Vec::new(),
        Some((Some(serial), id)) => fitting(tx, WITH_SERIAL, filter, serial, *id, paging.rows()).await?,
        None => fitting(tx, WITH_SERIAL, filter, "", Uuid::nil(), paging.rows()).await?,
    };
    let missing = paging.rows() - i64::try_from(rows.len()).unwrap_or(i64::MAX);
    if missing > 0 {
        let after = place.filter(|(serial, _)| serial.is_none()).map_or(Uuid::nil(), |(_, id)| id);
        rows.append(&mut fitting(tx, WITHOUT_SERIAL, filter, "", after, missing).await?);
    }
    let page = paging.page("devices", rows, |row| (row.serial.clone(), row.id));
    Ok(Page { items: page.items.into_iter().map(Device::from).collect(), next: page.next })
}

async fn fitting(
    tx: &mut Tx,
    statement: &'static str,
    filter: &Filter,
    serial: &str,
    id: Uuid,
    limit: i64,
) -> Result<Vec<DeviceRow>, Error> {
    let holder = filter.holder.as_deref().map(PersonName::of);
    let upn_key = holder.as_ref().and_then(|name| name.upn_key.as_deref());
    let object_id = holder.as_ref().and_then(|name| name.object_id);
    let pattern = filter.q.as_deref().map(anywhere);
    Ok(on!(tx, |c| sqlx::query_as::<_, DeviceRow>(statement)
        .bind(serial)
        .bind(id)
        .bind(limit)
        .bind(&filter.state)
        .bind(&filter.site)
        .bind(upn_key)
        .bind(object_id)
        .bind(&pattern)
        .fetch_all(c)
        .await)?)
}

const ONE: &str = device!("WHERE d.id = $1");

/// The device of that id.
///
/// # Errors
/// When the database fails.
pub async fn one(tx: &mut Tx, id: Uuid) -> Result<Option<Device>, Error> {
    let row = on!(tx, |c| sqlx::query_as::<_, DeviceRow>(ONE).bind(id).fetch_optional(c).await)?;
    Ok(row.map(Device::from))
}

row! {
    struct KeyRow {
        kind: String,
        scope: String,
        value: String,
        device_id: Uuid,
    }
}

/// Serial numbers and UDIDs are kept in upper case, UDIDs without their dashes; a UEM's own names as it writes them.
const KEYS: &str = "SELECT k.kind, k.scope, k.value, k.device_id FROM device_keys k
     WHERE k.value IN ($1, $2, $3) OR (k.value = $4 AND k.kind = 'udid')
     ORDER BY k.kind, k.scope, k.value LIMIT 20";

/// Which device is called so: by serial number, UDID (with or without dashes), UEM id or UEM uuid, in any ASCII case.
///
/// # Errors
/// [`Error::Ambiguous`] when it is the name of several, or when the database fails.
pub async fn identify(tx: &mut Tx, name: &str) -> Result<Option<Uuid>, Error> {
    let name = name.trim();
    let (upper, lower) = (name.to_ascii_uppercase(), name.to_ascii_lowercase());
    let bare = upper.replace('-', "");
    let keys = on!(tx, |c| sqlx::query_as::<_, KeyRow>(KEYS)
        .bind(name)
        .bind(&upper)
        .bind(&lower)
        .bind(&bare)
        .fetch_all(c)
        .await)?;
    let Some(first) = keys.first() else { return Ok(None) };
    if keys.iter().all(|key| key.device_id == first.device_id) {
        return Ok(Some(first.device_id));
    }
    let mut candidates = Vec::new();
    for key in &keys {
        let device = one(tx, key.device_id).await?;
        let called = device.and_then(|device| device.serial.or(device.udid).or(device.uem_uuid));
        let called = called.unwrap_or_else(|| key.device_id.to_string());
        let of = if key.scope.is_empty() { String::new() } else { format!(" at {}", key.scope) };
        candidates.push(format!("{called} (its {} {}{of})", key.kind, key.value));
    }
    Err(Error::Ambiguous { name: String::from(name), candidates })
}
