//! What the same machine does when it does nothing but the least: rows in a file, and round trips over loopback.

use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, SqliteConnection};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::client::Client;
use crate::report::{Spread, rate};

/// A bare loop that inserts one row per event, with a commit after each of the given groups, over and over for `span`.
///
/// # Errors
/// When the database fails.
pub(crate) async fn rows_per_second(
    folder: &Path,
    body: &Bytes,
    groups: &[usize],
    span: Duration,
) -> anyhow::Result<f64> {
    let mut connection = open(folder).await?;
    let (started, mut rows) = (Instant::now(), 0);
    for group in groups.iter().cycle() {
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        for _ in 0..*group {
            insert(&mut tx, body).await?;
        }
        tx.commit().await?;
        rows += group;
        if started.elapsed() > span {
            break;
        }
    }
    Ok(rate(rows, started.elapsed()))
}

/// How long a commit of one row takes.
///
/// # Errors
/// When the database fails.
pub(crate) async fn commits(folder: &Path, body: &Bytes, count: usize, pause: Duration) -> anyhow::Result<Spread> {
    let mut connection = open(folder).await?;
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        tokio::time::sleep(pause).await;
        let started = Instant::now();
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        insert(&mut tx, body).await?;
        tx.commit().await?;
        samples.push(started.elapsed());
    }
    Ok(Spread::of(samples))
}

async fn open(folder: &Path) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(folder.join(format!("bare-{}.db", Uuid::new_v4())))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    sqlx::query("CREATE TABLE rows (id BLOB NOT NULL PRIMARY KEY, body BLOB NOT NULL) STRICT")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

async fn insert(connection: &mut SqliteConnection, body: &Bytes) -> anyhow::Result<()> {
    const INSERT: &str = "INSERT INTO rows (id, body) VALUES ($1, $2)";
    sqlx::query(INSERT).bind(Uuid::new_v4()).bind(body.to_vec()).execute(connection).await?;
    Ok(())
}

/// Posts a body over loopback to a server that reads it and answers as shortly as the intake does.
///
/// # Errors
/// When the connection fails.
pub(crate) async fn round_trips(body: &Bytes, count: usize, pause: Duration) -> anyhow::Result<Spread> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let answer = |_: Bytes| async { r#"{"status":"recorded","event":"00000000-0000-0000-0000-000000000000"}"# };
    let server = tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(answer))).await });
    let mut client = Client::connect(address, "/").await?;
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        tokio::time::sleep(pause).await;
        let started = Instant::now();
        client.post(body).await?;
        samples.push(started.elapsed());
    }
    server.abort();
    Ok(Spread::of(samples))
}
