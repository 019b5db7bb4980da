//! A PostgreSQL server of the test's own, with every safety it has by default, that can be killed.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

use crate::program::{free_port, signal};

/// How long a server may take to answer, recovery included.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// A server and its data. Gone when dropped.
pub(crate) struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    /// Whom it runs as, where the test is root: PostgreSQL refuses to be.
    user: Option<(u32, u32)>,
    port: u16,
    server: Option<Child>,
}

impl Cluster {
    /// A new server. `None` where PostgreSQL is not installed and not required; the test then has nothing to say.
    pub(crate) async fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            let required = std::env::var("HANDOVER_TEST_POSTGRES_REQUIRED").is_ok_and(|required| required == "1");
            assert!(!required, "PostgreSQL is required, and no initdb was found");
            eprintln!("skipped: no PostgreSQL");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let user = (fs::metadata("/proc/self").unwrap().uid() == 0).then(unprivileged);
        if let Some((uid, gid)) = user {
            chown(&data, Some(uid), Some(gid)).unwrap();
        }
        fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
        let mut cluster = Self { folder, programs, user, port: free_port(), server: None };
        let mut initdb = cluster.command("initdb");
        initdb.args(["-U", "handover", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"]).arg(&data);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster.start_again().await;
        Some(cluster)
    }

    /// Its URL for one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://handover@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// A new database. Gives its URL.
    pub(crate) async fn create(&self, database: &str) -> String {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {database}"))).await.unwrap();
        connection.close().await.unwrap();
        self.url(database)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts the server, and waits until it answers.
    pub(crate) async fn start_again(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.folder.path().join("data")).args(["-p", &self.port.to_string()]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let began = Instant::now();
        self.server = Some(command.spawn().unwrap());
        loop {
            if let Ok(connection) = PgConnection::connect(&self.url("postgres")).await {
                connection.close().await.ok();
                return;
            }
            // A server that was killed leaves processes behind that end a moment later; until then a new one refuses.
            if self.server.as_mut().unwrap().try_wait().unwrap().is_some() {
                self.server = Some(command.spawn().unwrap());
            }
            assert!(began.elapsed() < ANSWERS_WITHIN, "PostgreSQL does not answer:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The processes that serve a client of Handover.
    pub(crate) fn backends(&self) -> Vec<u32> {
        let is_ours = |process: &u32| {
            fs::read_to_string(format!("/proc/{process}/cmdline"))
                .is_ok_and(|name| name.starts_with("postgres: handover "))
        };
        self.children().into_iter().filter(is_ours).collect()
    }

    fn children(&self) -> Vec<u32> {
        let Some(server) = &self.server else { return Vec::new() };
        let parent = |process: u32| {
            // After the name, which stands in brackets, come the state and the parent.
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
        };
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|process| parent(*process) == Some(server.id()))
            .collect()
    }

    /// SIGKILL to the server and everything it started: what a power loss leaves, but for the disk's cache.
    pub(crate) fn kill(&mut self) {
        let children = self.children();
        let Some(mut server) = self.server.take() else { return };
        server.kill().unwrap();
        for child in children {
            signal(child, "KILL");
        }
        server.wait().unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where `initdb` and `postgres` are, the newest version first.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> = versions.map(|version| version.path()).collect();
    versions.sort_by_key(|path| path.file_name()?.to_str()?.parse::<u32>().ok());
    let mut folders: Vec<_> = versions.into_iter().rev().map(|version| version.join("bin")).collect();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let has = |folder: &Path, program: &str| folder.join(program).is_file();
    folders.into_iter().find(|folder| has(folder, "initdb") && has(folder, "postgres"))
}

/// Somebody who is not root.
fn unprivileged() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody")).expect("every system has nobody")
}
