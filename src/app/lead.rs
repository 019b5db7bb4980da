//! Leading: what only one instance may do at a time is done by the one that has the lease `lead`.
//!
//! The promises: at any time at most one instance leads; a leader that dies is followed by another within its lease and a
//! third of it; one that was paused and wakes up changes nothing, because every write of a leader's duty checks in its own
//! transaction that the lease is still its own, and keeps it so until the commit.
//!
//! What would surprise: that this process believes to lead decides nothing. It only spares the others the question.

use std::sync::PoisonError;
use std::time::Duration;

use crate::app::App;
use crate::app::pay::Share;
use crate::store::{Error, Tx, house, instances, leases};

/// How often an instance that does not lead looks whether somebody should.
const STAND_BY: Duration = Duration::from_secs(2);

/// How long an instance that was not seen any more stays on the list.
const FORGOTTEN: chrono::TimeDelta = chrono::TimeDelta::hours(1);

/// The right to lead. It may have run out; a write as leader finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead {
    term: i64,
}

impl Lead {
    /// Which leader in a row this is.
    pub fn term(self) -> i64 {
        self.term
    }
}

impl App {
    /// Leads, or goes on leading, unless somebody else does. The beat of the house counts each time.
    ///
    /// # Errors
    /// When the database fails. Who leads is then not known.
    pub async fn lead(&self) -> Result<Option<Lead>, Error> {
        let known = *self.leading.borrow();
        let lead = self.hold_lead(known).await?;
        self.leading.send_if_modified(|now| {
            let changed = *now != lead;
            *now = lead;
            changed
        });
        metrics::gauge!("handover_leads").set(if lead.is_some() { 1.0 } else { 0.0 });
        match (known, lead) {
            (Some(was), now) if now != Some(was) => tracing::warn!("somebody else took the lead over from us"),
            (None, Some(lead)) => tracing::info!(lead.term = lead.term, "this instance leads, as number {}", lead.term),
            (_, _) => {}
        }
        Ok(lead)
    }

    async fn hold_lead(&self, known: Option<Lead>) -> Result<Option<Lead>, Error> {
        if known.is_none() {
            // Whoever stands by reads only, so that it is never in the leader's way.
            let mut tx = self.store.read().await?;
            let now = tx.clock(self.utc()).await?;
            if leases::read(&mut tx, leases::LEAD).await?.is_some_and(|row| row.until > now && row.holder != self.owner)
            {
                return Ok(None);
            }
        }
        let mut tx = self.store.write().await?;
        let now = tx.clock(self.utc()).await?;
        let until = now + self.rules.lease;
        let kept = match known {
            Some(lead) => leases::renew(&mut tx, leases::LEAD, (&self.owner, lead.term), now, until).await?,
            None => false,
        };
        let lead = match known.filter(|_| kept) {
            Some(lead) => Some(lead),
            None => match leases::take(&mut tx, leases::LEAD, &self.owner, now, until).await? {
                Some(term) => Some(Lead { term }),
                // Another task of this instance may have been sooner.
                None => leases::read(&mut tx, leases::LEAD)
                    .await?
                    .filter(|row| row.holder == self.owner && row.until > now)
                    .map(|row| Lead { term: row.term }),
            },
        };
        if lead.is_some() {
            house::beat(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(lead)
    }

    /// Begins a transaction that writes only while this instance leads: nobody takes the lead over until it has ended.
    ///
    /// # Errors
    /// [`Error::NotLeading`] when somebody else does, or nobody.
    pub async fn write_as_leader(&self, lead: Lead) -> Result<Tx, Error> {
        let mut tx = self.store.write().await?;
        if leases::is_held(&mut tx, leases::LEAD, (&self.owner, lead.term), self.utc()).await? {
            return Ok(tx);
        }
        self.stand_down(lead);
        Err(Error::NotLeading)
    }

    fn stand_down(&self, lead: Lead) {
        self.leading.send_if_modified(|now| now.take_if(|now| *now == lead).is_some());
    }

    /// Waits until this instance leads.
    pub(crate) async fn until_leading(&self) -> Lead {
        let mut leading = self.leading.subscribe();
        loop {
            if let Some(lead) = *leading.borrow_and_update() {
                return lead;
            }
            if leading.changed().await.is_err() {
                // The sender lives as long as we do.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Lets the lead go at a clean stop, so that another instance takes it at once.
    pub(crate) async fn let_go(&self) -> Result<(), Error> {
        let Some(lead) = *self.leading.borrow() else { return Ok(()) };
        let mut tx = self.store.write().await?;
        let now = tx.clock(self.utc()).await?;
        leases::release(&mut tx, leases::LEAD, (&self.owner, lead.term), now).await?;
        tx.commit().await?;
        self.stand_down(lead);
        self.tell_of_the_lead().await
    }

    /// Whether no other instance runs, as far as this one knows.
    pub(crate) fn is_alone(&self) -> bool {
        self.share.lock().unwrap_or_else(PoisonError::into_inner).of <= 1
    }

    /// How long until the lead is looked at again.
    pub(crate) fn lead_again_after(&self) -> Duration {
        let third = self.rules.lease / 3;
        if self.leading.borrow().is_some() { third } else { third.min(STAND_BY) }
    }

    /// Writes down that this instance is there, and learns whether it is alone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn be_seen(&self, host: &str) -> Result<(), Error> {
        let mut tx = self.store.write().await?;
        let now = tx.clock(self.utc()).await?;
        instances::seen(&mut tx, &self.owner, host, env!("CARGO_PKG_VERSION"), now).await?;
        let running = instances::running(&mut tx, now - self.rules.lease).await?;
        tx.commit().await?;
        let place = running.iter().position(|id| *id == self.owner).unwrap_or(0);
        *self.share.lock().unwrap_or_else(PoisonError::into_inner) = Share { place, of: running.len().max(1) };
        Ok(())
    }

    /// Takes this instance off the list.
    pub(crate) async fn be_gone(&self) -> Result<(), Error> {
        let mut tx = self.store.write().await?;
        instances::gone(&mut tx, &self.owner).await?;
        tx.commit().await
    }

    /// Takes instances off the list that died without a word.
    pub(crate) async fn forget_the_dead(&self, lead: Lead) -> Result<(), Error> {
        let mut tx = self.write_as_leader(lead).await?;
        let now = tx.clock(self.utc()).await?;
        instances::forget(&mut tx, now - FORGOTTEN).await?;
        tx.commit().await
    }
}
