//! Paying: a revocation that is due becomes a call to Graph. What comes of it is written down in [`super::settle`].
//!
//! The promises: the intent is on stable storage before the call (R6); at most one attempt is in flight for a person (R7); it
//! covers every revocation of that person that was written down before it, and none after; just before it, everything is
//! looked at again: is it answered by now, is the person a guest, whom would it interrupt (R8).
//!
//! If the process stops:
//!
//! * before the intent: nothing happened, the revocation is due as before;
//! * between intent and outcome: the attempt's lease runs out, and whoever takes it over reads the stamp. Moved since the
//!   intent, past everything that earlier attempts can have done: proven. Anything else: sent again;
//! * after the outcome: it is written down, and reading back goes on.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde_json::json;
use sqlx::types::Json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::app::look::Turn;
use crate::app::settle::{apply, stamps, tried, verdict_name};
use crate::app::{App, HANDOVER, dice, folding};
use crate::custody::{Moment, Stamps, Standpoint, Verdict, Why, after_answer, answered_by_earlier};
use crate::entra::{Answer, CircuitState, Entra, Finding, Stamp};
use crate::store::accounts::PersonRow;
use crate::store::attempts::AttemptRow;
use crate::store::audit::Entry;
use crate::store::revocations::RevocationRow;
use crate::store::times::{moment, utc};
use crate::store::{Error, accounts, attempts, audit, revocations, sources};

/// How long a turn that waits for an answer looks away from what else is due, when no bell rings.
const LOOK_ANYWAY: Duration = Duration::from_millis(500);

/// How many orphaned attempts are taken up in one turn.
const ORPHANS: i64 = 32;

/// Whether something can be sent for a person.
enum Payable {
    /// This person, at this object id.
    Yes(PersonRow, Uuid),
    /// Not now, or never: it has been written down.
    No,
}

/// An intent that stands, and since when at the latest its lease runs.
struct Intent {
    attempt: AttemptRow,
    leased: Instant,
}

/// Which people this instance takes up first, so that several do not all prepare a call for the same one. Nothing depends
/// on it: whoever is due for long is taken up by anybody, and one intent wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// The place of this instance among those that run, from 0.
    pub(crate) place: usize,
    /// How many run.
    pub(crate) of: usize,
}

impl Share {
    /// All of them.
    pub(crate) const ALL: Self = Self { place: 0, of: 1 };

    fn is_ours(self, person: Uuid) -> bool {
        let some = u64::try_from(person.as_u128() & u128::from(u64::MAX)).unwrap_or_default();
        let of = u64::try_from(self.of.max(1)).unwrap_or(1);
        usize::try_from(some % of).is_ok_and(|place| place == self.place)
    }
}

/// How long a person is left to the instance whose share they are.
const LEFT_TO_THEIRS: TimeDelta = TimeDelta::seconds(5);

impl App {
    /// Works through what is due, until nothing is.
    ///
    /// # Errors
    /// When the database fails. What the directory does wrong is not an error here: it is written down and tried again.
    pub async fn pay(&self) -> Result<Turn, Error> {
        self.pay_until(&CancellationToken::new()).await
    }

    /// The same, beginning nothing new once `stop` is called. One call that hangs, or whose answer was lost, keeps nobody
    /// else waiting: whatever becomes due meanwhile is begun beside it.
    pub(crate) async fn pay_until(&self, stop: &CancellationToken) -> Result<Turn, Error> {
        let Some(entra) = self.entra.clone() else { return Ok(Turn::Idle) };
        if self.rules.shadow {
            return Ok(Turn::Idle);
        }
        let workers = self.rules.workers.max(1);
        let limit = i64::try_from(workers).unwrap_or(1).saturating_mul(4);
        let mut under_way = FuturesUnordered::new();
        let mut whom = HashSet::new();
        let mut worked = 0;
        let mut ended = Ok(());
        loop {
            if ended.is_ok() && !stop.is_cancelled() {
                // Whoever is under way goes on meanwhile: they hold connections to the database, and one that is not polled
                // would keep its own from this very question.
                let busy = whom.clone();
                let claimable = self.claimable(limit, &busy);
                tokio::pin!(claimable);
                let claimed = loop {
                    tokio::select! {
                        claimed = &mut claimable => break claimed,
                        Some((person, paid)) = under_way.next() => {
                            whom.remove(&person);
                            worked += 1;
                            ended = ended.and(paid);
                        }
                    }
                };
                // Those left behind come on top of the workers' number: they only read.
                match claimed {
                    Ok((left_behind, due)) => {
                        for (attempt, object_id) in left_behind {
                            whom.insert(attempt.person_id);
                            under_way.push(self.pay_one(&entra, attempt.person_id, Some((attempt, object_id))));
                        }
                        for person in due {
                            if under_way.len() < workers && whom.insert(person) {
                                under_way.push(self.pay_one(&entra, person, None));
                            }
                        }
                    }
                    Err(error) => ended = Err(error),
                }
            }
            tokio::select! {
                paid = under_way.next() => {
                    let Some((person, paid)) = paid else { break };
                    whom.remove(&person);
                    worked += 1;
                    ended = ended.and(paid);
                }
                () = self.owing.notified() => {}
                () = tokio::time::sleep(LOOK_ANYWAY) => {}
            }
        }
        ended.map(|()| if worked == 0 { Turn::Idle } else { Turn::Worked(worked) })
    }

    /// What was left behind, and who is due.
    async fn claimable(
        &self,
        limit: i64,
        under_way: &HashSet<Uuid>,
    ) -> Result<(Vec<(AttemptRow, Uuid)>, Vec<Uuid>), Error> {
        if !self.house_is_open().await? {
            return Ok((Vec::new(), Vec::new()));
        }
        let left_behind = self.take_over(under_way).await?;
        let share = *self.share.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, limit) = (self.utc(), limit.saturating_mul(i64::try_from(share.of).unwrap_or(1)));
        let due = revocations::due_people(&mut self.store.read().await?, now, self.never(), limit).await?;
        let (ours, theirs): (Vec<_>, Vec<_>) = due.into_iter().partition(|due| share.is_ours(due.person_id));
        let left = theirs.into_iter().filter(|due| due.due_at <= now - LEFT_TO_THEIRS || due.due_at > now);
        Ok((left_behind, ours.into_iter().chain(left).map(|due| due.person_id).collect()))
    }

    async fn pay_one(
        &self,
        entra: &Entra,
        person: Uuid,
        left_behind: Option<(AttemptRow, Uuid)>,
    ) -> (Uuid, Result<(), Error>) {
        let paid = match left_behind {
            Some((attempt, object_id)) => {
                let lost = Answer::lost(attempt.id);
                self.settle(entra, attempt, object_id, lost).await
            }
            None => self.pay_person(entra, person).await,
        };
        // Somebody else was sooner. What is left is still due, and is taken up again.
        let paid = paid.or_else(|error| if error.is_passing() { Ok(()) } else { Err(error) });
        (person, paid)
    }

    async fn pay_person(&self, entra: &Entra, person: Uuid) -> Result<(), Error> {
        let Payable::Yes(person, object_id) = self.payable(person).await? else { return Ok(()) };
        if self.cover(&person).await? == 0 {
            return Ok(());
        }
        let before = match entra.stamp(object_id).await.stamp {
            Stamp::Read { guest: true, .. } => {
                return self.close_all(&person, Standpoint::NotEffective, None).await;
            }
            Stamp::Read { stamp, .. } => {
                if !self.close_answered(entra, &person, stamp, Standpoint::Open).await?.is_empty() {
                    return Ok(());
                }
                stamp
            }
            Stamp::Unreadable => None,
            Stamp::Gone => return self.put_off_all(&person, Verdict::Unfound).await,
            Stamp::NotNow(verdict) => return self.put_off_all(&person, verdict).await,
        };
        entra.ready().await;
        let Some(intent) = self.intend(entra, &person, before).await? else { return Ok(()) };
        let answer = self.call(entra, &intent, object_id).await?;
        self.settle(entra, intent.attempt, object_id, answer).await
    }

    /// Finds the person's object id, or writes down why nothing can be sent for them.
    async fn payable(&self, id: Uuid) -> Result<Payable, Error> {
        let Some(mut person) = accounts::person(&mut self.store.read().await?, id).await? else {
            return Ok(Payable::No);
        };
        if person.object_id.is_none() && !person.guest {
            match self.find_person(&person.upn).await {
                Some(Finding::Person(found)) => {
                    let id = self.know_person(&found).await?;
                    let Some(found) = accounts::person(&mut self.store.read().await?, id).await? else {
                        return Ok(Payable::No);
                    };
                    person = found;
                }
                Some(Finding::Nobody | Finding::Unusable) => {
                    self.close_all(&person, Standpoint::NeedsOperator, Some(Why::UnknownPerson)).await?;
                    return Ok(Payable::No);
                }
                Some(Finding::Several) => {
                    self.close_all(&person, Standpoint::NeedsOperator, Some(Why::SeveralPeople)).await?;
                    return Ok(Payable::No);
                }
                Some(Finding::Unreadable) => {
                    self.put_off_all(&person, Verdict::Credentials).await?;
                    return Ok(Payable::No);
                }
                Some(Finding::NotNow(verdict)) => {
                    self.put_off_all(&person, verdict).await?;
                    return Ok(Payable::No);
                }
                None => return Ok(Payable::No),
            }
        }
        if person.guest {
            self.close_all(&person, Standpoint::NotEffective, None).await?;
            return Ok(Payable::No);
        }
        Ok(person.object_id.map_or(Payable::No, |object_id| Payable::Yes(person, object_id)))
    }

    /// Closes what an earlier attempt answers too (R5), and says how many revocations are left to send.
    async fn cover(&self, person: &PersonRow) -> Result<usize, Error> {
        let mut tx = self.store.read().await?;
        let Some(proven) = attempts::newest_proven(&mut tx, person.id).await? else { return Ok(1) };
        let open = revocations::waiting_for(&mut tx, person.id, Standpoint::Open.name()).await?;
        let mut covered = Vec::new();
        for row in &open {
            let offset = sources::offset_of_event(&mut tx, row.departed_by).await?;
            let offset = offset.map(|micros| Duration::from_micros(micros.unsigned_abs()));
            let began = moment(proven.began_at);
            if answered_by_earlier(moment(row.departed_at), began, self.rules.clock_skew, offset) {
                covered.push(row.clone());
            }
        }
        drop(tx);
        if !covered.is_empty() {
            let now = self.utc();
            let mut tx = self.store.write().await?;
            let mut entries = Vec::new();
            for mut row in covered.iter().cloned() {
                Standpoint::CoveredByOther.name().clone_into(&mut row.state);
                row.covered_by = Some(proven.revocation_id);
                row.attempt_id = Some(proven.id);
                row.closed_at = Some(now);
                folding::save(&mut tx, &row).await?;
                entries.push(self.about(&row, "revocation.covered", json!({ "attempt": proven.id })));
            }
            audit::write(&mut tx, &entries).await?;
            tx.commit().await?;
        }
        Ok(open.len() - covered.len())
    }

    /// Writes the intent down: the attempt, and which revocations it covers. `None` when there is nothing to send any more,
    /// or somebody else sends it.
    async fn intend(&self, entra: &Entra, person: &PersonRow, before: Option<Moment>) -> Result<Option<Intent>, Error> {
        let leased = Instant::now();
        let mut tx = self.store.write().await?;
        if !self.may_send(&mut tx).await? {
            return Ok(None);
        }
        let rows = revocations::waiting_for(&mut tx, person.id, Standpoint::Open.name()).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let now = self.utc();
        let lease = tx.clock(now).await? + self.rules.lease;
        let earlier = attempts::newest_effect(&mut tx, person.id).await?;
        let collateral = attempts::open_custodies(&mut tx, person.id).await?;
        let attempt = AttemptRow {
            id: Uuid::new_v4(),
            person_id: person.id,
            state: String::from("in_flight"),
            began_at: now,
            owner: self.owner.clone(),
            lease_until: Some(lease),
            stamp_before: before.map(utc),
            stamp_verified: person.stamp_verified.max(earlier),
            outcome: None,
            status: None,
            error_code: None,
            request_id: None,
            graph_date: None,
            graph_offset_us: entra.clock_offset(),
            ended_at: None,
            reads: 0,
            read_at: None,
            stamp_after: None,
            collateral: Json(collateral),
        };
        if let Some(then) = tellable(&attempt) {
            for mut row in rows {
                row.due_at = then;
                folding::save(&mut tx, &row).await?;
            }
            tx.commit().await?;
            return Ok(None);
        }
        let covers: Vec<_> = rows.iter().map(|row| row.id).collect();
        if !attempts::begin(&mut tx, &attempt, &covers).await? {
            return Ok(None);
        }
        for mut row in rows {
            Standpoint::InFlight.name().clone_into(&mut row.state);
            row.attempt_id = Some(attempt.id);
            folding::save(&mut tx, &row).await?;
        }
        let began = Entry {
            person_id: Some(person.id),
            subject: Some(attempt.id),
            ..self.entry(
                HANDOVER,
                "attempt.began",
                json!({ "revocations": covers, "stamp_before": attempt.stamp_before, "collateral": attempt.collateral.0 }),
            )
        };
        audit::write(&mut tx, &[began]).await?;
        tx.commit().await?;
        Ok(Some(Intent { attempt, leased }))
    }

    /// Makes the call, keeping the lease while it lasts.
    ///
    /// Whoever slept through most of the lease asks the database before the call leaves: it may be somebody else's by now
    /// (S13). What is left is a pause between that question and the sending; the call it may cost is a duplicate.
    async fn call(&self, entra: &Entra, intent: &Intent, object_id: Uuid) -> Result<Answer, Error> {
        let attempt = &intent.attempt;
        let leased = Mutex::new(intent.leased);
        let keep = || async {
            let now = Instant::now();
            let kept = self.keep(attempt).await?;
            if kept {
                *leased.lock().unwrap_or_else(PoisonError::into_inner) = now;
            }
            Ok::<bool, Error>(kept)
        };
        let is_ours = || -> BoxFuture<'_, bool> {
            Box::pin(async {
                let since = leased.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
                since < self.rules.lease * 2 / 3 || keep().await.is_ok_and(|kept| kept)
            })
        };
        let call = entra.revoke_while(object_id, attempt.id, &is_ours);
        tokio::pin!(call);
        loop {
            tokio::select! {
                answer = &mut call => {
                    metrics::counter!("handover_attempts_total", "outcome" => verdict_name(answer.verdict)).increment(1);
                    return Ok(answer);
                }
                // If it is not ours any more, the answer is still waited for; writing it down will change nothing. And a database
                // that is away for a moment is no reason to throw an answer away.
                () = tokio::time::sleep(self.rules.lease / 3) => drop(keep().await),
            }
        }
    }

    /// Keeps an attempt for longer. `false` when it is not ours any more.
    pub(crate) async fn keep(&self, attempt: &AttemptRow) -> Result<bool, Error> {
        let mut tx = self.store.write().await?;
        let now = tx.clock(self.utc()).await?;
        let kept = attempts::renew(&mut tx, attempt.id, &self.owner, now, now + self.rules.lease).await?;
        tx.commit().await?;
        Ok(kept)
    }

    /// Takes over attempts whose owner's time is up. Their outcome is not known.
    async fn take_over(&self, under_way: &HashSet<Uuid>) -> Result<Vec<(AttemptRow, Uuid)>, Error> {
        let mut tx = self.store.read().await?;
        let now = tx.clock(self.utc()).await?;
        let orphans = attempts::orphaned(&mut tx, now, ORPHANS).await?;
        drop(tx);
        let mut taken = Vec::new();
        // What this instance is at itself, it ends itself, however late.
        for mut attempt in orphans.into_iter().filter(|orphan| !under_way.contains(&orphan.person_id)) {
            let mut tx = self.store.write().await?;
            let now = tx.clock(self.utc()).await?;
            let until = now + self.rules.lease;
            if !attempts::take_over(&mut tx, attempt.id, &attempt.owner, &self.owner, now, until).await? {
                continue;
            }
            tx.commit().await?;
            attempt.owner.clone_from(&self.owner);
            tracing::warn!(attempt.id = %attempt.id, "took over attempt {}, whose outcome was not written down", attempt.id);
            let person = accounts::person(&mut self.store.read().await?, attempt.person_id).await?;
            let Some(object_id) = person.and_then(|person| person.object_id) else { continue };
            taken.push((attempt, object_id));
        }
        Ok(taken)
    }

    /// Tries again later what could not even be begun. While nothing goes out at all, that is no try: it goes on as soon as
    /// somebody may knock again.
    async fn put_off_all(&self, person: &PersonRow, verdict: Verdict) -> Result<(), Error> {
        let now = self.now();
        if let Some(CircuitState::Open { next_probe, .. }) = self.entra.as_ref().map(Entra::circuit) {
            let jitter = Duration::from_millis(u64::from(dice().0));
            let mut tx = self.store.write().await?;
            for mut row in revocations::waiting_for(&mut tx, person.id, Standpoint::Open.name()).await? {
                row.due_at = utc(next_probe.max(now).plus(jitter));
                folding::save(&mut tx, &row).await?;
            }
            return tx.commit().await;
        }
        let mut tx = self.store.write().await?;
        let mut entries = Vec::new();
        for mut row in revocations::waiting_for(&mut tx, person.id, Standpoint::Open.name()).await? {
            let tries = tried(&mut row, verdict, false);
            apply(&mut row, after_answer(verdict, tries, now, dice()), utc(now));
            folding::save(&mut tx, &row).await?;
            if row.state != Standpoint::Open.name() {
                entries.push(self.about(&row, "revocation.closed", json!({ "state": row.state, "why": row.why })));
            }
        }
        audit::write(&mut tx, &entries).await?;
        tx.commit().await
    }

    /// Closes, or parks, everything that is open for a person.
    async fn close_all(&self, person: &PersonRow, state: Standpoint, why: Option<Why>) -> Result<(), Error> {
        let now = self.utc();
        let mut tx = self.store.write().await?;
        let mut entries = Vec::new();
        for mut row in revocations::waiting_for(&mut tx, person.id, Standpoint::Open.name()).await? {
            state.name().clone_into(&mut row.state);
            row.why = why.map(|why| why.name().to_owned());
            row.closed_at = (!state.is_unfinished()).then_some(now);
            folding::save(&mut tx, &row).await?;
            entries.push(self.about(&row, "revocation.closed", json!({ "state": row.state, "why": row.why })));
        }
        audit::write(&mut tx, &entries).await?;
        tx.commit().await
    }

    pub(crate) fn about(&self, row: &RevocationRow, action: &'static str, detail: serde_json::Value) -> Entry {
        Entry {
            device_id: Some(row.device_id),
            person_id: row.person_id,
            subject: Some(row.id),
            ..self.entry(HANDOVER, action, detail)
        }
    }
}

/// Stamps have whole seconds: an effect in the second of an earlier one could never be told from it. So an attempt that
/// would fall into it waits, until this time. A stamp further ahead is no matter of seconds, and is not waited for.
fn tellable(attempt: &AttemptRow) -> Option<DateTime<Utc>> {
    const LONGEST: TimeDelta = TimeDelta::seconds(3);
    let Stamps { before, verified } = stamps(attempt);
    let known = before.max(verified)?;
    let next_second = utc(Moment(known.0 - known.0.rem_euclid(1_000_000) + 1_000_000));
    // The offset is never more than it truly is, as `Date` is cut to the second: by then it is that second at Graph too.
    let then = next_second - TimeDelta::microseconds(attempt.graph_offset_us.unwrap_or(0));
    (attempt.began_at < then && then - attempt.began_at <= LONGEST).then_some(then)
}
