//! Questions about the past: as fast over ten million custodies as over ten thousand, on either database.
//!
//! The rows are made by the database itself. A tenth of all custodies is of one device and another tenth of one person; the
//! rest is spread evenly, about ninety for each, in both databases. Every custody is answered by a revocation. The questions
//! go to both databases in turn, so that a noisy moment meets both; and of the large one the plans are held to the index that
//! each question has to walk.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use handover::store::Store;
use handover::store::asking::{Paging, Span, custodies};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::Size;
use crate::ground::{Ground, Plot, run};
use crate::report::{Report, Spread};

/// The second at which the first custody begins: 2024-01-01T00:00:00Z.
const BEGIN: i64 = 1_704_067_200;

/// After how long a question that takes its time is not asked again, once it was asked a hundred times.
const PATIENCE: Duration = Duration::from_secs(30);

/// One database full of custodies.
struct Past {
    plot: Plot,
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
/// When a database cannot be made or asked, or a question walks no index.
pub(crate) async fn measure(size: Size, ground: &Ground, report: &mut Report) -> anyhow::Result<()> {
    let (larger, samples): (&[u64], _) = match size {
        Size::Quick => (&[100_000], 300),
        Size::Full => (&[1_000_000], 1500),
        Size::Large => (&[1_000_000, 10_000_000], 1500),
    };
    let few = Past::made(ground, 10_000).await?;
    for large in larger {
        let began = Instant::now();
        let many = Past::made(ground, *large).await?;
        eprintln!("{}: {large} custodies were made in {} s", ground.name(), began.elapsed().as_secs());
        many.held_to_indexes(report, ground).await?;
        for (question, name) in QUESTIONS {
            for hot in [false, true] {
                let (mut of_few, mut of_many) = (Vec::new(), Vec::new());
                let began = Instant::now();
                for nth in 0..samples + 50 {
                    let (one, other) = (few.ask(question, hot).await?, many.ask(question, hot).await?);
                    if nth >= 50 {
                        of_few.push(one);
                        of_many.push(other);
                    }
                    if nth >= 100 && began.elapsed() > PATIENCE {
                        break;
                    }
                }
                let (of_few, of_many) = (Spread::of(of_few), Spread::of(of_many));
                report.line(
                    &format!("{}: {name}{}, {large} custodies", ground.name(), if hot { ", the busiest" } else { "" }),
                    &of_many.to_string(),
                    &format!("{of_few} at 10000"),
                    Some(of_many.percentile(50).as_secs_f64() / of_few.percentile(50).as_secs_f64()),
                    "≤ 2",
                );
            }
        }
        many.tallied(report, ground).await?;
        many.clear().await?;
    }
    few.clear().await
}

impl Past {
    async fn made(ground: &Ground, custodies: u64) -> anyhow::Result<Self> {
        let plot = ground.plot().await?;
        Store::open(&plot.url, plot.folder()).await?.close().await;
        let (devices, people) = match ground {
            Ground::Sqlite => {
                let options = SqliteConnectOptions::new()
                    .filename(plot.folder().join("handover.db"))
                    // The store writes ahead again once it opens the file.
                    .journal_mode(SqliteJournalMode::Off)
                    .synchronous(SqliteSynchronous::Off)
                    .pragma("cache_size", "-1048576");
                let mut connection = SqliteConnection::connect_with(&options).await?;
                fill_sqlite(&mut connection, custodies).await?;
                let devices =
                    sqlx::query_scalar("SELECT id FROM devices ORDER BY rowid").fetch_all(&mut connection).await?;
                let people =
                    sqlx::query_scalar("SELECT id FROM people ORDER BY rowid").fetch_all(&mut connection).await?;
                connection.close().await?;
                (devices, people)
            }
            Ground::Postgres(_) => {
                fill_postgres(&plot.url, custodies).await?;
                let mut connection = PgConnection::connect(&plot.url).await?;
                let devices =
                    sqlx::query_scalar("SELECT id FROM devices ORDER BY serial").fetch_all(&mut connection).await?;
                let people =
                    sqlx::query_scalar("SELECT id FROM people ORDER BY upn").fetch_all(&mut connection).await?;
                connection.close().await?;
                (devices, people)
            }
        };
        let store = Store::open(&plot.url, plot.folder()).await?;
        Ok(Self { plot, store, custodies, devices, people })
    }

    /// Says how much of the disk it takes, and fails where a question about the past would read a whole table.
    async fn held_to_indexes(&self, report: &mut Report, ground: &Ground) -> anyhow::Result<()> {
        let mut tx = self.store.read().await?;
        for (device, person) in [(self.devices[0], self.people[0]), (self.devices[1], self.people[1])] {
            let at = begins(self.custodies / 2);
            for (index, plan) in custodies::plans(&mut tx, device, person, at).await? {
                let whole = ["Seq Scan on custodies", "SCAN x\n", "Seq Scan on revocations"]
                    .iter()
                    .any(|walk| plan.contains(walk))
                    || (plan.contains("SCAN s\n") && !plan.contains("CO-ROUTINE s\n"));
                anyhow::ensure!(plan.contains(index) && !whole, "{} does not walk {index}:\n{plan}", ground.name());
            }
        }
        drop(tx);
        let bytes = self.plot.bytes().await? / self.custodies;
        report.line(
            &format!("{}: {} custodies and their revocations", ground.name(), self.custodies),
            &format!("{bytes} bytes each, every question walks its index"),
            "—",
            None,
            "—",
        );
        Ok(())
    }

    /// How long it takes to say how many revocations are in each state: the first time, and from then on.
    async fn tallied(&self, report: &mut Report, ground: &Ground) -> anyhow::Result<()> {
        let mut asked = Vec::new();
        for _ in 0..101 {
            let started = Instant::now();
            let tallies = self.store.finished().and_unfinished(&mut self.store.read().await?).await?;
            asked.push(started.elapsed());
            let all: i64 = tallies.iter().map(|tally| tally.many).sum();
            anyhow::ensure!(u64::try_from(all)? == self.custodies, "{all} revocations were counted");
        }
        let first = asked.remove(0);
        report.line(
            &format!("{}: how many revocations are in each state, {} of them", ground.name(), self.custodies),
            &Spread::of(asked).to_string(),
            &format!("{} ms when they are counted", first.as_millis()),
            None,
            "—",
        );
        Ok(())
    }

    async fn clear(self) -> anyhow::Result<()> {
        self.store.close().await;
        self.plot.clear().await
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

/// Makes the rows, and the indexes after them, as they are in the schema. A device is with one person until its next turn,
/// every `others` seconds; the busiest device and person change every ten.
async fn fill_sqlite(connection: &mut SqliteConnection, custodies: u64) -> anyhow::Result<()> {
    const INDEXES: &str = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name IN ('custodies', 'revocations') AND sql IS NOT NULL";
    let indexes: Vec<(String, String)> = sqlx::query_as(INDEXES).fetch_all(&mut *connection).await?;
    let others = custodies / 100;
    let id = format!("unhex(printf('%012x', ({BEGIN} + n) * 1000) || hex(randomblob(10)))");
    let time = |offset: &str| format!("strftime('%Y-%m-%dT%H:%M:%S', {BEGIN} + {offset}, 'unixepoch') || '+00:00'");
    let mut script = vec![String::from("BEGIN")];
    script.extend(indexes.iter().map(|(name, _)| format!("DROP INDEX {name}")));
    script.push(numbers(
        others + 1,
        "INSERT INTO devices (id, source, serial, state, undecided, head, base, version)
         SELECT randomblob(16), 'uem', printf('DMPX%06d', n), 'unknown', 0, '{}', '{}', 0 FROM numbers",
    ));
    script.push(numbers(
        others + 1,
        "INSERT INTO people (id, object_id, upn, upn_key, guest, first_seen_at)
         SELECT randomblob(16), randomblob(16), 'person' || n || '@contoso.example', 'person' || n || '@contoso.example', 0,
             '2024-01-01T00:00:00+00:00' FROM numbers",
    ));
    script.push(numbers(
        custodies,
        &format!(
            "INSERT INTO custodies (id, device_id, holder, person_id, started_at, started, ended_at, ended, ended_by, departure)
             SELECT {id},
                 (SELECT id FROM devices WHERE rowid = CASE n % 10 WHEN 0 THEN 1 ELSE 2 + n % {others} END), 'person',
                 (SELECT id FROM people WHERE rowid = CASE n % 10 WHEN 5 THEN 1 ELSE 2 + n * 7 % {others} END),
                 {}, 'observed', {}, 'inferred', randomblob(16), 'next' FROM numbers",
            time("n"),
            time(&format!("n + CASE WHEN n % 10 IN (0, 5) THEN 10 ELSE {others} END")),
        ),
    ));
    script.push(answered("randomblob(16)"));
    script.extend(indexes.into_iter().map(|(_, sql)| sql));
    script.extend([String::from("COMMIT"), String::from("ANALYZE")]);
    for statement in &script {
        sqlx::raw_sql(AssertSqlSafe(statement.as_str())).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The same rows on PostgreSQL.
async fn fill_postgres(url: &str, custodies: u64) -> anyhow::Result<()> {
    const INDEXES: &str = "SELECT indexname, indexdef FROM pg_indexes
         WHERE tablename IN ('custodies', 'revocations') AND indexname NOT LIKE '%pkey'";
    let mut connection = PgConnection::connect(url).await?;
    let indexes: Vec<(String, String)> = sqlx::query_as(INDEXES).fetch_all(&mut connection).await?;
    connection.close().await?;
    let others = custodies / 100;
    let id = format!("(lpad(to_hex(({BEGIN} + n) * 1000), 12, '0') || substr(md5(random()::text), 1, 20))::uuid");
    let mut script =
        vec![String::from("SET synchronous_commit = off"), String::from("SET maintenance_work_mem = '512MB'")];
    script.extend(indexes.iter().map(|(name, _)| format!("DROP INDEX {name}")));
    script.push(format!(
        "INSERT INTO devices (id, source, serial, state, undecided, head, base, version)
         SELECT md5('device' || n)::uuid, 'uem', 'DMPX' || lpad(n::text, 6, '0'), 'unknown', false, '{{}}', '{{}}', 0
         FROM generate_series(0, {others}) AS n"
    ));
    script.push(format!(
        "INSERT INTO people (id, object_id, upn, upn_key, guest, first_seen_at)
         SELECT md5('person' || n)::uuid, gen_random_uuid(), upn, upn, false, '2024-01-01T00:00:00Z'
         FROM (SELECT n, 'person' || lpad(n::text, 6, '0') || '@contoso.example' AS upn FROM generate_series(0, {others}) AS n) p"
    ));
    script.push(format!(
        "INSERT INTO custodies (id, device_id, holder, person_id, started_at, started, ended_at, ended, ended_by, departure)
         SELECT {id}, md5('device' || CASE n % 10 WHEN 0 THEN 0 ELSE 1 + n % {others} END)::uuid, 'person',
             md5('person' || CASE n % 10 WHEN 5 THEN 0 ELSE 1 + n * 7 % {others} END)::uuid,
             to_timestamp({BEGIN} + n), 'observed',
             to_timestamp({BEGIN} + n + CASE WHEN n % 10 IN (0, 5) THEN 10 ELSE {others} END), 'inferred',
             gen_random_uuid(), 'next' FROM generate_series(0::bigint, {custodies} - 1) AS n"
    ));
    script.push(answered("gen_random_uuid()"));
    script.extend(indexes.into_iter().map(|(_, sql)| sql));
    run(url, &script.join(";\n")).await?;
    run(url, "VACUUM ANALYZE").await
}

/// A revocation for every custody.
fn answered(id: &str) -> String {
    format!(
        "INSERT INTO revocations (id, device_id, custody_id, person_id, reason, state, departed_at, departed_by, because,
             exposed_from, owed_at, urgency, due_at, failed, unfound, blind, accepted_at, verified_at, closed_at, version)
         SELECT {id}, device_id, id, person_id, 'next_user', 'verified', ended_at, ended_by, ended_by, ended_at,
             ended_at, 0, ended_at, 0, 0, 0, ended_at, ended_at, ended_at, 3 FROM custodies"
    )
}

fn numbers(count: u64, then: &str) -> String {
    let (insert, select) = then.split_once("SELECT").unwrap_or((then, ""));
    format!(
        "{insert} WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {count})
         SELECT {select}"
    )
}
