//! The installation as a whole: one row, written at the first start and kept by whatever is restored or copied from it.

use chrono::{DateTime, Utc};
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
    const READ: &str = "SELECT installation, epoch, beat, server, state, why, restored_at, changed_at FROM house
         WHERE name = 'handover'";
    Ok(on!(tx, |c| sqlx::query_as(READ).fetch_optional(c).await)?)
}

/// Counts the beat up by one, and gives what it is now; `None` before the first start. Only the leader may.
pub async fn beat(tx: &mut Tx) -> Result<Option<i64>, Error> {
    const BEAT: &str = "UPDATE house SET beat = beat + 1 WHERE name = 'handover' RETURNING beat";
    Ok(on!(tx, |c| sqlx::query_scalar(BEAT).fetch_optional(c).await)?)
}
