//! The audit entries: what was done, by whom, written in the transaction of the deed.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use sqlx::types::Json;
use uuid::Uuid;

use super::engine::{on, sheets};
use super::{Error, Tx};

/// One entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its own id, sorted by time.
    pub id: Uuid,
    /// When, by our clock.
    pub at: DateTime<Utc>,
    /// Who: a source, `handover`, or the name of a token.
    pub actor: String,
    /// What was done, as `subject.deed`.
    pub action: &'static str,
    /// The device it is about.
    pub device_id: Option<Uuid>,
    /// The person it is about.
    pub person_id: Option<Uuid>,
    /// The event, revocation, attempt, account or token it is about.
    pub subject: Option<Uuid>,
    /// The particulars. No names of people: they are looked up by id where the entry is shown.
    pub detail: serde_json::Value,
}

/// Writes entries down.
pub async fn write(tx: &mut Tx, entries: &[Entry]) -> Result<(), Error> {
    for sheet in sheets(entries) {
        on!(tx, |c| {
            let mut query =
                QueryBuilder::new("INSERT INTO audit (id, at, actor, action, device_id, person_id, subject, detail) ");
            sheet.put(&mut query, |mut tuple, entry| {
                tuple
                    .push_bind(entry.id)
                    .push_bind(entry.at)
                    .push_bind(entry.actor.clone())
                    .push_bind(entry.action)
                    .push_bind(entry.device_id)
                    .push_bind(entry.person_id)
                    .push_bind(entry.subject)
                    .push_bind(Json(entry.detail.clone()));
            });
            query.build().execute(c).await.map(drop)
        })?;
    }
    Ok(())
}
