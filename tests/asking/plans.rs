//! Questions about the past walk an index, so that an answer does not take longer with every year.

use chrono::{DateTime, Utc};
use handover::store::Kind;
use handover::store::asking::custodies;
use rstest::rstest;
use sqlx::{Connection as _, Executor as _};
use uuid::Uuid;

use crate::support::{Aside, empty};

/// Ten thousand custodies of a hundred devices and a hundred people: enough for reading all of them to be the slower way.
/// A uuid is written as each database takes it from hexadecimal digits.
fn rows(kind: Kind) -> [String; 4] {
    let id = |n: &str| match kind {
        Kind::Sqlite => format!("unhex(printf('%032x', {n}))"),
        Kind::Postgres => format!("CAST(lpad(to_hex({n}), 32, '0') AS uuid)"),
    };
    let time = |n: &str| match kind {
        Kind::Sqlite => format!("strftime('%Y-%m-%dT%H:%M:%S', 1772424000 + {n}, 'unixepoch') || '+00:00'"),
        Kind::Postgres => format!("to_timestamp(1772424000 + {n})"),
    };
    let no = if kind == Kind::Sqlite { "0" } else { "false" };
    let numbers = |count: u32| {
        format!("WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {count})")
    };
    let (device, person, own) = (id("n % 100"), id("n % 97"), id("n"));
    [
        format!(
            "INSERT INTO devices (id, source, state, undecided, head, base, version)
             {} SELECT {own}, 'uem', 'unknown', {no}, '{{}}', '{{}}', 0 FROM numbers",
            numbers(100)
        ),
        format!(
            "INSERT INTO people (id, upn, upn_key, guest, first_seen_at)
             {} SELECT {own}, CAST(n AS text), CAST(n AS text), {no}, {} FROM numbers",
            numbers(100),
            time("0")
        ),
        format!(
            "INSERT INTO custodies (id, device_id, holder, person_id, started_at, started, ended_at, ended, ended_by, departure)
             {} SELECT {own}, {device}, 'person', {person}, {}, 'observed', {}, 'inferred', {own}, 'next' FROM numbers",
            numbers(10_000),
            time("n"),
            time("n + 100")
        ),
        String::from("ANALYZE"),
    ]
}

#[rstest]
#[tokio::test]
async fn a_question_about_the_past_walks_an_index(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(home) = empty(kind).await else { return };
    for statement in rows(kind) {
        let statement = sqlx::AssertSqlSafe(statement);
        match home.aside().await {
            Aside::Sqlite(mut connection) => {
                connection.execute(statement).await.unwrap();
                connection.close().await.unwrap();
            }
            Aside::Postgres(mut connection) => {
                connection.execute(statement).await.unwrap();
                connection.close().await.unwrap();
            }
        }
    }

    let at: DateTime<Utc> = "2026-03-02T05:00:00Z".parse().unwrap();
    let mut tx = home.store.read().await.unwrap();
    let plans = custodies::plans(&mut tx, Uuid::from_u128(7), Uuid::from_u128(7), at).await.unwrap();

    for (index, plan) in plans {
        assert!(plan.contains(index), "it does not walk {index}:\n{plan}");
        let all = plan.contains("Seq Scan on custodies") || plan.contains("SCAN x\n");
        let all = all || (plan.contains("SCAN s\n") && !plan.contains("CO-ROUTINE s\n"));
        assert!(!all, "it reads everything:\n{plan}");
    }
}
