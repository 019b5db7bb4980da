//! How the fold's state is kept in `devices.head` and `devices.base`.
//!
//! A cache: a state that cannot be read is no loss, the device is folded again from its events.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::custody::{AccountId, Custody, EventId, Holder, Known, Leaver, Moment, PersonId, State};

/// The stored form of a [`State`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Snapshot {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<Stretch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaver: Option<Left>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<(i64, Uuid)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stretch {
    id: Uuid,
    holder: Held,
    at: i64,
    started: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Left {
    custody: Uuid,
    holder: Held,
    at: i64,
    by: Uuid,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Held {
    Person(Uuid, Uuid),
    Pool(Uuid),
    Unknown(Option<Uuid>),
    Undecided(Uuid),
}

impl From<Holder> for Held {
    fn from(holder: Holder) -> Self {
        match holder {
            Holder::Person(person, account) => Self::Person(Uuid::from_bytes(person.0), Uuid::from_bytes(account.0)),
            Holder::Pool(account) => Self::Pool(Uuid::from_bytes(account.0)),
            Holder::Unknown(account) => Self::Unknown(account.map(|account| Uuid::from_bytes(account.0))),
            Holder::Undecided(account) => Self::Undecided(Uuid::from_bytes(account.0)),
        }
    }
}

impl From<Held> for Holder {
    fn from(held: Held) -> Self {
        match held {
            Held::Person(person, account) => {
                Self::Person(PersonId(person.into_bytes()), AccountId(account.into_bytes()))
            }
            Held::Pool(account) => Self::Pool(AccountId(account.into_bytes())),
            Held::Unknown(account) => Self::Unknown(account.map(|account| AccountId(account.into_bytes()))),
            Held::Undecided(account) => Self::Undecided(AccountId(account.into_bytes())),
        }
    }
}

impl From<&State> for Snapshot {
    fn from(state: &State) -> Self {
        Self {
            open: state.open.map(|open| Stretch {
                id: Uuid::from_bytes(open.id.0),
                holder: open.holder.into(),
                at: open.started_at.0,
                started: known_name(open.started).to_owned(),
            }),
            leaver: state.leaver.map(|left| Left {
                custody: Uuid::from_bytes(left.custody.0),
                holder: left.holder.into(),
                at: left.left_at.0,
                by: Uuid::from_bytes(left.left_by.0),
            }),
            told_at: state.told_at.map(|at| at.0),
            last: state.last.map(|(at, id)| (at.0, Uuid::from_bytes(id.0))),
        }
    }
}

impl From<Snapshot> for State {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            open: snapshot.open.map(|open| Custody {
                id: EventId(open.id.into_bytes()),
                holder: open.holder.into(),
                started_at: Moment(open.at),
                started: known_named(&open.started).unwrap_or(Known::Inferred),
                ended: None,
            }),
            leaver: snapshot.leaver.map(|left| Leaver {
                custody: EventId(left.custody.into_bytes()),
                holder: left.holder.into(),
                left_at: Moment(left.at),
                left_by: EventId(left.by.into_bytes()),
            }),
            told_at: snapshot.told_at.map(Moment),
            last: snapshot.last.map(|(at, id)| (Moment(at), EventId(id.into_bytes()))),
        }
    }
}

/// The name of a way of knowing, in SQL and JSON.
pub fn known_name(known: Known) -> &'static str {
    match known {
        Known::Observed => "observed",
        Known::Inferred => "inferred",
        Known::Reconciled => "reconciled",
    }
}

/// The way of knowing of that name.
pub fn known_named(name: &str) -> Option<Known> {
    [Known::Observed, Known::Inferred, Known::Reconciled].into_iter().find(|known| known_name(*known) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_the_same_after_it_was_written_down() {
        let amina = Holder::Person(PersonId([1; 16]), AccountId([2; 16]));
        let state = State {
            open: Some(Custody {
                id: EventId([3; 16]),
                holder: Holder::Undecided(AccountId([4; 16])),
                started_at: Moment(5),
                started: Known::Reconciled,
                ended: None,
            }),
            leaver: Some(Leaver {
                custody: EventId([6; 16]),
                holder: amina,
                left_at: Moment(7),
                left_by: EventId([8; 16]),
            }),
            told_at: Some(Moment(9)),
            last: Some((Moment(10), EventId([11; 16]))),
        };

        let text = serde_json::to_string(&Snapshot::from(&state)).unwrap();
        let again: Snapshot = serde_json::from_str(&text).unwrap();

        assert_eq!(State::from(again), state);
        assert_eq!(State::from(serde_json::from_str::<Snapshot>("{}").unwrap()), State::default());
    }
}
