//! The only room that knows SQL.
//!
//! Everything is on SQLite or PostgreSQL, from one text ([`engine`]). Reading functions take any [`Tx`]; what writes is called
//! inside a transaction that `app` begins and commits, so that a deed and its audit entry stand or fall together.

pub mod accounts;
pub mod asking;
pub mod attempts;
pub mod audit;
pub mod engine;
pub mod house;
pub mod instances;
pub mod leases;
pub mod looks;
pub mod paces;
pub mod recording;
pub mod revocations;
pub mod snapshot;
pub mod sources;
pub mod times;
pub mod tokens;

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

pub use engine::{Ear, Kind, Tx};

/// The database.
#[derive(Clone)]
pub struct Store {
    db: engine::Db,
}

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `database.url` cannot be understood.
    #[error("database.url is not usable: {0}")]
    Url(String),
    /// The folder of the SQLite file cannot be made.
    #[error("the database's folder {} cannot be created", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No connection.
    #[error("the database cannot be opened")]
    Open(#[source] sqlx::Error),
    /// S7.
    #[error("SQLite {found} can corrupt a database in WAL mode; {floor} or later is needed")]
    SqliteTooOld {
        /// The version found.
        found: String,
        /// The version needed.
        floor: &'static str,
    },
    /// S8.
    #[error("another Handover ({holder}) already runs on {}; stop it, or give this one a database of its own", file.display())]
    Taken {
        /// The database.
        file: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// The lock file beside the SQLite file cannot be used.
    #[error("the lock file {} cannot be used", file.display())]
    Lock {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// S16.
    #[error("the database has schema {0}, which this version of Handover does not know; use a newer one")]
    NewerSchema(i64),
    /// A migration failed; the database is as it was before it.
    #[error("the schema could not be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A row that cannot be read.
    #[error("{table}.{column} of {id} cannot be read: {found}")]
    Unreadable {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// Which row.
        id: String,
        /// What stands there.
        found: String,
    },
    /// Somebody else changed a row between our reading and our writing it.
    #[error("{0} was changed by somebody else meanwhile")]
    Overtaken(&'static str),
    /// Only the leader may do this, and somebody else leads, or nobody.
    #[error("this instance does not lead")]
    NotLeading,
    /// The database said no.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

impl Error {
    /// Whether the same transaction may pass if it is begun again (S11).
    pub fn is_passing(&self) -> bool {
        if let Self::Overtaken(_) = self {
            return true;
        }
        matches!(self.code().as_deref(), Some("40001" | "40P01" | "5" | "6" | "517"))
    }

    /// Whether what was written may be lost although it was said to be stable (S4): a flush to the disk failed. The process
    /// has to end and to recover from what is on the disk.
    pub fn is_fatal(&self) -> bool {
        matches!(self.code().as_deref(), Some("1034" | "1290"))
    }

    fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
        let Self::Database(sqlx::Error::Database(error)) = self else { return None };
        error.code()
    }
}

/// The claim of one `serve` on a SQLite file. Let go when the process ends, however it ends.
pub struct Claim {
    _lock: Option<File>,
}

impl Store {
    /// Opens the database at `url`; relative paths count from `base`. Creates a SQLite file that does not exist, and brings
    /// the schema up to date.
    ///
    /// # Errors
    /// When it cannot be opened, is of a newer version, or cannot be migrated.
    pub async fn open(url: &str, base: &Path) -> Result<Self, Error> {
        let db = engine::Db::open(url, base).await?;
        db.migrate().await?;
        Ok(Self { db })
    }

    /// Which database it is.
    pub fn kind(&self) -> Kind {
        self.db.kind()
    }

    /// Whether other instances may work on it at the same time.
    pub fn is_shared(&self) -> bool {
        self.kind() == Kind::Postgres
    }

    /// Claims the database for one service. PostgreSQL is made for many and is not claimed.
    ///
    /// # Errors
    /// [`Error::Taken`] names the process that has it.
    pub fn claim(&self) -> Result<Claim, Error> {
        let Some(database) = self.db.file() else { return Ok(Claim { _lock: None }) };
        let file = PathBuf::from(format!("{}.lock", database.display()));
        let trouble = |source| Error::Lock { file: file.clone(), source };
        let mut lock =
            File::options().read(true).write(true).create(true).truncate(false).open(&file).map_err(trouble)?;
        match lock.try_lock() {
            Ok(()) => {
                lock.set_len(0).and_then(|()| write!(lock, "process {}", std::process::id())).map_err(trouble)?;
                Ok(Claim { _lock: Some(lock) })
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                lock.rewind().and_then(|()| lock.read_to_string(&mut holder).map(drop)).map_err(trouble)?;
                Err(Error::Taken { file: database.to_path_buf(), holder })
            }
            Err(TryLockError::Error(source)) => Err(trouble(source)),
        }
    }

    /// Begins a transaction that will write. Dropped without a commit, it never was.
    ///
    /// # Errors
    /// When no connection is to be had in time.
    pub async fn write(&self) -> Result<Tx, Error> {
        self.db.write().await
    }

    /// A connection on which every statement is a transaction of its own.
    ///
    /// # Errors
    /// When no connection is to be had in time.
    pub async fn autocommit(&self) -> Result<Tx, Error> {
        self.db.read().await
    }

    /// A connection for reading.
    ///
    /// # Errors
    /// When no connection is to be had in time.
    pub async fn read(&self) -> Result<Tx, Error> {
        self.db.read().await
    }

    /// Tells all who listen on this database.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tell(&self, channel: &str, what: &str) -> Result<(), Error> {
        self.db.tell(channel, what).await
    }

    /// Listens to what others tell. Where nobody else can run, nothing is ever told.
    ///
    /// # Errors
    /// When no connection is to be had in time.
    pub async fn listen(&self, channel: &str) -> Result<Ear, Error> {
        self.db.listen(channel).await
    }

    /// Closes every connection; the write-ahead log is checkpointed.
    pub async fn close(&self) {
        self.db.close().await;
    }
}
