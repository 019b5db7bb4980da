//! What the database is, and whether what it acknowledged outlives it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::store::engine::{on, row};
use crate::store::{Error, Kind, Tx};

/// The database, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Database {
    /// `sqlite` or `postgresql`.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// Whether the way to it is encrypted; `null` for a file.
    pub encrypted: Option<bool>,
    /// Whether an event is acknowledged only when a second server has it; `null` for a file.
    pub synchronous_standby: Option<bool>,
    /// What somebody has to know who relies on it.
    pub note: Option<String>,
}

row! {
    struct DatabaseRow {
        version: String,
        encrypted: Option<bool>,
        synchronous: bool,
        instances: i64,
        standbys: i64,
    }
}

const SQLITE: &str = "SELECT sqlite_version() AS version, NULL AS encrypted, FALSE AS synchronous,
        COUNT(*) AS instances, 0 AS standbys FROM instances";

const POSTGRES: &str = "SELECT current_setting('server_version') AS version,
        (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS encrypted,
        current_setting('synchronous_standby_names') <> '' AS synchronous,
        COUNT(*) AS instances,
        (SELECT COUNT(*) FROM pg_stat_replication) AS standbys
     FROM instances WHERE seen_at > clock_timestamp() - INTERVAL '1 minute'";

/// Asks it.
///
/// # Errors
/// When it does not answer.
pub async fn read(tx: &mut Tx) -> Result<Database, Error> {
    let text = tx.either(SQLITE, POSTGRES);
    let row = on!(tx, |c| sqlx::query_as::<_, DatabaseRow>(text).fetch_one(c).await)?;
    if tx.kind() == Kind::Sqlite {
        return Ok(Database {
            engine: String::from("sqlite"),
            version: row.version,
            encrypted: None,
            synchronous_standby: None,
            note: None,
        });
    }
    let means_to_last = row.instances > 1 || row.standbys > 0 || tx.hosts() > 1;
    let note = "no standby is synchronous: events that were acknowledged can be lost when this server is lost";
    Ok(Database {
        engine: String::from("postgresql"),
        version: row.version,
        encrypted: row.encrypted,
        synchronous_standby: Some(row.synchronous),
        note: (means_to_last && !row.synchronous).then(|| String::from(note)),
    })
}
