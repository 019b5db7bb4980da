//! The order of arrival, repetition and splitting make no difference to what is written down (I1), on either database.

use std::collections::BTreeSet;

use handover::app::receive::Received;
use handover::app::record::{Incoming, Recorded};
use handover::custody::Moment;
use handover::intake::Notice;
use handover::intake::workspace_one::read;
use handover::store::{Kind, recording};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rstest::rstest;
use uuid::Uuid;

use crate::copy::raw;
use crate::service::app;
use crate::support::empty;

const ROUNDS: u64 = 12;
const EVENTS: usize = 120;
/// 2026-03-02T06:00:00Z.
const MORNING: i64 = 1_772_431_200;

/// A shift of a small ward: people and the pool, leaving and coming back, with ties in time.
fn shift(dice: &mut StdRng) -> Vec<String> {
    let users = ["amina", "jonas", "lea", "kofi", "stg-ipad"];
    (0..EVENTS)
        .map(|nth| {
            let device = dice.random_range(0..4);
            let user = users[dice.random_range(0..users.len())];
            let millis = (MORNING + dice.random_range(0..3600)) * 1000;
            let (kind, text, user, status) = match dice.random_range(0..20) {
                0 => (39, "Break MDM Confirmed", "", "Unenrolled"),
                1 => (148, "MDM Enrollment Complete", user, "Enrolled"),
                2 => (7001, "Wipe Confirmed", user, "Enrolled"),
                _ => (9000 + i64::try_from(nth % 3).unwrap(), "Something new", user, "Enrolled"),
            };
            format!(
                r#"{{"EventId":{kind},"EventType":"{text}","DeviceId":{},"SerialNumber":"W{device}","EventTime":"/Date({millis})/","EnrollmentUserName":"{user}","EnrollmentStatus":"{status}"}}"#,
                41_000 + device
            )
        })
        .collect()
}

/// Takes the bodies in, in groups, and gives the custodies as they are stored afterwards.
async fn custodies_after(
    kind: Kind,
    bodies: &[String],
    dice: &mut StdRng,
) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
    let home = empty(kind).await?;
    let app = app(home.store.clone(), Moment::from_seconds(MORNING + 7200));
    let mut rest = bodies;
    while !rest.is_empty() {
        let (group, later) = rest.split_at(dice.random_range(1..=rest.len().min(30)));
        let group = group.iter().map(|body| body.clone().into()).collect();
        for received in app.receive_many("uem", None, group).await.unwrap() {
            assert!(matches!(received, Received::Recorded(_) | Received::Duplicate(_)), "{received:?}");
        }
        rest = later;
    }
    let replayed = app.replay(|_| ()).await.unwrap();
    assert_eq!(replayed.differences, [""; 0], "what is stored is what the fold makes of the stored events");

    let mut tx = home.store.read().await.unwrap();
    let (mut custodies, mut owed) = (BTreeSet::new(), BTreeSet::new());
    for device in recording::device_ids(&mut tx, Uuid::nil(), 100).await.unwrap() {
        let rows = recording::custodies_from(&mut tx, device, None).await.unwrap();
        custodies.extend(rows.iter().map(|row| format!("{row:?}")));
        let rows = handover::store::revocations::of_device(&mut tx, device, None).await.unwrap();
        let stands = rows.iter().filter(|row| row.state != "moot");
        owed.extend(
            stands.map(|row| format!("{} {:?} {} {}", row.custody_id, row.person_id, row.departed_at, row.reason)),
        );
    }
    drop(tx);
    Some((custodies, owed))
}

/// A check that cannot fail is none: whatever somebody changes by hand is named.
#[rstest]
#[tokio::test]
async fn what_was_changed_by_hand_differs_from_the_events(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    const BY_HAND: [(&str, &str); 5] = [
        ("UPDATE custodies SET departure = 'gone' WHERE departure = 'next'", "differs"),
        ("DELETE FROM custodies WHERE ended_at IS NULL", "is missing"),
        (
            "UPDATE custodies SET id = device_id WHERE started_at = (SELECT MIN(started_at) FROM custodies)",
            "has no events",
        ),
        ("DELETE FROM revocations", "asks for a revocation that is not there"),
        ("UPDATE devices SET since = last_event_at, holder_account = NULL", "it is not with whom its events say"),
    ];
    for (text, words) in BY_HAND {
        let Some(home) = empty(kind).await else { return };
        let app = app(home.store.clone(), Moment::from_seconds(MORNING + 7200));
        let bodies = shift(&mut StdRng::seed_from_u64(3)).into_iter().map(Into::into).collect();
        app.receive_many("uem", None, bodies).await.unwrap();
        assert_eq!(app.replay(|_| ()).await.unwrap().differences, [""; 0]);

        raw(&home, text).await.unwrap();

        let replayed = app.replay(|_| ()).await.unwrap();
        let named = replayed.differences.iter().any(|difference| difference.ends_with(words));
        assert!(named && replayed.differ > 0, "{text}: {replayed:?}");
    }
}

/// The first release's ids had no time in them. What it wrote down is not written down again.
#[rstest]
#[tokio::test]
async fn an_event_that_the_first_release_wrote_down_is_a_duplicate(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(home) = empty(kind).await else { return };
    let app = app(home.store.clone(), Moment::from_seconds(MORNING + 7200));
    let body = shift(&mut StdRng::seed_from_u64(1)).swap_remove(7);
    let notice = read(body.as_bytes(), None, &app.sources["uem"].rules).unwrap();
    let told = |id| {
        let notice = Notice { id, ..notice.clone() };
        Incoming::told(&app.sources["uem"], notice, app.now(), None, body.clone().into())
    };

    assert_eq!(app.record(vec![told(notice.formerly)]).await, Ok(vec![Recorded::New]));
    assert_eq!(app.record(vec![told(notice.id)]).await, Ok(vec![Recorded::Duplicate(notice.formerly)]));

    let ids = recording::known_events(&mut home.store.read().await.unwrap(), &[notice.id, notice.formerly]).await;
    assert_eq!(ids.unwrap(), [notice.formerly]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_of_arrival_ends_in_the_same_custodies_and_the_same_debts() {
    for seed in 0..ROUNDS {
        let mut dice = StdRng::seed_from_u64(seed);
        let bodies = shift(&mut dice);
        let mut sorted = bodies.clone();
        sorted.sort_by_key(|body| body.split("/Date(").nth(1).map(str::to_owned));
        let mut shuffled = bodies.clone();
        shuffled.extend(bodies.iter().take(EVENTS / 5).cloned());
        shuffled.shuffle(&mut dice);

        let expected = custodies_after(Kind::Sqlite, &sorted, &mut dice).await.unwrap();
        let on_sqlite = custodies_after(Kind::Sqlite, &shuffled, &mut dice).await.unwrap();
        let on_postgres = custodies_after(Kind::Postgres, &shuffled, &mut dice).await;

        assert!(!expected.0.is_empty() && !expected.1.is_empty(), "seed {seed} is too tame");
        assert_eq!(on_sqlite, expected, "seed {seed}, SQLite");
        if let Some(on_postgres) = on_postgres {
            assert_eq!(on_postgres, expected, "seed {seed}, PostgreSQL");
        }
    }
}
