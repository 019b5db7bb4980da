//! Three instances race for the same people.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use handover::app::{App, Rulebook};
use handover::sandbox::{Route, Sandbox, Settings};
use handover::store::attempts::{self, AttemptRow};
use handover::store::{Kind, revocations};
use sqlx::types::Json;
use uuid::Uuid;

use crate::site::{self, body, directory, instances};
use crate::support::{Aside, TestStore};

const PEOPLE: usize = 60;
const DEBTS: usize = 3;

fn live() -> Rulebook {
    Rulebook { shadow: false, ..Rulebook::default() }
}

async fn sandbox() -> Sandbox {
    Sandbox::start(Settings { seed: 1, ..Settings::default() }).await.unwrap()
}

/// Each person has several devices, and loses them to others.
async fn owe(sandbox: &Sandbox, app: &App, people: usize, debts: usize) -> Vec<Uuid> {
    let ids: Vec<_> =
        (0..people).map(|nth| sandbox.entra.add_user(format!("p{nth}@contoso.example").as_str())).collect();
    let then = site::now() - TimeDelta::minutes(10);
    let mut bodies = Vec::new();
    for nth in 0..people {
        for debt in 0..debts {
            let serial = format!("W{nth}X{debt}");
            bodies.push(body(&serial, &format!("p{nth}"), then));
            bodies.push(body(&serial, "stg-ipad", then + TimeDelta::minutes(1)));
            bodies.push(body(&serial, "nobody-we-revoke", then + TimeDelta::minutes(2)));
        }
    }
    for some in bodies.chunks(200) {
        app.receive_many("uem", None, some.to_vec()).await.unwrap();
    }
    ids
}

/// The revocations by state, which together are all there are (I12).
async fn states(home: &TestStore) -> BTreeMap<String, i64> {
    let tallies = home.store.finished().and_unfinished(&mut home.store.read().await.unwrap()).await.unwrap();
    tallies.into_iter().map(|tally| (tally.state, tally.many)).collect()
}

/// Lets every instance pay and prove, all at the same time, until all is verified.
async fn until_verified(home: &TestStore, apps: &[App], all: i64) {
    let began = Instant::now();
    loop {
        let turns = apps.iter().map(|app| async move {
            app.pay().await.unwrap();
            app.prove().await.unwrap();
        });
        futures_util::future::join_all(turns).await;
        let states = states(home).await;
        assert_eq!(states.values().sum::<i64>(), all, "none is lost on the way: {states:?}");
        if states.get("verified") == Some(&all) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{states:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn calls(sandbox: &Sandbox) -> BTreeMap<Uuid, usize> {
    let mut calls = BTreeMap::new();
    for seen in sandbox.entra.seen().into_iter().filter(|seen| seen.route == Route::Revoke) {
        *calls.entry(seen.user.unwrap()).or_default() += 1;
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_instances_that_race_for_a_person_make_one_call() {
    let sandbox = sandbox().await;
    let names = ["one", "two", "three"];
    let Some((home, apps)) = instances(Kind::Postgres, &names, live(), Some(&sandbox)).await else { return };
    let people = owe(&sandbox, &apps[0], PEOPLE, DEBTS).await;

    until_verified(&home, &apps, i64::try_from(PEOPLE * DEBTS).unwrap()).await;

    let calls = calls(&sandbox);
    let more: Vec<_> = people.iter().filter(|person| calls.get(*person) != Some(&1)).collect();
    assert!(more.is_empty(), "{} of {PEOPLE} people were not called exactly once: {calls:?}", more.len());
    let mut at: Vec<_> =
        sandbox.entra.seen().into_iter().filter(|seen| seen.route == Route::Revoke).map(|seen| seen.at).collect();
    at.sort();
    let most =
        (0..at.len()).map(|nth| at[nth..].iter().take_while(|one| **one < at[nth] + TimeDelta::seconds(1)).count());
    let most = most.max().unwrap();
    // 15 a second and one second's worth after the rest at the beginning.
    assert!(most <= 31, "{most} calls of three instances within a second");
    let owners = "SELECT 1 FROM attempts GROUP BY owner";
    let Aside::Postgres(mut connection) = home.aside().await else { unreachable!() };
    let owners = sqlx::query(owners).fetch_all(&mut connection).await.unwrap().len();
    assert!(owners > 1, "only one instance did anything, so there was no race");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_instance_had_under_way_is_taken_over_by_one_and_its_own_word_counts_no_more() {
    let sandbox = sandbox().await;
    let names = ["one", "two"];
    let Some((home, apps)) = instances(Kind::Postgres, &names, live(), Some(&sandbox)).await else { return };
    let people = owe(&sandbox, &apps[0], 1, 2).await;
    let Aside::Postgres(mut connection) = home.aside().await else { unreachable!() };
    // Whoever has an attempt under way has been found in the directory.
    let found = "UPDATE people SET object_id = $1 WHERE upn_key = 'p0@contoso.example'";
    sqlx::query(found).bind(people[0]).execute(&mut connection).await.unwrap();
    let mut tx = home.store.write().await.unwrap();
    let now = tx.clock(site::now()).await.unwrap();
    let due = revocations::due_people(&mut tx, site::now(), site::now() + TimeDelta::hours(1), 9).await.unwrap();
    let rows = revocations::waiting_for(&mut tx, due[0].person_id, "open").await.unwrap();
    let mut dead = AttemptRow {
        id: Uuid::new_v4(),
        person_id: due[0].person_id,
        state: String::from("in_flight"),
        began_at: site::now(),
        owner: String::from("dead"),
        lease_until: Some(now + TimeDelta::seconds(30)),
        stamp_before: None,
        stamp_verified: None,
        outcome: None,
        status: None,
        error_code: None,
        request_id: None,
        graph_date: None,
        graph_offset_us: None,
        ended_at: None,
        reads: 0,
        read_at: None,
        stamp_after: None,
        collateral: Json(Vec::new()),
    };
    let covers: Vec<_> = rows.iter().map(|row| row.id).collect();
    assert!(attempts::begin(&mut tx, &dead, &covers).await.unwrap());
    for mut row in rows {
        row.state = String::from("in_flight");
        row.attempt_id = Some(dead.id);
        assert!(revocations::save(&mut tx, &row).await.unwrap());
    }
    tx.commit().await.unwrap();

    for app in &apps {
        app.pay().await.unwrap();
    }
    let within_the_lease = calls(&sandbox).len();
    let over = "UPDATE attempts SET lease_until = clock_timestamp() - interval '1 microsecond'";
    sqlx::query(over).execute(&mut connection).await.unwrap();
    let began = Instant::now();
    until_verified(&home, &apps, 2).await;
    let took = began.elapsed();

    let mut tx = home.store.write().await.unwrap();
    dead.state = String::from("failed");
    dead.ended_at = Some(site::now());
    let renewed = attempts::renew(&mut tx, dead.id, "dead", now, now + TimeDelta::minutes(1)).await.unwrap();
    let ended = attempts::end(&mut tx, &dead, "dead").await.unwrap();
    assert_eq!((within_the_lease, renewed, ended), (0, false, false));
    assert_eq!(calls(&sandbox), BTreeMap::from([(people[0], 1)]), "its own call had never left");
    // A lease lasts 30 s, and 45 s after a death it is over: there are 15 s for taking it over and ending it.
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_slept_through_a_lease_does_not_call() {
    let sandbox = sandbox().await;
    let person = sandbox.entra.add_user("p@contoso.example");
    let entra = directory(&sandbox);

    let kept_back = entra.revoke_while(person, Uuid::new_v4(), &|| Box::pin(async { false })).await;
    let before = calls(&sandbox).len();
    let sent = entra.revoke_while(person, Uuid::new_v4(), &|| Box::pin(async { true })).await;

    assert_eq!((kept_back.sent, before), (false, 0), "{kept_back:?}");
    assert_eq!((sent.sent, calls(&sandbox).get(&person)), (true, Some(&1)), "{sent:?}");
}
