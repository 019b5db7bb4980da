//! What the rounds of killing share: the day of a ward, what the test hears of it, and the end of it all.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use handover::app::replay::Replayed;
use handover::sandbox::{Fault, FaultKind, Lag, Route, Seen};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use uuid::Uuid;

use crate::ledger::Ledger;
use crate::program::{POOL, Site, event, upn};

const PEOPLE: u32 = 80;
const DEVICES: u32 = 40;

/// Events handed to the program in a round, at most, and how many are on their way at once.
pub(crate) const EVENTS: usize = 24;
pub(crate) const AT_ONCE: usize = 4;

/// How many rounds, if nobody says otherwise.
const ROUNDS: u64 = 100;

/// `HANDOVER_KILL_ROUNDS`.
pub(crate) fn rounds() -> u64 {
    number("HANDOVER_KILL_ROUNDS").unwrap_or(ROUNDS)
}

/// Whether this is the long run, which may wait for leases to run out.
pub(crate) fn is_long() -> bool {
    rounds() > ROUNDS
}

/// Into how many steps the numbers of system calls are swept: two for a hundred rounds.
pub(crate) fn points() -> u64 {
    (rounds() / 50).max(1)
}

/// `HANDOVER_KILL_SEED`, or any.
pub(crate) fn seed() -> u64 {
    number("HANDOVER_KILL_SEED").unwrap_or_else(rand::random)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn person(n: u32) -> String {
    format!("person{n:03}")
}

/// Everybody, in a directory that tells of a revocation 0.4 s late. Gives their object ids.
pub(crate) fn population(site: &Site) -> Vec<Uuid> {
    site.sandbox.entra.set_lag(None, Lag::After(Duration::from_millis(400)));
    (0..PEOPLE).map(|n| site.sandbox.entra.add_user(upn(&person(n)).as_str())).collect()
}

/// What Graph does wrong for a share of the calls.
pub(crate) fn bad_days(site: &Site) {
    let bad = |route, kind, share| site.sandbox.entra.fault(Fault::always(route, kind).with_probability(share));
    bad(Route::Revoke, FaultKind::Delay { ms: 250 }, 0.15);
    bad(Route::Revoke, FaultKind::DelayAfter { ms: 250 }, 0.2);
    bad(Route::Revoke, FaultKind::ResetAfter, 0.08);
    bad(Route::Revoke, FaultKind::ResetBefore, 0.04);
    bad(Route::Revoke, FaultKind::HalfAnswer, 0.04);
    bad(Route::Revoke, FaultKind::Status { code: 503, retry_after: None }, 0.04);
    bad(Route::ReadUser, FaultKind::StaleStamp, 0.05);
    bad(Route::ReadUser, FaultKind::Status { code: 502, retry_after: None }, 0.02);
}

/// Who takes and returns what: events in the order of each device's day, with some that come twice and some that come late.
pub(crate) struct Story {
    pub(crate) dice: StdRng,
    held: HashMap<u32, String>,
    pub(crate) waiting: VecDeque<String>,
    late: Vec<String>,
}

impl Story {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: StdRng::seed_from_u64(seed), held: HashMap::new(), waiting: VecDeque::new(), late: Vec::new() }
    }

    pub(crate) fn next(&mut self, now: DateTime<Utc>) -> String {
        if let Some(again) = self.waiting.pop_front() {
            return again;
        }
        if !self.late.is_empty() && self.dice.random_bool(0.3) {
            let nth = self.dice.random_range(0..self.late.len());
            return self.late.swap_remove(nth);
        }
        let device = self.dice.random_range(0..DEVICES);
        let person = person(self.dice.random_range(0..PEOPLE));
        let returns = self.held.contains_key(&device) && self.dice.random_bool(0.4);
        let user = if returns { POOL.to_owned() } else { person };
        if returns {
            self.held.remove(&device)
        } else {
            self.held.insert(device, user.clone())
        };
        let body = event(device, &user, now);
        if self.dice.random_bool(0.1) {
            self.waiting.push_back(body.clone());
        }
        if self.dice.random_bool(0.1) {
            self.late.push(body);
            return self.next(now + TimeDelta::milliseconds(1));
        }
        body
    }
}

/// What the test heard and did.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) starts: Vec<Duration>,
    pub(crate) kills: Vec<DateTime<Utc>>,
    pub(crate) posted: usize,
    pub(crate) acknowledged: BTreeSet<Uuid>,
    acknowledgements: usize,
    duplicates: usize,
    refused: usize,
    unanswered: usize,
}

/// How a post ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// With 200: it is written down now.
    Yes,
    /// With 200: it was written down before, which needs no write.
    Known,
    /// With 503: the sender comes again.
    NotNow,
    /// Not at all.
    Never,
}

impl Answered {
    /// Whether the sender may forget the event.
    pub(crate) fn is_acknowledged(self) -> bool {
        matches!(self, Self::Yes | Self::Known)
    }
}

impl Told {
    /// Takes down how a post ended.
    pub(crate) fn hear(&mut self, answer: Option<(u16, Value)>, body: &str) -> Answered {
        self.posted += 1;
        match answer {
            Some((200, answer)) => {
                self.acknowledgements += 1;
                self.acknowledged.insert(answer["event"].as_str().unwrap().parse().unwrap());
                if answer["status"] == "duplicate" {
                    self.duplicates += 1;
                    return Answered::Known;
                }
                Answered::Yes
            }
            Some((503, _)) => {
                self.refused += 1;
                Answered::NotNow
            }
            Some(other) => panic!("an event was answered {other:?}:\n{body}"),
            None => {
                self.unanswered += 1;
                Answered::Never
            }
        }
    }
}

/// Waits until no revocation is unfinished and no account undecided.
pub(crate) async fn drain(site: &Site, within: Duration) -> Duration {
    let began = Instant::now();
    let database = site.database().await;
    loop {
        let unfinished = database.unfinished().await;
        if unfinished.is_empty() {
            return began.elapsed();
        }
        assert!(began.elapsed() < within, "still unfinished: {unfinished:?}\n{}", site.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Every revocation that the directory was asked for.
pub(crate) fn calls(site: &Site) -> Vec<Seen> {
    site.sandbox.entra.seen().into_iter().filter(|seen| seen.route == Route::Revoke).collect()
}

impl Told {
    pub(crate) fn print(&self, ledger: &Ledger, calls: &[Seen], replayed: &Replayed, drained: Duration) {
        let count = |state: &str| ledger.revocations.values().filter(|row| row.state == state).count();
        let attempts = |state: &str| ledger.attempts.iter().filter(|attempt| attempt.state == state).count();
        let in_flight = ledger.attempts.iter().filter(|attempt| {
            self.kills.iter().any(|at| attempt.began_at <= *at && attempt.ended_at.is_none_or(|ended| *at < ended))
        });
        let mut starts = self.starts.clone();
        starts.sort_unstable();
        println!(
            "{} kills, or moments of a fault that lasted; start-up median {:?}, longest {:?}; {} attempts in flight at a kill",
            self.kills.len(),
            starts[starts.len() / 2],
            starts[starts.len() - 1],
            in_flight.count()
        );
        println!(
            "0 of {} acknowledged events lost ({} posts, {} answered 200, {} of them duplicates, {} refused, {} unanswered); {} stored",
            self.acknowledged.len(),
            self.posted,
            self.acknowledgements,
            self.duplicates,
            self.refused,
            self.unanswered,
            ledger.events.len()
        );
        println!(
            "0 of {} custodies on {} devices differ from the fold of {} events",
            replayed.custodies, replayed.devices, replayed.events
        );
        println!(
            "{} revocations: {} verified, {} covered by another, {} moot; drained {drained:?} after the last start",
            ledger.revocations.len(),
            count("verified"),
            count("covered_by_other"),
            count("moot")
        );
        println!(
            "{} calls in {} attempts ({} verified, {} failed, {} unproven), {} calls hit by a fault, {} took effect; \
             with {} custodies of the same people open",
            calls.len(),
            ledger.attempts.len(),
            attempts("verified"),
            attempts("failed"),
            attempts("unproven"),
            calls.iter().filter(|call| call.fault.is_some()).count(),
            calls.iter().filter(|call| call.effect).count(),
            ledger.attempts.iter().map(|attempt| attempt.collateral.len()).sum::<usize>()
        );
    }
}
