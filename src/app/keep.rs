//! Keeping house: what has to happen now and then, whoever asks.
//!
//! Whoever leads keeps house, and each write of it is fenced. The numbers are measured by every instance: they are the
//! whole installation's, so whichever is asked gives the same, and none is missing while the lead changes hands.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::app::lead::Lead;
use crate::app::{App, folding};
use crate::custody::{Moment, Standpoint};
use crate::store::tallies::Tally;
use crate::store::times::{moment, utc};
use crate::store::{Error, accounts, house, recording, sources};

/// How many devices are tidied in one turn.
const BATCH: i64 = 200;

/// How far a base may fall behind before it is moved.
const BASE_SLACK: Duration = Duration::from_secs(24 * 3600);

/// How long an alarm that has rung stays quiet before it rings again.
const QUIET: Duration = Duration::from_secs(15 * 60);

/// When each alarm rang last. Lost with the process: it then rings once more.
#[derive(Default)]
pub struct Alarms(Mutex<HashMap<String, Moment>>);

impl Alarms {
    fn may_ring(&self, name: &str, now: Moment) -> bool {
        let mut rung = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = rung.get(name).is_some_and(|last| now.since(*last) < QUIET);
        if !quiet {
            rung.insert(name.to_owned(), now);
        }
        !quiet
    }
}

/// From when on a token that cannot be renewed is an alarm (G12).
const TOKEN_RUNS_OUT: Duration = Duration::from_secs(15 * 60);

impl App {
    /// Keeps house, once.
    ///
    /// # Errors
    /// When the database fails, or this instance does not lead any more.
    pub async fn keep_house(&self, lead: Lead) -> Result<(), Error> {
        // What only reads comes first: it goes on while nothing can be written.
        self.listen_for_silence().await?;
        self.fold_left_waiting(lead).await?;
        self.advance_bases(lead).await?;
        self.bound_quarantine(lead).await?;
        self.forget_the_dead(lead).await?;
        self.tend_history(lead).await
    }

    /// Counts that the database did not take something, and rings when that is for want of room (S2).
    pub(crate) fn not_written(&self, error: &Error) {
        let why = if error.is_full() { "full" } else { "failed" };
        metrics::counter!("handover_database_failures_total", "why" => why).increment(1);
        if error.is_full() && self.alarms.may_ring("the database's disk", self.now()) {
            tracing::error!(
                "the disk of the database is full: events are refused and revocations stand still until there is room"
            );
        }
    }

    /// Devices that wait for an account which was decided while their event was being written.
    async fn fold_left_waiting(&self, lead: Lead) -> Result<(), Error> {
        let since = utc(self.now().less(self.rules.snapshot_age));
        let waiting = accounts::left_waiting(&mut self.store.read().await?, since, BATCH).await?;
        for device in waiting {
            let mut tx = self.write_as_leader(lead).await?;
            let owes = folding::fold_again(self, &mut tx, &[device], "its account was decided meanwhile").await?;
            tx.commit().await?;
            if owes {
                self.owing.notify_one();
            }
        }
        Ok(())
    }

    async fn advance_bases(&self, lead: Lead) -> Result<(), Error> {
        let cutoff = self.now().less(self.rules.snapshot_age);
        let behind =
            recording::bases_behind(&mut self.store.read().await?, utc(cutoff.less(BASE_SLACK)), BATCH).await?;
        for device in behind {
            let mut tx = self.write_as_leader(lead).await?;
            folding::advance_base(self, &mut tx, device, cutoff).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Measures how things stand.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn measure(&self) -> Result<(), Error> {
        let mut tx = self.store.read().await?;
        let tallies = self.store.finished().and_unfinished(&mut tx).await?;
        for state in Standpoint::ALL {
            let count = tallies.iter().find(|tally| tally.state == state.name()).map_or(0, |tally| tally.many);
            metrics::gauge!("handover_revocations", "state" => state.name()).set(gauge(count));
        }
        let house = house::read(&mut tx).await?.filter(|house| house.state == "checking");
        metrics::gauge!("handover_checking_after_restore").set(if house.is_some() { 1.0 } else { 0.0 });
        if let Some(house) = house
            && !self.rules.shadow
            && self.alarms.may_ring("the check after a restore", self.now())
        {
            let why = house.why.unwrap_or_default();
            tracing::error!("nothing is sent: {why}; the check after the restore is not done");
        }
        let unfinished = |tally: &&Tally| Standpoint::named(&tally.state).is_some_and(Standpoint::is_unfinished);
        let oldest = tallies.iter().filter(unfinished).map(|tally| tally.oldest).min();
        let age = oldest.map_or(Duration::ZERO, |at| self.now().since(moment(at)));
        metrics::gauge!("handover_oldest_owed_seconds").set(age.as_secs_f64());
        for row in sources::all(&mut tx).await? {
            if let (true, Some(last)) = (self.sources.contains_key(&row.name), row.last_heard_at) {
                let silent = self.now().since(moment(last)).as_secs_f64();
                metrics::gauge!("handover_source_silent_seconds", "source" => row.name).set(silent);
            }
        }
        // Each instance has a token of its own.
        if let Some(entra) = &self.entra {
            let health = entra.token_health();
            if health.fault.is_some()
                && health.expires_in.is_some_and(|left| left < TOKEN_RUNS_OUT)
                && self.alarms.may_ring("the token for Graph", self.now())
            {
                tracing::error!("the token for Graph runs out and cannot be renewed");
            }
        }
        Ok(())
    }

    /// A source that is silent for too long is an alarm (E4), which one instance rings.
    async fn listen_for_silence(&self) -> Result<(), Error> {
        let heard = sources::all(&mut self.store.read().await?).await?;
        for row in heard {
            let (Some(source), Some(last)) = (self.sources.get(&row.name), row.last_heard_at) else { continue };
            let silent = self.now().since(moment(last));
            if silent > source.silence && self.alarms.may_ring(&row.name, self.now()) {
                tracing::error!(
                    source.name = row.name,
                    source.silent_seconds = silent.as_secs(),
                    "nothing was heard from {} for {} minutes; check its Event Notification rule",
                    row.name,
                    silent.as_secs() / 60
                );
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and counts stay far below 2^52")]
fn gauge(count: i64) -> f64 {
    count as f64
}
