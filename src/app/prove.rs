//! Proving: the stamp of a person is read back until it shows that the revocation took effect (G1).
//!
//! Replication takes its time, so an accepted revocation is read back on a schedule. If the stamp has not moved by the end of
//! it, that is an alarm, and the revocation is sent once more.

use chrono::{DateTime, Utc};
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;

use crate::app::look::Turn;
use crate::app::{App, again, folding, settle};
use crate::custody::{Moment, Standpoint, next_read};
use crate::entra::{Entra, Stamp};
use crate::store::attempts::AttemptRow;
use crate::store::times::{moment, utc};
use crate::store::{Error, accounts, attempts, audit};

/// How many stamps are read in one turn, and how many at once.
const BATCH: i64 = 64;
const AT_ONCE: usize = 8;

/// How many are taken up in one turn where other instances take up others: what can be read before a claim ends.
const CLAIMED: i64 = 16;

impl App {
    /// Reads back the stamps that are due, once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prove(&self) -> Result<Turn, Error> {
        let Some(entra) = self.entra.clone() else { return Ok(Turn::Idle) };
        let due = self.stamps_due(self.utc()).await?;
        let read = due.len();
        let done: Vec<_> =
            stream::iter(due).map(|attempt| self.read_back(&entra, attempt)).buffer_unordered(AT_ONCE).collect().await;
        done.into_iter().collect::<Result<(), _>>()?;
        Ok(if read == 0 { Turn::Idle } else { Turn::Worked(read) })
    }

    /// The stamps to be read now. Where there are other instances, they are claimed: reading twice is waste.
    async fn stamps_due(&self, now: DateTime<Utc>) -> Result<Vec<AttemptRow>, Error> {
        let due = attempts::to_read(&mut self.store.read().await?, now, self.never(), BATCH).await?;
        if due.is_empty() || !self.store.is_shared() {
            return Ok(due);
        }
        let mut tx = self.store.write().await?;
        let claimed = attempts::claim_reads(&mut tx, now, self.never(), now + self.rules.lease, CLAIMED).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    async fn read_back(&self, entra: &Entra, mut attempt: AttemptRow) -> Result<(), Error> {
        let person = accounts::person(&mut self.store.read().await?, attempt.person_id).await?;
        let Some(object_id) = person.and_then(|person| person.object_id) else { return Ok(()) };
        let stamp = entra.stamp(object_id).await.stamp;
        let now = self.utc();
        let reads = attempt.reads;
        attempt.reads += 1;
        match stamp {
            Stamp::Read { stamp: Some(read), .. } if self.shows(&attempt, read) => {
                attempt.stamp_after = Some(utc(read));
                attempt.state = String::from("verified");
                attempt.read_at = None;
                again(|| self.write_proof(&attempt, reads, now)).await
            }
            // Without the permission to read it, `accepted` is the best state there is (G14).
            Stamp::Unreadable | Stamp::Read { stamp: None, .. } => {
                attempt.read_at = None;
                again(|| self.write_unreadable(&attempt, reads, now)).await
            }
            Stamp::Read { .. } | Stamp::Gone | Stamp::NotNow(_) => {
                let accepted = moment(attempt.ended_at.unwrap_or(now));
                let next = usize::try_from(attempt.reads).ok().and_then(|reads| next_read(accepted, reads));
                attempt.read_at = next.map(|at| utc(at).max(now));
                if attempt.read_at.is_none() {
                    attempt.state = String::from("unproven");
                    return again(|| self.write_unproven(&attempt, reads, now)).await;
                }
                let mut tx = self.store.write().await?;
                attempts::read_back(&mut tx, &attempt, reads).await?;
                tx.commit().await
            }
        }
    }

    fn shows(&self, attempt: &AttemptRow, read: Moment) -> bool {
        let answered = attempt.graph_date.unwrap_or(attempt.began_at);
        settle::stamps(attempt).show_effect(read, moment(answered), self.rules.clock_skew, true)
    }

    async fn write_proof(&self, attempt: &AttemptRow, reads: i64, now: DateTime<Utc>) -> Result<(), Error> {
        let mut tx = self.store.write().await?;
        if !attempts::read_back(&mut tx, attempt, reads).await? {
            return Ok(());
        }
        let rows = self.covered(&mut tx, attempt).await?;
        self.verify_rows(&mut tx, attempt, rows, now).await?;
        tx.commit().await
    }

    async fn write_unreadable(&self, attempt: &AttemptRow, reads: i64, now: DateTime<Utc>) -> Result<(), Error> {
        let mut tx = self.store.write().await?;
        if !attempts::read_back(&mut tx, attempt, reads).await? {
            return Ok(());
        }
        for mut row in self.covered(&mut tx, attempt).await? {
            row.closed_at = Some(now);
            row.note =
                Some(String::from("the stamp may not be read (User.Read.All is missing), so the effect is not proven"));
            folding::save(&mut tx, &row).await?;
        }
        tx.commit().await
    }

    async fn write_unproven(&self, attempt: &AttemptRow, reads: i64, now: DateTime<Utc>) -> Result<(), Error> {
        let mut tx = self.store.write().await?;
        if !attempts::read_back(&mut tx, attempt, reads).await? {
            return Ok(());
        }
        let mut entries = Vec::new();
        for mut row in self.covered(&mut tx, attempt).await? {
            Standpoint::Open.name().clone_into(&mut row.state);
            row.due_at = now;
            row.failed += 1;
            folding::save(&mut tx, &row).await?;
            entries.push(self.about(&row, "revocation.unproven", json!({ "attempt": attempt.id })));
        }
        audit::write(&mut tx, &entries).await?;
        tx.commit().await?;
        metrics::counter!("handover_unproven_total").increment(1);
        tracing::error!(
            attempt.id = %attempt.id,
            "Graph accepted attempt {}, but its effect was not to be seen within a quarter of an hour; sending it again",
            attempt.id
        );
        self.owing.notify_one();
        Ok(())
    }
}
