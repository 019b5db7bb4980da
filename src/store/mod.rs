//! The only room that knows SQL.
//!
//! Everything is on SQLite or PostgreSQL, from one text ([`engine`]). Reading functions take any [`Tx`]; what writes is called
//! inside a transaction that `app` begins and commits, so that a deed and its audit entry stand or fall together.

pub mod accounts;
pub mod asking;
pub mod attempts;
pub mod audit;
pub mod engine;
pub mod hold;
pub mod house;
pub mod instances;
pub mod leases;
pub mod looks;
pub mod months;
pub mod moving;
pub mod paces;
pub mod recording;
pub mod revocations;
pub mod snapshot;
pub mod sources;
pub mod tables;
pub mod tallies;
pub mod times;
pub mod tokens;

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::migrate::MigrateError;

pub use engine::{Ear, Kind, Settings, Tx};

/// The database.
#[derive(Clone)]
pub struct Store {
    db: engine::Db,
    finished: Arc<tallies::Finished>,
}

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `database.url` cannot be understood.
    #[error("database.url is not usable: {0}")]
    Url(String),
    /// There is no such file.
    #[error("there is no database at {}", .0.display())]
    Missing(PathBuf),
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
    /// The oldest that is tested with.
    #[error("PostgreSQL {found} is too old; {floor} or later is needed")]
    PostgresTooOld {
        /// The version found.
        found: String,
        /// The version needed.
        floor: &'static str,
    },
    /// S10: what it acknowledged could be lost or damaged.
    #[error("the PostgreSQL server is not safe to keep anything on: it runs with {0}")]
    UnsafeServer(String),
    /// S9: nothing is decided by what a replica says.
    #[error("the PostgreSQL server is not the primary: {0}")]
    NotPrimary(&'static str),
    /// S9: of several servers none takes writes.
    #[error("none of the PostgreSQL servers can be used: {told}")]
    NoPrimary {
        /// What is the matter with each.
        told: String,
        /// Whether one of them may only be starting.
        is_away: bool,
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
    /// The connection was lost while committing.
    #[error("the connection to the database was lost while committing: whether it was written down is not known")]
    Unsure(#[source] sqlx::Error),
    /// Only the leader may do this, and somebody else leads, or nobody.
    #[error("this instance does not lead")]
    NotLeading,
    /// The database said no.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

impl Error {
    /// Whether the same transaction may pass if it is begun again (S11): it lost a race, or its connection.
    ///
    /// Never where a commit was under way: that is [`Error::is_unsure`].
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Overtaken(_)) || self.lost_a_race() || self.lost_its_connection()
    }

    fn lost_a_race(&self) -> bool {
        // Serialization, deadlock, a lock that was not to be had in time; SQLite: busy, locked, snapshot.
        matches!(self.code().as_deref(), Some("40001" | "40P01" | "55P03" | "5" | "6" | "517"))
    }

    /// Whether the answer to a commit was lost. Only who may do a thing twice begins it again.
    pub fn is_unsure(&self) -> bool {
        matches!(self, Self::Unsure(_))
    }

    /// The same, met while committing.
    fn while_committing(self) -> Self {
        if let Self::Database(error) = self { Self::Unsure(error) } else { self }
    }

    /// Whether the connection went away under the transaction, with the server or without it.
    fn lost_its_connection(&self) -> bool {
        let (Self::Database(error) | Self::Open(error)) = self else { return false };
        if let sqlx::Error::Io(error) = error {
            // A certificate that does not verify is no matter of time.
            return error.kind() != std::io::ErrorKind::InvalidData;
        }
        // Stopped, crashed, starting, dropped for idling; too many connections; a server that was made a standby.
        let passing = ["57P01", "57P02", "57P03", "57P05", "25P03", "25006", "53300"];
        let is_passing = |code: &str| code.starts_with("08") || passing.contains(&code);
        // Or a pool that was left for another one.
        matches!(error, sqlx::Error::PoolClosed) || self.code().as_deref().is_some_and(is_passing)
    }

    /// Whether there is no server to be had, and one may be back soon.
    pub fn is_away(&self) -> bool {
        if let Self::NoPrimary { is_away, .. } = self {
            return *is_away;
        }
        matches!(self, Self::NotPrimary(_) | Self::Unsure(_) | Self::Database(sqlx::Error::PoolTimedOut))
            || self.lost_its_connection()
    }

    /// Whether what was written may be lost although it was said to be stable (S4): a flush to the disk failed. The process
    /// has to end and to recover from what is on the disk.
    pub fn is_fatal(&self) -> bool {
        matches!(self.code().as_deref(), Some("1034" | "1290"))
    }

    /// Whether there is no room left on the disk (S2).
    pub fn is_full(&self) -> bool {
        matches!(self.code().as_deref(), Some("13" | "53100"))
    }

    /// Ends the process at once if [`Error::is_fatal`]: nothing it could still say or write would be worth anything (S4).
    pub fn end_if_fatal(&self) {
        /// `EX_IOERR` of `sysexits.h`.
        const BROKEN_DISK: i32 = 74;
        if self.is_fatal() {
            tracing::error!(
                "the disk did not take a flush, so that what it holds is not known any more; ending at once"
            );
            std::process::exit(BROKEN_DISK);
        }
    }

    fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
        let (Self::Database(sqlx::Error::Database(error))
        | Self::Open(sqlx::Error::Database(error))
        | Self::Migrate(
            MigrateError::Execute(sqlx::Error::Database(error))
            | MigrateError::ExecuteMigration(sqlx::Error::Database(error), _),
        )) = self
        else {
            return None;
        };
        error.code()
    }
}

/// The claim of one `serve` on a SQLite file. Let go when the process ends, however it ends.
pub struct Claim {
    _lock: Option<File>,
}

impl Store {
    /// What is remembered of the finished revocations.
    pub fn finished(&self) -> &tallies::Finished {
        &self.finished
    }

    /// Opens the database at `url`; relative paths count from `base`. Creates a SQLite file that does not exist, and brings
    /// the schema up to date.
    ///
    /// # Errors
    /// When it cannot be opened, is of a newer version, or cannot be migrated.
    pub async fn open(url: &str, base: &Path) -> Result<Self, Error> {
        Self::open_with(&Settings::new(url), base).await
    }

    /// As [`Store::open`], with more to say about how.
    ///
    /// # Errors
    /// As [`Store::open`], and when the server is not one that anything may be entrusted to.
    pub async fn open_with(settings: &Settings, base: &Path) -> Result<Self, Error> {
        let db = engine::Db::open(settings, base).await?;
        db.migrate().await?;
        Ok(Self { db, finished: Arc::default() })
    }

    /// Opens a database as it is: the schema is left alone, whichever it has.
    ///
    /// # Errors
    /// When it is not there or cannot be opened.
    pub async fn attach(settings: &Settings, base: &Path) -> Result<Self, Error> {
        if let Some(path) = settings.url.strip_prefix("sqlite://") {
            let file = base.join(path);
            if !file.exists() {
                return Err(Error::Missing(file));
            }
        }
        Ok(Self { db: engine::Db::open(settings, base).await?, finished: Arc::default() })
    }

    /// Whether it is a file of its own, which one service has at a time.
    pub fn is_file(&self) -> bool {
        self.db.file().is_some()
    }

    /// Which database it is.
    pub fn kind(&self) -> Kind {
        self.db.kind()
    }

    /// Whether other instances may work on it at the same time.
    pub fn is_shared(&self) -> bool {
        self.kind() == Kind::Postgres
    }

    /// How many transactions may write at once and be the faster for it: one where the database has one writer.
    pub fn writers(&self) -> usize {
        self.db.writers()
    }

    /// Claims the database for one service. PostgreSQL is made for many and is not claimed.
    ///
    /// # Errors
    /// [`Error::Taken`] names the process that has it.
    pub fn claim(&self) -> Result<Claim, Error> {
        self.db.file().map_or(Ok(Claim { _lock: None }), claim_file)
    }

    /// Puts on the disk for good what an earlier process left in the write-ahead log.
    ///
    /// After a flush that failed, the system may show pages that the disk never took. What is read from them and acknowledged
    /// as known would be lost with the power; so it is written once more, and flushed.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn recover(&self) -> Result<(), Error> {
        self.db.checkpoint().await
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

    /// Writes a consistent copy of a SQLite database into a file that is not there yet, while others write: what was committed
    /// before this is called is in it.
    ///
    /// # Errors
    /// When the file is there already or cannot be written.
    pub async fn write_copy(&self, file: &Path) -> Result<(), Error> {
        const COPY: &str = "VACUUM INTO $1";
        let mut tx = self.read().await?;
        let file = file.to_string_lossy().into_owned();
        engine::on!(tx, |c| sqlx::query(COPY).bind(&file).execute(c).await.map(drop))?;
        Ok(())
    }

    /// What SQLite finds wrong with the database's pages, indexes and constraints. Empty where it is sound.
    ///
    /// # Errors
    /// When it cannot even be read.
    pub async fn damage(&self) -> Result<Vec<String>, Error> {
        const CHECK: &str = "PRAGMA integrity_check";
        let mut tx = self.read().await?;
        let said: Vec<String> = engine::on!(tx, |c| sqlx::query_scalar(CHECK).fetch_all(c).await)?;
        Ok(said.into_iter().filter(|line| line != "ok").collect())
    }

    /// The number of the newest migration that the database has; 0 where it has none.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn schema(&self) -> Result<i64, Error> {
        const NEWEST: &str = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations";
        let mut tx = self.read().await?;
        Ok(engine::on!(tx, |c| sqlx::query_scalar(NEWEST).fetch_one(c).await)?)
    }

    /// The file of a SQLite database.
    pub fn file(&self) -> Option<&Path> {
        self.db.file()
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

/// Claims a SQLite file, which need not be there yet.
///
/// # Errors
/// [`Error::Taken`] names the process that has it.
pub fn claim_file(database: &Path) -> Result<Claim, Error> {
    let file = PathBuf::from(format!("{}.lock", database.display()));
    let trouble = |source| Error::Lock { file: file.clone(), source };
    let mut lock = File::options().read(true).write(true).create(true).truncate(false).open(&file).map_err(trouble)?;
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
