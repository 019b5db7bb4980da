//! What the database says in the end, and what has to be true of it, whoever was killed on the way.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use handover::app::replay::Replayed;
use handover::cli::house;
use handover::sandbox::{FaultKind, Seen};
use handover::store::Store;
use sqlx::types::Json;
use sqlx::{PgPool, SqlitePool};
use uuid::Uuid;

use crate::program::Site;
use crate::rounds::Told;

/// The database, looked at from outside.
pub(crate) enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// All rows of a statement, as tuples.
macro_rules! rows {
    ($database:expr, $statement:expr) => {
        match $database {
            Database::Sqlite(pool) => sqlx::query_as($statement).fetch_all(pool).await.unwrap(),
            Database::Postgres(pool) => sqlx::query_as($statement).fetch_all(pool).await.unwrap(),
        }
    };
}

impl Database {
    /// The states that revocations are in, each once for every revocation.
    pub(crate) async fn states(&self) -> Vec<String> {
        let states: Vec<(String,)> = rows!(self, "SELECT state FROM revocations");
        states.into_iter().map(|(state,)| state).collect()
    }

    /// What has not come to its end: states of revocations, and accounts that nothing is known of.
    pub(crate) async fn unfinished(&self) -> Vec<(String, i64)> {
        const UNFINISHED: &str = "SELECT state, count(*) FROM revocations
             WHERE state NOT IN ('verified', 'covered_by_other', 'moot', 'not_effective') GROUP BY state
             UNION ALL SELECT 'undecided account', count(*) FROM accounts WHERE standing = 'undecided' HAVING count(*) > 0";
        rows!(self, UNFINISHED)
    }

    /// How many events are stored more often than once, by what they said.
    pub(crate) async fn stored_twice(&self) -> i64 {
        let counts: Vec<(i64,)> = rows!(self, "SELECT count(*) - count(DISTINCT raw) FROM events");
        counts[0].0
    }

    /// Everything that is written about attempts and revocations: id, state, owner, end.
    pub(crate) async fn written(&self) -> BTreeMap<Uuid, (String, Option<String>, Option<DateTime<Utc>>)> {
        type Row = (Uuid, String, Option<String>, Option<DateTime<Utc>>);
        let rows: Vec<Row> = rows!(
            self,
            "SELECT id, state, owner, ended_at FROM attempts UNION ALL SELECT id, state, NULL, closed_at FROM revocations"
        );
        rows.into_iter().map(|(id, state, owner, at)| (id, (state, owner, at))).collect()
    }

    /// The events that are stored.
    pub(crate) async fn events(&self) -> BTreeSet<Uuid> {
        let events: Vec<(Uuid,)> = rows!(self, "SELECT id FROM events");
        events.into_iter().map(|(id,)| id).collect()
    }
}

pub(crate) struct Attempt {
    pub(crate) id: Uuid,
    person_id: Uuid,
    object_id: Uuid,
    pub(crate) state: String,
    pub(crate) began_at: DateTime<Utc>,
    pub(crate) ended_at: Option<DateTime<Utc>>,
    pub(crate) collateral: Vec<Uuid>,
}

pub(crate) struct Revocation {
    id: Uuid,
    person_id: Option<Uuid>,
    pub(crate) state: String,
    owed_at: DateTime<Utc>,
    closed_at: Option<DateTime<Utc>>,
    attempt_id: Option<Uuid>,
}

/// What the database says in the end.
pub(crate) struct Ledger {
    pub(crate) events: BTreeSet<Uuid>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) revocations: BTreeMap<Uuid, Revocation>,
    covers: BTreeMap<Uuid, Vec<Uuid>>,
}

type AttemptRow = (Uuid, Uuid, Uuid, String, DateTime<Utc>, Option<DateTime<Utc>>, Json<Vec<Uuid>>);
type RevocationRow = (Uuid, Option<Uuid>, String, DateTime<Utc>, Option<DateTime<Utc>>, Option<Uuid>);

impl Ledger {
    pub(crate) async fn read(database: &Database) -> Self {
        const ATTEMPTS: &str = "SELECT a.id, a.person_id, p.object_id, a.state, a.began_at, a.ended_at, a.collateral
             FROM attempts a JOIN people p ON p.id = a.person_id ORDER BY a.began_at";
        const REVOCATIONS: &str = "SELECT id, person_id, state, owed_at, closed_at, attempt_id FROM revocations";
        let attempts: Vec<AttemptRow> = rows!(database, ATTEMPTS);
        let revocations: Vec<RevocationRow> = rows!(database, REVOCATIONS);
        let pairs: Vec<(Uuid, Uuid)> = rows!(database, "SELECT attempt_id, revocation_id FROM attempt_revocations");
        let mut covers: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        for (attempt, revocation) in pairs {
            covers.entry(attempt).or_default().push(revocation);
        }
        let attempts = attempts.into_iter().map(|(id, person_id, object_id, state, began_at, ended_at, collateral)| {
            Attempt { id, person_id, object_id, state, began_at, ended_at, collateral: collateral.0 }
        });
        let revocations = revocations.into_iter().map(|(id, person_id, state, owed_at, closed_at, attempt_id)| {
            (id, Revocation { id, person_id, state, owed_at, closed_at, attempt_id })
        });
        Self {
            events: database.events().await,
            attempts: attempts.collect(),
            revocations: revocations.collect(),
            covers,
        }
    }

    /// Everything that has to be true, whatever happened. Says what a fold of all events found.
    pub(crate) async fn hold_to_the_laws(
        &self,
        site: &Site,
        told: &Told,
        calls: &[Seen],
        people: impl Iterator<Item = Uuid>,
    ) -> Replayed {
        nothing_acknowledged_is_lost(self, told);
        let replayed = custodies_are_what_the_fold_makes(site).await;
        every_departure_is_answered(self);
        no_call_without_cause(self, calls);
        duplicates_are_bounded(self, calls, told);
        one_at_a_time(self);
        what_is_proven_happened(site, self, people);
        replayed
    }
}

pub(crate) fn nothing_acknowledged_is_lost(ledger: &Ledger, told: &Told) {
    let lost: Vec<_> = told.acknowledged.difference(&ledger.events).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged events are lost: {lost:?}", lost.len(), told.acknowledged.len());
}

pub(crate) async fn custodies_are_what_the_fold_makes(site: &Site) -> Replayed {
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
