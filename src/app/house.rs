//! The house: whether this database is the one that was served on last, and whether anything may be sent from it.
//!
//! Outside of the database a *witness* is kept: a small file with the epoch and the beat that were seen last, written anew
//! every ten seconds; a running instance remembers the same. A database that is behind what is remembered was restored, and
//! so was one whose server says that it is not where it was. Then the house is `checking`: nothing is sent, what was unfinished is held, and
//! [`super::check`] reads the stamps.
//!
//! The intent is written under the house's row (`may_send`), so that an instance that did not hear of it cannot send either.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

use crate::app::check::Examined;
use crate::app::{App, HANDOVER, entry_at};
use crate::custody::{Claimed, Judgement, Sight, Why, judge};
use crate::store::house::{self, HouseRow};
use crate::store::{Error, Store, Tx, audit, hold, moving};

/// What is remembered of the house outside of the database.
#[derive(Default)]
pub struct Memory {
    seen: Mutex<Option<Sight>>,
    restored_at: Mutex<Option<DateTime<Utc>>>,
    witness: OnceLock<PathBuf>,
    pub(crate) examined: Examined,
}

/// What the witness says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Witness {
    installation: Uuid,
    epoch: Uuid,
    beat: i64,
    /// When it was written; for people.
    at: DateTime<Utc>,
}

/// Why a house was not entered.
#[derive(Debug, thiserror::Error)]
pub enum NotEntered {
    /// It was moved.
    #[error("{0}; serve from there, or see docs/operations/moving.md")]
    Sealed(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Memory {
    /// Where the witness is kept from now on.
    pub fn keep_witness(&self, file: PathBuf) {
        drop(self.witness.set(file));
    }

    /// Whether a restore came after this.
    pub fn was_restored_after(&self, at: DateTime<Utc>) -> bool {
        self.restored_at().is_some_and(|restored| at < restored)
    }

    /// When the database was restored last.
    pub fn restored_at(&self) -> Option<DateTime<Utc>> {
        *self.restored_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> Option<Sight> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in when it was restored.
    pub(crate) fn learn(&self, house: &HouseRow) {
        *self.restored_at.lock().unwrap_or_else(PoisonError::into_inner) = house.restored_at;
    }

    /// Remembers the house as it was seen, in the witness too.
    fn remember(&self, house: &HouseRow, now: DateTime<Utc>) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(sight(house));
        self.learn(house);
        let Some(file) = self.witness.get() else { return };
        let witness = Witness { installation: house.installation, epoch: house.epoch, beat: house.beat, at: now };
        if let Err(error) = write_witness(file, &witness) {
            tracing::warn!(error = %error, "the witness {} cannot be written; a restore may go unnoticed", file.display());
        }
    }

    /// What the witness remembers. One that cannot be understood remembers nothing.
    fn witness(&self) -> Option<Sight> {
        let file = self.witness.get()?;
        let text = std::fs::read(file).ok()?;
        let Ok(witness) = serde_json::from_slice::<Witness>(&text) else {
            tracing::warn!("the witness {} cannot be understood and is written anew", file.display());
            return None;
        };
        Some(Sight {
            installation: witness.installation.into_bytes(),
            epoch: witness.epoch.into_bytes(),
            beat: witness.beat,
        })
    }
}

fn sight(house: &HouseRow) -> Sight {
    Sight { installation: house.installation.into_bytes(), epoch: house.epoch.into_bytes(), beat: house.beat }
}

/// Writes the witness: whole or not at all.
fn write_witness(file: &Path, witness: &Witness) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = PathBuf::from(format!("{}.new", file.display()));
    let mut new = std::fs::File::create(&beside)?;
    new.write_all(format!("{}\n", serde_json::to_string(witness)?).as_bytes())?;
    new.sync_all()?;
    std::fs::rename(beside, file)
}

impl App {
    /// Enters the house at the start: makes sure that there is one, that it was not moved, and that it is the one that
    /// was served on last. What it then remembers is what later looks are compared with.
    ///
    /// # Errors
    /// [`NotEntered::Sealed`] says where everything went.
    pub async fn enter_house(&self) -> Result<(), NotEntered> {
        let found = house::read(&mut self.store.read().await?).await?;
        if found.is_none() {
            let mut tx = self.store.write().await?;
            house::ensure(&mut tx, self.utc()).await?;
            tx.commit().await?;
        }
        self.compare_house(self.house.witness()).await
    }

    /// Looks whether it is still the same house, and remembers how far it has come. For every instance, every ten seconds.
    ///
    /// # Errors
    /// [`NotEntered::Sealed`] when it was moved: nothing more can be done here.
    pub async fn watch_house(&self) -> Result<(), NotEntered> {
        self.compare_house(self.house.seen()).await
    }

    async fn compare_house(&self, remembered: Option<Sight>) -> Result<(), NotEntered> {
        let mut tx = self.store.read().await?;
        let server = house::server(&mut tx).await?;
        let Some(house) = house::read(&mut tx).await? else { return Ok(()) };
        drop(tx);
        if house.state == "sealed" {
            return Err(NotEntered::Sealed(house.why.unwrap_or_default()));
        }
        let former: Vec<_> = house.former.0.iter().map(|epoch| epoch.into_bytes()).collect();
        let claimed = Claimed { sight: sight(&house), former: &former, server: house.server.as_deref() };
        match judge(&claimed, remembered, server.as_deref()) {
            Judgement::Same if house.server.is_some() || server.is_none() => {}
            Judgement::Same => self.move_server(server, None).await?,
            Judgement::Elsewhere => {
                tracing::warn!(
                    "the database server went on another line of history; nothing was lost by what is remembered"
                );
                self.move_server(server, Some("house.elsewhere")).await?;
            }
            Judgement::Restored(doubt) => {
                let also = remembered.map(|sight| Uuid::from_bytes(sight.epoch));
                hold_house(&self.store, &doubt.explained(), Some(house.epoch), also, HANDOVER, self.utc()).await?;
                tracing::error!(
                    "the database was restored: {}; nothing is sent until the stamps have been read",
                    doubt.explained()
                );
            }
        }
        if let Some(house) = house::read(&mut self.store.read().await?).await? {
            self.house.remember(&house, self.utc());
        }
        Ok(())
    }

    async fn move_server(&self, server: Option<String>, action: Option<&'static str>) -> Result<(), Error> {
        let mut tx = self.store.write().await?;
        let Some(mut house) = house::lock(&mut tx).await? else { return Ok(()) };
        let detail = json!({ "before": house.server, "after": server });
        house.server = server;
        house::save(&mut tx, &house).await?;
        if let Some(action) = action {
            audit::write(&mut tx, &[self.entry(HANDOVER, action, detail)]).await?;
        }
        tx.commit().await
    }

    /// Whether anything may be sent now. Asked before work is taken up; what decides is `may_send`.
    pub(crate) async fn house_is_open(&self) -> Result<bool, Error> {
        let house = house::read(&mut self.store.read().await?).await?;
        Ok(self.is_open(house.as_ref()))
    }

    /// Whether an intent may be written in this transaction: the house is open, and is the one that was entered. Whoever
    /// wants to close it waits until the transaction ends.
    pub(crate) async fn may_send(&self, tx: &mut Tx) -> Result<bool, Error> {
        let house = house::read_and_keep(tx).await?;
        Ok(self.is_open(house.as_ref()))
    }

    fn is_open(&self, house: Option<&HouseRow>) -> bool {
        let Some(house) = house else { return true };
        let same = self.house.seen().is_none_or(|seen| {
            let now = sight(house);
            now.installation == seen.installation && now.epoch == seen.epoch && now.beat >= seen.beat
        });
        house.state == "open" && same
    }

    /// Leaves the house at a clean stop: one beat more than whatever was copied while it was open, where it is a file and
    /// nobody else is in it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn leave_house(&self) -> Result<(), Error> {
        if !self.store.is_file() {
            return Ok(());
        }
        let mut tx = self.store.write().await?;
        house::beat(&mut tx).await?;
        tx.commit().await?;
        if let Some(house) = house::read(&mut self.store.read().await?).await? {
            self.house.remember(&house, self.utc());
        }
        Ok(())
    }
}

/// Takes the house for restored: nothing is sent from now on, and what was unfinished is held. A new epoch begins.
///
/// With `judged` nothing happens if another epoch has begun meanwhile: somebody else took it for restored too.
/// `also` is an epoch that is remembered outside, and known to be past from now on.
///
/// # Errors
/// When the database fails; nothing was changed.
pub async fn hold_house(
    store: &Store,
    why: &str,
    judged: Option<Uuid>,
    also: Option<Uuid>,
    actor: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let mut tx = store.write().await?;
    house::ensure(&mut tx, now).await?;
    let Some(mut house) = house::lock(&mut tx).await? else { return Ok(()) };
    if judged.is_some_and(|judged| judged != house.epoch) {
        return Ok(());
    }
    hold_in(&mut tx, &mut house, why, also, actor, now).await?;
    tx.commit().await
}

async fn hold_in(
    tx: &mut Tx,
    house: &mut HouseRow,
    why: &str,
    also: Option<Uuid>,
    actor: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let last = house.epoch;
    let mut former = house.former.0.clone();
    former.push(last);
    former.extend(also.filter(|also| !former.contains(also)));
    house.epoch = Uuid::new_v4();
    house.former = Json(former);
    house.server = house::server(tx).await?;
    house.state = String::from("checking");
    house.why = Some(why.to_owned());
    house.restored_at = Some(now);
    house.changed_at = now;
    house::save(tx, house).await?;
    let held = hold::hold_unfinished(tx, Why::Restored.name()).await?;
    let attempts = hold::end_attempts(tx, now).await?;
    let detail = json!({
        "why": why, "epoch": house.epoch, "last_epoch": last, "beat": house.beat, "held": held, "attempts": attempts,
    });
    audit::write(tx, &[entry_at(now, actor, "house.restored", detail)]).await
}

/// Ends the check after a restore before it is done: what a comparison with the sources could not reach stays unknown. What is
/// held stays held, and what is open from before the restore is held too. `false` where there is no check.
///
/// # Errors
/// When the database fails; nothing was changed.
pub async fn open_house_early(store: &Store, reason: &str, actor: &str, now: DateTime<Utc>) -> Result<bool, Error> {
    let mut tx = store.write().await?;
    let Some(mut house) = house::lock(&mut tx).await? else { return Ok(false) };
    let (true, Some(restored_at)) = (house.state == "checking", house.restored_at) else { return Ok(false) };
    let held = hold::hold_suspects(&mut tx, Why::Restored.name(), restored_at, now).await?;
    house.state = String::from("open");
    house.why = None;
    house.changed_at = now;
    house::save(&mut tx, &house).await?;
    let detail = json!({ "epoch": house.epoch, "held": held, "reason": reason, "early": true });
    audit::write(&mut tx, &[entry_at(now, actor, "house.opened", detail)]).await?;
    tx.commit().await?;
    Ok(true)
}

/// Lets a sealed database take changes again, as a restored one: whatever was sent from the other one meanwhile is not known
/// here. `false` where it is not sealed.
///
/// # Errors
/// When the database fails; nothing was changed.
pub async fn unseal(store: &Store, reason: &str, actor: &str, now: DateTime<Utc>) -> Result<bool, Error> {
    let sealed = house::read(&mut store.read().await?).await?.is_some_and(|house| house.state == "sealed");
    if !sealed {
        return Ok(false);
    }
    let mut tx = store.write().await?;
    moving::unseal(&mut tx).await?;
    let Some(mut house) = house::lock(&mut tx).await? else { return Ok(false) };
    hold_in(&mut tx, &mut house, &format!("unsealed: {reason}"), None, actor, now).await?;
    tx.commit().await?;
    Ok(true)
}
