//! The PostgreSQL servers that may be the primary, and the pool on the one that is.
//!
//! It promises that nothing is read from or written to a server that is a standby, read-only, unsafe by its settings (S10), or
//! a former primary that was overtaken (S9): of several that take writes the one with the newest timeline counts, and a timeline
//! older than one seen before is refused. When the primary goes away, the next one is looked for by whoever needs a connection,
//! with a growing wait; nobody has to start Handover anew.
//!
//! What would surprise: a pool belongs to one run of one server. A connection that meets the same address after a restart is
//! refused by the pool, and all addresses are asked again: a primary that crashed and came back may have been replaced.

use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::pool::{MaybePoolConnection, PoolConnection};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Postgres, Transaction};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::address::{self, Address};
use super::{BEYOND_THE_SERVER, Settings, in_time, row, silent};
use crate::store::Error;

/// How long somebody waits for a connection. Then an event is refused with 503, and its sender comes again.
const ACQUIRE: Duration = Duration::from_secs(5);

/// After how long without a connection the servers are asked which of them is the primary.
const SLOW: Duration = Duration::from_millis(250);

/// How long one server has to say what it is.
const ASK: Duration = Duration::from_secs(2);

/// How long a connection that lay idle has to answer before another one is taken.
const PING: Duration = Duration::from_secs(1);

/// How long the first and the longest pause between two rounds of questions last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How long a statement waits for a row that another instance has locked.
const LOCK: Duration = Duration::from_secs(10);

/// How long a transaction may lie idle: a paused instance loses its locks (S13).
///
/// Nothing is waited for inside a transaction but the database, so that one which lies idle belongs to somebody who stands
/// still. Shorter than [`LOCK`]: whoever waits for its rows gets them instead of an error.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);

/// How long a connection lives at most, so that a changed certificate or password is met some day.
const LIFETIME: Duration = Duration::from_secs(1800);

/// The oldest PostgreSQL, as it numbers itself, and for people.
const FLOOR: (i32, &str) = (140_000, "14");

/// What a server says of itself, and what a connection is set to. `remote_apply` is kept: it waits for more than `on`.
const GREET: &str = "SELECT pg_is_in_recovery() AS standby,
        current_setting('transaction_read_only') = 'on' AS read_only,
        CAST(current_setting('server_version_num') AS INT4) AS number,
        current_setting('server_version') AS version,
        current_setting('fsync') = 'on' AS fsync,
        current_setting('full_page_writes') = 'on' AS full_page_writes,
        current_setting('server_encoding') AS encoding,
        pg_postmaster_start_time() AS started_at,
        set_config('statement_timeout', $1, false) AS one,
        set_config('lock_timeout', $2, false) AS two,
        set_config('idle_in_transaction_session_timeout', $3, false) AS three,
        set_config('synchronous_commit',
            CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END,
            false) AS four";

/// The timeline that a primary writes. Some hosted servers do not say.
const TIMELINE: &str = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";

row! {
    /// What a server says of itself.
    struct Facts {
        standby: bool,
        read_only: bool,
        number: i32,
        version: String,
        fsync: bool,
        full_page_writes: bool,
        encoding: String,
        started_at: DateTime<Utc>,
    }
}

impl Facts {
    /// Whether anything may be entrusted to it (S9, S10).
    fn fit(&self) -> Result<(), Error> {
        if self.number < FLOOR.0 {
            return Err(Error::PostgresTooOld { found: self.version.clone(), floor: FLOOR.1 });
        }
        if self.standby {
            return Err(Error::NotPrimary("it is a standby"));
        }
        if self.read_only {
            return Err(Error::NotPrimary("its transactions are read-only"));
        }
        let unsafe_settings: Vec<_> = [
            (!self.fsync).then_some("fsync = off (set it to on)"),
            (!self.full_page_writes).then_some("full_page_writes = off (set it to on)"),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !unsafe_settings.is_empty() {
            return Err(Error::UnsafeServer(unsafe_settings.join(" and ")));
        }
        if self.encoding != "UTF8" {
            return Err(Error::UnsafeServer(format!("the encoding {} (create the database with UTF8)", self.encoding)));
        }
        Ok(())
    }
}

/// A server that takes writes.
struct Found {
    address: usize,
    facts: Facts,
    timeline: Option<u32>,
}

/// The pool on one run of one server.
pub(super) struct Current {
    pool: PgPool,
    hosts: usize,
    address: usize,
    facts: Facts,
    /// Set for good when a connection met something else than that run.
    over: CancellationToken,
    /// Whether somebody waited in vain for an answer since the servers were asked.
    silent: AtomicBool,
}

/// How the search goes.
struct Seeking {
    /// The newest timeline that was ever seen.
    newest: Option<u32>,
    pause: Duration,
    not_before: Instant,
}

/// The servers of one database.
pub(super) struct Servers {
    addresses: Vec<Address>,
    max_connections: u32,
    statement_timeout: Duration,
    current: RwLock<Arc<Current>>,
    seeking: Mutex<Seeking>,
}

impl Servers {
    /// Finds the primary. Waits a little for servers that are starting.
    pub(super) async fn open(settings: &Settings, base: &Path) -> Result<Self, Error> {
        let addresses = address::read(settings, base)?;
        let begun = Instant::now();
        let found = loop {
            match find(&addresses, settings.statement_timeout, None).await {
                Err(error) if error.is_away() && begun.elapsed() < ACQUIRE => sleep(PAUSE.0).await,
                done => break done?,
            }
        };
        let newest = found.timeline;
        let current = current(&addresses, found, settings.max_connections, settings.statement_timeout);
        Ok(Self {
            addresses,
            max_connections: settings.max_connections,
            statement_timeout: settings.statement_timeout,
            current: RwLock::new(Arc::new(current)),
            seeking: Mutex::new(Seeking { newest, pause: PAUSE.0, not_before: Instant::now() }),
        })
    }

    /// How long we wait for a statement.
    pub(super) fn limit(&self) -> Duration {
        self.statement_timeout + BEYOND_THE_SERVER
    }

    /// The pool that is in use.
    pub(super) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A connection to the primary, whichever it is by now.
    pub(super) async fn acquire(&self) -> Result<(PoolConnection<Postgres>, Arc<Current>), Error> {
        let mut trouble = Error::Database(sqlx::Error::PoolTimedOut);
        let connecting = async {
            loop {
                let current = self.current();
                match self.acquire_from(&current).await {
                    Some(Ok(connection)) => return (connection, current),
                    Some(Err(error)) => trouble = Error::Database(error),
                    None => {}
                }
                if let Err(error) = self.seek(&current).await {
                    trouble = error;
                }
            }
        };
        match timeout(ACQUIRE, connecting).await {
            Ok(found) => Ok(found),
            Err(_) => Err(trouble),
        }
    }

    /// A connection of this pool; nothing, where it is over with it.
    async fn acquire_from(&self, current: &Arc<Current>) -> Option<Result<PoolConnection<Postgres>, sqlx::Error>> {
        if current.over.is_cancelled() || current.silent.swap(false, Ordering::Relaxed) {
            return None;
        }
        let mut acquiring = pin!(current.pool.acquire());
        tokio::select! {
            got = &mut acquiring => return Some(got),
            () = current.over.cancelled() => return None,
            () = sleep(SLOW) => {}
        }
        // All connections are taken, or nobody is there: the servers know.
        loop {
            tokio::select! {
                got = &mut acquiring => return Some(got),
                () = current.over.cancelled() => return None,
                _ = self.seek(current) => {}
            }
        }
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<(Transaction<'static, Postgres>, Arc<Current>), Error> {
        let (connection, current) = self.acquire().await?;
        let begun = Transaction::begin(MaybePoolConnection::PoolConnection(connection), None);
        Ok((in_time(self.limit(), begun).await?, current))
    }

    /// Asks all servers, and moves to the primary if that is not the one in use. Whoever comes second waits for the first.
    async fn seek(&self, instead: &Arc<Current>) -> Result<(), Error> {
        let mut seeking = self.seeking.lock().await;
        if !Arc::ptr_eq(&self.current(), instead) {
            return Ok(());
        }
        sleep_until(seeking.not_before).await;
        let jitter = 0.5 + rand::random::<f64>() / 2.0;
        if seeking.not_before.elapsed() > 4 * PAUSE.1 {
            seeking.pause = PAUSE.0;
        }
        seeking.not_before = Instant::now() + seeking.pause.mul_f64(jitter);
        seeking.pause = (seeking.pause * 2).min(PAUSE.1);

        let found = find(&self.addresses, self.statement_timeout, seeking.newest).await?;
        let is_same = found.address == instead.address && found.facts.started_at == instead.facts.started_at;
        if is_same && !instead.over.is_cancelled() {
            return Ok(());
        }
        seeking.newest = seeking.newest.max(found.timeline);
        seeking.pause = PAUSE.0;
        let shown = self.shown(found.address);
        tracing::warn!(
            database.host = shown,
            database.timeline = found.timeline,
            "the database is at {shown} from now on"
        );
        metrics::counter!("handover_database_moves_total").increment(1);
        let next = Arc::new(current(&self.addresses, found, self.max_connections, self.statement_timeout));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        instead.over.cancel();
        let old = instead.pool.clone();
        tokio::spawn(async move { old.close().await });
        Ok(())
    }

    fn shown(&self, address: usize) -> &str {
        self.addresses.get(address).map_or("", |address| address.shown.as_str())
    }

    /// A connection of its own to the primary, on which a statement may take as long as it takes.
    pub(super) async fn unhurried(&self) -> Result<PgConnection, Error> {
        let current = self.current();
        let address = self.addresses.get(current.address).ok_or(Error::NotPrimary("it is not configured"))?;
        let mut connection = timeout(ASK, address.options.connect()).await.map_err(silent)?.map_err(Error::Open)?;
        greet(&mut connection, Duration::ZERO, Duration::ZERO).await?.fit()?;
        Ok(connection)
    }

    /// Listens on a connection to the primary.
    pub(super) async fn listen(&self, channel: &str) -> Result<Listening, Error> {
        let server = self.current();
        let mut listener = in_time(self.limit(), PgListener::connect_with(&server.pool)).await?;
        listener.eager_reconnect(false);
        in_time(self.limit(), listener.listen(channel)).await?;
        Ok(Listening { listener, server })
    }

    pub(super) async fn close(&self) {
        self.current().pool.close().await;
    }
}

/// Hears what is told on one run of one server.
pub(super) struct Listening {
    listener: PgListener,
    server: Arc<Current>,
}

impl Listening {
    /// The next thing that is told.
    pub(super) async fn next(&mut self) -> Result<String, Error> {
        let told = tokio::select! {
            told = self.listener.try_recv() => told?,
            () = self.server.over.cancelled() => None,
        };
        told.map(|told| told.payload().to_owned()).ok_or(Error::Database(sqlx::Error::WorkerCrashed))
    }
}

impl Current {
    /// How many servers are configured.
    pub(super) fn hosts(&self) -> usize {
        self.hosts
    }

    /// Somebody waited in vain: whoever needs a connection next asks the servers first.
    pub(super) fn suspect(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }
}

fn current(addresses: &[Address], found: Found, max_connections: u32, statement_timeout: Duration) -> Current {
    let over = CancellationToken::new();
    let (met, run) = (over.clone(), found.facts.started_at);
    let pool = PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE)
        .max_lifetime(LIFETIME)
        .test_before_acquire(false)
        .before_acquire(|connection, _| {
            Box::pin(async move { timeout(PING, connection.ping()).await.map_err(silent)?.map(|()| true) })
        })
        .after_connect(move |connection, _| {
            let met = met.clone();
            Box::pin(async move {
                let facts = timeout(ASK, greet(connection, statement_timeout, LOCK)).await.map_err(silent)??;
                if facts.started_at == run && facts.fit().is_ok() {
                    return Ok(());
                }
                met.cancel();
                Err(sqlx::Error::Configuration("the server was started anew; the primary is looked for".into()))
            })
        })
        .connect_lazy_with(addresses[found.address].options.clone());
    Current {
        pool,
        hosts: addresses.len(),
        address: found.address,
        facts: found.facts,
        over,
        silent: AtomicBool::new(false),
    }
}

/// Asks all servers at once. Of those that take writes the one with the newest timeline counts.
async fn find(addresses: &[Address], statement_timeout: Duration, newest: Option<u32>) -> Result<Found, Error> {
    let mut asking = JoinSet::new();
    for (place, address) in addresses.iter().enumerate() {
        let options = address.options.clone();
        asking.spawn(async move { (place, ask(&options, statement_timeout).await) });
    }
    let mut found: Option<Found> = None;
    let mut refusals = Vec::new();
    while let Some(Ok((address, answer))) = asking.join_next().await {
        let answer = answer.and_then(|(facts, timeline)| {
            let is_overtaken = timeline.is_some() && timeline < newest;
            if is_overtaken {
                Err(Error::NotPrimary("another server was promoted in its place"))
            } else {
                Ok((facts, timeline))
            }
        });
        match answer {
            Ok((facts, timeline)) if found.as_ref().is_none_or(|best| timeline > best.timeline) => {
                found = Some(Found { address, facts, timeline });
            }
            Ok(_) => {}
            Err(error) => refusals.push((address, error)),
        }
    }
    if let Some(found) = found {
        return Ok(found);
    }
    refusals.sort_by_key(|(address, _)| *address);
    if refusals.len() == 1
        && let Some((_, error)) = refusals.pop()
    {
        return Err(error);
    }
    let is_away = refusals.iter().any(|(_, error)| error.is_away());
    let told = refusals.iter().map(|(address, error)| format!("{}: {}", addresses[*address].shown, chain(error)));
    Err(Error::NoPrimary { told: told.collect::<Vec<_>>().join("; "), is_away })
}

async fn ask(options: &PgConnectOptions, statement_timeout: Duration) -> Result<(Facts, Option<u32>), Error> {
    let mut connection =
        timeout(ASK, options.connect()).await.map_err(silent).and_then(|done| done).map_err(Error::Open)?;
    let asked = async {
        let facts = greet(&mut connection, statement_timeout, LOCK).await.map_err(Error::Open)?;
        facts.fit()?;
        let timeline: Option<String> = sqlx::query_scalar(TIMELINE).fetch_one(&mut connection).await.ok();
        Ok((facts, timeline.and_then(|hex| u32::from_str_radix(&hex, 16).ok())))
    };
    let answer = timeout(ASK, asked).await.map_err(|late| Error::Open(silent(late)))?;
    drop(timeout(ASK, connection.close()).await);
    answer
}

/// Sets a connection up, and hears what its server is.
async fn greet(connection: &mut PgConnection, statement: Duration, lock: Duration) -> Result<Facts, sqlx::Error> {
    let text = |span: Duration| span.as_millis().to_string();
    sqlx::query_as(GREET)
        .bind(text(statement))
        .bind(text(lock))
        .bind(text(if statement.is_zero() { statement } else { IDLE_IN_TRANSACTION }))
        .fetch_one(connection)
        .await
}

/// The error and what is beneath it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
