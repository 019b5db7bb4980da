//! Looking: who an account is, and who has a device, according to those who should know.
//!
//! An event is a hint. After it the device is read again over the source's API, at once and once more after the settling
//! time, and the account it names is looked up. What a look shows is itself an event, `read`, ordered by the source's own
//! clock.
//!
//! What would surprise: **only the settled look convicts.** The first look may overtake the UEM's own database and show the
//! previous user; taken at its word it would sign out the person who just took the device. So it only teaches accounts.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::stream::{self, StreamExt as _};
use serde_json::json;
use uuid::Uuid;

use crate::app::facts::{self, Decision};
use crate::app::record::{Incoming, Refused};
use crate::app::{App, Source, again, dice, folding, names};
use crate::custody::{Moment, Why};
use crate::entra::{Finding, Found, PersonName};
use crate::intake::workspace_one::rest::{By, Candidate, ReadDevice, ReadUser, UemError, UserRef, candidates};
use crate::intake::{AccountNames, DeviceNames};
use crate::store::accounts::AccountRow;
use crate::store::looks::LookRow;
use crate::store::recording::DeviceRow;
use crate::store::times::utc;
use crate::store::{Error, accounts, looks, recording};

/// How many look-ups go on at once. The source's own pace (`X-RateLimit-*`) is kept by its client.
const AT_ONCE: usize = 8;

/// How many are taken up in one turn.
const BATCH: i64 = 64;

/// How many are taken up in one turn where other instances take up others: what can be done before a claim ends.
const CLAIMED: i64 = 16;

/// How long a decided account is taken at its word before it is looked up again.
const DECIDED_FOR: Duration = Duration::from_secs(24 * 3600);

/// How soon an account that is nobody we know is looked up again: somebody may have corrected it.
const UNRESOLVED_FOR: Duration = Duration::from_secs(900);

/// The longest wait between two looks that failed.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What came of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There was nothing to do.
    Idle,
    /// So many things were done.
    Worked(usize),
}

impl App {
    /// Looks up what is due, once: accounts first, because looks are compared by them.
    ///
    /// # Errors
    /// When the database fails. What a source or the directory does wrong is not an error here: it is tried again.
    pub async fn look(&self) -> Result<Turn, Error> {
        let now = self.utc();
        let due_accounts = self.accounts_due(now).await?;
        let mut done = due_accounts.len();
        let looked: Vec<_> =
            stream::iter(due_accounts).map(|account| self.look_up(account)).buffer_unordered(AT_ONCE).collect().await;
        looked.into_iter().collect::<Result<(), _>>()?;

        let due_looks = self.looks_due(now).await?;
        done += due_looks.len();
        let looked: Vec<_> =
            stream::iter(due_looks).map(|look| self.look_at(look)).buffer_unordered(AT_ONCE).collect().await;
        looked.into_iter().collect::<Result<(), _>>()?;
        Ok(if done == 0 { Turn::Idle } else { Turn::Worked(done) })
    }

    /// The accounts to be looked up now. Where there are other instances, they are claimed: asking twice is waste.
    async fn accounts_due(&self, now: DateTime<Utc>) -> Result<Vec<AccountRow>, Error> {
        let due = accounts::due(&mut self.store.read().await?, now, BATCH).await?;
        if due.is_empty() || !self.store.is_shared() {
            return Ok(due);
        }
        let mut tx = self.store.write().await?;
        let claimed = accounts::claim(&mut tx, now, now + self.rules.lease, CLAIMED).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    /// The looks to be taken now, claimed in the same way.
    async fn looks_due(&self, now: DateTime<Utc>) -> Result<Vec<LookRow>, Error> {
        let due = looks::due(&mut self.store.read().await?, now, self.never(), BATCH).await?;
        if due.is_empty() || !self.store.is_shared() {
            return Ok(due);
        }
        let mut tx = self.store.write().await?;
        let claimed = looks::claim(&mut tx, now, self.never(), now + self.rules.lease, CLAIMED).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    /// Finds out who an account is, and writes it down.
    async fn look_up(&self, account: AccountRow) -> Result<(), Error> {
        let source = self.sources.get(&account.source).cloned();
        let decision = match &source {
            Some(source) => self.find_out(source, &account).await,
            None => Err(Some("its source is not configured any more")),
        };
        let now = self.now();
        match decision {
            Ok(decision) => {
                let wait = match decision {
                    Decision::Unresolved(..) => UNRESOLVED_FOR,
                    // The directory was not asked: it is, as soon as it answers.
                    Decision::Named(..) if self.entra.is_some() => LONGEST_WAIT,
                    Decision::Named(..) | Decision::Known(..) | Decision::Pool(_) => DECIDED_FOR,
                };
                // With a little chance in it, so that a census is not looked up again all at once.
                let due = now.plus(wait + wait * u32::from(dice().0) / 4000);
                self.decide(&account, decision, Some(utc(due))).await
            }
            Err(trouble) => {
                let trouble = trouble.unwrap_or("the UEM or the directory does not answer");
                self.wait_on(account, trouble, now).await
            }
        }
    }

    async fn decide(
        &self,
        account: &AccountRow,
        decision: Decision,
        due_at: Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        if again(|| self.try_decide(account.id, &decision, due_at)).await? {
            self.owing.notify_one();
        }
        Ok(())
    }

    async fn try_decide(
        &self,
        account: Uuid,
        decision: &Decision,
        due_at: Option<DateTime<Utc>>,
    ) -> Result<bool, Error> {
        let mut tx = self.store.write().await?;
        // Somebody else may have decided it since it was read.
        let Some(stored) = accounts::lock(&mut tx, account).await? else { return Ok(false) };
        let owes = facts::decide(self, &mut tx, &stored, decision.clone(), due_at).await?;
        tx.commit().await?;
        Ok(owes)
    }

    /// An account that cannot be decided now stays undecided, but not for ever: then its holder counts as unknown.
    async fn wait_on(&self, mut account: AccountRow, trouble: &str, now: Moment) -> Result<(), Error> {
        let waited = now.since(crate::store::times::moment(account.first_seen_at));
        account.tries += 1;
        let due = utc(now.plus(wait_after(account.tries)));
        if account.standing == "undecided" && waited >= self.rules.wait_for_account {
            tracing::warn!(account.id = %account.id, "account {} could not be decided in time: {trouble}", account.id);
            let words = format!("it could not be decided in time: {trouble}");
            return self.decide(&account, Decision::Unresolved(Why::UnknownPerson, words), Some(due)).await;
        }
        let deadline = utc(crate::store::times::moment(account.first_seen_at).plus(self.rules.wait_for_account));
        account.due_at = Some(if account.standing == "undecided" { due.min(deadline.max(utc(now))) } else { due });
        let mut tx = self.store.write().await?;
        accounts::put_off(&mut tx, account.id, account.due_at, account.tries).await?;
        tx.commit().await
    }

    /// Asks the source, and then the directory, who an account is. `Err` means: not now.
    async fn find_out(&self, source: &Source, account: &AccountRow) -> Result<Decision, Option<&'static str>> {
        let names = AccountNames {
            uuid: account.uem_uuid.clone(),
            id: account.uem_id.clone(),
            user_name: account.user_name.clone(),
            email: account.email.clone(),
        };
        if source.people.is_pool(&names) {
            return Ok(Decision::Pool("pool_accounts"));
        }
        let Some(api) = &source.api else {
            return Ok(match source.people.upn(&names) {
                Some(upn) => self.ask_directory(vec![Candidate { by: By::Upn, value: upn }], "upn_from").await?,
                None => Decision::Unresolved(Why::UnknownPerson, String::from("the UEM gives no user to ask for")),
            });
        };
        // The oldest events name a user by the login name alone. The look at the device tells the uuid that goes with it.
        let namesake = match UserRef::of(&names) {
            Some(_) => None,
            None => self.namesake(account).await.map_err(|_| None)?,
        };
        let Some(user) = UserRef::of(namesake.as_ref().unwrap_or(&names)) else {
            return Err(Some("the event names its user by the login name alone, and no device shows whose that is"));
        };
        match api.user(user).await {
            Ok(seen) => match seen.value {
                Some(user) if user.pool => Ok(Decision::Pool("staging")),
                Some(user) => self.resolve(&user).await,
                None => Ok(Decision::Unresolved(Why::UnknownPerson, String::from("the UEM does not know this user"))),
            },
            Err(error) => {
                tell(&error, &source.name);
                Err(None)
            }
        }
    }

    /// The one account of the same source that has the same login name and can be asked for.
    async fn namesake(&self, account: &AccountRow) -> Result<Option<AccountNames>, Error> {
        let Some(name) = &account.user_name else { return Ok(None) };
        let mut tx = self.store.read().await?;
        let mut found = accounts::namesakes(&mut tx, &account.source, &name.to_ascii_lowercase()).await?;
        Ok(match (found.pop(), found.is_empty()) {
            (Some(one), true) => {
                Some(AccountNames { uuid: one.uem_uuid, id: one.uem_id, user_name: one.user_name, email: one.email })
            }
            _ => None,
        })
    }

    async fn resolve(&self, user: &ReadUser) -> Result<Decision, Option<&'static str>> {
        let candidates = candidates(user);
        if candidates.is_empty() {
            let words = if user.security_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("basic")) {
                "it is a local account of the UEM, without an identity in the directory"
            } else {
                "the UEM's user has neither a UPN nor anything else that leads to one"
            };
            return Ok(Decision::Unresolved(Why::UnknownPerson, words.to_owned()));
        }
        self.ask_directory(candidates, "").await
    }

    /// Asks for each candidate in turn. The first that the directory knows is the person; two of one name are nobody.
    async fn ask_directory(
        &self,
        candidates: Vec<Candidate>,
        rule: &'static str,
    ) -> Result<Decision, Option<&'static str>> {
        let rule_of = |by: By| if rule.is_empty() { by.as_str() } else { rule };
        let by_upn = candidates.iter().find(|one| matches!(one.by, By::Upn | By::Email | By::UserName)).cloned();
        let Some(entra) = &self.entra else {
            return Ok(match by_upn {
                Some(one) => Decision::Named(one.value, rule_of(one.by)),
                None => Decision::Unresolved(
                    Why::UnknownPerson,
                    String::from("it has no UPN, and no directory is configured"),
                ),
            });
        };
        for candidate in candidates {
            let name = match candidate.by {
                By::Upn | By::UserName => PersonName::Upn(candidate.value),
                By::ExternalId => match candidate.value.parse() {
                    Ok(id) => PersonName::ObjectId(id),
                    Err(_) => continue,
                },
                By::ImmutableId => PersonName::ImmutableId(candidate.value),
                By::Email => PersonName::Mail(candidate.value),
            };
            match entra.find(&name).await {
                Finding::Person(found) => return Ok(Decision::Known(found, rule_of(candidate.by))),
                Finding::Nobody | Finding::Unusable => {}
                Finding::Several => {
                    let words = format!("several people in the directory fit its {}", candidate.by.as_str());
                    return Ok(Decision::Unresolved(Why::SeveralPeople, words));
                }
                // The directory cannot be asked now. Whoever it is, it is a person: custody goes on by the UPN, and the
                // object id is found when it is needed.
                Finding::Unreadable | Finding::NotNow(_) => {
                    return match by_upn {
                        Some(one) => Ok(Decision::Named(one.value, rule_of(one.by))),
                        None => Err(Some("the directory does not answer")),
                    };
                }
            }
        }
        Ok(Decision::Unresolved(Why::UnknownPerson, String::from("nobody in the directory fits it")))
    }

    /// Finds the person of a revocation whose object id is not known yet.
    pub(crate) async fn find_person(&self, upn: &str) -> Option<Finding> {
        match &self.entra {
            Some(entra) => Some(entra.find(&PersonName::Upn(upn.to_owned())).await),
            None => None,
        }
    }

    /// Writes down whom the directory found.
    pub(crate) async fn know_person(&self, found: &Found) -> Result<Uuid, Error> {
        again(|| async {
            let mut tx = self.store.write().await?;
            let id = facts::known_person(self, &mut tx, found, self.utc()).await?;
            tx.commit().await?;
            Ok(id)
        })
        .await
    }

    /// Reads one device again.
    async fn look_at(&self, look: LookRow) -> Result<(), Error> {
        let Some(source) = self.sources.get(&look.source).filter(|source| source.api.is_some()).cloned() else {
            return self.end_look(&look).await;
        };
        let Some(device) = self.device_row(look.device_id).await? else { return self.end_look(&look).await };
        let Some(api) = &source.api else { return Ok(()) };
        let names = names_of(&device);
        let by_serial = DeviceNames { serial: names.serial.clone(), ..DeviceNames::default() };
        let mut seen = api.device(&names).await;
        if seen.as_ref().is_ok_and(|seen| seen.value.is_none()) && by_serial.serial.is_some() {
            // Enrolled anew, it has other numbers; the serial number stays.
            seen = api.device(&by_serial).await;
        }
        match seen {
            Ok(seen) => {
                metrics::counter!("handover_looks_total", "outcome" => "read").increment(1);
                match seen.value {
                    Some(read) => self.compare(&source, &device, &look, read, seen.at).await,
                    None => self.miss(&source, &device, &look, seen.at).await,
                }
            }
            Err(error) => {
                metrics::counter!("handover_looks_total", "outcome" => "failed").increment(1);
                tell(&error, &source.name);
                self.retry_look(&look, &error).await
            }
        }
    }

    pub(crate) async fn device_row(&self, id: Uuid) -> Result<Option<DeviceRow>, Error> {
        let mut tx = self.store.read().await?;
        recording::device(&mut tx, id).await
    }

    /// What a look showed, against what we believe.
    async fn compare(
        &self,
        source: &Source,
        device: &DeviceRow,
        look: &LookRow,
        read: ReadDevice,
        at: Option<Moment>,
    ) -> Result<(), Error> {
        if device.confirmed_at.is_none() {
            self.confirm(device.id).await?;
        }
        let account = read.account.as_ref().map(|names| names::account_id(&source.name, names));
        if !look.settled {
            if let (Some(id), Some(names)) = (account, &read.account) {
                self.meet(source, id, names).await?;
            }
            return self.settle_later(look).await;
        }
        let differs =
            if read.enrolled { !self.is_same(device, account).await? } else { device.holder_account.is_some() };
        if differs {
            let (what, account) = match (read.enrolled, read.account.clone()) {
                (true, Some(names)) => ("with", Some(names)),
                (true, None) => ("silent", None),
                (false, _) => ("gone", None),
            };
            if self.record_read(source, device, what, account, &read.names, at).await.is_err() {
                return self.retry_later(look).await;
            }
        }
        self.end_look(look).await
    }

    /// Writes down that the inventory shows a device.
    pub(crate) async fn confirm(&self, device: Uuid) -> Result<(), Error> {
        let released = again(|| async {
            let mut tx = self.store.write().await?;
            let released = folding::confirm(self, &mut tx, device).await?;
            tx.commit().await?;
            Ok(released)
        });
        if released.await? {
            self.owing.notify_one();
        }
        Ok(())
    }

    /// The source does not know the device. That convicts only where a whole sweep missed it too, and asked for this look.
    async fn miss(&self, source: &Source, device: &DeviceRow, look: &LookRow, at: Option<Moment>) -> Result<(), Error> {
        if !look.settled {
            return self.settle_later(look).await;
        }
        if look.unlisted && device.holder_account.is_some() {
            let names = names_of(device);
            if self.record_read(source, device, "gone", None, &names, at).await.is_err() {
                return self.retry_later(look).await;
            }
        }
        self.end_look(look).await
    }

    /// Writes down what a read showed, as an event of the source's own time.
    pub(crate) async fn record_read(
        &self,
        source: &Source,
        device: &DeviceRow,
        what: &'static str,
        account: Option<AccountNames>,
        names: &DeviceNames,
        at: Option<Moment>,
    ) -> Result<(), Refused> {
        let now = self.now();
        // One clock per source. Ours would put the read before or after events by how far the two are apart.
        let Some(at) = at else {
            tracing::warn!(
                source.name = source.name,
                "the UEM {} answers without a date; its answer convicts nobody",
                source.name
            );
            return Ok(());
        };
        let account_id = account.as_ref().map(|names| names::account_id(&source.name, names));
        let raw = json!({ "read": { "what": what, "account": account, "device": names } }).to_string();
        let (id, formerly) = names::read_id(&source.name, device.id, at, account_id);
        let event = Incoming {
            id,
            formerly,
            source: source.name.clone(),
            device: DeviceNames { serial: names.serial.clone().or_else(|| device.serial.clone()), ..names.clone() },
            account,
            class: "read",
            kind: None,
            label: None,
            what,
            how: "read",
            occurred_at: Some(at),
            received_at: now,
            oddity: None,
            content_type: Some(String::from("application/json")),
            raw: raw.into(),
        };
        self.record(vec![event]).await.map(drop)
    }

    /// Whether an account is the one that has the device, or another of the same person, or another staging account.
    pub(crate) async fn is_same(&self, device: &DeviceRow, account: Option<Uuid>) -> Result<bool, Error> {
        let Some(account) = account else { return Ok(true) };
        if device.holder_account == Some(account) {
            return Ok(true);
        }
        let row = accounts::load(&mut self.store.read().await?, &[account]).await?.pop();
        Ok(row.is_some_and(|row| match row.standing.as_str() {
            "person" => device.state == "person" && device.holder_person == row.person_id,
            "pool" => device.state == "pool",
            _ => false,
        }))
    }

    /// Has an account looked up that a read named for the first time.
    async fn meet(&self, source: &Source, id: Uuid, names: &AccountNames) -> Result<(), Error> {
        if !accounts::load(&mut self.store.read().await?, &[id]).await?.is_empty() {
            return Ok(());
        }
        let now = self.utc();
        let row = AccountRow {
            id,
            source: source.name.clone(),
            uem_uuid: names.uuid.clone(),
            uem_id: names.id.clone(),
            user_name: names.user_name.clone(),
            email: names.email.clone(),
            standing: String::from("undecided"),
            person_id: None,
            rule: None,
            why: None,
            first_seen_at: now,
            decided_at: None,
            due_at: Some(now),
            tries: 0,
        };
        let mut tx = self.store.write().await?;
        accounts::add(&mut tx, &[row]).await?;
        tx.commit().await
    }

    async fn settle_later(&self, look: &LookRow) -> Result<(), Error> {
        let due = utc(crate::store::times::moment(look.asked_at).plus(self.rules.settle));
        self.put_off(look, true, due, 0).await
    }

    async fn retry_look(&self, look: &LookRow, error: &UemError) -> Result<(), Error> {
        let theirs = match error {
            UemError::Busy { retry_after } => *retry_after,
            UemError::Refused { .. } => Some(LONGEST_WAIT),
            UemError::Unreachable(_) | UemError::Unreadable { .. } => None,
        };
        let wait = wait_after(look.tries + 1).max(theirs.unwrap_or_default());
        self.put_off(look, look.settled, utc(self.now().plus(wait)), look.tries + 1).await
    }

    async fn retry_later(&self, look: &LookRow) -> Result<(), Error> {
        self.put_off(look, look.settled, utc(self.now().plus(wait_after(look.tries + 1))), look.tries + 1).await
    }

    async fn put_off(&self, look: &LookRow, settled: bool, due: DateTime<Utc>, tries: i64) -> Result<(), Error> {
        let mut tx = self.store.write().await?;
        looks::put_off(&mut tx, look, settled, due, tries).await?;
        tx.commit().await
    }

    async fn end_look(&self, look: &LookRow) -> Result<(), Error> {
        let mut tx = self.store.write().await?;
        looks::done(&mut tx, look).await?;
        tx.commit().await
    }
}

/// The names by which a source knows a device.
pub(crate) fn names_of(device: &DeviceRow) -> DeviceNames {
    DeviceNames {
        serial: device.serial.clone(),
        udid: device.udid.clone(),
        uem_id: device.uem_id.clone(),
        uem_uuid: device.uem_uuid.clone(),
        ..DeviceNames::default()
    }
}

fn wait_after(tries: i64) -> Duration {
    let bound = Duration::from_secs(1 << tries.clamp(0, 6)).min(LONGEST_WAIT);
    bound / 2 + bound * u32::from(dice().0) / 2000
}

fn tell(error: &UemError, source: &str) {
    match error {
        UemError::Refused { .. } => {
            tracing::error!(source.name = source, error = %error, "the UEM {source} refuses us");
        }
        UemError::Unreachable(_) | UemError::Busy { .. } | UemError::Unreadable { .. } => {
            tracing::warn!(source.name = source, error = %error, "the UEM {source} gave no answer");
        }
    }
}
