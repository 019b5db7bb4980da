//! What is too old is dropped, and what is left is still the truth, on either database.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use handover::app::{App, Rulebook};
use handover::custody::Moment;
use handover::store::months::{self, Month, Shelf};
use handover::store::times::moment;
use handover::store::{Kind, Store, asking, recording, revocations};
use rstest::rstest;
use uuid::Uuid;

use crate::service::{app, app_with};
use crate::support::{TestStore, empty};

fn time(text: &str) -> Moment {
    moment(text.parse::<DateTime<Utc>>().unwrap())
}

/// The service, owing in earnest. Nothing is ever paid, as there is no directory.
pub(crate) fn owing_app(store: Store, now: Moment) -> App {
    app_with(store, now, Rulebook { shadow: false, ..Rulebook::default() })
}

/// A check-out of a device by a user, heard at the time it happened.
async fn check_out(home: &TestStore, device: u32, user: &str, at: &str) {
    tell(&app(home.store.clone(), time(at)), device, user, at).await;
}

async fn tell(app: &App, device: u32, user: &str, at: &str) {
    let millis = time(at).0 / 1000;
    let body = format!(
        r#"{{"EventId":9000,"EventType":"Check Out","DeviceId":{device},"SerialNumber":"H{device}","EventTime":"/Date({millis})/","EnrollmentUserName":"{user}","EnrollmentStatus":"Enrolled"}}"#
    );
    app.receive_many("uem", None, vec![body.into()]).await.unwrap();
}

/// Seven years of one shelf of iPads. History is kept for 72 months.
async fn seven_years(home: &TestStore) {
    for year in 2019..=2026 {
        for (device, user) in [(1, "amina"), (2, "jonas"), (1, "lea"), (1, "stg-ipad")] {
            let hour = 6 + device + user.len();
            check_out(home, u32::try_from(device).unwrap(), user, &format!("{year}-02-03T{hour:02}:00:00Z")).await;
        }
    }
    // Somebody who has had an iPad since before what is kept, and one that nobody touched since.
    check_out(home, 3, "kofi", "2019-06-01T06:00:00Z").await;
    check_out(home, 4, "amina", "2019-06-01T06:00:00Z").await;
    check_out(home, 4, "jonas", "2019-06-02T06:00:00Z").await;
    check_out(home, 3, "lea", "2025-06-01T06:00:00Z").await;
}

async fn today(home: &TestStore) -> App {
    let app = app(home.store.clone(), time("2026-03-02T06:00:00Z"));
    let lead = app.lead().await.unwrap().unwrap();
    app.keep_house(lead).await.unwrap();
    while app.retain(lead).await.unwrap().unwrap().more {}
    app
}

async fn custodies(home: &TestStore) -> BTreeSet<(String, Option<String>)> {
    let mut tx = home.store.read().await.unwrap();
    let mut found = BTreeSet::new();
    for device in recording::device_ids(&mut tx, Uuid::nil(), 100).await.unwrap() {
        for row in recording::custodies_from(&mut tx, device, None).await.unwrap() {
            found.insert((row.started_at.to_rfc3339(), row.ended_at.map(|at| at.to_rfc3339())));
        }
    }
    found
}

async fn events_before(home: &TestStore, cut: &str) -> (usize, usize) {
    let cut: DateTime<Utc> = cut.parse().unwrap();
    let mut tx = home.store.read().await.unwrap();
    let (mut older, mut newer) = (0, 0);
    for device in recording::device_ids(&mut tx, Uuid::nil(), 100).await.unwrap() {
        for event in recording::events_after(&mut tx, device, None).await.unwrap() {
            *(if event.at < cut { &mut older } else { &mut newer }) += 1;
        }
    }
    (older, newer)
}

#[rstest]
#[tokio::test]
async fn what_is_too_old_goes_and_the_rest_still_folds_to_what_is_stored(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(home) = empty(kind).await else { return };
    seven_years(&home).await;
    let before = custodies(&home).await;
    assert_eq!(events_before(&home, "2020-03-01T00:00:00Z").await, (11, 25));

    let app = today(&home).await;

    assert_eq!(events_before(&home, "2020-03-01T00:00:00Z").await, (0, 25));
    let after = custodies(&home).await;
    // The revocation of who left on 3 February 2020 was closed a year later, when somebody followed.
    let answered_later = |(_, ended): &&(String, Option<String>)| {
        ended.as_ref().is_none_or(|at| at.as_str() >= "2020-03" || at == "2020-02-03T15:00:00+00:00")
    };
    let whole: BTreeSet<_> = before.iter().filter(answered_later).cloned().collect();
    assert_eq!(after, whole, "a stretch that reaches into the kept time stays whole");
    assert!(after.len() < before.len() && after.iter().any(|(started, _)| started.starts_with("2019-06")));
    let replayed = app.replay(|_| ()).await.unwrap();
    assert_eq!(replayed.differences, [""; 0]);
    assert_eq!((replayed.devices, replayed.events), (4, 25));

    let lead = app.lead().await.unwrap().unwrap();
    let again = app.retain(lead).await.unwrap().unwrap();
    assert_eq!((again.events, again.audit, again.custodies, again.months.len()), (0, 0, 0, 0));
}

#[rstest]
#[tokio::test]
async fn what_was_dropped_stands_in_the_audit_history(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(home) = empty(kind).await else { return };
    seven_years(&home).await;

    today(&home).await;

    let mut tx = home.store.read().await.unwrap();
    let filter = asking::audit::Filter { action: Some("history.dropped".to_owned()), ..Default::default() };
    let page = asking::audit::list(&mut tx, &filter, &asking::Paging::largest()).await.unwrap();
    let sum = |what: &str| page.items.iter().filter_map(|entry| entry.detail[what].as_u64()).sum::<u64>();
    assert_eq!((sum("events"), page.items[0].detail["before"].as_str()), (11, Some("2020-03")));
    assert!(sum("audit") >= 11, "each of those events had an entry");
}

#[rstest]
#[tokio::test]
async fn nothing_unfinished_goes_whatever_its_age(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(home) = empty(kind).await else { return };
    seven_years(&home).await;
    let then = owing_app(home.store.clone(), time("2019-07-02T06:00:00Z"));
    tell(&then, 5, "amina", "2019-07-01T06:00:00Z").await;
    tell(&then, 5, "jonas", "2019-07-02T06:00:00Z").await;
    let open = async || {
        let mut tx = home.store.read().await.unwrap();
        let mut found = Vec::new();
        for device in recording::device_ids(&mut tx, Uuid::nil(), 100).await.unwrap() {
            let rows = revocations::of_device(&mut tx, device, None).await.unwrap();
            found.extend(rows.into_iter().filter(|row| row.closed_at.is_none()).map(|row| (row.id, row.custody_id)));
        }
        found
    };
    let before = open().await;
    assert_eq!(before.len(), 1, "one revocation is owed, and nobody pays it");

    today(&home).await;

    assert_eq!(open().await, before);
    let mut tx = home.store.read().await.unwrap();
    let mut kept = BTreeSet::new();
    for device in recording::device_ids(&mut tx, Uuid::nil(), 100).await.unwrap() {
        kept.extend(recording::custodies_from(&mut tx, device, None).await.unwrap().into_iter().map(|row| row.id));
    }
    assert!(before.iter().all(|(_, custody)| kept.contains(custody)), "with the custody it is about");
}

#[rstest]
#[tokio::test]
async fn history_goes_on_after_a_part_of_it_was_dropped(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(home) = empty(kind).await else { return };
    seven_years(&home).await;
    today(&home).await;

    check_out(&home, 4, "lea", "2026-03-02T07:00:00Z").await;
    check_out(&home, 1, "kofi", "2026-03-02T08:00:00Z").await;
    check_out(&home, 1, "jonas", "2026-03-02T07:30:00Z").await;

    let app = app(home.store.clone(), time("2026-03-02T09:00:00Z"));
    assert_eq!(app.replay(|_| ()).await.unwrap().differences, [""; 0]);
    let ends: Vec<_> = custodies(&home).await.into_iter().filter_map(|(_, ended)| ended).collect();
    assert!(ends.contains(&"2026-03-02T07:00:00+00:00".to_owned()), "who had it since 2019 has given it up");
}

#[tokio::test]
async fn months_are_laid_ahead_and_what_lay_about_is_moved_there() {
    let Some(home) = empty(Kind::Postgres).await else { return };
    seven_years(&home).await;
    let app = app(home.store.clone(), time("2026-03-02T06:00:00Z"));

    let lead = app.lead().await.unwrap().unwrap();
    let laid = app.lay_months(lead).await.unwrap();

    let mut tx = home.store.read().await.unwrap();
    let events = months::laid(&mut tx, Shelf::Events).await.unwrap();
    let audit = months::laid(&mut tx, Shelf::Audit).await.unwrap();
    assert_eq!(laid, events.len() + audit.len());
    let names: Vec<_> = events.iter().map(Month::to_string).collect();
    for wanted in ["2021-02", "2025-06", "2026-02", "2026-03", "2026-04", "2026-05"] {
        assert!(names.iter().any(|name| name == wanted), "{wanted} is not in {names:?}");
    }
    assert!(names.iter().all(|name| name.as_str() >= "2020-03"), "what will be dropped gets no place: {names:?}");
    assert!(audit.contains(&Month::of("2026-05-01T00:00:00Z".parse().unwrap())));
    let rest = months::in_rest(&mut tx, Shelf::Events, events[0], *events.last().unwrap()).await.unwrap();
    assert_eq!(rest, []);
    drop(tx);
    assert_eq!(app.lay_months(lead).await.unwrap(), 0, "and only once");
    assert_eq!(app.replay(|_| ()).await.unwrap().differences, [""; 0]);
}
