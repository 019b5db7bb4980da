//! A PostgreSQL server of the test's own: made, copied as a standby, promoted, killed.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

/// How long a server may take to answer, recovery included.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// PostgreSQL's programs, and whom they run as.
#[derive(Clone)]
pub(crate) struct Programs {
    folder: PathBuf,
    /// Set where the test is root: PostgreSQL refuses to be.
    user: Option<(u32, u32)>,
}

/// A server and its data. Gone when dropped.
pub(crate) struct Server {
    programs: Programs,
    folder: TempDir,
    pub(crate) port: u16,
    running: Option<Child>,
}

impl Programs {
    /// `None` where PostgreSQL is not installed and not required; the test then has nothing to say.
    pub(crate) fn find() -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut versions: Vec<_> = versions.map(|version| version.path()).collect();
        versions.sort_by_key(|path| path.file_name()?.to_str()?.parse::<u32>().ok());
        let mut folders: Vec<_> = versions.into_iter().rev().map(|version| version.join("bin")).collect();
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let has = |folder: &Path| ["initdb", "postgres", "pg_basebackup"].iter().all(|one| folder.join(one).is_file());
        let Some(folder) = folders.into_iter().find(|folder| has(folder)) else {
            let required = std::env::var("HANDOVER_TEST_POSTGRES_REQUIRED").is_ok_and(|required| required == "1");
            assert!(!required, "PostgreSQL is required, and no initdb was found");
            eprintln!("skipped: no PostgreSQL");
            return None;
        };
        let user = (fs::metadata("/proc/self").unwrap().uid() == 0).then(unprivileged);
        Some(Self { folder, user })
    }

    fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.current_dir(folder).stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Server {
    /// A place for a server, with nothing in it.
    fn place(programs: &Programs) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        let server = Self { programs: programs.clone(), folder, port: free_port(), running: None };
        server.make_folder();
        server
    }

    fn make_folder(&self) {
        fs::create_dir(self.data()).unwrap();
        if let Some((uid, gid)) = self.programs.user {
            chown(self.data(), Some(uid), Some(gid)).unwrap();
        }
        fs::set_permissions(self.data(), Permissions::from_mode(0o700)).unwrap();
    }

    /// A new server that does not run yet.
    pub(crate) fn made(programs: &Programs) -> Self {
        let server = Self::place(programs);
        let mut initdb = programs.command("initdb", server.folder.path());
        initdb
            .args(["-U", "handover", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(server.data());
        done(&mut initdb);
        server
    }

    /// A standby of `primary` that does not run yet.
    pub(crate) fn standby_of(programs: &Programs, primary: &Self) -> Self {
        let server = Self::place(programs);
        server.copy(primary);
        server
    }

    /// Throws everything away and begins again as a standby of `primary`, at the same address.
    pub(crate) fn begin_again_as_standby_of(&mut self, primary: &Self) {
        self.kill();
        fs::remove_dir_all(self.data()).unwrap();
        self.make_folder();
        self.copy(primary);
    }

    fn copy(&self, primary: &Self) {
        let mut copy = self.programs.command("pg_basebackup", self.folder.path());
        copy.args([
            "-h",
            "127.0.0.1",
            "-U",
            "handover",
            "-c",
            "fast",
            "-R",
            "--no-sync",
            "-p",
            &primary.port.to_string(),
        ]);
        copy.arg("-D").arg(self.data());
        done(&mut copy);
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes a file into the server's folder that it alone may read.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.data().join(name);
        fs::write(&path, text).unwrap();
        if let Some((uid, gid)) = self.programs.user {
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Its URL for one of its databases.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://handover@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Starts the server with some settings, and waits until it answers.
    pub(crate) async fn start(&mut self, settings: &[&str]) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = self.programs.command("postgres", self.folder.path());
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        command.args(settings.iter().flat_map(|setting| ["-c", setting]));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let began = Instant::now();
        self.running = Some(command.spawn().unwrap());
        loop {
            if let Ok(connection) = PgConnection::connect(&self.url("postgres")).await {
                connection.close().await.ok();
                return;
            }
            // A server that was killed leaves processes behind that end a moment later; until then a new one refuses.
            if self.running.as_mut().unwrap().try_wait().unwrap().is_some() {
                self.running = Some(command.spawn().unwrap());
            }
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(began.elapsed() < ANSWERS_WITHIN, "PostgreSQL does not answer:\n{}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs a statement on one of its databases.
    pub(crate) async fn run(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        connection.execute(AssertSqlSafe(statement)).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Makes a standby the primary, as whoever watches over it would.
    pub(crate) fn promote(&self) {
        let mut promote = self.programs.command("pg_ctl", self.folder.path());
        done(promote.args(["promote", "-w", "-D"]).arg(self.data()));
    }

    /// Ends without a word to anybody, as `pg_ctl stop -m immediate` does.
    pub(crate) fn stop_at_once(&mut self) {
        let mut stop = self.programs.command("pg_ctl", self.folder.path());
        done(stop.args(["stop", "-m", "immediate", "-w", "-D"]).arg(self.data()));
        self.running.take().unwrap().wait().unwrap();
    }

    /// SIGKILL to the server and everything it started.
    pub(crate) fn kill(&mut self) {
        let Some(mut server) = self.running.take() else { return };
        let children = children_of(server.id());
        server.kill().unwrap();
        for child in children {
            drop(Command::new("kill").args(["-KILL", &child.to_string()]).stderr(Stdio::null()).status());
        }
        server.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let parent_of = |process: u32| {
        // After the name, which stands in brackets, come the state and the parent.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(|process| parent_of(*process) == Some(parent)).collect()
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A free port. Others may take it before it is used, which has not been seen.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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
