//! Rounds of SIGKILL under load, and what has to be true afterwards.
//!
//! `HANDOVER_KILL_ROUNDS` says how many (100), `HANDOVER_KILL_SEED` repeats a run; both are printed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use handover::cli::house;
use handover::sandbox::{Fault, FaultKind, Lag, Route, Seen};
use handover::store::Store;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::sqlite::SqliteRow;
use sqlx::types::Json;
use sqlx::{Row as _, SqlitePool};
use uuid::Uuid;

use crate::program::{POOL, Running, Site, event, upn};

const PEOPLE: u32 = 80;
const DEVICES: u32 = 40;

/// Events handed to the program in a round, at most, and how many are on their way at once.
const EVENTS: usize = 24;
const AT_ONCE: usize = 4;

/// The longest life of a process, counted from being ready.
const LONGEST_LIFE_MS: u64 = 900;

/// How long everything may take to come to its end once nobody kills and nothing fails.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_it_loses_nothing_and_calls_nobody_twice() {
    let rounds = number("HANDOVER_KILL_ROUNDS").unwrap_or(100);
    let seed = number("HANDOVER_KILL_SEED").unwrap_or_else(rand::random);
    println!("HANDOVER_KILL_ROUNDS={rounds} HANDOVER_KILL_SEED={seed}");
    let site = Site::new(seed, "").await;
    let people: Vec<_> = (0..PEOPLE).map(person).collect();
    let ids: BTreeMap<_, _> =
        people.iter().map(|name| (name, site.sandbox.entra.add_user(upn(name).as_str()))).collect();
    site.sandbox.entra.set_lag(None, Lag::After(Duration::from_millis(400)));
    let mut story =
        Story { dice: StdRng::seed_from_u64(seed), held: HashMap::new(), waiting: VecDeque::new(), late: Vec::new() };
    let mut told = Told::default();

    bad_days(&site);
    for _ in 0..rounds {
        let (running, took) = site.start().await;
        told.starts.push(took);
        let life = Duration::from_millis(story.dice.random_range(0..LONGEST_LIFE_MS));
        let killed_at = live_and_die(&site, running, life, &mut story, &mut told).await;
        told.kills.push(killed_at);
    }
    site.sandbox.entra.clear_faults();
    let (running, took) = site.start().await;
    told.starts.push(took);
    let drained = drain(&site).await;
    running.kill();

    let ledger = Ledger::read(&site.database().await).await;
    nothing_acknowledged_is_lost(&ledger, &told);
    let replayed = custodies_are_what_the_fold_makes(&site).await;
    every_departure_is_answered(&ledger);
    let calls: Vec<_> = site.sandbox.entra.seen().into_iter().filter(|seen| seen.route == Route::Revoke).collect();
    no_call_without_cause(&ledger, &calls);
    duplicates_are_bounded(&ledger, &calls, &told);
    one_at_a_time(&ledger);
    what_is_proven_happened(&site, &ledger, ids.values().copied());
    told.print(&ledger, &calls, &replayed, drained);
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn person(n: u32) -> String {
    format!("person{n:03}")
}

/// What Graph does wrong for a share of the calls.
fn bad_days(site: &Site) {
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
struct Story {
    dice: StdRng,
    held: HashMap<u32, String>,
    waiting: VecDeque<String>,
    late: Vec<String>,
}

impl Story {
    fn next(&mut self, now: DateTime<Utc>) -> String {
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
struct Told {
    starts: Vec<Duration>,
    kills: Vec<DateTime<Utc>>,
    posted: usize,
    acknowledged: BTreeSet<Uuid>,
    acknowledgements: usize,
    duplicates: usize,
    unanswered: usize,
}

/// One life: events come in, and in the middle of it the process is gone. Says when.
async fn live_and_die(
    site: &Site,
    running: Running,
    life: Duration,
    story: &mut Story,
    told: &mut Told,
) -> DateTime<Utc> {
    let end = tokio::time::sleep(life);
    tokio::pin!(end);
    let mut running = Some(running);
    let mut killed_at = site.sandbox.entra.now();
    let mut left = EVENTS;
    let mut posts = FuturesUnordered::new();
    loop {
        while left > 0 && running.is_some() && posts.len() < AT_ONCE {
            let body = story.next(site.sandbox.entra.now());
            posts.push(async { (site.post(body.clone()).await, body) });
            (left, told.posted) = (left - 1, told.posted + 1);
        }
        tokio::select! {
            () = &mut end, if running.is_some() => {
                running.take().unwrap().kill();
                killed_at = site.sandbox.entra.now();
            }
            Some((answer, body)) = posts.next() => match answer {
                Some((200, answer)) => {
                    told.acknowledgements += 1;
                    told.duplicates += usize::from(answer["status"] == "duplicate");
                    told.acknowledged.insert(answer["event"].as_str().unwrap().parse().unwrap());
                }
                Some(other) => panic!("an event was answered {other:?}:\n{body}"),
                None => {
                    told.unanswered += 1;
                    // Half of the senders come again.
                    if story.dice.random_bool(0.5) {
                        story.waiting.push_back(body);
                    }
                }
            },
            else => return killed_at,
        }
    }
}

/// Waits until no revocation is unfinished and no account undecided.
async fn drain(site: &Site) -> Duration {
    const UNFINISHED: &str = "SELECT state, count(*) FROM revocations
         WHERE state NOT IN ('verified', 'covered_by_other', 'moot', 'not_effective') GROUP BY state
         UNION ALL SELECT 'undecided account', count(*) FROM accounts WHERE standing = 'undecided' HAVING count(*) > 0";
    let began = Instant::now();
    let database = site.database().await;
    loop {
        let unfinished: Vec<(String, i64)> = sqlx::query_as(UNFINISHED).fetch_all(&database).await.unwrap();
        if unfinished.is_empty() {
            return began.elapsed();
        }
        assert!(began.elapsed() < DRAINED_WITHIN, "still unfinished: {unfinished:?}\n{}", site.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

struct Attempt {
    id: Uuid,
    person_id: Uuid,
    object_id: Uuid,
    state: String,
    began_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    collateral: Json<Vec<Uuid>>,
}

struct Revocation {
    id: Uuid,
    person_id: Option<Uuid>,
    state: String,
    owed_at: DateTime<Utc>,
    closed_at: Option<DateTime<Utc>>,
    attempt_id: Option<Uuid>,
}

impl Attempt {
    fn read(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            person_id: row.try_get("person_id")?,
            object_id: row.try_get("object_id")?,
            state: row.try_get("state")?,
            began_at: row.try_get("began_at")?,
            ended_at: row.try_get("ended_at")?,
            collateral: row.try_get("collateral")?,
        })
    }
}

impl Revocation {
    fn read(row: &SqliteRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            person_id: row.try_get("person_id")?,
            state: row.try_get("state")?,
            owed_at: row.try_get("owed_at")?,
            closed_at: row.try_get("closed_at")?,
            attempt_id: row.try_get("attempt_id")?,
        })
    }
}

/// What the database says in the end.
struct Ledger {
    events: BTreeSet<Uuid>,
    attempts: Vec<Attempt>,
    revocations: BTreeMap<Uuid, Revocation>,
    covers: BTreeMap<Uuid, Vec<Uuid>>,
}

impl Ledger {
    async fn read(database: &SqlitePool) -> Self {
        const ATTEMPTS: &str = "SELECT a.id, a.person_id, p.object_id, a.state, a.began_at, a.ended_at, a.collateral
             FROM attempts a JOIN people p ON p.id = a.person_id ORDER BY a.began_at";
        const REVOCATIONS: &str = "SELECT id, person_id, state, owed_at, closed_at, attempt_id FROM revocations";
        const COVERS: &str = "SELECT attempt_id, revocation_id FROM attempt_revocations";
        let events: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM events").fetch_all(database).await.unwrap();
        let attempts = sqlx::query(ATTEMPTS).try_map(|row| Attempt::read(&row)).fetch_all(database).await.unwrap();
        let revocations =
            sqlx::query(REVOCATIONS).try_map(|row| Revocation::read(&row)).fetch_all(database).await.unwrap();
        let pairs: Vec<(Uuid, Uuid)> = sqlx::query_as(COVERS).fetch_all(database).await.unwrap();
        let mut covers: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        for (attempt, revocation) in pairs {
            covers.entry(attempt).or_default().push(revocation);
        }
        let revocations = revocations.into_iter().map(|row| (row.id, row)).collect();
        Self { events: events.into_iter().collect(), attempts, revocations, covers }
    }
}

fn nothing_acknowledged_is_lost(ledger: &Ledger, told: &Told) {
    let lost: Vec<_> = told.acknowledged.difference(&ledger.events).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged events are lost: {lost:?}", lost.len(), told.acknowledged.len());
}

async fn custodies_are_what_the_fold_makes(site: &Site) -> handover::app::replay::Replayed {
    let config = site.config();
    let store = Store::open(&config.database.url, &config.base).await.unwrap();
    let replayed = house::app(&config, store).unwrap().replay(|_| {}).await.unwrap();
    assert_eq!(replayed.differ, 0, "{:#?}", replayed.differences);
    replayed
}

/// I4: whatever a departure asks for has come to its end.
fn every_departure_is_answered(ledger: &Ledger) {
    for row in ledger.revocations.values() {
        let answered = ["verified", "covered_by_other", "moot"].contains(&row.state.as_str());
        assert!(answered, "revocation {} is {}", row.id, row.state);
        if row.state != "moot" {
            let attempt = ledger.attempts.iter().find(|attempt| Some(attempt.id) == row.attempt_id).unwrap();
            assert_eq!((attempt.state.as_str(), Some(attempt.person_id)), ("verified", row.person_id));
        }
    }
}

/// I6, I7: each call belongs to an attempt that was written down before it, and each attempt covers something that was owed
/// and not answered yet.
fn no_call_without_cause(ledger: &Ledger, calls: &[Seen]) {
    let mut called = BTreeSet::new();
    for call in calls {
        let id: Uuid = call.client_request_id.as_deref().unwrap().parse().unwrap();
        let attempt = ledger.attempts.iter().find(|attempt| attempt.id == id);
        let attempt = attempt.unwrap_or_else(|| panic!("call {id} has no attempt"));
        assert!(called.insert(id), "attempt {id} was sent twice");
        assert_eq!(call.user, Some(attempt.object_id));
        assert!(attempt.began_at <= call.at, "attempt {id} was written down after its call");
        assert!(attempt.ended_at.is_none_or(|ended| call.at <= ended), "attempt {id} was sent after its end");
    }
    for attempt in &ledger.attempts {
        let covered = ledger.covers.get(&attempt.id).unwrap();
        assert!(!covered.is_empty());
        for id in covered {
            let row = &ledger.revocations[id];
            assert!(row.owed_at <= attempt.began_at, "attempt {} covers what was owed later", attempt.id);
            let closed_before = row.closed_at.is_some_and(|closed| closed < attempt.began_at);
            assert!(!closed_before, "attempt {} was made for {id}, which had been answered", attempt.id);
        }
    }
}

/// I8: calls(U) ≤ groups(U) + faults(U), for each person U.
fn duplicates_are_bounded(ledger: &Ledger, calls: &[Seen], told: &Told) {
    let people: BTreeSet<_> = calls.iter().filter_map(|call| call.user).collect();
    for person in people {
        let of_person = || ledger.attempts.iter().filter(|attempt| attempt.object_id == person);
        let made = calls.iter().filter(|call| call.user == Some(person)).count();
        let groups: BTreeSet<_> = ledger
            .revocations
            .values()
            .filter(|row| {
                row.state == "verified" && of_person().any(|attempt| Some(attempt.person_id) == row.person_id)
            })
            .filter_map(|row| row.attempt_id)
            .collect();
        let killed = |attempt: &&Attempt| {
            let ended = attempt.ended_at.unwrap_or(DateTime::<Utc>::MAX_UTC);
            told.kills.iter().any(|at| attempt.began_at <= *at && *at < ended)
        };
        let is_loss = |kind: &FaultKind| !matches!(kind, FaultKind::Delay { .. } | FaultKind::DelayAfter { .. });
        let kills = of_person().filter(killed).count();
        let unproven = of_person().filter(|attempt| attempt.state == "unproven").count();
        let bad = calls.iter().filter(|call| call.user == Some(person) && call.fault.as_ref().is_some_and(is_loss));
        let faults = bad.count() + kills + unproven;
        assert!(made <= groups.len() + faults, "{person}: {made} calls, {} groups, {faults} faults", groups.len());
    }
}

/// I10: the attempts of one person never overlap.
fn one_at_a_time(ledger: &Ledger) {
    let mut last: HashMap<Uuid, &Attempt> = HashMap::new();
    for attempt in &ledger.attempts {
        if let Some(before) = last.insert(attempt.person_id, attempt) {
            let ended = before.ended_at.unwrap();
            assert!(ended <= attempt.began_at, "attempts {} and {} overlap", before.id, attempt.id);
        }
    }
}

/// I5: each verified attempt has its effect in the directory, by its own request id.
fn what_is_proven_happened(site: &Site, ledger: &Ledger, people: impl Iterator<Item = Uuid>) {
    let effects: BTreeSet<Uuid> = people
        .flat_map(|person| site.sandbox.entra.effects(person))
        .map(|effect| effect.client_request_id.unwrap().parse().unwrap())
        .collect();
    for attempt in ledger.attempts.iter().filter(|attempt| attempt.state == "verified") {
        assert!(effects.contains(&attempt.id), "attempt {} counts as proven and never took effect", attempt.id);
    }
}

impl Told {
    fn print(&self, ledger: &Ledger, calls: &[Seen], replayed: &handover::app::replay::Replayed, drained: Duration) {
        let count = |state: &str| ledger.revocations.values().filter(|row| row.state == state).count();
        let attempts = |state: &str| ledger.attempts.iter().filter(|attempt| attempt.state == state).count();
        let in_flight = ledger.attempts.iter().filter(|attempt| {
            self.kills.iter().any(|at| attempt.began_at <= *at && attempt.ended_at.is_none_or(|ended| *at < ended))
        });
        let mut starts = self.starts.clone();
        starts.sort_unstable();
        println!(
            "{} kills; start-up median {:?}, longest {:?}; {} attempts in flight at a kill",
            self.kills.len(),
            starts[starts.len() / 2],
            starts[starts.len() - 1],
            in_flight.count()
        );
        println!(
            "0 of {} acknowledged events lost ({} posts, {} answered 200, {} of them duplicates, {} unanswered); {} stored",
            self.acknowledged.len(),
            self.posted,
            self.acknowledgements,
            self.duplicates,
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
