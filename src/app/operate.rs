//! What a person decides about a revocation, always with a reason and a name.

use serde_json::json;
use uuid::Uuid;

use crate::app::{App, folding};
use crate::custody::Standpoint;
use crate::store::audit::Entry;
use crate::store::revocations::RevocationRow;
use crate::store::{Error, Tx, accounts, audit, revocations};

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
        self.again(|| async {
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

    async fn look_up_again(&self, tx: &mut Tx, row: &RevocationRow) -> Result<(), Error> {
        let Some(account) = row.account_id else { return Ok(()) };
        for mut account in accounts::load(tx, &[account]).await? {
            account.due_at = Some(self.utc());
            accounts::save(tx, &account).await?;
        }
        Ok(())
    }
}
