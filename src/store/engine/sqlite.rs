//! How the SQLite file is opened: one connection that writes, a few that read.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};

use super::STATEMENTS;
use crate::store::Error;

/// How long a statement waits for SQLite's write lock (S5).
const BUSY: Duration = Duration::from_secs(5);

/// How large the pages of a new database are; one that exists keeps its own. A hand-over changes some twenty leaves of
/// indexes, and each goes into the log as a whole page: with SQLite's own 4 KiB, twice as much.
const PAGE_BYTES: u32 = 2048;

/// After how many pages of its log (2 KiB each) SQLite writes them into the database file: 64 MiB. With its own default of a
/// thousand, a busy writer would do so after nearly every commit, and write the same pages again each time.
const CHECKPOINT_PAGES: &str = "32768";

/// How many rows may wait to be taken over from SQLite's thread: more than any statement of a commit group gives, so that
/// the thread never waits for the reader.
const ROWS_WAITING: usize = 2048;

/// How much of the database the writer and each reader keep in memory, as SQLite counts it: KiB below zero. The writer touches
/// the leaves of twenty indexes with every event; what readers ask for is in the system's cache as well.
const WRITER_CACHE: &str = "-32768";
const READER_CACHE: &str = "-4096";

/// How many connections read at once. Readers never block the writer of a WAL database.
const READERS: u32 = 4;

/// The oldest SQLite that does not corrupt a WAL database when checkpoints race (S7): 3.51.3.
const SQLITE_FLOOR: &str = "3.51.3";

/// The pools of one file.
#[derive(Clone)]
pub(super) struct File {
    /// The one connection that writes.
    pub(super) write: SqlitePool,
    /// Those that read.
    pub(super) read: SqlitePool,
    /// Where it is.
    pub(super) path: PathBuf,
}

impl File {
    /// Opens the file, or makes it, with its folder.
    pub(super) async fn open(path: PathBuf) -> Result<Self, Error> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| Error::Folder { folder: folder.to_path_buf(), source })?;
        }
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .page_size(PAGE_BYTES)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .pragma("cache_size", WRITER_CACHE)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            // A statement for many rows keeps what it would need to be undone alone; that need not go into a file.
            .pragma("temp_store", "memory")
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
        Ok(Self { write, read, path })
    }

    /// Begins a transaction on the one connection that writes.
    ///
    /// When the disk refuses a write, SQLite ends the transaction by itself, and the driver, which does not learn of it, counts
    /// it as open for ever: every later one would be refused. Such a connection is given up, and a new one begins.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        const BEGIN: &str = "BEGIN IMMEDIATE";
        match self.write.begin_with(BEGIN).await {
            Err(sqlx::Error::InvalidSavePointStatement) => {
                // What closing it complains of is what broke it, and was told already.
                drop(self.write.acquire().await?.close().await);
                self.write.begin_with(BEGIN).await
            }
            begun => begun,
        }
    }

    pub(super) async fn close(&self) {
        self.read.close().await;
        // A reader's thread may let go last, and a reader cannot write the log back: the file alone has to be whole by then.
        drop(sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.write).await);
        self.write.close().await;
    }
}

fn is_older(version: &str, floor: &str) -> bool {
    let parts = |text: &str| text.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    parts(version) < parts(floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(is_older("3.9.0", SQLITE_FLOOR));
        assert!(is_older("3.51.2", SQLITE_FLOOR));
        assert!(!is_older("3.51.3", SQLITE_FLOOR));
        assert!(!is_older("3.100.0", SQLITE_FLOOR));
    }
}
