//! From stored rows to the core's fold and back.
//!
//! Two ways lead through here. An event that is newer than all before it is folded onto the device's `head`: its cost does
//! not grow with the history. A late event, and a new fact about an account, fold the device again from its `base`, and what
//! comes out is compared with what is stored: custodies change, and no revocation that was ever owed disappears.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

use crate::app::{HANDOVER, Inner, names};
use crate::custody::{
    AccountId, Custody, Departure, Event, EventId, Folded, Holder, How, Moment, Oddity, Owed, PersonId, Reason,
    Standing, Standpoint, State, Subject, What, Why, first_state, fold, hold_if_not_in_inventory, hold_if_restored,
};
use crate::store::accounts::StandingRow;
use crate::store::audit::Entry;
use crate::store::recording::{CustodyRow, DeviceRow, FoldedEvent};
use crate::store::revocations::RevocationRow;
use crate::store::snapshot::{Snapshot, known_name};
use crate::store::times::{moment, utc};
use crate::store::{Error, Tx, accounts, audit, months, recording, revocations};

/// What stands in the note of a revocation whose reason went away before it was sent.
pub const REASON_GONE: &str = "a late event or a new fact took its reason away before anything was sent";

/// What stands in the note of a revocation whose reason went away after an attempt without a proven effect.
pub const REASON_GONE_AFTER_A_TRY: &str =
    "a late event or a new fact took its reason away; an attempt had been made before, and may have had its effect";

/// What stands in the note of a revocation whose reason went away after it was sent.
pub const REASON_GONE_TOO_LATE: &str = "a later event or fact took its reason away after it had been sent";

/// What is known of accounts, for one fold.
#[derive(Default)]
pub struct Standings {
    known: HashMap<AccountId, Standing>,
    several: HashSet<AccountId>,
}

impl Standings {
    /// Adds what the rows say.
    pub fn learn(&mut self, rows: &[StandingRow]) {
        for row in rows {
            let id = AccountId(row.id.into_bytes());
            self.known.insert(id, standing(row));
            if row.standing == "unresolved" && row.rule.as_deref() == Some(Why::SeveralPeople.name()) {
                self.several.insert(id);
            } else {
                self.several.remove(&id);
            }
        }
    }

    /// What is known of one account.
    pub fn of(&self, account: AccountId) -> Standing {
        self.known.get(&account).copied().unwrap_or(Standing::Undecided)
    }

    /// Why nobody can be revoked, where it is one of these accounts that is nobody we know.
    pub fn trouble(&self, subject: Subject) -> Why {
        match subject {
            Subject::Account(account) if self.several.contains(&account) => Why::SeveralPeople,
            Subject::Account(_) | Subject::Person(_) => Why::UnknownPerson,
        }
    }

    /// Those of `ids` of which nothing has been loaded.
    pub fn missing(&self, ids: impl IntoIterator<Item = Uuid>) -> Vec<Uuid> {
        let missing: HashSet<_> =
            ids.into_iter().filter(|id| !self.known.contains_key(&AccountId(id.into_bytes()))).collect();
        missing.into_iter().collect()
    }
}

/// What an account's row says it is.
pub fn standing(row: &StandingRow) -> Standing {
    match (row.standing.as_str(), row.person_id) {
        ("person", Some(person)) => Standing::Person(PersonId(person.into_bytes())),
        ("pool", _) => Standing::Pool,
        ("unresolved", _) => Standing::Unresolved,
        _ => Standing::Undecided,
    }
}

/// The accounts that a stored state names.
pub fn accounts_in(state: &State) -> impl Iterator<Item = Uuid> + use<> {
    let open = state.open.and_then(|open| open.holder.account());
    let leaver = state.leaver.and_then(|leaver| leaver.holder.account());
    open.into_iter().chain(leaver).map(|account| Uuid::from_bytes(account.0))
}

/// A stored event as the core takes it. An event that names no account although it should says nothing.
pub fn event(row: &FoldedEvent) -> Event {
    let account = row.account_id.map(|id| AccountId(id.into_bytes()));
    let what = match (row.what.as_str(), account) {
        ("with", Some(account)) => What::With(account),
        ("enrolled", Some(account)) => What::Enrolled(account),
        ("nameless", _) => What::Nameless,
        ("gone", _) => What::Gone,
        ("erased", _) => What::Erased,
        _ => What::Silent,
    };
    let how = if row.how == "read" { How::Read } else { How::Told };
    Event { id: EventId(row.id.into_bytes()), at: moment(row.at), what, how }
}

/// How a holder stands in a row: its state, person and account.
pub fn holder_columns(holder: Holder) -> (&'static str, Option<Uuid>, Option<Uuid>) {
    let account = holder.account().map(|account| Uuid::from_bytes(account.0));
    match holder {
        Holder::Person(person, _) => ("person", Some(Uuid::from_bytes(person.0)), account),
        Holder::Pool(_) => ("pool", None, account),
        Holder::Unknown(_) | Holder::Undecided(_) => ("unknown", None, account),
    }
}

/// A custody as a row.
pub fn custody_row(device: Uuid, custody: &Custody) -> CustodyRow {
    let (holder, person_id, account_id) = holder_columns(custody.holder);
    CustodyRow {
        id: Uuid::from_bytes(custody.id.0),
        device_id: device,
        holder: holder.to_owned(),
        person_id,
        account_id,
        started_at: utc(custody.started_at),
        started: known_name(custody.started).to_owned(),
        ended_at: custody.ended.map(|ended| utc(ended.at)),
        ended: custody.ended.map(|ended| known_name(ended.how).to_owned()),
        ended_by: custody.ended.map(|ended| Uuid::from_bytes(ended.by.0)),
        departure: custody.ended.map(|ended| departure_name(ended.into).to_owned()),
    }
}

fn departure_name(departure: Departure) -> &'static str {
    match departure {
        Departure::Return => "return",
        Departure::Next => "next",
        Departure::ReEnrolled => "re_enrolled",
        Departure::Gone => "gone",
        Departure::Erased => "erased",
    }
}

fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::NextUser => "next_user",
        Reason::UnknownUser => "unknown_user",
        Reason::LeftSight => "left_sight",
        Reason::Return => "return",
    }
}

/// Who goes first: a device that somebody else already has is the riskiest.
fn urgency(reason: Reason) -> i64 {
    match reason {
        Reason::NextUser | Reason::UnknownUser => 0,
        Reason::LeftSight => 1,
        Reason::Return => 2,
    }
}

/// The words of an oddity.
pub fn oddity_name(oddity: Oddity) -> &'static str {
    match oddity {
        Oddity::Overtaken => "overtaken",
        Oddity::TakenWhileHeld => "taken_while_held",
        Oddity::Nameless => "nameless",
        Oddity::GoneTwice => "gone_twice",
    }
}

/// What is owed, as a new row. `lateness` is that of the event that made it owed.
pub fn revocation_row(
    app: &Inner,
    device: &DeviceRow,
    standings: &Standings,
    owed: &Owed,
    received_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> RevocationRow {
    let custody = Uuid::from_bytes(owed.custody.0);
    let (state, why) =
        first_state(owed.subject, moment(received_at).since(owed.exposed_from), app.rules.act_within, app.rules.shadow);
    let can_ask = app.sources.get(&device.source).is_some_and(|source| source.api.is_some());
    let (state, why) = hold_if_not_in_inventory((state, why), !can_ask || device.confirmed_at.is_some());
    let (state, why) = hold_if_restored((state, why), app.house.was_restored_after(utc(owed.departed_at)));
    let why = why.map(|why| if why == Why::UnknownPerson { standings.trouble(owed.subject) } else { why });
    let (person_id, account_id) = subject_columns(owed.subject);
    RevocationRow {
        id: names::revocation_id(device.id, custody),
        device_id: device.id,
        custody_id: custody,
        person_id,
        account_id,
        reason: reason_name(owed.reason).to_owned(),
        state: state.name().to_owned(),
        why: why.map(|why| why.name().to_owned()),
        note: None,
        departed_at: utc(owed.departed_at),
        departed_by: Uuid::from_bytes(owed.departed_by.0),
        because: Uuid::from_bytes(owed.because.0),
        exposed_from: utc(owed.exposed_from),
        owed_at: now,
        urgency: urgency(owed.reason),
        due_at: now,
        failed: 0,
        unfound: 0,
        blind: 0,
        attempt_id: None,
        covered_by: None,
        accepted_at: None,
        verified_at: None,
        closed_at: (!state.is_unfinished()).then_some(now),
        version: 0,
    }
}

fn subject_columns(subject: Subject) -> (Option<Uuid>, Option<Uuid>) {
    match subject {
        Subject::Person(person) => (Some(Uuid::from_bytes(person.0)), None),
        Subject::Account(account) => (None, Some(Uuid::from_bytes(account.0))),
    }
}

/// Writes the fold's state into the device's row.
pub fn set_head(device: &mut DeviceRow, state: &State) {
    let open = state.open;
    let (name, person, account) = open.map_or(("unknown", None, None), |open| holder_columns(open.holder));
    name.clone_into(&mut device.state);
    device.holder_person = person;
    device.holder_account = account;
    device.undecided = open.is_some_and(|open| matches!(open.holder, Holder::Undecided(_)));
    device.since = open.map(|open| utc(open.started_at));
    device.head = Json(Snapshot::from(state));
    device.version += 1;
}

/// The audit entry of a revocation that became owed.
pub fn owed_entry(app: &Inner, row: &RevocationRow) -> Entry {
    Entry {
        device_id: Some(row.device_id),
        person_id: row.person_id,
        subject: Some(row.id),
        ..app.entry(
            HANDOVER,
            "revocation.owed",
            json!({ "reason": row.reason, "state": row.state, "custody": row.custody_id, "departed_at": row.departed_at }),
        )
    }
}

/// Folds devices again from their bases, and brings what is stored in line. `why` goes into the audit history.
///
/// The rows are locked here; calling it for devices that are locked already is fine.
pub async fn fold_again(app: &Inner, tx: &mut Tx, ids: &[Uuid], why: &'static str) -> Result<bool, Error> {
    let mut owes = false;
    for mut device in recording::lock_devices(tx, ids).await? {
        owes |= fold_device_again(app, tx, &mut device, why).await?;
        recording::save_devices(tx, std::slice::from_ref(&device)).await?;
    }
    Ok(owes)
}

/// The same for one device whose row is locked and will be saved by the caller. Says whether something became owed.
pub async fn fold_device_again(
    app: &Inner,
    tx: &mut Tx,
    device: &mut DeviceRow,
    why: &'static str,
) -> Result<bool, Error> {
    let base = State::from(device.base.0.clone());
    let after = base.last.map(|(at, id)| (utc(at), Uuid::from_bytes(id.0)));
    let rows = recording::events_after(tx, device.id, after).await?;
    let mut standings = Standings::default();
    let named = rows.iter().filter_map(|row| row.account_id).chain(accounts_in(&base));
    let missing = standings.missing(named);
    for some in missing.chunks(500) {
        standings.learn(&accounts::standings(tx, some).await?);
    }
    let folded = fold(base, rows.iter().map(event), |account| standings.of(account), app.rules.policy());
    let changed = rewrite_custodies(tx, device.id, &base, &folded).await?;
    let owes = reconcile_owed(app, tx, device, &rows, &standings, &folded).await?;
    let oddities: Vec<_> =
        folded.oddities.iter().map(|(id, odd)| (Uuid::from_bytes(id.0), oddity_name(*odd).to_owned())).collect();
    recording::mark_odd(tx, &oddities).await?;
    set_head(device, &folded.state);
    if changed.is_something() {
        let entry = Entry {
            device_id: Some(device.id),
            ..app.entry(
                HANDOVER,
                "custodies.refolded",
                json!({ "why": why, "before": changed.before, "after": changed.after }),
            )
        };
        audit::write(tx, &[entry]).await?;
    }
    Ok(owes)
}

/// What a fold changed about the custodies of a device.
#[derive(Default)]
struct Changed {
    before: Vec<serde_json::Value>,
    after: Vec<serde_json::Value>,
}

impl Changed {
    fn is_something(&self) -> bool {
        !self.before.is_empty() || !self.after.is_empty()
    }
}

async fn rewrite_custodies(tx: &mut Tx, device: Uuid, base: &State, folded: &Folded) -> Result<Changed, Error> {
    let from = base.open.map(|open| (utc(open.started_at), Uuid::from_bytes(open.id.0)));
    let mut stored: HashMap<_, _> = recording::custodies_from(tx, device, from.map(|(at, _)| at))
        .await?
        .into_iter()
        .filter(|row| from.is_none_or(|from| (row.started_at, row.id) >= from))
        .map(|row| (row.id, row))
        .collect();
    let mut changed = Changed::default();
    let mut save = Vec::new();
    for row in folded.custodies.iter().map(|custody| custody_row(device, custody)) {
        let before = stored.remove(&row.id);
        if before.as_ref() != Some(&row) {
            changed.before.extend(before.as_ref().map(told));
            changed.after.push(told(&row));
            save.push(row);
        }
    }
    let gone: Vec<_> = stored.keys().copied().collect();
    changed.before.extend(stored.values().map(told));
    recording::drop_custodies(tx, &gone).await?;
    for some in save.chunks(500) {
        recording::save_custodies(tx, some).await?;
    }
    Ok(changed)
}

fn told(row: &CustodyRow) -> serde_json::Value {
    json!({
        "id": row.id, "holder": row.holder, "person": row.person_id, "account": row.account_id,
        "started_at": row.started_at, "ended_at": row.ended_at, "ended": row.ended, "departure": row.departure,
    })
}

/// Brings the revocations of a device in line with what its events now say is owed.
///
/// A revocation that was owed stays: where the custody it answers is known by another beginning now, it goes with it; where
/// its reason is gone it is closed as `moot` if nothing was sent, and explained if something was.
async fn reconcile_owed(
    app: &Inner,
    tx: &mut Tx,
    device: &DeviceRow,
    events: &[FoldedEvent],
    standings: &Standings,
    folded: &Folded,
) -> Result<bool, Error> {
    let received: HashMap<_, _> = events.iter().map(|row| (row.id, row.received_at)).collect();
    let stored = revocations::of_device(tx, device.id, None).await?;
    let mut stored: Vec<_> = stored.into_iter().filter(|row| received.contains_key(&row.because)).collect();
    let now = app.utc();
    let mut entries = Vec::new();
    let mut owes = false;
    for owed in &folded.owed {
        let received_at = received.get(&Uuid::from_bytes(owed.because.0)).copied().unwrap_or(now);
        let fresh = revocation_row(app, device, standings, owed, received_at, now);
        let former = names::former_revocation_id(device.id, fresh.custody_id);
        let same = |row: &RevocationRow| row.id == fresh.id || row.id == former;
        let moved = |row: &RevocationRow| {
            row.departed_by == fresh.departed_by
                && (row.person_id, row.account_id) == (fresh.person_id, fresh.account_id)
        };
        let found = stored.iter().position(same).or_else(|| stored.iter().position(moved));
        if let Some(found) = found {
            let mut row = stored.swap_remove(found);
            let before = row.clone();
            align(&mut row, &fresh);
            if row != before {
                entries.push(revised(app, &before, &row));
                save(tx, &row).await?;
                owes |= row.state == Standpoint::Open.name() && before.state != row.state;
            }
        } else if revocations::load(tx, fresh.id).await?.is_none() && revocations::load(tx, former).await?.is_none() {
            entries.push(owed_entry(app, &fresh));
            revocations::owe(tx, std::slice::from_ref(&fresh)).await?;
            owes = true;
        }
    }
    for mut row in stored {
        let before = row.clone();
        take_reason_away(&mut row, now);
        if row != before {
            entries.push(revised(app, &before, &row));
            save(tx, &row).await?;
        }
    }
    audit::write(tx, &entries).await?;
    Ok(owes)
}

/// Gives a stored revocation what is now known of its departure; its state changes only if it can act now, or must again.
fn align(row: &mut RevocationRow, fresh: &RevocationRow) {
    row.custody_id = fresh.custody_id;
    row.departed_at = fresh.departed_at;
    row.departed_by = fresh.departed_by;
    row.because = fresh.because;
    row.exposed_from = fresh.exposed_from;
    row.reason.clone_from(&fresh.reason);
    // Until something has been sent, whoever the account turns out to be is whom it is owed for.
    let is_unsent = row.attempt_id.is_none() && Standpoint::named(&row.state).is_some_and(Standpoint::is_unsent);
    let learned_who =
        fresh.person_id.is_some() && (row.person_id.is_none() || (is_unsent && row.person_id != fresh.person_id));
    let nobody_known = [Why::UnknownPerson, Why::SeveralPeople].map(|why| Some(why.name()));
    let waits_for_who = row.state == Standpoint::NeedsOperator.name() && nobody_known.contains(&row.why.as_deref());
    let had_no_reason = row.state == Standpoint::Moot.name()
        && row.note.as_deref().is_some_and(|note| note == REASON_GONE || note == REASON_GONE_AFTER_A_TRY);
    if learned_who {
        row.person_id = fresh.person_id;
        row.account_id = row.account_id.or(fresh.account_id);
    }
    if had_no_reason || (learned_who && waits_for_who) {
        row.state.clone_from(&fresh.state);
        row.why.clone_from(&fresh.why);
        row.closed_at = fresh.closed_at;
        row.due_at = fresh.due_at;
        row.note = None;
    }
}

fn take_reason_away(row: &mut RevocationRow, now: DateTime<Utc>) {
    let Some(state) = Standpoint::named(&row.state) else { return };
    if state.is_unsent() {
        Standpoint::Moot.name().clone_into(&mut row.state);
        let note = if row.attempt_id.is_none() { REASON_GONE } else { REASON_GONE_AFTER_A_TRY };
        row.note = Some(note.to_owned());
        row.why = None;
        row.closed_at = Some(now);
    } else if state != Standpoint::Moot && row.note.is_none() {
        row.note = Some(REASON_GONE_TOO_LATE.to_owned());
    }
}

fn revised(app: &Inner, before: &RevocationRow, after: &RevocationRow) -> Entry {
    Entry {
        device_id: Some(after.device_id),
        person_id: after.person_id,
        subject: Some(after.id),
        ..app.entry(
            HANDOVER,
            "revocation.revised",
            json!({ "before": before.state, "after": after.state, "custody": after.custody_id, "note": after.note }),
        )
    }
}

/// Saves a row that was loaded in this transaction. That somebody else changed it since means: begin again.
pub async fn save(tx: &mut Tx, row: &RevocationRow) -> Result<(), Error> {
    if revocations::save(tx, row).await? { Ok(()) } else { Err(Error::Overtaken("a revocation")) }
}

/// The state that a device's kept events are folded from: where older ones were dropped, what they had come to.
pub async fn origin(tx: &mut Tx, device: Uuid) -> Result<State, Error> {
    Ok(months::origin(tx, device).await?.map_or_else(State::default, State::from))
}

/// Moves a device's base forward to `cutoff`, so that folding again stays cheap. Events before it are too late from then on.
pub async fn advance_base(app: &Inner, tx: &mut Tx, device: Uuid, cutoff: Moment) -> Result<(), Error> {
    let Some(mut device) = recording::lock_devices(tx, &[device]).await?.pop() else { return Ok(()) };
    let base = State::from(device.base.0.clone());
    let after = base.last.map(|(at, id)| (utc(at), Uuid::from_bytes(id.0)));
    let mut rows = recording::events_after(tx, device.id, after).await?;
    rows.retain(|row| moment(row.at) < cutoff);
    let mut standings = Standings::default();
    let missing = standings.missing(rows.iter().filter_map(|row| row.account_id).chain(accounts_in(&base)));
    for some in missing.chunks(500) {
        standings.learn(&accounts::standings(tx, some).await?);
    }
    let folded = fold(base, rows.iter().map(event), |account| standings.of(account), app.rules.policy());
    device.base = Json(Snapshot::from(&folded.state));
    device.base_at = Some(utc(cutoff));
    device.version += 1;
    recording::save_devices(tx, &[device]).await
}

/// The inventory shows a device that we only knew from events: what waited for that may go (E9). Says whether something may.
pub async fn confirm(app: &Inner, tx: &mut Tx, device: Uuid) -> Result<bool, Error> {
    let Some(mut device) = recording::lock_devices(tx, &[device]).await?.pop() else { return Ok(false) };
    if device.confirmed_at.is_some() {
        return Ok(false);
    }
    let now = app.utc();
    device.confirmed_at = Some(now);
    device.version += 1;
    recording::save_devices(tx, std::slice::from_ref(&device)).await?;
    let mut released = Vec::new();
    for mut row in revocations::of_device(tx, device.id, None).await? {
        if row.state == Standpoint::Held.name() && row.why.as_deref() == Some(Why::UnknownDevice.name()) {
            let before = row.clone();
            Standpoint::Open.name().clone_into(&mut row.state);
            row.why = None;
            row.due_at = now;
            save(tx, &row).await?;
            released.push(revised(app, &before, &row));
        }
    }
    audit::write(tx, &released).await?;
    Ok(!released.is_empty())
}
