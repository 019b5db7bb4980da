//! What came of an attempt is written down.
//!
//! The promises: an outcome is written once, by whoever has the attempt (R9); a lost answer counts as success only if the
//! stamp shows an effect that nothing earlier can have had (R6); what did not succeed is due again, or waits for a person,
//! and is never dropped (R4).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::app::{App, again, dice, folding};
use crate::custody::{Dice, Moment, Stamps, Standpoint, Step, Tries, Verdict, Why, after_answer, after_lost_answer};
use crate::entra::{Answer, Entra, Permissions, Stamp};
use crate::store::attempts::AttemptRow;
use crate::store::revocations::RevocationRow;
use crate::store::times::{moment, utc};
use crate::store::{Error, Tx, accounts, attempts, audit, revocations};

/// When the stamp is read after an answer was lost, each counted from the read before.
const AFTER_LOST: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(2), Duration::from_secs(4)];

/// How long a fault of our own configuration waits before it is tried again (G3).
const CONFIGURATION: Duration = Duration::from_secs(900);

impl App {
    /// Writes down what came of a call.
    pub(crate) async fn settle(
        &self,
        entra: &Entra,
        mut attempt: AttemptRow,
        object_id: Uuid,
        mut answer: Answer,
    ) -> Result<(), Error> {
        let now = self.now();
        if answer.verdict == Verdict::Misled && answer.sent {
            tracing::error!(attempt.id = %attempt.id, "something other than Graph answered attempt {}", attempt.id);
            answer.verdict = Verdict::Ambiguous;
        }
        attempt.outcome = Some(verdict_name(answer.verdict).to_owned());
        attempt.status = answer.status.map(i64::from);
        attempt.error_code = answer.error_code;
        attempt.request_id = answer.request_id;
        attempt.graph_date = answer.graph_date.map(utc);
        let ours = answer.verdict == Verdict::Forbidden && self.may_not_revoke(entra).await;
        let mut blind = false;
        if answer.verdict == Verdict::Ambiguous {
            match self.read_after_lost_answer(entra, &attempt, object_id).await? {
                Lost::Effective(stamp) => return self.prove_lost(attempt, stamp).await,
                Lost::Unseen => {}
                Lost::Unreadable => blind = true,
            }
        }
        let verdict = answer.verdict;
        let outcome = move |tries: Tries, dice: Dice| {
            if ours {
                Step::Again(now.plus(CONFIGURATION))
            } else if verdict == Verdict::Ambiguous {
                after_lost_answer(!blind, tries, now, dice)
            } else {
                after_answer(verdict, tries, now, dice)
            }
        };
        self.write_outcome(attempt, answer.verdict, blind, outcome).await
    }

    async fn write_outcome(
        &self,
        attempt: AttemptRow,
        verdict: Verdict,
        blind: bool,
        outcome: impl Fn(Tries, Dice) -> Step,
    ) -> Result<(), Error> {
        // What is known of the answer is not thrown away because a row was changed meanwhile.
        again(|| self.try_write_outcome(attempt.clone(), verdict, blind, &outcome)).await
    }

    async fn try_write_outcome(
        &self,
        mut attempt: AttemptRow,
        verdict: Verdict,
        blind: bool,
        outcome: &impl Fn(Tries, Dice) -> Step,
    ) -> Result<(), Error> {
        let now = self.utc();
        let mut tx = self.store.write().await?;
        let rows = self.covered(&mut tx, &attempt).await?;
        let accepted = verdict == Verdict::Accepted;
        attempt.ended_at = Some(now);
        attempt.state = String::from(if accepted { "accepted" } else { "failed" });
        let mut entries = Vec::new();
        for mut row in rows {
            let tries = tried(&mut row, verdict, blind);
            let step = outcome(tries, dice());
            if let Step::ReadBack(at) = step {
                attempt.read_at = Some(utc(at));
                Standpoint::Accepted.name().clone_into(&mut row.state);
                row.accepted_at = Some(now);
                (row.failed, row.unfound, row.blind) = (0, 0, 0);
            } else {
                apply(&mut row, step, now);
            }
            folding::save(&mut tx, &row).await?;
            entries.push(self.about(
                &row,
                "attempt.ended",
                json!({ "attempt": attempt.id, "outcome": attempt.outcome, "state": row.state }),
            ));
        }
        if !attempts::end(&mut tx, &attempt, &self.owner).await? {
            // Somebody took it over while we were away: what we know of it, they know or will find out.
            tracing::warn!(attempt.id = %attempt.id, "attempt {} is not ours any more", attempt.id);
            return Ok(());
        }
        audit::write(&mut tx, &entries).await?;
        tx.commit().await?;
        if accepted {
            self.proving.notify_one();
        } else {
            tracing::warn!(attempt.id = %attempt.id, attempt.outcome = attempt.outcome, attempt.status = attempt.status,
                "attempt {} did not revoke: {}", attempt.id, verdict_name(verdict));
        }
        Ok(())
    }

    /// Reads the stamp a few times after an answer was lost (G8).
    async fn read_after_lost_answer(
        &self,
        entra: &Entra,
        attempt: &AttemptRow,
        object_id: Uuid,
    ) -> Result<Lost, Error> {
        let offset = TimeDelta::microseconds(attempt.graph_offset_us.or(entra.clock_offset()).unwrap_or(0));
        let began = moment(attempt.began_at + offset);
        let mut lost = Lost::Unreadable;
        for wait in AFTER_LOST {
            tokio::time::sleep(wait).await;
            if !self.keep(attempt).await? {
                // Whoever took it over reads the stamp too, and writes down what it shows.
                return Ok(lost);
            }
            match entra.stamp(object_id).await.stamp {
                Stamp::Read { stamp: Some(read), .. } => {
                    if stamps(attempt).show_effect(read, began, self.rules.clock_skew, false) {
                        return Ok(Lost::Effective(read));
                    }
                    lost = Lost::Unseen;
                }
                Stamp::Read { stamp: None, .. } | Stamp::Unreadable => {}
                Stamp::Gone | Stamp::NotNow(_) => lost = Lost::Unseen,
            }
        }
        Ok(lost)
    }

    /// The answer was lost, and its effect was seen all the same.
    async fn prove_lost(&self, attempt: AttemptRow, stamp: Moment) -> Result<(), Error> {
        again(|| self.try_prove_lost(attempt.clone(), stamp)).await
    }

    async fn try_prove_lost(&self, mut attempt: AttemptRow, stamp: Moment) -> Result<(), Error> {
        let now = self.utc();
        let mut tx = self.store.write().await?;
        let rows = self.covered(&mut tx, &attempt).await?;
        attempt.state = String::from("verified");
        attempt.outcome = Some(verdict_name(Verdict::Ambiguous).to_owned());
        attempt.ended_at = Some(now);
        attempt.stamp_after = Some(utc(stamp));
        if !attempts::end(&mut tx, &attempt, &self.owner).await? {
            return Ok(());
        }
        self.verify_rows(&mut tx, &attempt, rows, now).await?;
        tx.commit().await
    }

    /// Marks what an attempt covers as verified.
    pub(crate) async fn verify_rows(
        &self,
        tx: &mut Tx,
        attempt: &AttemptRow,
        rows: Vec<RevocationRow>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if let Some(stamp) = attempt.stamp_after {
            accounts::prove_stamp(tx, attempt.person_id, stamp).await?;
        }
        let mut entries = Vec::new();
        for mut row in rows {
            Standpoint::Verified.name().clone_into(&mut row.state);
            row.accepted_at = row.accepted_at.or(Some(now));
            row.verified_at = Some(now);
            row.closed_at = Some(now);
            row.why = None;
            folding::save(tx, &row).await?;
            let exposed = moment(now).since(moment(row.exposed_from));
            metrics::histogram!("handover_exposure_seconds").record(exposed.as_secs_f64());
            entries.push(self.about(
                &row,
                "revocation.verified",
                json!({ "attempt": attempt.id, "stamp": attempt.stamp_after }),
            ));
        }
        audit::write(tx, &entries).await
    }

    /// The revocations that an attempt covers and that still wait for its outcome.
    pub(crate) async fn covered(&self, tx: &mut Tx, attempt: &AttemptRow) -> Result<Vec<RevocationRow>, Error> {
        let rows = revocations::of_attempt(tx, attempt.id).await?;
        let waits = |row: &RevocationRow| {
            row.attempt_id == Some(attempt.id)
                && [Standpoint::InFlight.name(), Standpoint::Accepted.name()].contains(&row.state.as_str())
        };
        Ok(rows.into_iter().filter(waits).collect())
    }

    /// Whether the token itself says that we may revoke nobody: then a 403 is our own fault, not the person's (G3).
    /// Such a token is dropped: consent shows only in the next one.
    async fn may_not_revoke(&self, entra: &Entra) -> bool {
        let missing = match entra.token_facts().await.map(|facts| facts.permissions) {
            Ok(Permissions::Read { missing, .. }) => missing.contains(&"User.RevokeSessions.All"),
            Ok(Permissions::Opaque) | Err(_) => false,
        };
        if missing {
            entra.drop_token();
        }
        missing
    }
}

/// What the stamp showed after an answer was lost.
enum Lost {
    /// The effect.
    Effective(Moment),
    /// No effect, or not yet.
    Unseen,
    /// Nothing: it may not be read.
    Unreadable,
}

/// What is known about the stamp around an attempt.
pub(crate) fn stamps(attempt: &AttemptRow) -> Stamps {
    Stamps { before: attempt.stamp_before.map(moment), verified: attempt.stamp_verified.map(moment) }
}

/// Counts a try that did not succeed.
pub(crate) fn tried(row: &mut RevocationRow, verdict: Verdict, blind: bool) -> Tries {
    row.failed += 1;
    row.unfound = if verdict == Verdict::Unfound { row.unfound + 1 } else { 0 };
    row.blind = if blind { row.blind + 1 } else { 0 };
    let count = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
    Tries { failed: count(row.failed), unfound: count(row.unfound), blind: count(row.blind) }
}

/// Writes a step that is not success into a revocation.
pub(crate) fn apply(row: &mut RevocationRow, step: Step, now: DateTime<Utc>) {
    match step {
        Step::Again(at) | Step::ReadBack(at) => {
            Standpoint::Open.name().clone_into(&mut row.state);
            row.due_at = utc(at);
        }
        Step::ReadNow => {
            Standpoint::Open.name().clone_into(&mut row.state);
            row.due_at = now;
        }
        Step::Gone => {
            Standpoint::Moot.name().clone_into(&mut row.state);
            row.note = Some(String::from("the account is deleted in the directory"));
            row.closed_at = Some(now);
        }
        Step::Operator(why) => {
            let state = if why == Why::Unreadable { Standpoint::Held } else { Standpoint::NeedsOperator };
            state.name().clone_into(&mut row.state);
            row.why = Some(why.name().to_owned());
        }
    }
}

/// The name of a verdict in SQL, JSON and metrics.
pub fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Throttled(_) => "throttled",
        Verdict::Unavailable(_) => "unavailable",
        Verdict::Ambiguous => "ambiguous",
        Verdict::Misled => "misled",
        Verdict::Credentials => "credentials",
        Verdict::Forbidden => "forbidden",
        Verdict::Unfound => "unfound",
        Verdict::Refused => "refused",
    }
}
