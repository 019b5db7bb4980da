//! Unkind worlds: many accounts of few people, ties in time, reads close to what was told, and events nobody expects.

use std::fmt::{self, Debug, Formatter};
use std::time::Duration;

use handover::custody::{AccountId, Event, EventId, How, Moment, PersonId, Policy, RevokeOn, Standing, What};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::Config;

/// How many accounts a world has. Few, so that they meet again.
const ACCOUNTS: u8 = 8;

/// How many cases each law is tried on.
pub(crate) fn thorough() -> Config {
    Config { cases: 10_000, failure_persistence: None, ..Config::default() }
}

/// Everything a fold depends on.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) standings: Vec<Standing>,
    pub(crate) policy: Policy,
    /// In order, each once.
    pub(crate) events: Vec<Event>,
}

/// One line for each event, or nobody could read what a failing law prints.
impl Debug for World {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.policy)?;
        for Event { id, at, what, how } in &self.events {
            let (what, standing) = match *what {
                What::With(account) => (format!("With({})", account.0[0]), Some(self.standing()(account))),
                What::Enrolled(account) => (format!("Enrolled({})", account.0[0]), Some(self.standing()(account))),
                What::Nameless | What::Gone | What::Erased | What::Silent => (format!("{what:?}"), None),
            };
            writeln!(f, "{:?} {:?} at {} {how:?} {what} {standing:?}", id.0[0], id.0[1], at.0)?;
        }
        Ok(())
    }
}

impl World {
    pub(crate) fn standing(&self) -> impl Fn(AccountId) -> Standing {
        |account| self.standings[usize::from(account.0[0])]
    }

    /// The same events in an order and a multiplicity that `delivery` chooses; each at least once.
    pub(crate) fn delivered(&self, delivery: &[Index]) -> Vec<Event> {
        let mut events = self.events.clone();
        if !events.is_empty() {
            for index in delivery {
                let chosen = *index.get(&events);
                let place = (index.index(usize::MAX) >> 7) % (events.len() + 1);
                events.insert(place, chosen);
                let one = (index.index(usize::MAX) >> 13) % events.len();
                let two = (index.index(usize::MAX) >> 29) % events.len();
                events.swap(one, two);
            }
        }
        events
    }
}

pub(crate) fn account() -> impl Strategy<Value = AccountId> {
    (0..ACCOUNTS).prop_map(|nth| AccountId([nth; 16]))
}

/// What may be known of an account, once something is.
pub(crate) fn decided() -> impl Strategy<Value = Standing> {
    select(vec![person(0), person(1), person(2), person(1), Standing::Pool, Standing::Pool, Standing::Unresolved])
}

fn person(nth: u8) -> Standing {
    Standing::Person(PersonId([nth; 16]))
}

fn standing() -> impl Strategy<Value = Standing> {
    (0_u8..16).prop_map(|drawn| match drawn {
        0..=2 => person(0),
        3..=6 => person(1),
        7..=8 => person(2),
        9..=12 => Standing::Pool,
        13 => Standing::Unresolved,
        _ => Standing::Undecided,
    })
}

fn what(drawn: u8, account: AccountId) -> What {
    match drawn {
        0..=18 => What::With(account),
        19..=23 => What::Enrolled(account),
        24 => What::Nameless,
        25..=27 => What::Gone,
        28..=29 => What::Erased,
        _ => What::Silent,
    }
}

/// An event of time `at`. All else about it is drawn at once: ten thousand worlds have to be made quickly.
fn event(at: impl Strategy<Value = Moment>) -> impl Strategy<Value = Event> {
    (at, any::<[u8; 3]>()).prop_map(|(at, [drawn, named, salt])| Event {
        id: EventId([salt; 16]),
        at,
        what: what(drawn % 32, AccountId([named % ACCOUNTS; 16])),
        how: if drawn < 128 { How::Told } else { How::Read },
    })
}

/// Times that collide, times that lie just inside and just outside the settling time, and times far apart.
fn ordinary() -> impl Strategy<Value = Moment> {
    (0_i64..120).prop_map(|drawn| match drawn {
        0..24 => Moment::from_seconds(drawn / 2 * 10),
        24..60 => Moment((drawn / 3 - 8) * 20_000_000 + drawn % 3 - 1),
        _ => Moment::from_seconds((drawn - 60) * 60),
    })
}

/// Times at both ends of what can be said.
fn extreme() -> impl Strategy<Value = Moment> {
    prop_oneof![
        any::<i64>().prop_map(Moment),
        (0_i64..3).prop_map(|micros| Moment(i64::MIN + micros)),
        (0_i64..3).prop_map(|micros| Moment(i64::MAX - micros)),
        (-1_i64..2).prop_map(Moment),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let settle = select(vec![20_000_000, 20_000_000, 20_000_000, 0, 1, 3_600_000_000]);
    (any::<bool>(), settle).prop_map(|(next_user, micros)| Policy {
        revoke_on: if next_user { RevokeOn::NextUser } else { RevokeOn::Return },
        settle: Duration::from_micros(micros),
    })
}

fn of(events: impl Strategy<Value = Vec<Event>>) -> impl Strategy<Value = World> {
    (vec(standing(), usize::from(ACCOUNTS)), policy(), events).prop_map(|(standings, policy, mut events)| {
        // An id is derived from what an event says: no two events have the same one. The place in the list makes it so,
        // and the salt before it breaks ties of time in an order that has nothing to do with the list.
        for (event, place) in events.iter_mut().zip(0_u8..) {
            event.id.0[1] = place;
        }
        events.sort_by_key(Event::key);
        World { standings, policy, events }
    })
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    of(vec(event(ordinary()), 0..20))
}

/// A world at the ends of time.
pub(crate) fn world_at_the_ends_of_time() -> impl Strategy<Value = World> {
    of(vec(event(extreme()), 0..12))
}

/// How events are delivered: see [`World::delivered`].
pub(crate) fn delivery() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 0..24)
}
