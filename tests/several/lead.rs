//! Who leads, who follows, and what somebody can still do who slept through it.

use std::time::{Duration, Instant};

use handover::app::lead::Lead;
use handover::app::run::Ended;
use handover::app::{App, Rulebook};
use handover::store::{Error, Kind, house, instances as listed, leases, looks, tokens};
use rstest::rstest;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::site::{self, aside, instances};

/// Short, so that a test can wait for its end.
const LEASE: Duration = Duration::from_millis(900);

fn short() -> Rulebook {
    Rulebook { lease: LEASE, ..Rulebook::default() }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leads_and_another_follows_when_its_time_is_up(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some((home, apps)) = instances(kind, &["one", "two"], short(), None).await else { return };
    let mut tx = home.store.write().await.unwrap();
    house::ensure(&mut tx, chrono::DateTime::default()).await.unwrap();
    tx.commit().await.unwrap();

    let first = apps[0].lead().await.unwrap().unwrap();
    let second = apps[1].lead().await.unwrap();
    let kept = apps[0].lead().await.unwrap().unwrap();
    let beat = house::read(&mut home.store.read().await.unwrap()).await.unwrap().unwrap().beat;
    tokio::time::sleep(LEASE + Duration::from_millis(50)).await;
    let follower = apps[1].lead().await.unwrap().unwrap();
    let overtaken = apps[0].lead().await.unwrap();

    assert_eq!((first.term(), second, kept.term(), beat), (1, None, 1, 2));
    assert_eq!((follower.term(), overtaken), (2, None));
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_that_start_at_once_one_makes_the_first_token(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    for _ in 0..10 {
        let Some((home, apps)) = instances(kind, &["one", "two", "three"], short(), None).await else { return };
        for app in &apps {
            app.enter_house().await.unwrap();
        }

        let made = futures_util::future::join_all(apps.iter().map(App::first_token)).await;

        assert_eq!(made.into_iter().filter_map(Result::unwrap).count(), 1);
        assert_eq!(tokens::list(&mut home.store.read().await.unwrap()).await.unwrap().len(), 1);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_changes_nothing(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some((home, apps)) = instances(kind, &["one", "two"], short(), None).await else { return };
    let asleep = apps[0].lead().await.unwrap().unwrap();
    tokio::time::sleep(LEASE + Duration::from_millis(50)).await;

    let before_anybody_followed = apps[0].write_as_leader(asleep).await.map(drop);
    let awake = apps[1].lead().await.unwrap().unwrap();
    let housekeeping = apps[0].keep_house(asleep).await;
    let sweeping = apps[0].sweep(&apps[0].sources["uem"]).await.map(drop);
    let afterwards = apps[1].write_as_leader(awake).await.map(drop);
    let mut tx = home.store.write().await.unwrap();
    let released = leases::release(&mut tx, leases::LEAD, ("one", asleep.term()), site::now()).await.unwrap();

    assert!(matches!(before_anybody_followed, Err(Error::NotLeading)), "{before_anybody_followed:?}");
    assert!(matches!(housekeeping, Err(Error::NotLeading)), "{housekeeping:?}");
    // A source without an API has nothing to sweep; who leads is asked all the same.
    assert!(sweeping.is_err(), "{sweeping:?}");
    assert!(afterwards.is_ok() && !released, "{afterwards:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_follows_into_the_middle_of_a_leaders_transaction() {
    let Some((_home, apps)) = instances(Kind::Postgres, &["one", "two"], short(), None).await else { return };
    let lead = apps[0].lead().await.unwrap().unwrap();
    let mut tx = apps[0].write_as_leader(lead).await.unwrap();
    tokio::time::sleep(LEASE + Duration::from_millis(50)).await;

    let two = apps[1].clone();
    let mut following = tokio::spawn(async move { two.lead().await.unwrap().unwrap() });
    let too_soon = tokio::time::timeout(Duration::from_millis(300), &mut following).await;
    looks::suspect(&mut tx, &[]).await.unwrap();
    tx.commit().await.unwrap();

    assert!(too_soon.is_err(), "somebody followed while the leader was writing");
    assert_eq!(following.await.unwrap().term(), 2);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_want_to_lead_at_once_one_does(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    const ROUNDS: usize = 10;
    let rules = Rulebook { lease: Duration::from_millis(30), ..Rulebook::default() };
    let Some((home, apps)) = instances(kind, &["one", "two", "three"], rules, None).await else { return };
    let mut terms = Vec::new();
    for _ in 0..ROUNDS {
        // Whoever led has lost it by now, on any machine.
        tokio::time::sleep(Duration::from_millis(40)).await;
        let led = futures_util::future::join_all(apps.iter().map(App::lead)).await;
        terms.extend(led.into_iter().filter_map(|lead| lead.unwrap()).map(Lead::term));
    }
    let last = leases::read(&mut home.store.read().await.unwrap(), leases::LEAD).await.unwrap().unwrap().term;
    let mut once = terms.clone();
    once.dedup();

    assert!(terms.len() >= ROUNDS, "somebody leads in each of {ROUNDS} rounds: {terms:?}");
    assert_eq!(terms, once, "no term has two leaders");
    assert_eq!(terms.last(), Some(&last));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_hands_over_at_once_and_a_death_within_the_lease() {
    let Some((home, apps)) = instances(Kind::Postgres, &["one", "two", "three"], Rulebook::default(), None).await
    else {
        return;
    };
    let who = async || {
        let mut tx = home.store.read().await.unwrap();
        let now = tx.clock(site::now()).await.unwrap();
        let rows = listed::all(&mut tx, now).await.unwrap();
        let leads: Vec<_> = rows.iter().filter(|row| row.leads).map(|row| row.id.clone()).collect();
        (rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>(), leads)
    };
    let until = async |what: &str, done: &dyn Fn(&[String], &[String]) -> bool| {
        let began = Instant::now();
        loop {
            let (there, leads) = who().await;
            if done(&there, &leads) {
                return began.elapsed();
            }
            assert!(began.elapsed() < Duration::from_secs(45), "{what}: {there:?}, {leads:?} leads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let stops: Vec<_> = apps.iter().map(|_| CancellationToken::new()).collect();
    let mut running: Vec<_> = Vec::new();
    for (nth, app) in apps.iter().enumerate() {
        let (app, stop) = (app.clone(), stops[nth].clone());
        running.push(tokio::spawn(async move { app.run("ward", stop).await }));
        if nth == 0 {
            until("the first leads", &|_, leads| leads == ["one"]).await;
        }
    }
    until("all are listed", &|there, _| there.len() == 3).await;

    stops[0].cancel();
    assert_eq!((&mut running[0]).await.unwrap().unwrap(), Ended::Stopped);
    let handed_over =
        until("another leads", &|there, leads| leads.len() == 1 && !there.contains(&String::from("one"))).await;
    let (_, leads) = who().await;

    // Whoever leads now dies; the end of its lease is brought nearer, on the database's own clock.
    let dies = if leads == ["two"] { 1 } else { 2 };
    running[dies].abort();
    drop((&mut running[dies]).await);
    let text = "UPDATE leases SET until = clock_timestamp() + interval '1 second'";
    aside(&home, text).await;
    let survivor = if dies == 1 { "three" } else { "two" };
    let followed = until("the last one leads", &|_, leads| leads == [survivor]).await;

    // A standby looks every two seconds; told of a clean stop it does not wait that long.
    assert!(handed_over < Duration::from_secs(5), "{handed_over:?}");
    assert!(followed < Duration::from_secs(10), "{followed:?}");
    stops.iter().for_each(CancellationToken::cancel);
    drop((&mut running[3 - dies]).await);
}

#[rstest]
#[tokio::test]
async fn an_instance_is_listed_until_it_is_forgotten(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some((home, apps)) = instances(kind, &["one", "two"], Rulebook::default(), None).await else { return };
    apps[0].be_seen("ward-1").await.unwrap();
    apps[1].be_seen("ward-2").await.unwrap();
    apps[1].be_seen("ward-2").await.unwrap();
    apps[1].lead().await.unwrap().unwrap();

    let mut tx = home.store.write().await.unwrap();
    let now = tx.clock(site::now()).await.unwrap();
    let rows = listed::all(&mut tx, now).await.unwrap();
    let forgotten_too_soon = listed::forget(&mut tx, now - chrono::TimeDelta::minutes(1)).await.unwrap();
    let forgotten = listed::forget(&mut tx, now + chrono::TimeDelta::minutes(1)).await.unwrap();

    let seen: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.host.as_str(), row.leads)).collect();
    assert_eq!(seen, [("one", "ward-1", false), ("two", "ward-2", true)]);
    assert_eq!((forgotten_too_soon, forgotten), (0, 2));
    assert_ne!(house::read(&mut tx).await.unwrap().map(|row| row.installation), Some(Uuid::nil()));
}
