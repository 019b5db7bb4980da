//! What is too old is dropped, and what comes has a place to lie.
//!
//! The promise: history is kept for as many months as configured, counted from an event's own time, and then goes: events,
//! audit entries, ended custodies, closed revocations with their attempts, bodies in quarantine. Nothing unfinished goes,
//! whatever its age (R4). Each time something was dropped, an audit entry says what.
//!
//! What is left can still be folded again: before a device's events go, what they came to is kept as its *origin*, and a
//! replay begins there. A stretch of a holder that reaches into the kept time stays whole.
//!
//! If the process stops on the way, the next turn goes on: an origin is moved in the transaction that drops what it answers
//! for, and a whole month goes only when every device's origin lies behind it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::app::folding::{self, Standings};
use crate::app::lead::Lead;
use crate::app::{App, HANDOVER};
use crate::custody::{Moment, fold};
use crate::store::months::{self, Dropped, Month, Shelf};
use crate::store::snapshot::Snapshot;
use crate::store::times::utc;
use crate::store::{Error, accounts, audit, recording};

/// How often history is tended. What is too old is so by the month; places are made two months ahead.
const EVERY: Duration = Duration::from_secs(3600);

/// How many devices are taken up between two looks at the clock of housekeeping.
const DEVICES: i64 = 200;

/// How many audit entries go in one transaction.
const ENTRIES: i64 = 1000;

/// How many rows are moved at most when a month is laid: about a second's worth, since whoever writes waits for it. A month
/// with more, as an import or a move from SQLite may bring, stays where it is and is dropped row by row when its time comes.
const MOVABLE: i64 = 50_000;

/// How many months are laid ahead of time.
const AHEAD: u32 = 2;

/// What one turn dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Retained {
    /// Everything before this month.
    pub before: String,
    /// Events.
    pub events: u64,
    /// Audit entries.
    pub audit: u64,
    /// Stretches of a holder.
    pub custodies: u64,
    /// Revocations.
    pub revocations: u64,
    /// Attempts.
    pub attempts: u64,
    /// Bodies in quarantine.
    pub quarantine: u64,
    /// Months that went as a whole, by table.
    pub months: Vec<String>,
    /// Whether there is more to drop.
    pub more: bool,
}

/// When history was tended last. Lost with the process: it is then tended once more.
#[derive(Default)]
pub struct Tended(Mutex<Option<Moment>>);

impl Tended {
    /// Whether it is time again.
    fn is_due(&self, now: Moment) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| now < last || now.since(last) >= EVERY)
    }

    /// There is nothing left to do for a while.
    fn is_done(&self, now: Moment) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
}

impl Retained {
    fn is_nothing(&self) -> bool {
        let counts = [self.events, self.audit, self.custodies, self.revocations, self.attempts, self.quarantine];
        counts.iter().all(|count| *count == 0) && self.months.is_empty()
    }
}

impl App {
    /// Lays months and drops what is too old, if it is time to.
    pub(crate) async fn tend_history(&self, lead: Lead) -> Result<(), Error> {
        if !self.tended.is_due(self.now()) {
            return Ok(());
        }
        self.lay_months(lead).await?;
        if self.retain(lead).await?.is_none_or(|done| !done.more) {
            self.tended.is_done(self.now());
        }
        Ok(())
    }

    /// Gives the coming months a place, and past ones of which rows lie about (PostgreSQL). Says how many were laid.
    ///
    /// # Errors
    /// When the database fails, this instance does not lead any more, or somebody keeps a table for too long; the next turn
    /// tries again.
    pub async fn lay_months(&self, lead: Lead) -> Result<usize, Error> {
        let this = Month::of(self.utc());
        let mut new = 0;
        for shelf in Shelf::ALL {
            let mut tx = self.store.read().await?;
            if !months::has_months(&tx) {
                return Ok(0);
            }
            let laid = months::laid(&mut tx, shelf).await?;
            let mut wanted: Vec<_> = (0..=AHEAD).map(|ahead| this.later(ahead)).collect();
            let oldest = self.cut().unwrap_or(this.earlier(1200));
            let about = months::in_rest(&mut tx, shelf, oldest, this.later(AHEAD)).await?;
            let crowded = |month: &Month| about.iter().any(|(other, rows)| other == month && *rows > MOVABLE);
            wanted.extend(about.iter().map(|(month, _)| *month));
            wanted.retain(|month| !laid.contains(month) && !crowded(month));
            wanted.sort_unstable();
            wanted.dedup();
            drop(tx);
            for month in wanted {
                let mut tx = self.write_as_leader(lead).await?;
                let moved = months::lay(&mut tx, shelf, month).await?;
                tx.commit().await?;
                new += 1;
                tracing::info!(month = %month, rows = moved, "{} of {month} have a place of their own", shelf.table());
            }
        }
        Ok(new)
    }

    /// Everything before this month is dropped.
    fn cut(&self) -> Option<Month> {
        let months = self.rules.keep_months?;
        Some(Month::of(self.utc()).earlier(months.get()))
    }

    /// Drops what is too old, a limited amount at a time, and says what it was. `None` where history is kept for good.
    ///
    /// # Errors
    /// When the database fails, or this instance does not lead any more. What was dropped until then is dropped.
    pub async fn retain(&self, lead: Lead) -> Result<Option<Retained>, Error> {
        let Some(month) = self.cut() else { return Ok(None) };
        let cut = month.begins();
        let mut done = Retained { before: month.to_string(), ..Retained::default() };
        let devices = months::to_move(&mut self.store.read().await?, cut, DEVICES).await?;
        done.more = i64::try_from(devices.len()).is_ok_and(|found| found == DEVICES);
        for device in devices {
            let dropped = self.move_origin(lead, device, cut).await?;
            done.events += dropped.events;
            done.custodies += dropped.custodies;
            done.revocations += dropped.revocations;
        }
        self.drop_months(lead, month, &mut done).await?;
        let mut tx = self.write_as_leader(lead).await?;
        done.attempts = months::drop_attempts(&mut tx, cut).await?;
        done.quarantine = months::drop_quarantine(&mut tx, cut).await?;
        let entries = months::drop_entries(&mut tx, cut, ENTRIES).await?;
        done.audit += entries;
        done.more |= i64::try_from(entries).is_ok_and(|dropped| dropped == ENTRIES);
        if !done.is_nothing() {
            audit::write(&mut tx, &[self.entry(HANDOVER, "history.dropped", json!(done))]).await?;
        }
        tx.commit().await?;
        if !done.is_nothing() {
            tracing::info!(
                before = done.before,
                events = done.events,
                audit = done.audit,
                custodies = done.custodies,
                revocations = done.revocations,
                months = ?done.months,
                "dropped what is older than {}",
                done.before
            );
        }
        Ok(Some(done))
    }

    /// Folds what is to go into the device's origin, and drops it.
    async fn move_origin(&self, lead: Lead, device: Uuid, cut: DateTime<Utc>) -> Result<Dropped, Error> {
        let mut tx = self.write_as_leader(lead).await?;
        let Some(row) = recording::lock_devices(&mut tx, &[device]).await?.pop() else { return Ok(Dropped::default()) };
        let origin = folding::origin(&mut tx, row.id).await?;
        let after = origin.last.map(|(at, id)| (utc(at), Uuid::from_bytes(id.0)));
        let mut events = recording::events_after(&mut tx, row.id, after).await?;
        events.retain(|event| event.at < cut);
        let mut standings = Standings::default();
        let named = events.iter().filter_map(|event| event.account_id).chain(folding::accounts_in(&origin));
        let missing = standings.missing(named);
        for some in missing.chunks(500) {
            standings.learn(&accounts::standings(&mut tx, some).await?);
        }
        let events = events.iter().map(folding::event);
        let folded = fold(origin, events, |account| standings.of(account), self.rules.policy());
        months::set_origin(&mut tx, row.id, Snapshot::from(&folded.state), cut).await?;
        let dropped = months::drop_of_device(&mut tx, row.id, cut).await?;
        tx.commit().await?;
        Ok(dropped)
    }

    /// Drops whole months, as soon as no device needs their events any more.
    async fn drop_months(&self, lead: Lead, cut: Month, done: &mut Retained) -> Result<(), Error> {
        for shelf in Shelf::ALL {
            let mut tx = self.store.read().await?;
            let old: Vec<_> = months::laid(&mut tx, shelf).await?.into_iter().filter(|month| *month < cut).collect();
            if old.is_empty() || shelf == Shelf::Events && months::any_unmoved(&mut tx, cut.begins()).await? {
                continue;
            }
            drop(tx);
            for month in old {
                let mut tx = self.write_as_leader(lead).await?;
                let rows = months::drop_month(&mut tx, shelf, month).await?;
                tx.commit().await?;
                done.months.push(format!("{} {month}", shelf.table()));
                match shelf {
                    Shelf::Events => done.events += rows,
                    Shelf::Audit => done.audit += rows,
                }
            }
        }
        Ok(())
    }
}
