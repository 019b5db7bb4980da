//! Where a measurement keeps its database: a SQLite file, or a database of a PostgreSQL server.
//!
//! The server is the one that `HANDOVER_BENCH_POSTGRES` names, or a throwaway one in the temporary folder, with everything
//! that makes a commit durable switched on. As root it runs as `postgres` or `nobody`, since PostgreSQL refuses root.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;

/// What a database is laid out on.
#[derive(Clone)]
pub(crate) enum Ground {
    /// A file in the temporary folder.
    Sqlite,
    /// A server.
    Postgres(Arc<Server>),
}

impl Ground {
    /// Its name in the table.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    /// An empty database.
    pub(crate) async fn plot(&self) -> anyhow::Result<Plot> {
        let folder = tempfile::tempdir()?;
        let url = match self {
            Self::Sqlite => format!("sqlite://{}", folder.path().join("handover.db").display()),
            Self::Postgres(server) => {
                let name = format!("bench_{}", Uuid::new_v4().simple());
                run(&server.url, &format!("CREATE DATABASE {name}")).await?;
                server.database(&name)?
            }
        };
        Ok(Plot { ground: self.clone(), folder, url })
    }
}

/// One database, for one measurement.
pub(crate) struct Plot {
    ground: Ground,
    folder: TempDir,
    /// Where it is.
    pub(crate) url: String,
}

impl Plot {
    /// A folder that goes with it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How many events each commit since `began` had, in order: revocations carry the moment of their group.
    pub(crate) async fn groups(&self, began: DateTime<Utc>) -> anyhow::Result<Vec<usize>> {
        const GROUPS: &str = "SELECT COUNT(*) FROM revocations WHERE owed_at > $1 GROUP BY owed_at ORDER BY owed_at";
        let sizes: Vec<i64> = match self.ground {
            Ground::Sqlite => {
                let mut connection = SqliteConnection::connect(&self.url).await?;
                sqlx::query_scalar(GROUPS).bind(began).fetch_all(&mut connection).await?
            }
            Ground::Postgres(_) => {
                let mut connection = PgConnection::connect(&self.url).await?;
                sqlx::query_scalar(GROUPS).bind(began).fetch_all(&mut connection).await?
            }
        };
        sizes.into_iter().map(|size| Ok(usize::try_from(size)?)).collect()
    }

    /// How many bytes it takes, its log included.
    pub(crate) async fn bytes(&self) -> anyhow::Result<u64> {
        Ok(match self.ground {
            Ground::Sqlite => {
                let mut bytes = 0;
                for file in std::fs::read_dir(self.folder())? {
                    bytes += file?.metadata()?.len();
                }
                bytes
            }
            Ground::Postgres(_) => {
                let mut connection = PgConnection::connect(&self.url).await?;
                let bytes: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())")
                    .fetch_one(&mut connection)
                    .await?;
                u64::try_from(bytes)?
            }
        })
    }

    /// Clears the plot; nobody may be connected any more.
    pub(crate) async fn clear(self) -> anyhow::Result<()> {
        if let Ground::Postgres(server) = &self.ground {
            let name = self.url.rsplit('/').next().and_then(|name| name.split('?').next()).unwrap_or_default();
            run(&server.url, &format!("DROP DATABASE {name} WITH (FORCE)")).await?;
        }
        Ok(())
    }
}

/// A PostgreSQL server.
pub(crate) struct Server {
    url: String,
    bin: Option<PathBuf>,
    cluster: Option<TempDir>,
}

impl Server {
    /// The server to measure on. `None` where there is none to be had; standard error says so.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start() -> anyhow::Result<Option<Arc<Self>>> {
        let bin = binaries();
        if let Ok(url) = std::env::var("HANDOVER_BENCH_POSTGRES") {
            return Ok(Some(Arc::new(Self { url, bin, cluster: None })));
        }
        let Some(bin) = bin else {
            eprintln!("no PostgreSQL: neither HANDOVER_BENCH_POSTGRES nor initdb; it is not measured");
            return Ok(None);
        };
        let cluster = tempfile::Builder::new().prefix("handover-bench-").tempdir()?;
        let data = cluster.path().join("data");
        std::fs::create_dir(&data)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if is_root() {
            done(Command::new("chown").arg(user()).args([cluster.path(), data.as_path()]))?;
        }
        done(Command::new("chmod").args(["700"]).args([cluster.path(), data.as_path()]))?;
        done(
            as_server(&bin.join("initdb"))
                .current_dir("/")
                .args(["-U", "handover", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"])
                .arg(&data),
        )?;
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 \
             -c shared_buffers=512MB -c max_wal_size=4GB -c fsync=on -c synchronous_commit=on -c full_page_writes=on"
        );
        done(
            as_server(&bin.join("pg_ctl"))
                .current_dir("/")
                .arg("-D")
                .arg(&data)
                .arg("-l")
                .arg(data.join("log"))
                .args(["-w", "-o", &options, "start"]),
        )?;
        let url = format!("postgres://handover@127.0.0.1:{port}/postgres?sslmode=disable");
        Ok(Some(Arc::new(Self { url, bin: Some(bin), cluster: Some(cluster) })))
    }

    fn database(&self, name: &str) -> anyhow::Result<String> {
        let mut url = Url::parse(&self.url)?;
        url.set_path(name);
        Ok(url.to_string())
    }

    /// Transactions a second that `pgbench` gets through with one row of this body each, its clients never waiting.
    ///
    /// # Errors
    /// When there is no `pgbench`, or it fails.
    pub(crate) async fn rows_per_second(
        self: &Arc<Self>,
        body: &[u8],
        clients: u64,
        span: Duration,
    ) -> anyhow::Result<f64> {
        let name = format!("bench_{}", Uuid::new_v4().simple());
        run(&self.url, &format!("CREATE DATABASE {name}")).await?;
        let url = self.database(&name)?;
        run(&url, "CREATE TABLE bare (id uuid NOT NULL PRIMARY KEY, body bytea NOT NULL)").await?;
        let folder = tempfile::tempdir()?;
        let script = folder.path().join("row.sql");
        let body = body.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        std::fs::write(&script, format!("INSERT INTO bare (id, body) VALUES (gen_random_uuid(), '\\x{body}');\n"))?;
        let program = self.bin.as_ref().map_or_else(|| PathBuf::from("pgbench"), |bin| bin.join("pgbench"));
        let seconds = span.as_secs().max(1);
        let output = tokio::task::spawn_blocking(move || {
            done(
                Command::new(program)
                    .args(["-n", "-M", "prepared", "-c", &clients.to_string(), "-j", &clients.min(2).to_string()])
                    .args(["-T", &seconds.to_string(), "-f"])
                    .arg(script)
                    .arg(&url),
            )
        })
        .await??;
        run(&self.url, &format!("DROP DATABASE {name} WITH (FORCE)")).await?;
        let text = String::from_utf8(output.stdout)?;
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")).context("pgbench says no tps")?;
        Ok(tps.split(' ').next().unwrap_or_default().parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let (Some(bin), Some(cluster)) = (&self.bin, &self.cluster) else { return };
        let data = cluster.path().join("data");
        let stopped = done(as_server(&bin.join("pg_ctl")).current_dir("/").arg("-D").arg(data).args([
            "-m",
            "immediate",
            "-w",
            "stop",
        ]));
        if let Err(error) = stopped {
            eprintln!("the throwaway server could not be stopped: {error}");
        }
    }
}

/// Runs one statement.
pub(crate) async fn run(url: &str, statement: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// Debian keeps the server's programs beside each other by version; elsewhere they are in the path.
fn binaries() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = debian.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    folders.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("pg_ctl").exists())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

fn user() -> &'static str {
    let known = Command::new("getent").args(["passwd", "postgres"]).output().is_ok_and(|found| found.status.success());
    if known { "postgres" } else { "nobody" }
}

fn as_server(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", user(), "--"]).arg(program);
    command
}

fn done(command: &mut Command) -> anyhow::Result<Output> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}
