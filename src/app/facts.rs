//! What is learned about an account, and what follows from it.
//!
//! A fact is written down and every device it concerns is folded again in the same transaction. So at every commit the
//! custodies are what the fold makes of the events and of the facts.
//!
//! What would surprise: before the directory has been asked, a person is known by the UPN alone. When the directory then
//! names an object id that another person already has, the two are one, and everything moves to the one with the id.

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::app::{HANDOVER, Inner, folding, names};
use crate::custody::{Standpoint, Why};
use crate::entra::Found;
use crate::store::accounts::{AccountRow, PersonRow};
use crate::store::audit::Entry;
use crate::store::times::{moment, utc};
use crate::store::{Error, Tx, accounts, audit, revocations};

/// What an account turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A staging account; the rule that says so.
    Pool(&'static str),
    /// A person whom the directory knows; the rule that matched.
    Known(Found, &'static str),
    /// A person known by the UPN alone, as the directory was not asked or could not answer; the rule that matched.
    Named(String, &'static str),
    /// Nobody we know, and why.
    Unresolved(Why, String),
}

/// Writes down what an account is, looks it up again at `due_at`, and folds its devices again if that is news.
/// Says whether something became owed.
pub async fn decide(
    app: &Inner,
    tx: &mut Tx,
    account: &AccountRow,
    decision: Decision,
    due_at: Option<DateTime<Utc>>,
) -> Result<bool, Error> {
    let now = app.utc();
    let mut row = account.clone();
    if account.standing == "person" && matches!(decision, Decision::Pool(_) | Decision::Unresolved(..)) {
        // What a person held, a person held. A user that the UEM deletes, or makes a staging account, does not unmake it.
        row.due_at = due_at;
        row.tries = 0;
        accounts::save(tx, &row).await?;
        return Ok(false);
    }
    let (standing, person, rule, why) = match decision {
        Decision::Pool(rule) => ("pool", None, Some(rule), None),
        Decision::Known(found, rule) => ("person", Some(known_person(app, tx, &found, now).await?), Some(rule), None),
        Decision::Named(upn, rule) => {
            ("person", Some(crate::app::record::person_by_upn(tx, &upn, now).await?.id), Some(rule), None)
        }
        Decision::Unresolved(why, words) => ("unresolved", None, Some(why.name()), Some((why, words))),
    };
    standing.clone_into(&mut row.standing);
    row.person_id = person;
    row.rule = rule.map(str::to_owned);
    row.why = why.as_ref().map(|(_, words)| words.clone());
    row.decided_at = Some(now);
    row.due_at = due_at;
    row.tries = 0;
    accounts::save(tx, &row).await?;
    if (row.standing.as_str(), row.person_id) == (account.standing.as_str(), account.person_id) {
        return Ok(false);
    }
    tracing::info!(account.id = %row.id, account.standing = standing, "account {} is decided: {standing}", row.id);
    let entry = Entry {
        person_id: row.person_id,
        subject: Some(row.id),
        ..app.entry(
            HANDOVER,
            "account.decided",
            json!({ "source": row.source, "standing": standing, "rule": row.rule, "why": row.why, "was": account.standing }),
        )
    };
    audit::write(tx, &[entry]).await?;
    if let Some((why, _)) = why {
        name_the_trouble(tx, row.id, why).await?;
    }
    let owes = fold_devices_of(app, tx, &row).await?;
    Ok(settle_old(app, tx, &row, now).await? || owes)
}

/// Folds every device on which an account was named lately.
async fn fold_devices_of(app: &Inner, tx: &mut Tx, account: &AccountRow) -> Result<bool, Error> {
    let since = utc(moment(app.utc()).less(app.rules.snapshot_age * 2));
    let devices = accounts::devices(tx, account.id, since).await?;
    folding::fold_again(app, tx, &devices, "what is known of an account changed").await
}

/// What was folded for good before the account was known: its custodies get their holder, and what waits for an operator
/// because nobody knew whom to revoke goes on, or is closed if it was the pool all along.
async fn settle_old(app: &Inner, tx: &mut Tx, account: &AccountRow, now: DateTime<Utc>) -> Result<bool, Error> {
    let holder = match account.standing.as_str() {
        "person" => "person",
        "pool" => "pool",
        _ => return Ok(false),
    };
    accounts::name_old_custodies(tx, account.id, holder, account.person_id).await?;
    let mut owes = false;
    for mut row in revocations::waiting_for(tx, account.id, Standpoint::NeedsOperator.name()).await? {
        if row.person_id.is_some() {
            continue;
        }
        if account.person_id.is_some() {
            row.person_id = account.person_id;
            Standpoint::Open.name().clone_into(&mut row.state);
            row.due_at = now;
            owes = true;
        } else {
            Standpoint::Moot.name().clone_into(&mut row.state);
            row.note = Some(folding::REASON_GONE.to_owned());
            row.closed_at = Some(now);
        }
        row.why = None;
        folding::save(tx, &row).await?;
        let entry = Entry {
            device_id: Some(row.device_id),
            person_id: row.person_id,
            subject: Some(row.id),
            ..app.entry(HANDOVER, "revocation.revised", json!({ "before": "needs_operator", "after": row.state }))
        };
        audit::write(tx, &[entry]).await?;
    }
    Ok(owes)
}

async fn name_the_trouble(tx: &mut Tx, account: Uuid, why: Why) -> Result<(), Error> {
    for mut row in revocations::waiting_for(tx, account, Standpoint::NeedsOperator.name()).await? {
        if row.person_id.is_none() && row.why.as_deref() != Some(why.name()) {
            row.why = Some(why.name().to_owned());
            folding::save(tx, &row).await?;
        }
    }
    Ok(())
}

/// The person whom the directory knows by this object id, added or brought up to date.
pub async fn known_person(app: &Inner, tx: &mut Tx, found: &Found, now: DateTime<Utc>) -> Result<Uuid, Error> {
    let upn_key = found.upn.to_ascii_lowercase();
    let by_object = accounts::person_by_object(tx, found.object_id).await?;
    let by_upn = accounts::person_by_upn(tx, &upn_key).await?.filter(|person| person.object_id.is_none());
    match (by_object, by_upn) {
        (Some(mut person), by_upn) => {
            if person.upn_key != upn_key {
                accounts::rename(tx, person.id, &found.upn, &upn_key, now).await?;
            }
            if (person.upn.as_str(), person.guest) != (found.upn.as_str(), found.guest) {
                person.upn.clone_from(&found.upn);
                person.upn_key = upn_key;
                person.guest = found.guest;
                accounts::save_person(tx, &person).await?;
            }
            if let Some(other) = by_upn {
                become_one(app, tx, &other, &person).await?;
            }
            Ok(person.id)
        }
        (None, Some(mut person)) => {
            person.object_id = Some(found.object_id);
            person.upn.clone_from(&found.upn);
            person.guest = found.guest;
            accounts::save_person(tx, &person).await?;
            Ok(person.id)
        }
        (None, None) => {
            let person = PersonRow {
                id: names::person_by_object(found.object_id),
                object_id: Some(found.object_id),
                upn: found.upn.clone(),
                upn_key,
                guest: found.guest,
                stamp_verified: None,
                first_seen_at: now,
            };
            accounts::add_person(tx, &person).await?;
            Ok(person.id)
        }
    }
}

/// Two people turn out to be one: what hangs on `from` moves to `to`.
async fn become_one(app: &Inner, tx: &mut Tx, from: &PersonRow, to: &PersonRow) -> Result<(), Error> {
    revocations::move_person(tx, from.id, to.id).await?;
    let moved = accounts::of_person(tx, from.id).await?;
    for mut account in moved {
        account.person_id = Some(to.id);
        accounts::save(tx, &account).await?;
        fold_devices_of(app, tx, &account).await?;
    }
    let now = app.utc();
    accounts::end_names(tx, from.id, now).await?;
    let entry = Entry {
        person_id: Some(to.id),
        subject: Some(from.id),
        ..app.entry(HANDOVER, "person.joined", json!({ "from": from.id, "to": to.id }))
    };
    audit::write(tx, &[entry]).await
}
