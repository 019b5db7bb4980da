//! `handover history`, `person` and `revocations`: tables, JSON and CSV of the same rows.

use chrono::{DateTime, SecondsFormat, Utc};

use super::text::{csv, facts, plain, table_with};
use super::time::{Lasted, short, short_or_dash};
use super::who::{departure, holder};
use crate::store::asking::custodies::Custody;
use crate::store::asking::devices::Device;
use crate::store::asking::people::Person;
use crate::store::asking::revocations::Revocation;
use crate::store::tokens::Token;

/// A device's custodies as a table.
pub(crate) fn history(device: &Device, items: &[Custody], more: bool) -> String {
    let title = [device.serial.as_deref(), device.name.as_deref(), device.site.as_deref()];
    let title = title.into_iter().flatten().collect::<Vec<_>>().join(" · ");
    let rows = items.iter().map(|custody| {
        vec![
            short(custody.started_at),
            ended_at(custody),
            lasted(custody),
            holder(custody),
            departure(custody).to_owned(),
            next(custody),
            revocation(custody),
        ]
    });
    let header = ["from (UTC)", "to (UTC)", "lasted", "holder", "ended", "next", "revocation"];
    listed(&title, &table_with(&header, &[0, 1, 2, 4, 6], rows), items.len(), more)
}

/// A person's custodies as a table.
pub(crate) fn person(person: &Person, items: &[Custody], more: bool) -> String {
    let former: Vec<_> =
        person.names.iter().filter(|name| name.until.is_some()).map(|name| name.upn.as_str()).collect();
    let mut title = person.upn.clone();
    if !former.is_empty() {
        title.push_str(&format!(" (formerly {})", former.join(", ")));
    }
    if person.guest {
        title.push_str(" · guest: tokens cannot be revoked here");
    }
    title.push_str(&match person.devices.as_slice() {
        [] => " · holds no device".to_owned(),
        devices => {
            let names: Vec<_> = devices.iter().map(|held| held.device.as_str()).collect();
            format!(" · holds {}", names.join(", "))
        }
    });
    let rows = items.iter().map(|custody| {
        vec![
            short(custody.started_at),
            ended_at(custody),
            lasted(custody),
            custody.device.clone(),
            departure(custody).to_owned(),
            next(custody),
            revocation(custody),
        ]
    });
    let header = ["from (UTC)", "to (UTC)", "lasted", "device", "ended", "next", "revocation"];
    listed(&title, &table_with(&header, &[0, 1, 2, 3, 4, 6], rows), items.len(), more)
}

/// Custodies as comma-separated values.
pub(crate) fn custodies_csv(items: &[Custody]) -> anyhow::Result<String> {
    let header = [
        "custody",
        "device",
        "state",
        "upn",
        "object_id",
        "account",
        "started_at",
        "started",
        "ended_at",
        "ended",
        "departure",
        "seconds",
        "next_upn",
        "next_state",
        "revocation",
        "revocation_state",
    ];
    let rows = items.iter().map(|custody| {
        let person = custody.person.as_ref();
        let next = custody.next.as_ref();
        let revocation = custody.revocation.as_ref();
        vec![
            custody.id.to_string(),
            custody.device.clone(),
            custody.state.clone(),
            person.map(|person| person.upn.clone()).unwrap_or_default(),
            person.and_then(|person| person.object_id).map(|id| id.to_string()).unwrap_or_default(),
            custody.account.clone().unwrap_or_default(),
            exact(custody.started_at),
            custody.started.clone(),
            custody.ended_at.map(exact).unwrap_or_default(),
            custody.ended.clone().unwrap_or_default(),
            custody.departure.clone().unwrap_or_default(),
            custody.seconds.map(|seconds| seconds.to_string()).unwrap_or_default(),
            next.and_then(|next| next.upn.clone()).unwrap_or_default(),
            next.map(|next| next.state.clone()).unwrap_or_default(),
            revocation.map(|revocation| revocation.id.to_string()).unwrap_or_default(),
            revocation.map(|revocation| revocation.state.clone()).unwrap_or_default(),
        ]
    });
    csv(&header, rows)
}

/// Revocations as a table; those that need somebody are explained below it.
pub(crate) fn revocations(items: &[Revocation], more: bool) -> String {
    let rows = items.iter().map(|revocation| {
        vec![
            short(revocation.owed_at),
            revocation.state.clone(),
            subject(revocation),
            revocation.device.clone(),
            revocation.id.to_string(),
        ]
    });
    let header = ["owed (UTC)", "state", "person", "device", "id"];
    let mut text = listed("revocations", &table_with(&header, &[0, 1, 3, 4], rows), items.len(), more);
    let waiting: Vec<_> = items
        .iter()
        .filter(|revocation| matches!(revocation.state.as_str(), "held" | "needs_operator"))
        .map(|revocation| ("waits", format!("{}: {}", revocation.id, revocation.explanation)))
        .collect();
    text.push_str(&facts(waiting));
    text
}

/// Revocations as comma-separated values.
pub(crate) fn revocations_csv(items: &[Revocation]) -> anyhow::Result<String> {
    let header = [
        "id",
        "state",
        "reason",
        "upn",
        "object_id",
        "account",
        "device",
        "custody",
        "departed_at",
        "owed_at",
        "accepted_at",
        "verified_at",
        "stamp_before",
        "stamp_after",
        "exposed_from",
        "refresh_tokens_until",
        "access_tokens_until",
        "covered_by",
        "explanation",
    ];
    let rows = items.iter().map(|revocation| {
        let person = revocation.person.as_ref();
        let time = |at: Option<DateTime<Utc>>| at.map(exact).unwrap_or_default();
        vec![
            revocation.id.to_string(),
            revocation.state.clone(),
            revocation.reason.clone(),
            person.map(|person| person.upn.clone()).unwrap_or_default(),
            person.and_then(|person| person.object_id).map(|id| id.to_string()).unwrap_or_default(),
            revocation.account.clone().unwrap_or_default(),
            revocation.device.clone(),
            revocation.custody.to_string(),
            exact(revocation.departed_at),
            exact(revocation.owed_at),
            time(revocation.accepted_at),
            time(revocation.verified_at),
            time(revocation.stamp_before),
            time(revocation.stamp_after),
            exact(revocation.exposure.from),
            time(revocation.exposure.refresh_tokens_until),
            time(revocation.exposure.access_tokens_until),
            revocation.covered_by.map(|id| id.to_string()).unwrap_or_default(),
            revocation.explanation.clone(),
        ]
    });
    csv(&header, rows)
}

/// Tokens as a table.
pub(crate) fn tokens(items: &[Token]) -> String {
    let rows = items.iter().map(|token| {
        let role = token.role.name().to_owned();
        let void = short_or_dash(token.revoked_at);
        vec![token.name.clone(), role, short(token.created_at), void, token.id.to_string()]
    });
    table_with(&["name", "role", "made (UTC)", "void since (UTC)", "id"], &[1, 2, 3, 4], rows) + "\n"
}

/// Tokens for programs.
pub(crate) fn tokens_json(items: &[Token]) -> serde_json::Value {
    let items: Vec<_> = items
        .iter()
        .map(|token| {
            serde_json::json!({
                "id": token.id, "name": token.name, "role": token.role.name(),
                "created_at": exact(token.created_at), "revoked_at": token.revoked_at.map(exact),
            })
        })
        .collect();
    serde_json::json!({ "items": items, "next": null })
}

fn listed(title: &str, table: &str, count: usize, more: bool) -> String {
    let title = plain(title);
    if count == 0 {
        return format!("{title}\nnothing to list\n");
    }
    let rest = if more { format!("the newest {count}; --limit shows more\n") } else { String::new() };
    format!("{title}\n{table}\n{rest}")
}

/// The end, without the day where it is that of the beginning.
fn ended_at(custody: &Custody) -> String {
    match custody.ended_at {
        Some(end) if end.date_naive() == custody.started_at.date_naive() => end.format("%H:%M:%S").to_string(),
        end => short_or_dash(end),
    }
}

fn lasted(custody: &Custody) -> String {
    custody.seconds.map_or_else(|| "–".to_owned(), |seconds| Lasted(seconds).to_string())
}

fn next(custody: &Custody) -> String {
    match &custody.next {
        None => "–".to_owned(),
        Some(next) => match (&next.upn, &next.account) {
            (Some(upn), _) => upn.clone(),
            (None, Some(account)) => format!("unknown ({account})"),
            (None, None) => "unknown".to_owned(),
        },
    }
}

fn revocation(custody: &Custody) -> String {
    custody.revocation.as_ref().map_or_else(|| "–".to_owned(), |revocation| revocation.state.clone())
}

fn subject(revocation: &Revocation) -> String {
    match (&revocation.person, &revocation.account) {
        (Some(person), _) => person.upn.clone(),
        (None, Some(account)) => format!("unknown ({account})"),
        (None, None) => "unknown".to_owned(),
    }
}

fn exact(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
