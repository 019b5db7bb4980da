//! The views for tools that people bring themselves say what the API says, on either database.

use handover::custody::Moment;
use handover::store::Kind;
use rstest::rstest;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::history::owing_app;
use crate::support::{Aside, empty};

type Custody = (String, Option<String>, Option<f64>, Option<String>, Option<String>, Option<String>);
type Device = (String, Option<String>, i64);
type Revocation = (Option<String>, String, Option<f64>, i64);

#[rstest]
#[tokio::test]
async fn custodies_have_names_and_seconds(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(home) = empty(kind).await else { return };
    let app = owing_app(home.store.clone(), Moment::from_seconds(1_772_440_000));
    let bodies = [("amina", 1_772_431_121_250_i64), ("stg-ipad", 1_772_434_721_500), ("jonas", 1_772_434_800_000)].map(
        |(user, millis)| {
            format!(
                r#"{{"EventId":9000,"DeviceId":1,"SerialNumber":"W1","EventTime":"/Date({millis})/","EnrollmentUserName":"{user}"}}"#
            )
            .into()
        },
    );
    app.receive_many("uem", None, bodies.to_vec()).await.unwrap();

    let custodies = "SELECT device, upn, seconds, next_holder, next_upn, revocation_state FROM reporting.custodies ORDER BY started_at";
    let devices = "SELECT state, holder_upn, unfinished_revocations FROM reporting.devices";
    let owed = "SELECT upn, reason, seconds_to_proof, attempts FROM reporting.revocations";
    let (custodies, devices, owed): (Vec<Custody>, Vec<Device>, Vec<Revocation>) = match home.aside().await {
        Aside::Sqlite(mut c) => {
            let text = |sql: &str| AssertSqlSafe(sql.replace("reporting.", "reporting_"));
            let found = (
                sqlx::query_as(text(custodies)).fetch_all(&mut c).await.unwrap(),
                sqlx::query_as(text(devices)).fetch_all(&mut c).await.unwrap(),
                sqlx::query_as(text(owed)).fetch_all(&mut c).await.unwrap(),
            );
            c.close().await.unwrap();
            found
        }
        Aside::Postgres(mut c) => {
            let found = (
                sqlx::query_as(custodies).fetch_all(&mut c).await.unwrap(),
                sqlx::query_as(devices).fetch_all(&mut c).await.unwrap(),
                sqlx::query_as(owed).fetch_all(&mut c).await.unwrap(),
            );
            c.close().await.unwrap();
            found
        }
    };

    let (amina, jonas) = (Some("amina@contoso.example".to_owned()), Some("jonas@contoso.example".to_owned()));
    let first = ("W1".to_owned(), amina.clone(), Some(3600.25), Some("pool".to_owned()), None, Some("open".to_owned()));
    let second = ("W1".to_owned(), jonas.clone(), None, None, None, None);
    assert_eq!(custodies, [first, second]);
    assert_eq!(devices, [("person".to_owned(), jonas, 1)]);
    assert_eq!(owed, [(amina, "next_user".to_owned(), None, 0)]);
}
