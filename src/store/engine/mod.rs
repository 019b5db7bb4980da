//! The seam between the two databases: the only folder that says `Sqlite` or `Postgres`.
//!
//! A statement is one text for both, with `$1` places and named columns. `on!` runs a body once per
//! engine with native types. Where a text must differ, `Tx::either` chooses. How each is opened is told in `sqlite` and
//! `postgres`.
//!
//! What would surprise: on SQLite all writing goes through one connection, so that a writing transaction waits for the one
//! before it instead of failing; and it begins with `BEGIN IMMEDIATE`, because SQLite refuses a transaction that reads
//! first and writes later. On PostgreSQL every statement has an end on our side too: a server whose machine is gone says nothing.

mod address;
mod postgres;
mod sqlite;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::query_builder::Separated;
use sqlx::{
    Database, Encode, PgConnection, Postgres, QueryBuilder, SqlSafeStr as _, Sqlite, SqliteConnection, Transaction,
    Type,
};

use crate::store::Error;
use postgres::Servers;

/// How many commit groups one instance has under way on PostgreSQL: while the server works on one, the next is folded. With
/// more, groups become smaller and wait for each other's devices.
const POSTGRES_WRITERS: usize = 3;

/// How many prepared statements a connection keeps. Each statement for many rows comes in up to 28 texts (see [`Sheet`]).
const STATEMENTS: usize = 512;

/// The most rows that one statement writes. With 25 columns that is below what either engine binds.
const SHEET: usize = 256;

/// How much longer than the server's own limit we wait for a statement before the connection counts as lost.
const BEYOND_THE_SERVER: Duration = Duration::from_secs(5);

/// The migrations, oldest first: number, name, text for SQLite, text for PostgreSQL.
const MIGRATIONS: &[(i64, &str, &str, &str)] = &[
    (
        1,
        "first",
        include_str!("../../../migrations/sqlite/0001_first.sql"),
        include_str!("../../../migrations/postgres/0001_first.sql"),
    ),
    (
        2,
        "many instances",
        include_str!("../../../migrations/sqlite/0002_many_instances.sql"),
        include_str!("../../../migrations/postgres/0002_many_instances.sql"),
    ),
    (
        3,
        "reporting",
        include_str!("../../../migrations/sqlite/0003_reporting.sql"),
        include_str!("../../../migrations/postgres/0003_reporting.sql"),
    ),
];

/// How often a migration is begun, and how long the pause after each try grows.
const MIGRATION_TRIES: u32 = 10;
const MIGRATION_PAUSE: Duration = Duration::from_millis(200);

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An embedded SQLite file.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

/// Where the database is, and how it is reached.
#[derive(Clone)]
pub struct Settings {
    /// `sqlite://path` (created if missing) or `postgres://user@host/name`; PostgreSQL with several hosts, separated by commas.
    pub url: String,
    /// The password, where the URL has none.
    pub password: Option<SecretString>,
    /// How many connections one instance takes from PostgreSQL.
    pub max_connections: u32,
    /// How long PostgreSQL may work on one statement.
    pub statement_timeout: Duration,
}

/// A URL may hold a password.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("max_connections", &self.max_connections).finish_non_exhaustive()
    }
}

impl Settings {
    /// The database at `url`, everything else at its default.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), password: None, max_connections: 16, statement_timeout: Duration::from_secs(30) }
    }

    /// What is wrong with the URL, if anything: said before anybody is called.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn check(&self) -> Result<(), Error> {
        if self.url.strip_prefix("sqlite://").is_some_and(|path| !path.is_empty()) {
            return Ok(());
        }
        address::read(self, Path::new(".")).map(drop)
    }
}

#[derive(Clone)]
enum Pools {
    Sqlite(sqlite::File),
    Postgres(Arc<Servers>),
}

/// The pools of one database.
#[derive(Clone)]
pub(crate) struct Db(Pools);

/// Hears what others tell. A connection that is lost is not made again here.
pub struct Ear(Option<postgres::Listening>);

impl Ear {
    /// The next thing that is told.
    ///
    /// # Errors
    /// When the connection is lost. What was told meanwhile is missed.
    pub async fn next(&mut self) -> Result<String, Error> {
        match &mut self.0 {
            Some(listening) => listening.next().await,
            None => std::future::pending().await,
        }
    }
}

/// A connection, inside a writing transaction or just for reading.
pub struct Tx {
    inner: Inner,
    limit: Duration,
    /// Whom it goes to, where that may change.
    server: Option<Arc<postgres::Current>>,
}

enum Inner {
    SqliteWrites(Transaction<'static, Sqlite>),
    SqliteReads(PoolConnection<Sqlite>),
    PostgresWrites(Transaction<'static, Postgres>),
    PostgresReads(PoolConnection<Postgres>),
}

/// The bare connection of either engine; what [`on!`](crate::store::engine::on) matches on.
pub(crate) enum Side<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

/// Runs a body on the connection of a [`Tx`], compiled once for each engine.
macro_rules! on {
    ($tx:expr, |$connection:ident| $body:expr) => {{
        let limit = $tx.limit();
        match $tx.side() {
            $crate::store::engine::Side::Sqlite($connection) => $body,
            $crate::store::engine::Side::Postgres($connection) => {
                $crate::store::engine::in_time(limit, async { $body }).await
            }
        }
    }};
}
pub(crate) use on;

/// Ends the wait for a server that no longer answers. What it did with the statement is then not known.
pub(crate) async fn in_time<T>(
    limit: Duration,
    doing: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(limit, doing).await.map_err(silent)?
}

/// What a server that does not answer counts as.
fn silent(_: tokio::time::error::Elapsed) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the database does not answer"))
}

/// A row that reads itself by column name, on both engines.
macro_rules! row {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type,)* }

        impl<'r, R: sqlx::Row> sqlx::FromRow<'r, R> for $name
        where
            &'static str: sqlx::ColumnIndex<R>,
            $($type: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,)*
        {
            fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: row.try_get(stringify!($field))?,)* })
            }
        }
    };
}
pub(crate) use row;

impl Tx {
    /// A connection to a file of our own. Its thread always answers.
    fn new(inner: Inner) -> Self {
        Self { inner, limit: Duration::MAX, server: None }
    }

    pub(crate) fn side(&mut self) -> Side<'_> {
        match &mut self.inner {
            Inner::SqliteWrites(tx) => Side::Sqlite(tx),
            Inner::SqliteReads(connection) => Side::Sqlite(connection),
            Inner::PostgresWrites(tx) => Side::Postgres(tx),
            Inner::PostgresReads(connection) => Side::Postgres(connection),
        }
    }

    /// Which database it goes to.
    pub(crate) fn kind(&self) -> Kind {
        match &self.inner {
            Inner::SqliteWrites(_) | Inner::SqliteReads(_) => Kind::Sqlite,
            Inner::PostgresWrites(_) | Inner::PostgresReads(_) => Kind::Postgres,
        }
    }

    /// How many servers are configured.
    pub(crate) fn hosts(&self) -> usize {
        self.server.as_ref().map_or(1, |server| server.hosts())
    }

    /// How long one statement may take before its server counts as gone.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// The text for this engine, for the rare statement that must differ.
    pub(crate) fn either(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match &self.inner {
            Inner::SqliteWrites(_) | Inner::SqliteReads(_) => sqlite,
            Inner::PostgresWrites(_) | Inner::PostgresReads(_) => postgres,
        }
    }

    /// The time that leases go by (R12): the server's, where several instances share one, else `ours`.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn clock(&mut self, ours: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
        let limit = self.limit();
        match self.side() {
            Side::Sqlite(_) => Ok(ours),
            Side::Postgres(c) => Ok(in_time(limit, sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(c)).await?),
        }
    }

    /// Makes everything durable. When this returns without an error, it is on stable storage (R1). Ends the process when a
    /// flush failed (S4).
    ///
    /// # Errors
    /// When the database could not commit. Whether it did after all is then not known.
    pub async fn commit(self) -> Result<(), Error> {
        let done = match self.inner {
            Inner::SqliteWrites(tx) => tx.commit().await,
            Inner::PostgresWrites(tx) => in_time(self.limit, tx.commit()).await,
            Inner::SqliteReads(_) | Inner::PostgresReads(_) => Ok(()),
        };
        let Err(error) = done else { return Ok(()) };
        let error = Error::Database(error);
        error.end_if_fatal();
        if let (Some(server), true) = (&self.server, error.lost_its_connection()) {
            server.suspect();
            return Err(error.while_committing());
        }
        Err(error)
    }
}

impl Db {
    /// Opens a database; relative paths count from `base`.
    pub(crate) async fn open(settings: &Settings, base: &Path) -> Result<Self, Error> {
        Ok(Self(match settings.url.strip_prefix("sqlite://") {
            Some(path) => Pools::Sqlite(sqlite::File::open(base.join(path)).await?),
            None => Pools::Postgres(Arc::new(Servers::open(settings, base).await?)),
        }))
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.0 {
            Pools::Sqlite(_) => Kind::Sqlite,
            Pools::Postgres(_) => Kind::Postgres,
        }
    }

    /// How many transactions may write at once and be the faster for it.
    pub(crate) fn writers(&self) -> usize {
        match self.0 {
            Pools::Sqlite(_) => 1,
            Pools::Postgres(_) => POSTGRES_WRITERS,
        }
    }

    /// The file of a SQLite database.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.0 {
            Pools::Sqlite(file) => Some(&file.path),
            Pools::Postgres(_) => None,
        }
    }

    /// Begins a transaction that will write.
    pub(crate) async fn write(&self) -> Result<Tx, Error> {
        Ok(match &self.0 {
            Pools::Sqlite(file) => Tx::new(Inner::SqliteWrites(file.begin().await?)),
            Pools::Postgres(servers) => {
                let (tx, server) = servers.begin().await?;
                Tx { inner: Inner::PostgresWrites(tx), limit: servers.limit(), server: Some(server) }
            }
        })
    }

    /// A connection for reading. Each statement sees the newest committed state.
    pub(crate) async fn read(&self) -> Result<Tx, Error> {
        Ok(match &self.0 {
            Pools::Sqlite(file) => Tx::new(Inner::SqliteReads(file.read.acquire().await?)),
            Pools::Postgres(servers) => {
                let (connection, server) = servers.acquire().await?;
                Tx { inner: Inner::PostgresReads(connection), limit: servers.limit(), server: Some(server) }
            }
        })
    }

    /// Brings the schema up to date. Several instances may do so at once, and instances of the release before go on working:
    /// a migration that lost a race against one of their deeds was undone as a whole, and is begun again.
    pub(crate) async fn migrate(&self) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            match self.try_migrate().await {
                Err(error) if error.is_passing() && tries < MIGRATION_TRIES => {
                    tracing::warn!(error = %error, "the schema could not be brought up to date beside an instance that runs; trying again");
                    tokio::time::sleep(MIGRATION_PAUSE * tries).await;
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    async fn try_migrate(&self) -> Result<(), Error> {
        let migrations = MIGRATIONS.iter().map(|&(number, name, sqlite, postgres)| {
            let text = match self.kind() {
                Kind::Sqlite => sqlite,
                Kind::Postgres => postgres,
            };
            Migration::new(number, name.into(), MigrationType::Simple, text.into_sql_str(), false)
        });
        let migrator = Migrator::with_migrations(migrations.collect());
        let done = match &self.0 {
            Pools::Sqlite(file) => migrator.run(&file.write).await,
            Pools::Postgres(servers) => {
                // As long as it takes, and behind another instance that migrates.
                let mut connection = servers.unhurried().await?;
                let done = migrator.run(&mut connection).await;
                drop(sqlx::Connection::close(connection).await);
                done
            }
        };
        done.map_err(|error| {
            if let sqlx::migrate::MigrateError::VersionMissing(number) = error {
                return Error::NewerSchema(number);
            }
            Error::Migrate(error)
        })
    }

    /// Tells all who listen. It is a statement of its own: inside a deed it would make commits wait for each other.
    pub(crate) async fn tell(&self, channel: &str, what: &str) -> Result<(), Error> {
        let mut tx = self.read().await?;
        let limit = tx.limit();
        if let Side::Postgres(c) = tx.side() {
            in_time(limit, sqlx::query("SELECT pg_notify($1, $2)").bind(channel).bind(what).execute(c)).await?;
        }
        Ok(())
    }

    /// Writes SQLite's log into the database file, and flushes it. PostgreSQL recovers by itself.
    pub(crate) async fn checkpoint(&self) -> Result<(), Error> {
        if let Pools::Sqlite(file) = &self.0 {
            sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&file.write).await?;
        }
        Ok(())
    }

    /// Listens to what others tell, on a connection of its own.
    pub(crate) async fn listen(&self, channel: &str) -> Result<Ear, Error> {
        match &self.0 {
            Pools::Sqlite(_) => Ok(Ear(None)),
            Pools::Postgres(servers) => Ok(Ear(Some(servers.listen(channel).await?))),
        }
    }

    pub(crate) async fn close(&self) {
        match &self.0 {
            Pools::Sqlite(file) => file.close().await,
            Pools::Postgres(servers) => servers.close().await,
        }
    }
}

/// The rows of one statement that writes many.
///
/// A statement for many rows has one text per number of rows, and preparing a long text takes longer than running it. So rows
/// are filled up to one of a few numbers, with repeats of the last one that the statement leaves out again by its `LIMIT`: each
/// table costs one trip to the database for a whole commit group, by a statement that stays prepared.
pub(crate) struct Sheet<'a, T>(&'a [T]);

/// Cuts rows into as few sheets as can be.
pub(crate) fn sheets<T>(rows: &[T]) -> impl Iterator<Item = Sheet<'_, T>> {
    rows.chunks(SHEET).map(Sheet)
}

impl<T> Sheet<'_, T> {
    /// Adds the rows to a statement, as something that can be selected from or inserted.
    pub(crate) fn put<DB, F>(&self, query: &mut QueryBuilder<DB>, tuple: F)
    where
        DB: Database,
        F: FnMut(Separated<'_, DB, &'static str>, &T),
        i64: for<'t> Encode<'t, DB> + Type<DB>,
    {
        let (rows, places) = (self.0, places(self.0.len()));
        if rows.len() == places {
            query.push_values(rows, tuple);
            return;
        }
        let filled = rows.iter().chain(rows.last().into_iter().cycle()).take(places);
        // Of a bare placeholder SQLite would plan the statement anew for each number.
        query.push("SELECT * FROM (").push_values(filled, tuple).push(") AS filled LIMIT 0 + ");
        query.push_bind(i64::try_from(rows.len()).unwrap_or(i64::MAX));
    }
}

/// The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, …: at most half as many again.
fn places(rows: usize) -> usize {
    let above = rows.next_power_of_two();
    let between = above / 4 * 3;
    if rows <= between { between } else { above }
}

/// The values for a list that something is looked for in, the last one repeated until their number is a power of two: for
/// the same reason, and for one statement only, since looking for a value twice finds it once.
pub(crate) fn padded<T>(values: &[T]) -> impl Iterator<Item = &T> {
    let length = values.len().next_power_of_two();
    values.iter().chain(values.last().into_iter().cycle()).take(if values.is_empty() { 0 } else { length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_filled_up_to_few_sizes_and_none_is_lost() {
        let rows: Vec<_> = (0..300).collect();
        let lengths: Vec<_> = sheets(&rows).map(|sheet| sheet.0.len()).collect();

        assert_eq!(lengths, [256, 44]);
        assert_eq!([0, 1, 2, 3, 4, 5, 7, 9, 13, 17].map(places), [0, 1, 2, 3, 4, 6, 8, 12, 16, 24]);
        let sizes: std::collections::BTreeSet<_> = (1..=SHEET).map(places).collect();
        assert_eq!(sizes.len(), 16);
    }

    #[test]
    fn a_sheet_has_one_text_for_several_numbers_of_rows() {
        let text = |rows: &[i64]| {
            let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO numbers ");
            for sheet in sheets(rows) {
                sheet.put(&mut query, |mut tuple, row| {
                    tuple.push_bind(*row);
                });
            }
            query.into_string()
        };
        let six = "VALUES (?), (?), (?), (?), (?), (?)";

        assert_eq!(text(&[1, 2, 3, 4, 5, 6]), format!("INSERT INTO numbers {six}"));
        assert_eq!(text(&[1, 2, 3, 4, 5]), format!("INSERT INTO numbers SELECT * FROM ({six}) AS filled LIMIT 0 + ?"));
    }

    #[test]
    fn a_list_to_look_in_is_filled_up_with_what_it_has() {
        assert!(padded(&[1, 2, 3]).eq(&[1, 2, 3, 3]));
        assert!(padded(&[1, 2, 3, 4]).eq(&[1, 2, 3, 4]));
        assert_eq!(padded::<u8>(&[]).count(), 0);
    }
}
