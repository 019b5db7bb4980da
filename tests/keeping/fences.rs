//! Who may write, and what a newer, older or second program meets.

use std::path::Path;

use chrono::{TimeDelta, TimeZone as _, Utc};
use handover::store::attempts::{self, AttemptRow};
use handover::store::revocations::{self, RevocationRow};
use handover::store::{Error, Kind, Store};
use rstest::rstest;
use sqlx::types::Json;
use sqlx::{Executor as _, query};
use uuid::Uuid;

use crate::support::{Aside, empty};

fn at(seconds: i64) -> chrono::DateTime<Utc> {
    Utc.timestamp_opt(1_772_431_200 + seconds, 0).unwrap()
}

fn owed(person: Uuid) -> RevocationRow {
    RevocationRow {
        id: Uuid::new_v4(),
        device_id: Uuid::new_v4(),
        custody_id: Uuid::new_v4(),
        person_id: Some(person),
        account_id: None,
        reason: String::from("next_user"),
        state: String::from("open"),
        why: None,
        note: None,
        departed_at: at(0),
        departed_by: Uuid::new_v4(),
        because: Uuid::new_v4(),
        exposed_from: at(0),
        owed_at: at(1),
        urgency: 0,
        due_at: at(1),
        failed: 0,
        unfound: 0,
        blind: 0,
        attempt_id: None,
        covered_by: None,
        accepted_at: None,
        verified_at: None,
        closed_at: None,
        version: 0,
    }
}

fn attempt(person: Uuid, owner: &str) -> AttemptRow {
    AttemptRow {
        id: Uuid::new_v4(),
        person_id: person,
        state: String::from("in_flight"),
        began_at: at(2),
        owner: owner.to_owned(),
        lease_until: Some(at(32)),
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
    }
}

#[rstest]
#[tokio::test]
async fn a_person_has_one_attempt_in_flight_whoever_makes_it(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(home) = empty(kind).await else { return };
    let (person, debt) = (Uuid::new_v4(), owed(Uuid::new_v4()));
    let mut tx = home.store.write().await.unwrap();
    revocations::owe(&mut tx, std::slice::from_ref(&debt)).await.unwrap();

    let first = attempts::begin(&mut tx, &attempt(person, "one"), &[debt.id]).await.unwrap();
    let second = attempts::begin(&mut tx, &attempt(person, "two"), &[debt.id]).await.unwrap();
    let somebody_else = attempts::begin(&mut tx, &attempt(Uuid::new_v4(), "two"), &[debt.id]).await.unwrap();
    tx.commit().await.unwrap();

    assert_eq!((first, second, somebody_else), (true, false, true));
}

#[rstest]
#[tokio::test]
async fn a_worker_whose_lease_was_taken_over_changes_nothing(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(home) = empty(kind).await else { return };
    let mut row = attempt(Uuid::new_v4(), "paused");
    let debt = owed(row.person_id);
    let mut tx = home.store.write().await.unwrap();
    revocations::owe(&mut tx, std::slice::from_ref(&debt)).await.unwrap();
    attempts::begin(&mut tx, &row, &[debt.id]).await.unwrap();

    let too_early = attempts::take_over(&mut tx, row.id, "paused", "awake", at(31), at(61)).await.unwrap();
    let in_time = attempts::take_over(&mut tx, row.id, "paused", "awake", at(33), at(63)).await.unwrap();
    row.state = String::from("failed");
    row.ended_at = Some(at(34));
    let renewed = attempts::renew(&mut tx, row.id, "paused", at(34), at(90)).await.unwrap();
    let ended_by_the_paused = attempts::end(&mut tx, &row, "paused").await.unwrap();
    let ended_by_the_awake = attempts::end(&mut tx, &row, "awake").await.unwrap();
    tx.commit().await.unwrap();

    assert_eq!((too_early, in_time), (false, true));
    assert_eq!((renewed, ended_by_the_paused, ended_by_the_awake), (false, false, true));
}

#[rstest]
#[tokio::test]
async fn a_revocation_that_somebody_changed_meanwhile_is_not_overwritten(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(home) = empty(kind).await else { return };
    let mut debt = owed(Uuid::new_v4());
    let mut tx = home.store.write().await.unwrap();
    revocations::owe(&mut tx, std::slice::from_ref(&debt)).await.unwrap();

    debt.state = String::from("held");
    let first = revocations::save(&mut tx, &debt).await.unwrap();
    debt.state = String::from("moot");
    let stale = revocations::save(&mut tx, &debt).await.unwrap();
    let stands = revocations::load(&mut tx, debt.id).await.unwrap().unwrap();

    assert_eq!((first, stale, stands.state.as_str(), stands.version), (true, false, "held", 1));
}

#[rstest]
#[tokio::test]
async fn what_a_clock_put_back_left_in_the_future_is_due_all_the_same(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(home) = empty(kind).await else { return };
    let (soon, far) = (Uuid::new_v4(), Uuid::new_v4());
    let mut tx = home.store.write().await.unwrap();
    let in_a_minute = RevocationRow { due_at: at(60), ..owed(soon) };
    let tomorrow = RevocationRow { due_at: at(86_400), ..owed(far) };
    revocations::owe(&mut tx, &[in_a_minute, tomorrow]).await.unwrap();

    let due = revocations::due_people(&mut tx, at(2), at(2) + TimeDelta::hours(1), 10).await.unwrap();

    assert_eq!(due.iter().map(|due| due.person_id).collect::<Vec<_>>(), [far]);
}

#[tokio::test]
async fn a_second_service_on_the_same_file_is_refused_and_told_who_has_it() {
    let Some(home) = empty(Kind::Sqlite).await else { return };
    let claim = home.store.claim().unwrap();
    let second = Store::open(&home.url, Path::new("/")).await.unwrap();

    let Err(Error::Taken { holder, .. }) = second.claim().map(drop) else { panic!("the second was let in") };
    assert_eq!(holder, format!("process {}", std::process::id()));

    drop(claim);
    assert!(second.claim().is_ok(), "a claim ends with its owner");
}

#[rstest]
#[tokio::test]
async fn a_database_of_a_newer_version_is_refused(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(home) = empty(kind).await else { return };
    let text = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         SELECT 9999, 'from the future', success, checksum, execution_time FROM _sqlx_migrations LIMIT 1";
    match home.aside().await {
        Aside::Sqlite(mut aside) => drop(aside.execute(query(text)).await.unwrap()),
        Aside::Postgres(mut aside) => drop(aside.execute(query(text)).await.unwrap()),
    }

    let refused = Store::open(&home.url, Path::new("/")).await.map(drop);

    assert!(matches!(refused, Err(Error::NewerSchema(9999))), "{refused:?}");
}
