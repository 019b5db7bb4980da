//! The schema of the first release is brought up to date, and the process or its connection dies at every point of it.
//!
//! What is there afterwards is the old schema or a newer one, never half of one; the next start finishes it, and every row is
//! what it is after migrations that nobody disturbed (S15, I21).

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::cluster::Cluster;
use crate::program::{PROGRAM, Site};
use crate::rounds;
use crate::schema::{Held, lay_down_postgres, lay_down_sqlite, steps_of_postgres, steps_of_sqlite};
use crate::strace::{self, Injection};

/// A command that opens the database, which brings it up to date, and changes nothing else.
fn asking(program: &mut Command, site: &Site) -> Output {
    program.stdin(Stdio::null()).args(["revocations", "--json", "--config"]);
    program.arg(site.folder().join("handover.toml")).output().unwrap()
}

/// Puts a copy of a SQLite file, and of nothing beside it, where the site has its database.
fn put_back(kept: &Path, site: &Site) {
    let file = site.file();
    for ending in ["-wal", "-shm"] {
        fs::remove_file(format!("{}{ending}", file.display())).ok();
    }
    fs::copy(kept, file).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_of_sqlite_killed_at_any_write_leaves_the_old_schema_or_the_new() {
    if !strace::is_to_be_had() {
        return;
    }
    let site = Site::new(1, "").await;
    let kept = site.folder().join("kept.db");
    lay_down_sqlite(&kept).await;
    put_back(&kept, &site);
    let steps = steps_of_sqlite(&site.file()).await;
    let (old, new) = (steps.first().unwrap(), steps.last().unwrap());
    assert!(steps.len() > 1 && old.rows() > 2000, "{} schemas, {} rows", steps.len(), old.rows());

    let (mut killed, mut still_old) = (0, 0);
    for call in ["pwrite64", "fsync", "ftruncate", "unlink"] {
        // Every flush, and as many of the writes as there is time for.
        let step = if call == "pwrite64" { (26 / rounds::points()).max(1) } else { 1 };
        for from in (1..).step_by(usize::try_from(step).unwrap()) {
            put_back(&kept, &site);
            let injection = Injection { call, what: "signal=KILL", from, for_good: false };
            let ended = asking(&mut strace::over(&site, &injection), &site);
            if ended.status.success() {
                break;
            }
            killed += 1;
            let found = Held::by_sqlite(&site.file()).await;
            assert!(steps.contains(&found), "half a schema after {injection:?}");
            still_old += usize::from(found == *old);
            let again = asking(&mut Command::new(PROGRAM), &site);
            assert!(again.status.success(), "{injection:?}: {}", String::from_utf8_lossy(&again.stderr));
            assert_eq!(&Held::by_sqlite(&site.file()).await, new, "{injection:?}");
        }
    }
    for _ in 0..3 {
        assert!(asking(&mut Command::new(PROGRAM), &site).status.success());
        assert_eq!(&Held::by_sqlite(&site.file()).await, new, "opening it again changed something");
    }
    assert!(killed > 0);
    println!(
        "SQLite: schema {} to {} over {} rows, killed {killed} times, {still_old} times with the old schema left; \
         0 of {killed} repeats differ from an undisturbed migration",
        old.schema,
        new.schema,
        old.rows()
    );
}

/// Ends the connection after the statement of this number that changes the schema.
const CUT: &str = "
    CREATE SCHEMA cut;
    CREATE SEQUENCE cut.statements;
    CREATE TABLE cut.at (nth bigint NOT NULL);
    CREATE FUNCTION cut.maybe() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('cut.statements') = (SELECT nth FROM cut.at) THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
        END IF;
    END $$;
    CREATE EVENT TRIGGER cut ON ddl_command_end EXECUTE FUNCTION cut.maybe();";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_of_postgres_cut_off_after_any_statement_leaves_the_old_schema_or_the_new() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.create("undisturbed").await;
    let mut aside = PgConnection::connect(&cluster.url("undisturbed")).await.unwrap();
    lay_down_postgres(&mut aside).await;
    let steps = steps_of_postgres(&mut aside).await;
    let (old, new) = (steps.first().unwrap(), steps.last().unwrap());
    let site = Site::over(&cluster.create("cut_off").await, 1, 1, "").await;
    let mut aside = PgConnection::connect(&cluster.url("cut_off")).await.unwrap();
    lay_down_postgres(&mut aside).await;
    assert!(steps.len() > 1 && old.rows() > 2000, "{} schemas, {} rows", steps.len(), old.rows());

    aside.execute(CUT).await.unwrap();
    let mut cut_off = 0;
    for nth in 1_i64.. {
        aside.execute("DELETE FROM cut.at; SELECT setval('cut.statements', 1, false)").await.unwrap();
        sqlx::query("INSERT INTO cut.at (nth) VALUES ($1)").bind(nth).execute(&mut aside).await.unwrap();
        let ended = asking(&mut Command::new(PROGRAM), &site);
        let found = Held::by_postgres(&mut aside).await;
        if ended.status.success() {
            assert_eq!(&found, new, "the next start did not finish it");
            break;
        }
        cut_off += 1;
        assert!(steps.contains(&found), "half a schema after statement {nth}");
    }
    for _ in 0..3 {
        assert!(asking(&mut Command::new(PROGRAM), &site).status.success());
        assert_eq!(&Held::by_postgres(&mut aside).await, new, "opening it again changed something");
    }
    assert!(cut_off > 10, "only {cut_off} statements");
    println!(
        "PostgreSQL: schema {} to {} over {} rows, cut off after each of {cut_off} statements; \
         0 rows differ from an undisturbed migration",
        old.schema,
        new.schema,
        old.rows()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_instances_that_meet_an_old_schema_one_brings_it_up_to_date_and_all_come_up() {
    let Some(cluster) = Cluster::start().await else { return };
    let site = Site::over(&cluster.create("three").await, 3, 1, "").await;
    let mut aside = PgConnection::connect(&cluster.url("three")).await.unwrap();
    lay_down_postgres(&mut aside).await;

    let starts = (0..3).map(|nth| site.start_one(nth));
    let running = futures_util::future::join_all(starts).await;

    let versions: Vec<(i64, i64)> =
        sqlx::query_as("SELECT version, count(*) FROM _sqlx_migrations GROUP BY version ORDER BY version")
            .fetch_all(&mut aside)
            .await
            .unwrap();
    assert!(versions.len() > 1 && versions.iter().all(|(_, count)| *count == 1), "{versions:?}");
    println!("{} of 3 instances came up over an old schema", running.len());
}

/// A backup by `pg_dump`, or somebody's long query, reads the events while a new instance starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_has_to_wait_for_a_long_query_keeps_nobody_else_waiting_for_it() {
    const QUERY: Duration = Duration::from_secs(9);
    let Some(cluster) = Cluster::start().await else { return };
    let site = Site::over(&cluster.create("long_query").await, 1, 1, "").await;
    let url = cluster.url("long_query");
    let mut aside = PgConnection::connect(&url).await.unwrap();
    lay_down_postgres(&mut aside).await;
    let mut long = PgConnection::connect(&url).await.unwrap();
    long.execute("BEGIN; SELECT count(*) FROM events").await.unwrap();

    let began = Instant::now();
    let started = tokio::task::spawn_blocking(move || asking(&mut Command::new(PROGRAM), &site));
    tokio::time::sleep(Duration::from_secs(1)).await;
    aside.execute("SELECT count(*) FROM events").await.unwrap();
    let answered = began.elapsed();
    tokio::time::sleep(QUERY.saturating_sub(began.elapsed())).await;
    long.execute("COMMIT").await.unwrap();
    let ended = started.await.unwrap();

    assert!(answered < QUERY, "a reader waited {answered:?}, for as long as the query took");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    println!("a reader was answered {answered:?} after the start, a query of {QUERY:?} held the migration up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_again_and_again_changes_nothing_and_calls_nobody() {
    let site = Site::new(1, "").await;
    let amina = site.sandbox.entra.add_user(crate::program::upn("amina").as_str());
    site.sandbox.entra.add_user(crate::program::upn("jonas").as_str());
    let (running, _) = site.start().await;
    for user in ["amina", "jonas"] {
        let body = crate::program::event(1, user, site.sandbox.entra.now());
        assert_eq!(site.post(body).await.unwrap().0, 200);
    }
    rounds::drain(&site, Duration::from_secs(30)).await;
    running.kill();
    let before = Held::by_sqlite(&site.file()).await;

    for nth in 0..6 {
        let (running, _) = site.start().await;
        if nth % 2 == 0 {
            running.kill();
        } else {
            assert!(running.stop().await.success());
        }
    }

    assert_eq!(Held::by_sqlite(&site.file()).await, before);
    assert_eq!(site.sandbox.entra.effects(amina).len(), 1);
    assert_eq!(rounds::calls(&site).len(), 1);
}
