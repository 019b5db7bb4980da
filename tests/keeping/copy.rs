//! Moving from one database to another: nothing is left behind, nothing is open twice, and what differs is named.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use handover::app::house::{NotEntered, unseal};
use handover::app::moving::{Moved, NotMoved, Route, Step, move_house};
use handover::app::receive::Received;
use handover::custody::Moment;
use handover::store::attempts::{self, AttemptRow};
use handover::store::moving::count;
use handover::store::tables::{NOT_COPIED, TABLES, in_schema, unlisted};
use handover::store::{Kind, Store, house};
use rstest::rstest;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Executor as _, query};
use uuid::Uuid;

use crate::service::app;
use crate::support::{Aside, TestStore, empty};

const MORNING: i64 = 1_772_431_200;
const EVENTS: usize = 4_500;
const LEAST_ROWS: i64 = 20_000;

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(MORNING + 21_600, 0).unwrap()
}

fn route() -> Route {
    Route { from: String::from("the old one"), to: String::from("the new one"), actor: String::from("cli:test") }
}

/// A morning on 200 iPads, and two attempts that are under way.
async fn busy(home: &TestStore) {
    let app = app(home.store.clone(), Moment::from_seconds(MORNING + 7200));
    app.enter_house().await.unwrap();
    let users = ["amina", "jonas", "lea", "kofi", "stg-ipad"];
    let bodies: Vec<_> = (0..EVENTS)
        .map(|nth| {
            let (device, user) = (nth % 200, users[(nth / 200 + nth) % users.len()]);
            let millis = (MORNING + i64::try_from(nth / 3).unwrap()) * 1000;
            let body = format!(
                r#"{{"EventId":9001,"EventType":"Check Out","DeviceId":{},"SerialNumber":"W{device}","EventTime":"/Date({millis})/","EnrollmentUserName":"{user}{}","EnrollmentStatus":"Enrolled"}}"#,
                41_000 + device,
                device % 40
            );
            body.into()
        })
        .collect();
    for group in bodies.chunks(500) {
        for received in app.receive_many("uem", None, group.to_vec()).await.unwrap() {
            assert!(matches!(received, Received::Recorded(_)), "{received:?}");
        }
    }
    let mut tx = home.store.write().await.unwrap();
    for _ in 0..2 {
        let lease = noon() + TimeDelta::seconds(30);
        assert!(attempts::begin(&mut tx, &in_flight(Uuid::new_v4(), lease), &[Uuid::new_v4()]).await.unwrap());
    }
    tx.commit().await.unwrap();
}

fn in_flight(person: Uuid, lease: DateTime<Utc>) -> AttemptRow {
    AttemptRow {
        id: Uuid::new_v4(),
        person_id: person,
        state: String::from("in_flight"),
        began_at: noon(),
        owner: String::from("the old one's"),
        lease_until: Some(lease),
        stamp_before: Some(noon()),
        stamp_verified: None,
        outcome: None,
        status: None,
        error_code: None,
        request_id: None,
        graph_date: None,
        graph_offset_us: Some(-12),
        ended_at: None,
        reads: 0,
        read_at: None,
        stamp_after: None,
        collateral: Json(vec![Uuid::new_v4()]),
    }
}

async fn moved(
    from: &Store,
    to: &Store,
    watch: impl AsyncFnMut(Step) -> Result<(), NotMoved>,
) -> Result<Moved, NotMoved> {
    move_house(from, to, &route(), noon, watch).await
}

async fn state(store: &Store) -> Option<house::HouseRow> {
    house::read(&mut store.read().await.unwrap()).await.unwrap()
}

/// Runs a statement past the store.
pub(crate) async fn raw(home: &TestStore, text: &str) -> Result<(), String> {
    let text = AssertSqlSafe(text.to_owned());
    match home.aside().await {
        Aside::Sqlite(mut aside) => aside.execute(query(text)).await.map(drop).map_err(|error| error.to_string()),
        Aside::Postgres(mut aside) => aside.execute(query(text)).await.map(drop).map_err(|error| error.to_string()),
    }
}

#[rstest]
#[case::to_a_server(Kind::Sqlite, Kind::Postgres)]
#[case::to_a_file(Kind::Postgres, Kind::Sqlite)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_house_is_moved_whole_although_it_is_stopped_again_and_again(#[case] from: Kind, #[case] to: Kind) {
    let (Some(old), Some(new)) = (empty(from).await, empty(to).await) else { return };
    busy(&old).await;
    let before = state(&old.store).await.unwrap();

    // Stopped after each few batches, while the old one takes changes in between.
    let mut stops = 0;
    loop {
        let mut batches = 0;
        let stopped = moved(&old.store, &new.store, async |step| match step {
            Step::Copied(..) if batches == 12 + 30 * stops => Err(NotMoved::Stopped),
            Step::Copied(..) => {
                batches += 1;
                Ok(())
            }
            Step::Comparing => Err(NotMoved::Stopped),
            Step::Corrected(..) | Step::Compared(..) | Step::Sealing | Step::Opening => Ok(()),
        })
        .await;
        assert!(matches!(stopped, Err(NotMoved::Stopped)), "{stopped:?}");
        let (ours, theirs) = (state(&old.store).await.unwrap(), state(&new.store).await.unwrap());
        assert_eq!((ours.state.as_str(), theirs.state.as_str()), ("open", "sealed"), "never two open houses");
        let still_served = app(old.store.clone(), Moment::from_seconds(MORNING + 7300));
        still_served.enter_house().await.unwrap();
        let sentence =
            format!("UPDATE people SET upn = 'changed{stops}@contoso.example' WHERE upn_key LIKE 'lea{stops}%'");
        raw(&old, &sentence).await.unwrap();
        raw(&old, "DELETE FROM device_keys WHERE value = 'W7'").await.unwrap();
        stops += 1;
        if stops == 3 {
            break;
        }
    }
    // A row of the copy is changed behind its back, after everything was brought in line.
    let tampered = moved(&old.store, &new.store, async |step| {
        if step == Step::Comparing {
            raw(
                &new,
                "UPDATE custodies SET started = 'inferred' WHERE id = (SELECT MIN(id::text) FROM custodies)::uuid",
            )
            .await
            .or(raw(&new, "UPDATE custodies SET started = 'inferred' WHERE id = (SELECT MIN(id) FROM custodies)").await)
            .unwrap();
        }
        Ok(())
    })
    .await;
    let Err(NotMoved::Differs(named)) = tampered else { panic!("{tampered:?}") };
    assert!(
        matches!(named.as_slice(), [one] if one.starts_with("custodies ") && one.ends_with(" is not the same")),
        "{named:?}"
    );
    assert_eq!(state(&old.store).await.unwrap().state, "open", "what differs is not moved to");

    // Stopped between the seal and the opening, both are sealed; done again, the new one is open.
    let stopped =
        moved(&old.store, &new.store, async |step| if step == Step::Opening { Err(NotMoved::Stopped) } else { Ok(()) })
            .await;
    assert!(matches!(stopped, Err(NotMoved::Stopped)), "{stopped:?}");
    assert_eq!(state(&new.store).await.unwrap().state, "sealed");
    let done = moved(&old.store, &new.store, async |_| Ok(())).await.unwrap();

    assert!(done.resumed && done.rows >= LEAST_ROWS, "{} rows", done.rows);
    assert_eq!(done.tables.len(), TABLES.len());
    assert_eq!(done.in_flight, 2);
    let after = state(&new.store).await.unwrap();
    assert_eq!((after.installation, after.state.as_str()), (before.installation, "open"));
    assert_ne!(after.epoch, before.epoch);
    assert!(after.former.0.contains(&before.epoch));

    // What was in flight is taken over at once by whoever serves next: its stamp is read before anything is sent.
    let mut tx = new.store.write().await.unwrap();
    let now = tx.clock(noon()).await.unwrap();
    assert_eq!(attempts::orphaned(&mut tx, now, 10).await.unwrap().len(), 2);
    drop(tx);
    let served = app(new.store.clone(), Moment::from_seconds(MORNING + 30_000));
    served.enter_house().await.unwrap();
    assert_eq!(state(&new.store).await.unwrap().state, "open", "a move is no restore");
    assert_eq!(served.replay(|_| ()).await.unwrap().differ, 0);

    let left = app(old.store.clone(), Moment::from_seconds(MORNING + 30_000));
    let refused = left.enter_house().await;
    assert!(matches!(&refused, Err(NotEntered::Sealed(why)) if why.contains("the new one")), "{refused:?}");
    println!(
        "{from:?} to {to:?}: {} rows in {} tables, {stops} stops, 1 tampered row found",
        done.rows,
        done.tables.len()
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_database_refuses_every_change_until_it_is_unsealed(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (Some(old), Some(new)) = (empty(kind).await, empty(Kind::Sqlite).await) else { return };
    app(old.store.clone(), Moment::from_seconds(MORNING)).enter_house().await.unwrap();
    raw(&old, "INSERT INTO sources (name) VALUES ('uem')").await.unwrap();
    moved(&old.store, &new.store, async |_| Ok(())).await.unwrap();
    let mut tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    tables.extend(NOT_COPIED);

    for table in &tables {
        for change in [format!("DELETE FROM {table}"), format!("INSERT INTO {table} SELECT * FROM {table}")] {
            let refused = raw(&old, &change).await;
            // SQLite's triggers speak for each row, PostgreSQL's for each statement.
            let rows = count(&mut old.store.read().await.unwrap(), table).await.unwrap();
            if rows > 0 || kind == Kind::Postgres {
                assert!(
                    refused.as_ref().is_err_and(|why| why.contains("was moved to the new one")),
                    "{change}: {refused:?}"
                );
            }
        }
    }
    assert!(raw(&old, "INSERT INTO sources (name) VALUES ('other')").await.is_err());
    let again = moved(&old.store, &empty(Kind::Sqlite).await.unwrap().store, async |_| Ok(())).await;
    assert!(matches!(again, Err(NotMoved::Sealed(_))), "a sealed house is moved nowhere else: {again:?}");

    assert!(unseal(&old.store, "the new one was given up", "cli:test", noon()).await.unwrap());
    raw(&old, "INSERT INTO sources (name) VALUES ('other')").await.unwrap();
    let house = state(&old.store).await.unwrap();
    assert_eq!(house.state, "checking", "what was sent from the other one is not known here");
}

#[rstest]
#[tokio::test]
async fn every_table_and_column_of_the_schema_is_moved(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(home) = empty(kind).await else { return };
    let mut tx = home.store.read().await.unwrap();

    let schema = in_schema(&mut tx).await.unwrap();
    assert_eq!(unlisted(&mut tx).await.unwrap(), [""; 0]);
    drop(tx);

    assert!(schema.len() > 150 && schema.contains(&String::from("revocations.person_id")), "{schema:?}");
    raw(&home, "CREATE TABLE consoles (id text NOT NULL PRIMARY KEY, seen text)").await.unwrap();
    raw(&home, "ALTER TABLE people ADD COLUMN nickname text").await.unwrap();
    let missed = unlisted(&mut home.store.read().await.unwrap()).await.unwrap();
    assert_eq!(missed, ["consoles.id", "consoles.seen", "people.nickname"]);
}

#[tokio::test]
async fn a_database_with_rows_of_its_own_is_not_moved_into() {
    let (Some(old), Some(new)) = (empty(Kind::Sqlite).await, empty(Kind::Sqlite).await) else { return };
    app(old.store.clone(), Moment::from_seconds(MORNING)).enter_house().await.unwrap();
    raw(&new, "INSERT INTO sources (name) VALUES ('uem')").await.unwrap();

    let rows = moved(&old.store, &new.store, async |_| Ok(())).await;
    raw(&new, "DELETE FROM sources").await.unwrap();
    app(new.store.clone(), Moment::from_seconds(MORNING)).enter_house().await.unwrap();
    let served = moved(&old.store, &new.store, async |_| Ok(())).await;

    assert!(matches!(rows, Err(NotMoved::NotEmpty("sources"))), "{rows:?}");
    assert!(matches!(served, Err(NotMoved::AnotherCopy)), "{served:?}");
}

#[tokio::test]
async fn a_server_that_instances_still_run_on_is_not_moved_away_from() {
    let (Some(old), Some(new)) = (empty(Kind::Postgres).await, empty(Kind::Sqlite).await) else { return };
    app(old.store.clone(), Moment::from_seconds(MORNING)).enter_house().await.unwrap();
    let seen = "INSERT INTO instances (id, host, version, started_at, seen_at) VALUES ('one', 'h', '1', now(), now())";
    raw(&old, seen).await.unwrap();

    let refused = moved(&old.store, &new.store, async |_| Ok(())).await;

    assert!(matches!(refused, Err(NotMoved::InUse(1))), "{refused:?}");
    let tallies = new.store.finished().and_unfinished(&mut new.store.read().await.unwrap()).await.unwrap();
    assert!(tallies.is_empty());
    assert!(Store::open(&old.url, Path::new("/")).await.is_ok());
}
