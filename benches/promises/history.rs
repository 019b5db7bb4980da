//! Questions about the past: as fast over a million custodies as over ten thousand.
//!
//! The rows are made by the database itself. A tenth of all custodies is of one device and another tenth of one person; the
//! rest is spread evenly, about ninety for each, in both databases. Every custody is answered by a revocation. The questions
//! go to both databases in turn, so that a noisy moment meets both.

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use handover::store::Store;
use handover::store::asking::{Paging, Span, custodies};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use uuid::Uuid;

use crate::Size;
use crate::report::{Report, Spread};

/// The second at which the first custody begins: 2024-01-01T00:00:00Z.
const BEGIN: i64 = 1_704_067_200;

/// One database full of custodies.
struct Past {
    store: Store,
    custodies: u64,
    devices: Vec<Uuid>,
    people: Vec<Uuid>,
}

/// What is asked.
#[derive(Clone, Copy)]
enum Question {
    WhoAt,
    OfDevice,
    OfDeviceThen,
    OfPerson,
    OfPersonThen,
}

const QUESTIONS: [(Question, &str); 5] = [
    (Question::WhoAt, "who had it then"),
    (Question::OfDevice, "custodies of a device, newest 50"),
    (Question::OfDeviceThen, "custodies of a device, an old minute"),
    (Question::OfPerson, "custodies of a person, newest 50"),
    (Question::OfPersonThen, "custodies of a person, an old minute"),
];

/// # Errors
/// When a database cannot be made or asked.
pub(crate) async fn measure(size: Size, report: &mut Report) -> anyhow::Result<()> {
    let (large, samples) = match size {
        Size::Quick => (100_000, 300),
        Size::Full => (1_000_000, 1500),
        Size::Large => (10_000_000, 1500),
    };
    let folder = tempfile::tempdir()?;
    let few = Past::made(folder.path(), "few.db", 10_000).await?;
    let many = Past::made(folder.path(), "many.db", large).await?;
    for (question, name) in QUESTIONS {
        for hot in [false, true] {
            let (mut of_few, mut of_many) = (Vec::new(), Vec::new());
            for nth in 0..samples + 50 {
                let (one, other) = (few.ask(question, hot).await?, many.ask(question, hot).await?);
                if nth >= 50 {
                    of_few.push(one);
                    of_many.push(other);
                }
            }
            let (of_few, of_many) = (Spread::of(of_few), Spread::of(of_many));
            report.line(
                &format!("{name}{}, {large} custodies", if hot { ", the busiest" } else { "" }),
                &of_many.to_string(),
                &format!("{of_few} at 10000"),
                Some(of_many.percentile(50).as_secs_f64() / of_few.percentile(50).as_secs_f64()),
                "≤ 2",
            );
        }
    }
    few.store.close().await;
    many.store.close().await;
    Ok(())
}

impl Past {
    async fn made(folder: &Path, file: &str, custodies: u64) -> anyhow::Result<Self> {
        let url = format!("sqlite://{file}");
        Store::open(&url, folder).await?.close().await;
        let options = SqliteConnectOptions::new()
            .filename(folder.join(file))
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Off)
            .pragma("cache_size", "-1048576");
        let mut connection = SqliteConnection::connect_with(&options).await?;
        fill(&mut connection, custodies).await?;
        let devices = sqlx::query_scalar("SELECT id FROM devices ORDER BY rowid").fetch_all(&mut connection).await?;
        let people = sqlx::query_scalar("SELECT id FROM people ORDER BY rowid").fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(Self { store: Store::open(&url, folder).await?, custodies, devices, people })
    }

    async fn ask(&self, question: Question, hot: bool) -> anyhow::Result<Duration> {
        let whose = |of: &[Uuid]| of[if hot { 0 } else { rand::random_range(1..of.len()) }];
        let device = whose(&self.devices);
        let person = whose(&self.people);
        let at = begins(rand::random_range(self.custodies / 4..self.custodies * 3 / 4));
        let then = Span { from: Some(at), to: Some(at + TimeDelta::minutes(1)) };
        let page = Paging::new(Some(50), None);
        let started = Instant::now();
        let mut tx = self.store.read().await?;
        match question {
            Question::WhoAt => drop(custodies::at(&mut tx, device, at).await?),
            Question::OfDevice => drop(custodies::of_device(&mut tx, device, Span::default(), &page).await?),
            Question::OfDeviceThen => drop(custodies::of_device(&mut tx, device, then, &page).await?),
            Question::OfPerson => drop(custodies::of_person(&mut tx, person, Span::default(), &page).await?),
            Question::OfPersonThen => drop(custodies::of_person(&mut tx, person, then, &page).await?),
        }
        Ok(started.elapsed())
    }
}

/// When the custody of that number begins.
fn begins(number: u64) -> DateTime<Utc> {
    DateTime::from_timestamp(BEGIN.saturating_add_unsigned(number), 0).unwrap_or_default()
}

/// Makes the rows, and the indexes after them, as they are in the schema.
async fn fill(connection: &mut SqliteConnection, custodies: u64) -> anyhow::Result<()> {
    const INDEXES: &str = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name IN ('custodies', 'revocations') AND sql IS NOT NULL";
    let indexes: Vec<(String, String)> = sqlx::query_as(INDEXES).fetch_all(&mut *connection).await?;
    for (name, _) in &indexes {
        run(connection, &format!("DROP INDEX {name}")).await?;
    }
    let others = custodies / 100;
    run(connection, "BEGIN").await?;
    run(
        connection,
        &numbers(
            others + 1,
            "INSERT INTO devices (id, source, serial, state, undecided, head, base, version)
         SELECT randomblob(16), 'uem', printf('DMPX%06d', n), 'unknown', 0, '{}', '{}', 0 FROM numbers",
        ),
    )
    .await?;
    run(connection, &numbers(
        others + 1,
        "INSERT INTO people (id, object_id, upn, upn_key, guest, first_seen_at)
         SELECT randomblob(16), randomblob(16), 'person' || n || '@contoso.example', 'person' || n || '@contoso.example', 0,
             '2024-01-01T00:00:00+00:00' FROM numbers",
    )).await?;
    // A device is with one person until its next turn, every `others` seconds; the busiest device and person change every ten.
    let time = |offset: &str| format!("strftime('%Y-%m-%dT%H:%M:%S', {BEGIN} + {offset}, 'unixepoch') || '+00:00'");
    run(connection, &numbers(
        custodies,
        &format!(
            "INSERT INTO custodies (id, device_id, holder, person_id, started_at, started, ended_at, ended, ended_by, departure)
             SELECT randomblob(16),
                 (SELECT id FROM devices WHERE rowid = CASE n % 10 WHEN 0 THEN 1 ELSE 2 + n % {others} END), 'person',
                 (SELECT id FROM people WHERE rowid = CASE n % 10 WHEN 5 THEN 1 ELSE 2 + n * 7 % {others} END),
                 {}, 'observed', {}, 'inferred', randomblob(16), 'next' FROM numbers",
            time("n"),
            time(&format!("n + CASE WHEN n % 10 IN (0, 5) THEN 10 ELSE {others} END")),
        ),
    )).await?;
    run(connection,
        "INSERT INTO revocations (id, device_id, custody_id, person_id, reason, state, departed_at, departed_by, because,
             exposed_from, owed_at, urgency, due_at, failed, unfound, blind, accepted_at, verified_at, closed_at, version)
         SELECT randomblob(16), device_id, id, person_id, 'next_user', 'verified', ended_at, ended_by, ended_by, ended_at,
             ended_at, 0, ended_at, 0, 0, 0, ended_at, ended_at, ended_at, 3 FROM custodies",
    ).await?;
    for (_, sql) in &indexes {
        run(connection, sql).await?;
    }
    run(connection, "COMMIT").await
}

fn numbers(count: u64, then: &str) -> String {
    let (insert, select) = then.split_once("SELECT").unwrap_or((then, ""));
    format!(
        "{insert} WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {count})
         SELECT {select}"
    )
}

async fn run(connection: &mut SqliteConnection, sql: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
