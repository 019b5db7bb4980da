//! The seam between the two databases: the only file that says `Sqlite` or `Postgres`.
//!
//! A statement is one text for both, with `$1` places and named columns. `on!` runs a body once per
//! engine with native types. Where a text must differ, `Tx::either` chooses.
//!
//! What would surprise: on SQLite all writing goes through one connection, so that a writing transaction waits for the one
//! before it instead of failing; and it begins with `BEGIN IMMEDIATE`, because SQLite refuses a transaction that reads
//! first and writes later.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgConnection, Postgres, SqlSafeStr as _, Sqlite, SqliteConnection, Transaction};

use crate::store::Error;

/// How long a statement waits for SQLite's write lock (S5).
const BUSY: Duration = Duration::from_secs(5);

/// After how many pages of its log (4 KiB each) SQLite writes them into the database file: 64 MiB. With its own default of a
/// thousand, a busy writer would do so after nearly every commit, and write the same pages again each time.
const CHECKPOINT_PAGES: &str = "16384";

/// How many prepared statements a connection keeps. Each statement for many rows comes in the sizes of [`pieces`].
const STATEMENTS: usize = 256;

/// How many rows may wait to be taken over from SQLite's thread: more than any statement of a commit group gives, so that
/// the thread never waits for the reader.
const ROWS_WAITING: usize = 2048;

/// The most rows that one statement writes. With 25 columns that is below what either engine binds.
const PIECE: usize = 256;

/// How much of the database the writer and each reader keep in memory, as SQLite counts it: KiB below zero. The writer touches
/// the leaves of twenty indexes with every event; what readers ask for is in the system's cache as well.
const WRITER_CACHE: &str = "-32768";
const READER_CACHE: &str = "-4096";

/// How many connections read at once. Readers never block the writer of a WAL database.
const READERS: u32 = 4;

/// How many connections one instance takes from PostgreSQL.
const POSTGRES_CONNECTIONS: u32 = 16;

/// The oldest SQLite that does not corrupt a WAL database when checkpoints race (S7): 3.51.3.
const SQLITE_FLOOR: &str = "3.51.3";

/// The migrations, oldest first: number, name, text for SQLite, text for PostgreSQL.
const MIGRATIONS: &[(i64, &str, &str, &str)] = &[
    (
        1,
        "first",
        include_str!("../../migrations/sqlite/0001_first.sql"),
        include_str!("../../migrations/postgres/0001_first.sql"),
    ),
    (
        2,
        "many instances",
        include_str!("../../migrations/sqlite/0002_many_instances.sql"),
        include_str!("../../migrations/postgres/0002_many_instances.sql"),
    ),
];

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An embedded SQLite file.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

#[derive(Clone)]
enum Pools {
    Sqlite { write: SqlitePool, read: SqlitePool, file: PathBuf },
    Postgres(PgPool),
}

/// The pools of one database.
#[derive(Clone)]
pub(crate) struct Db(Pools);

/// Hears what others tell. A connection that is lost is not made again here.
pub struct Ear(Option<PgListener>);

impl Ear {
    /// The next thing that is told.
    ///
    /// # Errors
    /// When the connection is lost. What was told meanwhile is missed.
    pub async fn next(&mut self) -> Result<String, Error> {
        let Some(listener) = &mut self.0 else { return std::future::pending().await };
        match listener.try_recv().await? {
            Some(told) => Ok(told.payload().to_owned()),
            None => Err(Error::Database(sqlx::Error::WorkerCrashed)),
        }
    }
}

/// A connection, inside a writing transaction or just for reading.
pub struct Tx(Inner);

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
    ($tx:expr, |$connection:ident| $body:expr) => {
        match $tx.side() {
            $crate::store::engine::Side::Sqlite($connection) => $body,
            $crate::store::engine::Side::Postgres($connection) => $body,
        }
    };
}
pub(crate) use on;

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
    pub(crate) fn side(&mut self) -> Side<'_> {
        match &mut self.0 {
            Inner::SqliteWrites(tx) => Side::Sqlite(tx),
            Inner::SqliteReads(connection) => Side::Sqlite(connection),
            Inner::PostgresWrites(tx) => Side::Postgres(tx),
            Inner::PostgresReads(connection) => Side::Postgres(connection),
        }
    }

    /// The text for this engine, for the rare statement that must differ.
    pub(crate) fn either(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match &self.0 {
            Inner::SqliteWrites(_) | Inner::SqliteReads(_) => sqlite,
            Inner::PostgresWrites(_) | Inner::PostgresReads(_) => postgres,
        }
    }

    /// The time that leases go by (R12): the server's, where several instances share one, else `ours`.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn clock(&mut self, ours: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
        match self.side() {
            Side::Sqlite(_) => Ok(ours),
            Side::Postgres(c) => Ok(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(c).await?),
        }
    }

    /// Makes everything durable. When this returns without an error, it is on stable storage (R1).
    ///
    /// # Errors
    /// When the database could not commit. Whether it did after all is then not known.
    pub async fn commit(self) -> Result<(), Error> {
        match self.0 {
            Inner::SqliteWrites(tx) => tx.commit().await?,
            Inner::PostgresWrites(tx) => tx.commit().await?,
            Inner::SqliteReads(_) | Inner::PostgresReads(_) => {}
        }
        Ok(())
    }
}

impl Db {
    /// Opens a database by its URL: `sqlite://path` (created if missing), `sqlite::memory:` is not taken, or `postgres://…`.
    pub(crate) async fn open(url: &str, base: &Path) -> Result<Self, Error> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            let file = base.join(path);
            Self::open_sqlite(file).await
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url).map_err(|error| Error::Url(error.to_string()))?;
            let pool = PgPoolOptions::new()
                .max_connections(POSTGRES_CONNECTIONS)
                .acquire_timeout(BUSY)
                .max_lifetime(Duration::from_secs(1800))
                .after_connect(|connection, _| {
                    Box::pin(async move {
                        sqlx::Executor::execute(&mut *connection, "SET synchronous_commit = on").await.map(drop)
                    })
                })
                .connect_with(options)
                .await
                .map_err(Error::Open)?;
            Ok(Self(Pools::Postgres(pool)))
        } else {
            Err(Error::Url(String::from("it must begin with sqlite:// or postgres://")))
        }
    }

    async fn open_sqlite(file: PathBuf) -> Result<Self, Error> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(|source| Error::Folder { folder: folder.to_path_buf(), source })?;
        }
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .pragma("cache_size", WRITER_CACHE)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .statement_cache_capacity(STATEMENTS)
            .row_buffer_size(ROWS_WAITING)
            .optimize_on_close(true, None);
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            // It is a file of our own: asking whether it is still there would cost a hop to its thread each time.
            .test_before_acquire(false)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_with(options.clone())
            .await
            .map_err(Error::Open)?;
        let read = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .connect_lazy_with(options.read_only(true).create_if_missing(false).pragma("cache_size", READER_CACHE));
        let (version,): (String,) = sqlx::query_as("SELECT sqlite_version()").fetch_one(&write).await?;
        if is_older(&version, SQLITE_FLOOR) {
            return Err(Error::SqliteTooOld { found: version, floor: SQLITE_FLOOR });
        }
        Ok(Self(Pools::Sqlite { write, read, file }))
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.0 {
            Pools::Sqlite { .. } => Kind::Sqlite,
            Pools::Postgres(_) => Kind::Postgres,
        }
    }

    /// The file of a SQLite database.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.0 {
            Pools::Sqlite { file, .. } => Some(file),
            Pools::Postgres(_) => None,
        }
    }

    /// Begins a transaction that will write.
    pub(crate) async fn write(&self) -> Result<Tx, Error> {
        Ok(Tx(match &self.0 {
            Pools::Sqlite { write, .. } => Inner::SqliteWrites(write.begin_with("BEGIN IMMEDIATE").await?),
            Pools::Postgres(pool) => Inner::PostgresWrites(pool.begin().await?),
        }))
    }

    /// A connection for reading. Each statement sees the newest committed state.
    pub(crate) async fn read(&self) -> Result<Tx, Error> {
        Ok(Tx(match &self.0 {
            Pools::Sqlite { read, .. } => Inner::SqliteReads(read.acquire().await?),
            Pools::Postgres(pool) => Inner::PostgresReads(pool.acquire().await?),
        }))
    }

    /// Brings the schema up to date. Several instances may do so at once.
    pub(crate) async fn migrate(&self) -> Result<(), Error> {
        let migrations = MIGRATIONS.iter().map(|&(number, name, sqlite, postgres)| {
            let text = match self.kind() {
                Kind::Sqlite => sqlite,
                Kind::Postgres => postgres,
            };
            Migration::new(number, name.into(), MigrationType::Simple, text.into_sql_str(), false)
        });
        let migrator = Migrator::with_migrations(migrations.collect());
        let done = match &self.0 {
            Pools::Sqlite { write, .. } => migrator.run(write).await,
            Pools::Postgres(pool) => migrator.run(pool).await,
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
        if let Pools::Postgres(pool) = &self.0 {
            sqlx::query("SELECT pg_notify($1, $2)").bind(channel).bind(what).execute(pool).await?;
        }
        Ok(())
    }

    /// Listens to what others tell, on a connection of its own.
    pub(crate) async fn listen(&self, channel: &str) -> Result<Ear, Error> {
        let Pools::Postgres(pool) = &self.0 else { return Ok(Ear(None)) };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.eager_reconnect(false);
        listener.listen(channel).await?;
        Ok(Ear(Some(listener)))
    }

    pub(crate) async fn close(&self) {
        match &self.0 {
            Pools::Sqlite { write, read, .. } => {
                read.close().await;
                write.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }
}

/// Cuts rows into pieces whose lengths are powers of two.
///
/// A statement for many rows has one text per number of rows, and preparing a long text takes longer than running it; of
/// these lengths there are so few that every statement stays prepared.
pub(crate) fn pieces<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = 1_usize << rows.len().min(PIECE).checked_ilog2()?;
        let (piece, rest) = rows.split_at(length);
        rows = rest;
        Some(piece)
    })
}

/// The values for a list that something is looked for in, the last one repeated until their number is a power of two: for
/// the same reason, and for one statement only, since looking for a value twice finds it once.
pub(crate) fn padded<T>(values: &[T]) -> impl Iterator<Item = &T> {
    let length = values.len().next_power_of_two();
    values.iter().chain(values.last().into_iter().cycle()).take(if values.is_empty() { 0 } else { length })
}

fn is_older(version: &str, floor: &str) -> bool {
    let parts = |text: &str| text.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    parts(version) < parts(floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_into_few_sizes_and_none_is_lost() {
        let rows: Vec<_> = (0..300).collect();
        let lengths: Vec<_> = pieces(&rows).map(<[_]>::len).collect();

        assert_eq!(lengths, [256, 32, 8, 4]);
        assert!(pieces(&rows).flatten().eq(&rows));
        assert_eq!(pieces::<u8>(&[]).count(), 0);
    }

    #[test]
    fn a_list_to_look_in_is_filled_up_with_what_it_has() {
        assert!(padded(&[1, 2, 3]).eq(&[1, 2, 3, 3]));
        assert!(padded(&[1, 2, 3, 4]).eq(&[1, 2, 3, 4]));
        assert_eq!(padded::<u8>(&[]).count(), 0);
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(is_older("3.9.0", SQLITE_FLOOR));
        assert!(is_older("3.51.2", SQLITE_FLOOR));
        assert!(!is_older("3.51.3", SQLITE_FLOOR));
        assert!(!is_older("3.100.0", SQLITE_FLOOR));
    }
}
