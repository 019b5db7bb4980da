//! The installation as a whole: one row, written at the first start and kept by whatever is restored or copied from it.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use super::engine::{on, row};
use super::{Error, Tx};

row! {
    /// The installation.
    pub struct HouseRow {
        /// Drawn once.
        pub installation: Uuid,
        /// Drawn anew with each restore and each move.
        pub epoch: Uuid,
        /// Counted up by whoever leads.
        pub beat: i64,
        /// Which server it lay on; absent for a file.
        pub server: Option<String>,
        /// `open`, `checking` or `sealed`.
        pub state: String,
        /// Why it is not open.
        pub why: Option<String>,
        /// When it was restored, where that is not settled yet.
        pub restored_at: Option<DateTime<Utc>>,
        /// When it changed last.
        pub changed_at: DateTime<Utc>,
        /// The epochs before this one.
        pub former: Json<Vec<Uuid>>,
    }
}

/// Writes the row at the first start. One that is there stays as it is.
pub async fn ensure(tx: &mut Tx, now: DateTime<Utc>) -> Result<(), Error> {
    const ENSURE: &str = "INSERT INTO house (name, installation, epoch, beat, state, changed_at)
         VALUES ('handover', $1, $2, 0, 'open', $3) ON CONFLICT (name) DO NOTHING";
    on!(tx, |c| sqlx::query(ENSURE).bind(Uuid::new_v4()).bind(Uuid::new_v4()).bind(now).execute(c).await.map(drop))?;
    Ok(())
}

/// The row; absent before the first start.
pub async fn read(tx: &mut Tx) -> Result<Option<HouseRow>, Error> {
    const READ: &str =
        "SELECT installation, epoch, beat, server, state, why, restored_at, changed_at, former FROM house
         WHERE name = 'handover'";
    Ok(on!(tx, |c| sqlx::query_as(READ).fetch_optional(c).await)?)
}

/// Counts the beat up by one, and gives what it is now; `None` before the first start. Only the leader may.
pub async fn beat(tx: &mut Tx) -> Result<Option<i64>, Error> {
    const BEAT: &str = "UPDATE house SET beat = beat + 1 WHERE name = 'handover' RETURNING beat";
    Ok(on!(tx, |c| sqlx::query_scalar(BEAT).fetch_optional(c).await)?)
}

/// Writes the row as it is now, but for its beat, which is the leader's.
pub async fn save(tx: &mut Tx, house: &HouseRow) -> Result<(), Error> {
    const SAVE: &str =
        "UPDATE house SET installation = $1, epoch = $2, server = $3, state = $4, why = $5, restored_at = $6,
             changed_at = $7, former = $8
         WHERE name = 'handover'";
    on!(tx, |c| sqlx::query(SAVE)
        .bind(house.installation)
        .bind(house.epoch)
        .bind(&house.server)
        .bind(&house.state)
        .bind(&house.why)
        .bind(house.restored_at)
        .bind(house.changed_at)
        .bind(house.former.clone())
        .execute(c)
        .await
        .map(drop))?;
    Ok(())
}

/// The row, which stays as it is until this transaction ends: whoever wants to close the house waits.
pub async fn read_and_keep(tx: &mut Tx) -> Result<Option<HouseRow>, Error> {
    const OURS: &str =
        "SELECT installation, epoch, beat, server, state, why, restored_at, changed_at, former FROM house
         WHERE name = 'handover'";
    const THEIRS: &str =
        "SELECT installation, epoch, beat, server, state, why, restored_at, changed_at, former FROM house
         WHERE name = 'handover' FOR SHARE";
    let text = tx.either(OURS, THEIRS);
    Ok(on!(tx, |c| sqlx::query_as(text).fetch_optional(c).await)?)
}

/// The row, which nobody else changes or reads to pay by until this transaction ends.
pub async fn lock(tx: &mut Tx) -> Result<Option<HouseRow>, Error> {
    const LOCK: &str = "UPDATE house SET beat = beat WHERE name = 'handover'
         RETURNING installation, epoch, beat, server, state, why, restored_at, changed_at, former";
    Ok(on!(tx, |c| sqlx::query_as(LOCK).fetch_optional(c).await)?)
}

/// Writes the row of a house that others moved into: the installation stays, all else is as `house` says.
pub async fn found(tx: &mut Tx, house: &HouseRow) -> Result<(), Error> {
    const FOUND: &str =
        "INSERT INTO house (name, installation, epoch, beat, server, state, why, restored_at, changed_at, former)
         VALUES ('handover', $1, $2, $3, $4, $5, $6, $7, $8, $9)";
    on!(tx, |c| sqlx::query(FOUND)
        .bind(house.installation)
        .bind(house.epoch)
        .bind(house.beat)
        .bind(&house.server)
        .bind(&house.state)
        .bind(&house.why)
        .bind(house.restored_at)
        .bind(house.changed_at)
        .bind(house.former.clone())
        .execute(c)
        .await
        .map(drop))?;
    Ok(())
}

/// Which server the database lies on, as it says now: the cluster's identity, its line of history, the database, and the
/// table itself, which a dump that is read in creates anew. `None` for a file, and while a standby answers. A part that
/// may not be asked for is a dash.
pub async fn server(tx: &mut Tx) -> Result<Option<String>, Error> {
    const MAY: &str = "SELECT has_function_privilege('pg_control_system()', 'execute')";
    const CLUSTER: &str = "SELECT system_identifier::text FROM pg_control_system()";
    const PLACE: &str =
        "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END
             || '/' || (SELECT oid::text FROM pg_database WHERE datname = current_database())
             || '/' || 'house'::regclass::oid::text";
    if tx.either("", "server").is_empty() {
        return Ok(None);
    }
    let may: bool = on!(tx, |c| sqlx::query_scalar(MAY).fetch_one(c).await)?;
    let cluster: String =
        if may { on!(tx, |c| sqlx::query_scalar(CLUSTER).fetch_one(c).await)? } else { String::from("-") };
    let place: Option<String> = on!(tx, |c| sqlx::query_scalar(PLACE).fetch_one(c).await)?;
    Ok(place.map(|place| format!("{cluster}/{place}")))
}

/// How many instances were seen since then.
pub async fn instances_since(tx: &mut Tx, since: DateTime<Utc>) -> Result<i64, Error> {
    const SEEN: &str = "SELECT COUNT(*) FROM instances WHERE seen_at > $1";
    Ok(on!(tx, |c| sqlx::query_scalar(SEEN).bind(since).fetch_one(c).await)?)
}
