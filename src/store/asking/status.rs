//! The tiles: how things stand, all at once.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Error;
use super::database::{self, Database};
use crate::custody::{Standpoint, Why};
use crate::store::engine::{on, row};
use crate::store::tallies::{Finished, Tally};
use crate::store::{Tx, hold, house, instances};

/// How things stand.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Status {
    /// `live`; `shadow` where nothing is sent; `checking` where nothing is sent until the check after a restore is done.
    pub mode: String,
    /// The installation, and whether it was restored. Absent before the first start.
    pub house: Option<House>,
    /// When this was asked, by our clock.
    pub at: DateTime<Utc>,
    /// How many devices there are.
    pub devices: Devices,
    /// How many revocations there are in each state. Where there are so many that counting them takes long, those that are
    /// finished are a little out of date.
    pub revocations: BTreeMap<String, i64>,
    /// How many are to be sent or under way.
    pub owed: i64,
    /// How many wait for a person or a check.
    pub held: i64,
    /// When the oldest of both became owed.
    pub oldest_owed_at: Option<DateTime<Utc>>,
    /// How many people the revocations that are to be sent or under way concern: the calls that are left.
    pub people_owed: i64,
    /// How long those calls take at the configured rate.
    pub drain_seconds: f64,
    /// How many accounts are not known to be a person or the pool yet.
    pub undecided_accounts: i64,
    /// What authenticated senders sent that could not be read, and was not read since.
    pub quarantine: Quarantine,
    /// How many devices are due to be read again from the UEM.
    pub looks_due: i64,
    /// How many events came too late to be folded.
    pub events_too_late: i64,
    /// The database.
    pub database: Database,
    /// The sources.
    pub sources: Vec<Source>,
    /// The instances that run, or ran until lately.
    pub instances: Vec<Instance>,
}

/// An instance of Handover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Instance {
    /// As the log names it.
    pub id: String,
    /// The machine, or container, it runs on.
    pub host: String,
    /// Its version.
    pub version: String,
    /// When it started, by the database's clock.
    pub started_at: DateTime<Utc>,
    /// When it was last there, by the database's clock. One that has not been for a minute has died.
    pub seen_at: DateTime<Utc>,
    /// Whether it is the one that sweeps and keeps house.
    pub leads: bool,
}

/// The installation, and whether it was restored.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct House {
    /// Drawn once; kept by whatever is restored or copied.
    pub installation: Uuid,
    /// Drawn anew with each restore and each move.
    pub epoch: Uuid,
    /// `open`, `checking` (after a restore, nothing is sent) or `sealed` (it was moved).
    pub state: String,
    /// Why it is not open.
    pub why: Option<String>,
    /// When it was restored last.
    pub restored_at: Option<DateTime<Utc>>,
    /// How many revocations are held because of that.
    pub held_restored: i64,
}

/// How many devices there are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Devices {
    /// With a person.
    pub person: i64,
    /// With nobody.
    pub pool: i64,
    /// With somebody unknown, or out of sight.
    pub unknown: i64,
    /// Of all of them, those with an account that is not known to be a person or the pool yet.
    pub undecided: i64,
}

/// What is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Quarantine {
    /// Not well-formed.
    pub malformed: i64,
    /// Well-formed, and of a kind or version that is not known.
    pub unknown: i64,
}

/// A source, as far as it has been heard.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// When it was last heard, by our clock.
    pub last_heard_at: Option<DateTime<Utc>>,
    /// The end of the last complete sweep.
    pub last_swept_at: Option<DateTime<Utc>>,
    /// Our clock minus its own, in seconds: the median of the last events.
    pub offset_seconds: Option<f64>,
}

/// What the database cannot know.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// The time.
    pub now: DateTime<Utc>,
    /// How many people a second may be revoked.
    pub writes_per_second: f64,
    /// Whether nothing is sent.
    pub shadow: bool,
}

row! {
    struct DevicesRow {
        person: i64,
        pool: i64,
        unknown: i64,
        undecided: i64,
    }
}

const DEVICES: &str = "SELECT COUNT(*) FILTER (WHERE state = 'person') AS person,
        COUNT(*) FILTER (WHERE state = 'pool') AS pool,
        COUNT(*) FILTER (WHERE state = 'unknown') AS unknown,
        COUNT(*) FILTER (WHERE undecided) AS undecided
     FROM devices";

row! {
    struct TalliesRow {
        people_owed: i64,
        undecided_accounts: i64,
        malformed: i64,
        unknown: i64,
        looks_due: i64,
        events_too_late: i64,
    }
}

const TALLIES: &str = "SELECT
        (SELECT COUNT(DISTINCT person_id) FROM revocations WHERE state IN ('open', 'in_flight')) AS people_owed,
        (SELECT COUNT(*) FROM accounts WHERE standing = 'undecided') AS undecided_accounts,
        (SELECT COUNT(*) FROM quarantine WHERE kind = 'malformed' AND read_at IS NULL) AS malformed,
        (SELECT COUNT(*) FROM quarantine WHERE kind = 'unknown' AND read_at IS NULL) AS unknown,
        (SELECT COUNT(*) FROM looks WHERE due_at <= $1) AS looks_due,
        (SELECT COUNT(*) FROM events WHERE disposition = 'too_late') AS events_too_late";

row! {
    struct SourceRow {
        name: String,
        last_heard_at: Option<DateTime<Utc>>,
        last_swept_at: Option<DateTime<Utc>>,
        offset_us: Option<i64>,
    }
}

const SOURCES: &str = "SELECT name, last_heard_at, last_swept_at, offset_us FROM sources ORDER BY name LIMIT 500";

/// How things stand now.
///
/// # Errors
/// When the database fails.
pub async fn read(tx: &mut Tx, finished: &Finished, circumstances: Circumstances) -> Result<Status, Error> {
    let devices = on!(tx, |c| sqlx::query_as::<_, DevicesRow>(DEVICES).fetch_one(c).await)?;
    let states = finished.and_unfinished(tx).await?;
    let tallies = on!(tx, |c| sqlx::query_as::<_, TalliesRow>(TALLIES).bind(circumstances.now).fetch_one(c).await)?;
    let database = database::read(tx).await?;
    let sources = on!(tx, |c| sqlx::query_as::<_, SourceRow>(SOURCES).fetch_all(c).await)?;

    let clock = tx.clock(circumstances.now).await?;
    let instances = instances::all(tx, clock).await?;
    let held_restored = hold::held(tx, Why::Restored.name()).await?.revocations;
    let house = house::read(tx).await?.map(|row| House {
        installation: row.installation,
        epoch: row.epoch,
        state: row.state,
        why: row.why,
        restored_at: row.restored_at,
        held_restored,
    });

    let of = |wanted: &[Standpoint]| -> Vec<&Tally> {
        states.iter().filter(|row| wanted.iter().any(|state| state.name() == row.state)).collect()
    };
    let owed = of(&[Standpoint::Open, Standpoint::InFlight]);
    let held = of(&[Standpoint::Held, Standpoint::NeedsOperator]);
    let mut revocations: BTreeMap<_, _> =
        Standpoint::ALL.into_iter().map(|state| (String::from(state.name()), 0)).collect();
    revocations.extend(states.iter().map(|row| (row.state.clone(), row.many)));
    Ok(Status {
        mode: String::from(match &house {
            _ if circumstances.shadow => "shadow",
            Some(house) if house.state == "checking" => "checking",
            Some(_) | None => "live",
        }),
        house,
        at: circumstances.now,
        devices: Devices {
            person: devices.person,
            pool: devices.pool,
            unknown: devices.unknown,
            undecided: devices.undecided,
        },
        revocations,
        owed: owed.iter().map(|row| row.many).sum(),
        held: held.iter().map(|row| row.many).sum(),
        oldest_owed_at: owed.iter().chain(&held).map(|row| row.oldest).min(),
        people_owed: tallies.people_owed,
        drain_seconds: drain_seconds(tallies.people_owed, circumstances.writes_per_second),
        undecided_accounts: tallies.undecided_accounts,
        quarantine: Quarantine { malformed: tallies.malformed, unknown: tallies.unknown },
        looks_due: tallies.looks_due,
        events_too_late: tallies.events_too_late,
        database,
        sources: sources
            .into_iter()
            .map(|row| Source {
                name: row.name,
                last_heard_at: row.last_heard_at,
                last_swept_at: row.last_swept_at,
                offset_seconds: row.offset_us.map(seconds),
            })
            .collect(),
        instances: instances
            .into_iter()
            .map(|row| Instance {
                id: row.id,
                host: row.host,
                version: row.version,
                started_at: row.started_at,
                seen_at: row.seen_at,
                leads: row.leads,
            })
            .collect(),
    })
}

fn seconds(micros: i64) -> f64 {
    let millis = i32::try_from(micros / 1000).unwrap_or(if micros < 0 { i32::MIN } else { i32::MAX });
    f64::from(millis) / 1000.0
}

fn drain_seconds(people: i64, writes_per_second: f64) -> f64 {
    let people = f64::from(u32::try_from(people).unwrap_or(u32::MAX));
    if writes_per_second > 0.0 { people / writes_per_second } else { 0.0 }
}

const REACHABLE: &str = "SELECT COUNT(*) FROM sources";

/// Whether the database answers, schema included.
///
/// # Errors
/// When it does not.
pub async fn reachable(tx: &mut Tx) -> Result<(), Error> {
    let _: (i64,) = on!(tx, |c| sqlx::query_as(REACHABLE).fetch_one(c).await)?;
    Ok(())
}
