//! A body arrives from an authenticated sender: it is read, and written down one way or another.
//!
//! What is understood becomes an event. What is well-formed but not understood goes to quarantine whole, and is read again
//! after an upgrade with its original receipt time (E10). What is malformed is answered so, and its beginning is kept for
//! whoever has to find out why (E11).

use bytes::Bytes;
use uuid::Uuid;

use crate::app::lead::Lead;
use crate::app::record::{Incoming, Recorded, Refused};
use crate::app::{App, HANDOVER, Source, again, names};
use crate::custody::Moment;
use crate::intake::{Door, Unreadable, read};
use crate::store::sources::{self, QuarantineRow};
use crate::store::times::{moment, utc};
use crate::store::{Error, audit};

/// How much of a malformed body is kept (E11), and how many of them.
const KEEP_BYTES: usize = 4096;
const KEEP_ROWS: i64 = 10_000;

/// How many quarantined bodies are read again in one turn.
const AGAIN: i64 = 500;

/// What became of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It is an event, and new.
    Recorded(Uuid),
    /// It is an event that we had.
    Duplicate(Uuid),
    /// It was not understood and waits in quarantine.
    Quarantined(Uuid),
    /// It is malformed; why.
    Malformed(String),
}

impl App {
    /// Whether `authorization` opens the door of a source. An unknown source does the same work and stays shut.
    pub fn greet(&self, source: &str, authorization: Option<&[u8]>) -> bool {
        match self.sources.get(source) {
            Some(source) => source.door.opens_to(authorization),
            // A door that nothing opens, so that an unknown source takes as long as a wrong password.
            None => Door::dummy().opens_to(authorization),
        }
    }

    /// Takes in one body.
    ///
    /// # Errors
    /// [`Refused`] when it could not be written down; the sender should come again.
    pub async fn receive(&self, source: &str, content_type: Option<String>, body: Bytes) -> Result<Received, Refused> {
        let mut received = self.receive_many(source, content_type, vec![body]).await?;
        received.pop().ok_or(Refused::Database)
    }

    /// Takes in many bodies at once; what became of each is said in their order.
    ///
    /// # Errors
    /// [`Refused`] when they could not be written down. Sending all of them again is safe.
    pub async fn receive_many(
        &self,
        source: &str,
        content_type: Option<String>,
        bodies: Vec<Bytes>,
    ) -> Result<Vec<Received>, Refused> {
        let Some(source) = self.sources.get(source).cloned() else { return Err(Refused::Database) };
        let now = self.now();
        let mut results: Vec<Option<Received>> = vec![None; bodies.len()];
        let mut events = Vec::new();
        let mut places = Vec::new();
        for (place, body) in bodies.into_iter().enumerate() {
            match read(&body, content_type.as_deref(), &source.rules) {
                Ok(notice) => {
                    places.push((place, notice.id));
                    events.push(Incoming::told(&source, notice, now, content_type.clone(), body));
                }
                Err(unreadable) => {
                    let kept = self.quarantine(&source, content_type.clone(), &body, unreadable, now).await;
                    results[place] = Some(kept.map_err(|error| refused(&error))?);
                }
            }
        }
        for ((place, id), recorded) in places.into_iter().zip(self.record(events).await?) {
            results[place] = Some(match recorded {
                Recorded::New => Received::Recorded(id),
                Recorded::Duplicate(known) => Received::Duplicate(known),
            });
        }
        Ok(results.into_iter().flatten().collect())
    }

    async fn quarantine(
        &self,
        source: &Source,
        content_type: Option<String>,
        body: &[u8],
        unreadable: Unreadable,
        now: Moment,
    ) -> Result<Received, Error> {
        let (kind, why) = match unreadable {
            Unreadable::Malformed { why } => ("malformed", why),
            Unreadable::Unknown { why } => ("unknown", why),
        };
        let kept = if kind == "unknown" { body } else { &body[..body.len().min(KEEP_BYTES)] };
        let row = QuarantineRow {
            id: names::derived(&[b"quarantine", source.name.as_bytes(), body]),
            source: source.name.clone(),
            received_at: utc(now),
            kind: kind.to_owned(),
            why: why.clone(),
            content_type,
            body: kept.to_vec(),
            read_at: None,
        };
        let new = again(|| async {
            let mut tx = self.store.write().await?;
            let new = sources::quarantine(&mut tx, &row).await?;
            sources::heard(&mut tx, &source.name, utc(now), None).await?;
            tx.commit().await?;
            Ok(new)
        })
        .await?;
        metrics::counter!("handover_events_total", "outcome" => if kind == "unknown" { "quarantined" } else { "malformed" }).increment(1);
        if new {
            tracing::warn!(source.name = source.name, quarantine.id = %row.id, quarantine.kind = kind,
                "a body from {} went to quarantine: {why}", source.name);
        }
        Ok(if kind == "unknown" { Received::Quarantined(row.id) } else { Received::Malformed(why) })
    }

    /// Reads quarantined bodies again, as events of when they were received. Says how many could be read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read_quarantine_again(&self) -> Result<usize, Error> {
        let waiting = sources::quarantined(&mut self.store.read().await?, AGAIN).await?;
        let mut read_now = 0;
        for row in waiting {
            let Some(source) = self.sources.get(&row.source).cloned() else { continue };
            let Ok(notice) = read(&row.body, row.content_type.as_deref(), &source.rules) else { continue };
            let event = Incoming::told(&source, notice, moment(row.received_at), row.content_type, row.body.into());
            if self.record(vec![event]).await.is_err() {
                continue;
            }
            let mut tx = self.store.write().await?;
            if !sources::read_after_all(&mut tx, row.id, self.utc()).await? {
                // Another instance started at the same time.
                continue;
            }
            let entry = audit::Entry {
                subject: Some(row.id),
                ..self.entry(HANDOVER, "quarantine.read", serde_json::json!({ "source": row.source }))
            };
            audit::write(&mut tx, &[entry]).await?;
            tx.commit().await?;
            read_now += 1;
        }
        Ok(read_now)
    }

    /// Drops the oldest malformed bodies beyond the newest ten thousand.
    ///
    /// # Errors
    /// When the database fails, or this instance does not lead any more.
    pub async fn bound_quarantine(&self, lead: Lead) -> Result<(), Error> {
        let mut tx = self.write_as_leader(lead).await?;
        let dropped = sources::bound_quarantine(&mut tx, KEEP_ROWS).await?;
        tx.commit().await?;
        if dropped > 0 {
            metrics::counter!("handover_quarantine_dropped_total").increment(dropped);
        }
        Ok(())
    }
}

fn refused(error: &Error) -> Refused {
    tracing::error!(error = %error, "could not put a body into quarantine");
    Refused::Database
}
