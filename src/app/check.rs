//! The check after a restore: the stamps are read, the sources compared, and then the house is opened.
//!
//! Nothing is sent in it. Where a person's stamp shows that a revocation was answered by what the restore forgot, it is closed as verified; where
//! it does not, or may not be read, it stays held until a person releases it. Stopped in the middle, it begins anew:
//! what was closed stays closed, and reading a stamp twice does no harm.
//!
//! A comparison with the source finds departures that the restore forgot, too late to say when they were. So what only a comparison
//! showed until the house is opened is held as well. Departures that were told after the restore are paid once it is open.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;
use uuid::Uuid;

use crate::app::look::Turn;
use crate::app::{App, HANDOVER};
use crate::custody::{Debt, Moment, Standpoint, Why, answered_by_stamp};
use crate::entra::{Entra, Stamp};
use crate::store::accounts::PersonRow;
use crate::store::revocations::RevocationRow;
use crate::store::times::{moment, utc};
use crate::store::{Error, accounts, attempts, audit, hold, house, revocations, sources};

/// How many stamps are read at once.
const AT_ONCE: usize = 8;

/// More people than are ever held.
const EVERYBODY: i64 = i64::MAX;

/// Whose held revocations have been compared with their stamps, by this process. A cache: lost, they are compared again.
#[derive(Default)]
pub struct Examined(Mutex<HashSet<Uuid>>);

impl Examined {
    fn has_all(&self, rows: &[RevocationRow]) -> bool {
        let examined = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().all(|row| examined.contains(&row.id))
    }

    fn add(&self, rows: &[RevocationRow]) {
        let mut examined = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        examined.extend(rows.iter().map(|row| row.id));
    }
}

impl App {
    /// Goes on with the check, where there is one to do. For the leader.
    ///
    /// # Errors
    /// When the database fails. What a source or the directory does wrong is tried again.
    pub async fn check_house(&self) -> Result<Turn, Error> {
        let Some(entra) = self.entra.clone() else { return Ok(Turn::Idle) };
        if self.rules.shadow || self.leading.borrow().is_none() {
            return Ok(Turn::Idle);
        }
        let Some(house) = house::read(&mut self.store.read().await?).await? else { return Ok(Turn::Idle) };
        let Some(restored_at) = house.restored_at else { return Ok(Turn::Idle) };
        // It may have been taken for restored by somebody else, a moment ago.
        self.house.learn(&house);
        let all_read = self.examine_everybody(&entra).await?;
        if house.state != "checking" || !all_read || !self.sources_are_compared(restored_at).await? {
            return Ok(Turn::Idle);
        }
        self.open_house(restored_at).await
    }

    /// Compares whoever has held revocations with their stamps. Says whether everybody's could be read, or is known to be
    /// unreadable.
    async fn examine_everybody(&self, entra: &Entra) -> Result<bool, Error> {
        let people = hold::held_people(&mut self.store.read().await?, Why::Restored.name(), EVERYBODY).await?;
        let done: Vec<_> =
            stream::iter(people).map(|person| self.examine(entra, person)).buffer_unordered(AT_ONCE).collect().await;
        let mut all = true;
        for examined in done {
            all &= examined?;
        }
        Ok(all)
    }

    /// Reads one person's stamp, and closes what it shows to be answered. `false` when it has to be tried again.
    async fn examine(&self, entra: &Entra, person: Uuid) -> Result<bool, Error> {
        let mut rows = revocations::waiting_for(&mut self.store.read().await?, person, Standpoint::Held.name()).await?;
        rows.retain(|row| row.why.as_deref() == Some(Why::Restored.name()));
        if self.house.examined.has_all(&rows) {
            return Ok(true);
        }
        let Some(row) = accounts::person(&mut self.store.read().await?, person).await? else { return Ok(true) };
        // Nobody was ever called for somebody whom the directory was not asked about; a release looks them up.
        let Some(object_id) = row.object_id else {
            self.house.examined.add(&rows);
            return Ok(true);
        };
        match entra.stamp(object_id).await.stamp {
            Stamp::NotNow(_) => return Ok(false),
            Stamp::Read { stamp, guest: false, .. } => {
                self.close_answered(entra, &row, stamp, Standpoint::Held).await?;
            }
            Stamp::Read { guest: true, .. } | Stamp::Unreadable | Stamp::Gone => {}
        }
        self.house.examined.add(&rows);
        Ok(true)
    }

    /// Closes those of a person's revocations in a state that their stamp shows to have been answered before the restore. Nothing
    /// is sent for them. Gives which.
    pub(crate) async fn close_answered(
        &self,
        entra: &Entra,
        person: &PersonRow,
        stamp: Option<Moment>,
        state: Standpoint,
    ) -> Result<Vec<Uuid>, Error> {
        let (Some(stamp), Some(restored_at)) = (stamp, self.house.restored_at()) else { return Ok(Vec::new()) };
        let mut tx = self.store.write().await?;
        let mut rows = revocations::waiting_for(&mut tx, person.id, state.name()).await?;
        rows.retain(|row| row.why.as_deref() == Some(Why::Restored.name()) || row.departed_at < restored_at);
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let effect = attempts::newest_effect(&mut tx, person.id).await?;
        let read_before = attempts::newest_stamp(&mut tx, person.id).await?;
        let known = person.stamp_verified.max(effect).max(read_before).map(moment);
        let now = self.utc();
        let (mut closed, mut entries) = (Vec::new(), Vec::new());
        for mut row in rows {
            let offset = sources::offset_of_event(&mut tx, row.departed_by).await?;
            let debt = Debt {
                departed_at: moment(row.departed_at),
                owed_at: moment(row.owed_at),
                known_before: row.owed_at < restored_at,
                source_offset: offset.map(|micros| Duration::from_micros(micros.unsigned_abs())),
            };
            if !answered_by_stamp(&debt, stamp, known, entra.clock_offset(), self.rules.clock_skew) {
                continue;
            }
            Standpoint::Verified.name().clone_into(&mut row.state);
            row.why = None;
            row.note = Some(format!(
                "no call was made: after a restore, the stamp {} shows that it had been answered",
                utc(stamp).format("%Y-%m-%dT%H:%M:%SZ")
            ));
            row.accepted_at = row.accepted_at.or(Some(now));
            row.verified_at = Some(now);
            row.closed_at = Some(now);
            if !revocations::save(&mut tx, &row).await? {
                return Err(Error::Overtaken("a revocation"));
            }
            let detail = json!({ "stamp": utc(stamp), "known": known.map(utc), "after_restore": true });
            entries.push(self.about(&row, "revocation.verified", detail));
            closed.push(row.id);
        }
        if !closed.is_empty() {
            accounts::prove_stamp(&mut tx, person.id, utc(stamp)).await?;
        }
        audit::write(&mut tx, &entries).await?;
        tx.commit().await?;
        Ok(closed)
    }

    /// Sweeps each source with an API that was not swept since the restore, and says whether everything that the sweeps asked
    /// for has been looked at.
    async fn sources_are_compared(&self, restored_at: DateTime<Utc>) -> Result<bool, Error> {
        let swept = sources::all(&mut self.store.read().await?).await?;
        let mut last = restored_at;
        for source in self.sources.values().filter(|source| source.api.is_some()) {
            let row = swept.iter().find(|row| row.name == source.name);
            let Some(at) = row.and_then(|row| row.last_swept_at).filter(|at| *at > restored_at) else {
                if let Err(error) = self.sweep(source).await {
                    tracing::warn!(source.name = source.name, error = %error,
                        "the check after the restore waits for {}: it could not be swept", source.name);
                }
                return Ok(false);
            };
            last = last.max(at);
        }
        let waiting = hold::unsettled(&mut self.store.read().await?, last).await?;
        Ok(waiting.looks == 0 && waiting.undecided == 0)
    }

    /// Opens the house, unless what the comparison found has to be examined first.
    async fn open_house(&self, restored_at: DateTime<Utc>) -> Result<Turn, Error> {
        let now = self.utc();
        let mut tx = self.store.write().await?;
        let Some(mut house) = house::lock(&mut tx).await? else { return Ok(Turn::Idle) };
        if house.state != "checking" || house.restored_at != Some(restored_at) {
            return Ok(Turn::Idle);
        }
        let found = hold::hold_suspects(&mut tx, Why::Restored.name(), restored_at, now).await?;
        if found > 0 {
            tx.commit().await?;
            return Ok(Turn::Worked(usize::try_from(found).unwrap_or(1)));
        }
        let held = hold::held(&mut tx, Why::Restored.name()).await?;
        house.state = String::from("open");
        house.why = None;
        house.changed_at = now;
        house::save(&mut tx, &house).await?;
        let detail = json!({ "epoch": house.epoch, "held": held.revocations, "people": held.people });
        audit::write(&mut tx, &[self.entry(HANDOVER, "house.opened", detail)]).await?;
        tx.commit().await?;
        tracing::warn!(
            held.people = held.people,
            held.revocations = held.revocations,
            "the check after the restore is done; {} revocation(s) of {} people stay held until somebody releases them",
            held.revocations,
            held.people
        );
        self.owing.notify_one();
        Ok(Turn::Worked(1))
    }
}
