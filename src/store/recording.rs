//! What a commit group reads and writes: keys, devices, events, custodies.
//!
//! Each function is one statement for the whole group, because on SQLite every statement costs a hop to the thread that
//! owns the connection. Groups are small enough (see `app`) for the number of bound values that either engine takes.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use sqlx::types::Json;
use uuid::Uuid;

use super::engine::{on, padded, row, sheets};
use super::snapshot::Snapshot;
use super::{Error, Tx};

row! {
    /// A name of a device.
    pub struct DeviceKey {
        /// `serial`, `udid`, `uem_id` or `uem_uuid`.
        pub kind: String,
        /// The source for a UEM's own names, else empty.
        pub scope: String,
        /// The name.
        pub value: String,
        /// The device.
        pub device_id: Uuid,
    }
}

row! {
    /// A device with the state of its fold.
    pub struct DeviceRow {
        /// Derived from its first name.
        pub id: Uuid,
        /// The source that named it last.
        pub source: String,
        /// Serial number.
        pub serial: Option<String>,
        /// UDID, upper case without dashes.
        pub udid: Option<String>,
        /// The UEM's number.
        pub uem_id: Option<String>,
        /// The UEM's uuid.
        pub uem_uuid: Option<String>,
        /// Friendly name.
        pub name: Option<String>,
        /// Asset number.
        pub asset_number: Option<String>,
        /// Organization group.
        pub site: Option<String>,
        /// `person`, `pool` or `unknown`.
        pub state: String,
        /// The person who has it.
        pub holder_person: Option<Uuid>,
        /// The account it is with.
        pub holder_account: Option<Uuid>,
        /// Whether that account is still to be decided.
        pub undecided: bool,
        /// Since when.
        pub since: Option<DateTime<Utc>>,
        /// Newest own time of an event.
        pub last_event_at: Option<DateTime<Utc>>,
        /// The fold's state after every event.
        pub head: Json<Snapshot>,
        /// The fold's state that late events are folded onto.
        pub base: Json<Snapshot>,
        /// The time up to which `base` has folded.
        pub base_at: Option<DateTime<Utc>>,
        /// When the source's inventory first showed it.
        pub confirmed_at: Option<DateTime<Utc>>,
        /// Counts its changes.
        pub version: i64,
    }
}

row! {
    /// An event as it is kept.
    pub struct EventRow {
        /// Derived from what it says.
        pub id: Uuid,
        /// The device.
        pub device_id: Uuid,
        /// Who said it.
        pub source: String,
        /// The vendor's kind of event, classified.
        pub class: String,
        /// The vendor's number of the kind.
        pub kind: Option<i64>,
        /// The vendor's name of the kind.
        pub label: Option<String>,
        /// What it says about the holder.
        pub what: String,
        /// `told` or `read`.
        pub how: String,
        /// The account it names.
        pub account_id: Option<Uuid>,
        /// The source's own time.
        pub occurred_at: Option<DateTime<Utc>>,
        /// The ordering time.
        pub at: DateTime<Utc>,
        /// Our receipt.
        pub received_at: DateTime<Utc>,
        /// `folded` or `too_late`.
        pub disposition: String,
        /// What is odd about it.
        pub oddity: Option<String>,
        /// Of the body.
        pub content_type: Option<String>,
        /// The body as received.
        pub raw: Vec<u8>,
    }
}

row! {
    /// What a fold needs of an event.
    pub struct FoldedEvent {
        /// Which.
        pub id: Uuid,
        /// What it says about the holder.
        pub what: String,
        /// `told` or `read`.
        pub how: String,
        /// The account it names.
        pub account_id: Option<Uuid>,
        /// The ordering time.
        pub at: DateTime<Utc>,
        /// Our receipt.
        pub received_at: DateTime<Utc>,
    }
}

row! {
    /// A stretch of one holder.
    #[derive(PartialEq)]
    pub struct CustodyRow {
        /// The event that began it.
        pub id: Uuid,
        /// The device.
        pub device_id: Uuid,
        /// `person`, `pool` or `unknown`.
        pub holder: String,
        /// The person.
        pub person_id: Option<Uuid>,
        /// The account.
        pub account_id: Option<Uuid>,
        /// From when.
        pub started_at: DateTime<Utc>,
        /// How that is known.
        pub started: String,
        /// Until when.
        pub ended_at: Option<DateTime<Utc>>,
        /// How that is known.
        pub ended: Option<String>,
        /// The event that showed it.
        pub ended_by: Option<Uuid>,
        /// What it came to.
        pub departure: Option<String>,
    }
}

/// Every name that is spelled like one of `values`, whatever its kind.
pub async fn keys(tx: &mut Tx, values: &[String]) -> Result<Vec<DeviceKey>, Error> {
    if values.is_empty() {
        return Ok(Vec::new());
    }
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new("SELECT kind, scope, value, device_id FROM device_keys WHERE value IN (");
        let mut list = query.separated(", ");
        for value in padded(values) {
            list.push_bind(value.clone());
        }
        query.push(")").build_query_as().fetch_all(c).await
    })?)
}

/// Adds names; a name that is taken stays with the device that has it.
pub async fn add_keys(tx: &mut Tx, keys: &[DeviceKey]) -> Result<(), Error> {
    for sheet in sheets(keys) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO device_keys (kind, scope, value, device_id) ");
            sheet.put(&mut query, |mut tuple, key| {
                tuple
                    .push_bind(key.kind.clone())
                    .push_bind(key.scope.clone())
                    .push_bind(key.value.clone())
                    .push_bind(key.device_id);
            });
            query.push(" ON CONFLICT (kind, scope, value) DO NOTHING").build().execute(c).await.map(drop)
        })?;
    }
    Ok(())
}

const DEVICE_COLUMNS: &str = "id, source, serial, udid, uem_id, uem_uuid, name, asset_number, site, state, holder_person, \
     holder_account, undecided, since, last_event_at, head, base, base_at, confirmed_at, version";

/// Loads devices and, where several instances may write, locks their rows in the order of their ids.
pub async fn lock_devices(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<DeviceRow>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let lock = tx.either("", " FOR UPDATE");
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new(format!("SELECT {DEVICE_COLUMNS} FROM devices WHERE id IN ("));
        let mut list = query.separated(", ");
        for id in padded(ids) {
            list.push_bind(*id);
        }
        query.push(") ORDER BY id").push(lock).build_query_as().fetch_all(c).await
    })?)
}

/// Adds devices that nobody else added meanwhile.
pub async fn add_devices(tx: &mut Tx, devices: &[DeviceRow]) -> Result<(), Error> {
    put_devices(tx, devices, " ON CONFLICT (id) DO NOTHING").await
}

/// Writes devices as they are now. The rows must be locked.
pub async fn save_devices(tx: &mut Tx, devices: &[DeviceRow]) -> Result<(), Error> {
    put_devices(
        tx,
        devices,
        " ON CONFLICT (id) DO UPDATE SET source = excluded.source, serial = excluded.serial, udid = excluded.udid, \
         uem_id = excluded.uem_id, uem_uuid = excluded.uem_uuid, name = excluded.name, \
         asset_number = excluded.asset_number, site = excluded.site, state = excluded.state, \
         holder_person = excluded.holder_person, holder_account = excluded.holder_account, \
         undecided = excluded.undecided, since = excluded.since, last_event_at = excluded.last_event_at, \
         head = excluded.head, base = excluded.base, base_at = excluded.base_at, \
         confirmed_at = excluded.confirmed_at, version = excluded.version",
    )
    .await
}

/// Writes down where the folds of devices have come to, of rows that are locked and of which nothing else has changed.
pub async fn move_heads(tx: &mut Tx, devices: &[DeviceRow]) -> Result<(), Error> {
    for sheet in sheets(devices) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "UPDATE devices SET state = v.column2, holder_person = v.column3, holder_account = v.column4, \
                 undecided = v.column5, since = v.column6, last_event_at = v.column7, head = v.column8, \
                 version = v.column9 FROM (",
            );
            sheet.put(&mut query, |mut tuple, device| {
                tuple
                    .push_bind(device.id)
                    .push_bind(device.state.as_str())
                    .push_bind(device.holder_person)
                    .push_bind(device.holder_account)
                    .push_bind(device.undecided)
                    .push_bind(device.since)
                    .push_bind(device.last_event_at)
                    .push_bind(&device.head)
                    .push_bind(device.version);
            });
            query.push(") AS v WHERE devices.id = v.column1").build().execute(c).await.map(drop)
        })?;
    }
    Ok(())
}

async fn put_devices(tx: &mut Tx, devices: &[DeviceRow], otherwise: &'static str) -> Result<(), Error> {
    for sheet in sheets(devices) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(format!("INSERT INTO devices ({DEVICE_COLUMNS}) "));
            sheet.put(&mut query, |mut tuple, device| {
                tuple
                    .push_bind(device.id)
                    .push_bind(device.source.clone())
                    .push_bind(device.serial.clone())
                    .push_bind(device.udid.clone())
                    .push_bind(device.uem_id.clone())
                    .push_bind(device.uem_uuid.clone())
                    .push_bind(device.name.clone())
                    .push_bind(device.asset_number.clone())
                    .push_bind(device.site.clone())
                    .push_bind(device.state.clone())
                    .push_bind(device.holder_person)
                    .push_bind(device.holder_account)
                    .push_bind(device.undecided)
                    .push_bind(device.since)
                    .push_bind(device.last_event_at)
                    .push_bind(device.head.clone())
                    .push_bind(device.base.clone())
                    .push_bind(device.base_at)
                    .push_bind(device.confirmed_at)
                    .push_bind(device.version);
            });
            query.push(otherwise).build().execute(c).await.map(drop)
        })?;
    }
    Ok(())
}

/// Which of these events are written down already.
pub async fn known_events(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Uuid>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new("SELECT id FROM events WHERE id IN (");
        let mut list = query.separated(", ");
        for id in padded(ids) {
            list.push_bind(*id);
        }
        query.push(")").build_query_scalar().fetch_all(c).await
    })?)
}

/// Writes events down. Says how many of them are new: fewer than all if somebody else wrote one down meanwhile.
pub async fn add_events(tx: &mut Tx, events: Vec<EventRow>) -> Result<usize, Error> {
    let mut added = 0;
    for sheet in sheets(&events) {
        added += on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO events (id, device_id, source, class, kind, label, what, how, account_id, occurred_at, at, \
                 received_at, disposition, oddity, content_type, raw) ",
            );
            sheet.put(&mut query, |mut tuple, event| {
                tuple
                    .push_bind(event.id)
                    .push_bind(event.device_id)
                    .push_bind(event.source.clone())
                    .push_bind(event.class.clone())
                    .push_bind(event.kind)
                    .push_bind(event.label.clone())
                    .push_bind(event.what.clone())
                    .push_bind(event.how.clone())
                    .push_bind(event.account_id)
                    .push_bind(event.occurred_at)
                    .push_bind(event.at)
                    .push_bind(event.received_at)
                    .push_bind(event.disposition.clone())
                    .push_bind(event.oddity.clone())
                    .push_bind(event.content_type.clone())
                    .push_bind(event.raw.clone());
            });
            query.push(" ON CONFLICT (id) DO NOTHING").build().execute(c).await.map(|done| done.rows_affected())
        })?;
    }
    Ok(usize::try_from(added).unwrap_or(usize::MAX))
}

/// The folded events of a device after `after` (from the beginning where absent), in their order.
pub async fn events_after(
    tx: &mut Tx,
    device: Uuid,
    after: Option<(DateTime<Utc>, Uuid)>,
) -> Result<Vec<FoldedEvent>, Error> {
    const ALL: &str = "SELECT id, what, how, account_id, at, received_at FROM events
         WHERE device_id = $1 AND disposition = 'folded' ORDER BY at, id";
    const AFTER: &str = "SELECT id, what, how, account_id, at, received_at FROM events
         WHERE device_id = $1 AND disposition = 'folded' AND (at, id) > ($2, $3) ORDER BY at, id";
    Ok(match after {
        None => on!(tx, |c| sqlx::query_as(ALL).bind(device).fetch_all(c).await)?,
        Some((at, id)) => on!(tx, |c| sqlx::query_as(AFTER).bind(device).bind(at).bind(id).fetch_all(c).await)?,
    })
}

/// Marks events as odd, with the words of the oddity.
pub async fn mark_odd(tx: &mut Tx, oddities: &[(Uuid, String)]) -> Result<(), Error> {
    const MARK: &str = "UPDATE events SET oddity = $2 WHERE id = $1 AND oddity IS NULL";
    for (id, oddity) in oddities {
        on!(tx, |c| sqlx::query(MARK).bind(id).bind(oddity).execute(c).await.map(drop))?;
    }
    Ok(())
}

const CUSTODY_COLUMNS: &str =
    "id, device_id, holder, person_id, account_id, started_at, started, ended_at, ended, ended_by, departure";

/// Writes custodies as they are now.
pub async fn save_custodies(tx: &mut Tx, custodies: &[CustodyRow]) -> Result<(), Error> {
    for sheet in sheets(custodies) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(format!("INSERT INTO custodies ({CUSTODY_COLUMNS}) "));
            sheet.put(&mut query, |mut tuple, custody| {
                tuple
                    .push_bind(custody.id)
                    .push_bind(custody.device_id)
                    .push_bind(custody.holder.clone())
                    .push_bind(custody.person_id)
                    .push_bind(custody.account_id)
                    .push_bind(custody.started_at)
                    .push_bind(custody.started.clone())
                    .push_bind(custody.ended_at)
                    .push_bind(custody.ended.clone())
                    .push_bind(custody.ended_by)
                    .push_bind(custody.departure.clone());
            });
            query
                .push(
                    " ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, person_id = excluded.person_id, \
                 account_id = excluded.account_id, started_at = excluded.started_at, started = excluded.started, \
                 ended_at = excluded.ended_at, ended = excluded.ended, ended_by = excluded.ended_by, \
                 departure = excluded.departure",
                )
                .build()
                .execute(c)
                .await
                .map(drop)
        })?;
    }
    Ok(())
}

/// Writes down that custodies have ended; nothing else about them has changed. Says how many there were.
pub async fn end_custodies(tx: &mut Tx, ended: &[CustodyRow]) -> Result<usize, Error> {
    let mut found = 0;
    for sheet in sheets(ended) {
        found += on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "UPDATE custodies SET ended_at = v.column2, ended = v.column3, ended_by = v.column4, departure = v.column5 FROM (",
            );
            sheet.put(&mut query, |mut tuple, custody| {
                tuple
                    .push_bind(custody.id)
                    .push_bind(custody.ended_at)
                    .push_bind(custody.ended.as_deref())
                    .push_bind(custody.ended_by)
                    .push_bind(custody.departure.as_deref());
            });
            query
                .push(") AS v WHERE custodies.id = v.column1")
                .build()
                .execute(c)
                .await
                .map(|done| done.rows_affected())
        })?;
    }
    Ok(usize::try_from(found).unwrap_or(usize::MAX))
}

/// The custodies of a device from a moment on, oldest first.
pub async fn custodies_from(tx: &mut Tx, device: Uuid, from: Option<DateTime<Utc>>) -> Result<Vec<CustodyRow>, Error> {
    const ALL: &str =
        "SELECT id, device_id, holder, person_id, account_id, started_at, started, ended_at, ended, ended_by, departure
         FROM custodies WHERE device_id = $1 ORDER BY started_at, id";
    const FROM: &str =
        "SELECT id, device_id, holder, person_id, account_id, started_at, started, ended_at, ended, ended_by, departure
         FROM custodies WHERE device_id = $1 AND started_at >= $2 ORDER BY started_at, id";
    Ok(match from {
        None => on!(tx, |c| sqlx::query_as(ALL).bind(device).fetch_all(c).await)?,
        Some(from) => on!(tx, |c| sqlx::query_as(FROM).bind(device).bind(from).fetch_all(c).await)?,
    })
}

/// Takes custodies away that a late event or a new fact showed never to have been.
pub async fn drop_custodies(tx: &mut Tx, ids: &[Uuid]) -> Result<(), Error> {
    const DROP: &str = "DELETE FROM custodies WHERE id = $1";
    for id in ids {
        on!(tx, |c| sqlx::query(DROP).bind(id).execute(c).await.map(drop))?;
    }
    Ok(())
}

/// Devices whose base has not moved since `before` and which have something newer to move over.
pub async fn bases_behind(tx: &mut Tx, before: DateTime<Utc>, limit: i64) -> Result<Vec<Uuid>, Error> {
    const BEHIND: &str = "SELECT id FROM devices
         WHERE (base_at IS NULL OR base_at < $1)
           AND EXISTS (SELECT 1 FROM events WHERE device_id = devices.id AND at < $1
                       AND (devices.base_at IS NULL OR at > devices.base_at) AND disposition = 'folded')
         ORDER BY base_at NULLS FIRST, id LIMIT $2";
    Ok(on!(tx, |c| sqlx::query_scalar(BEHIND).bind(before).bind(limit).fetch_all(c).await)?)
}

/// Every device, by pages.
pub async fn device_ids(tx: &mut Tx, after: Uuid, limit: i64) -> Result<Vec<Uuid>, Error> {
    const IDS: &str = "SELECT id FROM devices WHERE id > $1 ORDER BY id LIMIT $2";
    Ok(on!(tx, |c| sqlx::query_scalar(IDS).bind(after).bind(limit).fetch_all(c).await)?)
}

/// One device.
pub async fn device(tx: &mut Tx, id: Uuid) -> Result<Option<DeviceRow>, Error> {
    const DEVICE: &str =
        "SELECT id, source, serial, udid, uem_id, uem_uuid, name, asset_number, site, state, holder_person,
             holder_account, undecided, since, last_event_at, head, base, base_at, confirmed_at, version
         FROM devices WHERE id = $1";
    Ok(on!(tx, |c| sqlx::query_as(DEVICE).bind(id).fetch_optional(c).await)?)
}

/// The devices of a source that somebody has, or that lie in the pool.
pub async fn held_devices(tx: &mut Tx, source: &str) -> Result<Vec<Uuid>, Error> {
    const HELD: &str = "SELECT id FROM devices WHERE source = $1 AND holder_account IS NOT NULL ORDER BY id";
    Ok(on!(tx, |c| sqlx::query_scalar(HELD).bind(source).fetch_all(c).await)?)
}
