//! `handover who`: one sentence, and its evidence.
//!
//! The sentence is a function of what the store answered and whether a time was asked for; every state of a device and of a
//! revocation has its words.

use chrono::{DateTime, Utc};

use super::text::{facts, plain};
use super::time::{Lasted, long, same_day, short};
use crate::custody::Standpoint;
use crate::store::asking::custodies::{Custody, HolderAt};
use crate::store::asking::devices::Device;
use crate::store::asking::revocations::Revocation;

/// Everything that the answer is made of.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The device.
    pub(crate) device: Device,
    /// Who had it.
    pub(crate) held: HolderAt,
    /// The revocation of that custody.
    pub(crate) revocation: Option<Revocation>,
    /// Whether a time was asked for; else it is about now.
    pub(crate) past: bool,
}

impl Answer {
    /// The sentence.
    pub(crate) fn sentence(&self) -> String {
        let device = self.device();
        let at = long(self.held.at);
        let sentence = match (&self.held.custody, self.held.state.as_str()) {
            (Some(rack), "pool") => self.in_the_rack(&device, rack),
            (Some(custody), _) => self.held(&device, custody),
            (None, _) => match &self.held.previous {
                Some(last) => {
                    let when = last.ended_at.unwrap_or(last.started_at);
                    let is = if self.past { "was" } else { "is" };
                    let then = if self.past { format!(" at {at}") } else { String::new() };
                    let how = match last.departure.as_deref() {
                        Some("erased") => "it was erased",
                        _ => "it left our sight",
                    };
                    format!(
                        "{device} {is} with nobody we know{then}: {how} at {}; the last known holder was {}{}",
                        long(when),
                        holder(last),
                        self.tokens_of(last, when)
                    )
                }
                None if self.past => {
                    format!("{device} was not known to Handover at {at}; its first event came later, or has no holder")
                }
                None => format!("{device} is known to Handover, but nothing has said yet who has it"),
            },
        };
        format!("{}.", plain(&sentence))
    }

    fn device(&self) -> String {
        let serial = &self.held.device;
        match self.device.name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => format!("iPad {serial} ({name})"),
            None => format!("iPad {serial}"),
        }
    }

    fn in_the_rack(&self, device: &str, rack: &Custody) -> String {
        let since = long(rack.started_at);
        let before = self.held.previous.as_ref().map_or_else(String::new, |last| {
            format!("; before that it was held by {}{}", holder(last), self.tokens_of(last, rack.started_at))
        });
        match rack.ended_at {
            Some(until) => {
                format!("{device} was with nobody from {} to {}{before}", start(rack, until), long(until))
            }
            None => format!("{device} is with nobody: it has been in the pool since {since}{before}"),
        }
    }

    fn held(&self, device: &str, custody: &Custody) -> String {
        let who = holder(custody);
        let Some(until) = custody.ended_at else {
            let since = long(custody.started_at);
            let now = if self.past { " and still is" } else { "" };
            return format!("{device} has been held by {who} since {since}{now}; nothing is owed for it yet");
        };
        let how = departure(custody);
        let tokens = self.tokens(custody, until);
        format!("{device} was held by {who} from {} to {} ({how}); {tokens}", start(custody, until), long(until))
    }

    fn tokens_of(&self, last: &Custody, day: DateTime<Utc>) -> String {
        if last.state == "pool" {
            return String::new();
        }
        let about = self.revocation.as_ref().filter(|revocation| revocation.custody == last.id);
        match (about, &last.revocation) {
            (Some(revocation), _) => format!("; {}", tokens(revocation, day)),
            (None, Some(short)) => format!("; the revocation of that person's tokens is {}", short.state),
            (None, None) => String::new(),
        }
    }

    fn tokens(&self, custody: &Custody, day: DateTime<Utc>) -> String {
        if let Some(revocation) = &self.revocation {
            return tokens(revocation, day);
        }
        match custody.departure.as_deref() {
            Some("erased") => "nothing is owed, since the device was erased and the tokens with it".to_owned(),
            _ if custody.next.is_none() => "nothing is owed yet, since nobody has followed on the device".to_owned(),
            _ if same_person(custody) => "nothing is owed, since the same person took it again".to_owned(),
            _ => "nothing is owed".to_owned(),
        }
    }

    /// What the sentence rests on.
    pub(crate) fn evidence(&self) -> String {
        let mut lines = vec![("asked for", format!("{} UTC", short(self.held.at)))];
        if let Some(custody) = &self.held.custody {
            let ended = custody.ended_at.zip(custody.ended.as_deref());
            let ended =
                ended.map_or_else(|| "still lasting".to_owned(), |(at, how)| format!("to {} UTC ({how})", short(at)));
            let began = format!("from {} UTC ({}), {ended}", short(custody.started_at), custody.started);
            lines.push(("custody", custody.id.to_string()));
            lines.push(("", began));
            if let Some(seconds) = custody.seconds {
                lines.push(("lasted", Lasted(seconds).to_string()));
            }
            if let Some(next) = &custody.next {
                let name = next.upn.clone().or_else(|| next.account.clone());
                lines.push(("next", name.unwrap_or_else(|| "somebody unknown".to_owned())));
            }
        }
        if let Some(previous) = &self.held.previous {
            let until = previous.ended_at.map_or_else(String::new, |at| format!(", until {} UTC", short(at)));
            lines.push(("before", format!("{}{until}", holder(previous))));
        }
        if let Some(revocation) = &self.revocation {
            lines.push(("revocation", format!("{} ({})", revocation.id, revocation.state)));
            lines.push(("", revocation.explanation.clone()));
            for attempt in &revocation.attempts {
                let status =
                    attempt.status.map_or_else(|| "no answer".to_owned(), |status| format!("answered {status}"));
                lines.push(("attempt", format!("{} UTC, {status}", short(attempt.began_at))));
                lines.push(("", format!("client-request-id {}", attempt.client_request_id)));
                if let Some(id) = &attempt.request_id {
                    lines.push(("", format!("request-id        {id}")));
                }
            }
            if let Some(after) = revocation.stamp_after {
                let before = revocation.stamp_before.map_or_else(|| "unknown".to_owned(), short);
                lines.push(("stamp", format!("{before} → {} UTC", short(after))));
            }
            if let Some(until) = revocation.exposure.refresh_tokens_until {
                let exposed = (until - revocation.exposure.from).num_seconds();
                let from = short(revocation.exposure.from);
                lines.push(("exposure", format!("from {from} UTC, for {}", Lasted(exposed))));
            }
        }
        facts(lines)
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "sentence": self.sentence(),
            "device": self.device,
            "holder_at": self.held,
            "revocation": self.revocation,
        })
    }
}

fn same_person(custody: &Custody) -> bool {
    let upn = custody.person.as_ref().map(|person| &person.upn);
    upn.is_some() && upn == custody.next.as_ref().and_then(|next| next.upn.as_ref())
}

/// `from …`, short where both ends are of one day.
fn start(custody: &Custody, until: DateTime<Utc>) -> String {
    if custody.started_at.date_naive() == until.date_naive() {
        custody.started_at.format("%H:%M:%S").to_string()
    } else {
        long(custody.started_at)
    }
}

/// Who it was, as far as that is known.
pub(crate) fn holder(custody: &Custody) -> String {
    match (&custody.person, &custody.account) {
        _ if custody.state == "pool" => "nobody (pool)".to_owned(),
        (Some(person), _) => person.upn.clone(),
        (None, Some(account)) if custody.undecided => format!("the account {account} (still being looked up)"),
        (None, Some(account)) => format!("somebody unknown (account {account})"),
        (None, None) => "somebody unknown".to_owned(),
    }
}

/// How a custody ended, in a word or two.
pub(crate) fn departure(custody: &Custody) -> &'static str {
    match custody.departure.as_deref() {
        Some("return") => "returned",
        Some("next") => "taken by the next",
        Some("re_enrolled") => "enrolled again",
        Some("gone") => "left our sight",
        Some("erased") => "erased",
        Some(_) => "ended",
        None => "still held",
    }
}

/// What became of the tokens.
fn tokens(revocation: &Revocation, day: DateTime<Utc>) -> String {
    let when = |at: Option<DateTime<Utc>>| at.map_or_else(|| "an unknown time".to_owned(), |at| same_day(at, day));
    let explained = &revocation.explanation;
    match Standpoint::named(&revocation.state) {
        Some(Standpoint::Verified) => format!(
            "the tokens were revoked at {}, verified at {}",
            when(revocation.accepted_at),
            when(revocation.verified_at)
        ),
        Some(Standpoint::Accepted) => {
            format!("the tokens were revoked at {}, not verified yet ({explained})", when(revocation.accepted_at))
        }
        Some(Standpoint::CoveredByOther) if revocation.verified_at.is_some() => format!(
            "the tokens were revoked together with another revocation at {}, verified at {}",
            when(revocation.accepted_at),
            when(revocation.verified_at)
        ),
        Some(Standpoint::Open | Standpoint::InFlight) => format!("the tokens are not revoked yet: {explained}"),
        Some(Standpoint::Held) => format!("the tokens are not revoked, the revocation is held: {explained}"),
        Some(Standpoint::NeedsOperator) => {
            format!("the tokens are not revoked, the revocation needs an operator: {explained}")
        }
        Some(Standpoint::Shadow) => "the tokens were not revoked: in shadow mode nothing is sent".to_owned(),
        Some(Standpoint::CoveredByOther) => format!("the tokens are dealt with: {explained}"),
        Some(Standpoint::Moot) => format!("the tokens needed no revocation: {explained}"),
        Some(Standpoint::NotEffective | Standpoint::Waived) => format!("the tokens were not revoked: {explained}"),
        None => format!("the revocation is in the state {}", revocation.state),
    }
}

#[cfg(test)]
#[path = "who_tests.rs"]
mod tests;
