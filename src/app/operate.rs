//! What a person decides about a revocation, always with a reason and a name.

use serde_json::json;
use uuid::Uuid;

use crate::app::{App, again, folding};
use crate::custody::{Standpoint, Why};
use crate::store::audit::Entry;
use crate::store::revocations::RevocationRow;
use crate::store::{Error, Tx, accounts, audit, hold, house, revocations};

/// What a person can do about a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Try again now: what needs an operator, what is held, and what waits for its next try.
    Retry,
    /// Let go what is held.
    Release,
    /// Close it without an answer.
    Waive,
}

impl Action {
    /// Its name in the API and the audit history.
    pub fn name(self) -> &'static str {
        match self {
            Self::Retry => "revocation.retry",
            Self::Release => "revocation.release",
            Self::Waive => "revocation.waive",
        }
    }

    fn fits(self, state: Standpoint) -> bool {
        match self {
            Self::Retry => {
                matches!(state, Standpoint::NeedsOperator | Standpoint::Held | Standpoint::Open | Standpoint::Accepted)
            }
            Self::Release => state == Standpoint::Held,
            Self::Waive => matches!(state, Standpoint::NeedsOperator | Standpoint::Held | Standpoint::Open),
        }
    }
}

/// How many people one person may release at once (B5).
pub const AT_ONCE: i64 = 50;

/// What a release of many let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Released {
    /// People whose revocations were let go.
    pub people: usize,
    /// Revocations that were.
    pub revocations: usize,
    /// People who still have some that are held for the same reason.
    pub people_left: i64,
}

/// Why an action was not done.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// No such revocation.
    #[error("no revocation has the id {0}")]
    Unknown(Uuid),
    /// Its state does not allow it.
    #[error("the revocation is {state}; that cannot be done to it")]
    Unfit {
        /// The state it is in.
        state: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl App {
    /// Does what a person decided, and writes down who decided it and why.
    ///
    /// # Errors
    /// [`NotDone`] says why nothing was changed, or that the answer of the database was lost and it is not known.
    pub async fn operate(&self, action: Action, id: Uuid, actor: &str, reason: &str) -> Result<(), NotDone> {
        again(|| async {
            match self.try_operate(action, id, actor, reason).await {
                Err(NotDone::Store(error)) => Err(error),
                done => Ok(done),
            }
        })
        .await?
    }

    async fn try_operate(&self, action: Action, id: Uuid, actor: &str, reason: &str) -> Result<(), NotDone> {
        let mut tx = self.store.write().await?;
        let Some(mut row) = revocations::load(&mut tx, id).await? else { return Err(NotDone::Unknown(id)) };
        let before = row.state.clone();
        let fits = Standpoint::named(&row.state).is_some_and(|state| action.fits(state));
        if !fits {
            return Err(NotDone::Unfit { state: before });
        }
        // Sent while the stamps are still read, it could be sent to somebody whose stamp shows that it was answered.
        let waits_for_check = action != Action::Waive && row.why.as_deref() == Some(Why::Restored.name());
        if waits_for_check && house::read(&mut tx).await?.is_some_and(|house| house.state == "checking") {
            return Err(NotDone::Unfit { state: format!("{before} until the check after the restore is done") });
        }
        let now = self.utc();
        match action {
            Action::Waive => {
                Standpoint::Waived.name().clone_into(&mut row.state);
                row.note = Some(format!("waived by {actor}: {reason}"));
                row.closed_at = Some(now);
            }
            // Nobody is known whom it could be sent for: the account is looked up again, and the answer decides.
            Action::Retry | Action::Release if row.person_id.is_none() => self.look_up_again(&mut tx, &row).await?,
            Action::Retry | Action::Release => {
                Standpoint::Open.name().clone_into(&mut row.state);
                row.why = None;
                row.closed_at = None;
                row.due_at = now;
                (row.failed, row.unfound, row.blind) = (0, 0, 0);
            }
        }
        folding::save(&mut tx, &row).await?;
        let entry = Entry {
            device_id: Some(row.device_id),
            person_id: row.person_id,
            subject: Some(row.id),
            ..self.entry(actor, action.name(), json!({ "reason": reason, "before": before, "after": row.state }))
        };
        audit::write(&mut tx, &[entry]).await?;
        tx.commit().await.map_err(NotDone::Store)?;
        self.owing.notify_one();
        self.looking.notify_one();
        Ok(())
    }

    /// Releases what is held for one reason, of up to [`AT_ONCE`] people, those first who have waited longest.
    ///
    /// # Errors
    /// [`NotDone`] says why; what was released until then stays released.
    pub async fn release_many(&self, why: Why, actor: &str, reason: &str) -> Result<Released, NotDone> {
        let mut released = Released { people: 0, revocations: 0, people_left: 0 };
        let people = hold::held_people(&mut self.store.read().await?, why.name(), AT_ONCE).await?;
        for person in people {
            let held = Standpoint::Held.name();
            let rows = revocations::waiting_for(&mut self.store.read().await?, person, held).await?;
            for row in rows.iter().filter(|row| row.why.as_deref() == Some(why.name())) {
                self.operate(Action::Release, row.id, actor, reason).await?;
                released.revocations += 1;
            }
            released.people += 1;
        }
        released.people_left = hold::held(&mut self.store.read().await?, why.name()).await?.people;
        Ok(released)
    }

    async fn look_up_again(&self, tx: &mut Tx, row: &RevocationRow) -> Result<(), Error> {
        let Some(account) = row.account_id else { return Ok(()) };
        accounts::put_off(tx, account, Some(self.utc()), 0).await
    }
}
