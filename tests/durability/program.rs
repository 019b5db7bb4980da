//! The program as an administrator runs it: a folder with a configuration, two ports, and a process that can be killed.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use handover::cli::config::Config;
use handover::sandbox::{Sandbox, Settings};
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tempfile::TempDir;

use crate::ledger::Database;

/// The program of this release.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_handover");

pub(crate) const DOMAIN: &str = "contoso.example";
pub(crate) const POOL: &str = "stg-ipad";

/// How long a start may take before it has failed.
const START_WITHIN: Duration = Duration::from_secs(30);

/// The database of a site that was given none: a file beside the configuration.
const BESIDE: &str = "sqlite://handover.db";

/// A sandbox, and a folder in which the program runs against it, as one instance or several. The source has no API: the
/// events posted are all there is.
pub(crate) struct Site {
    pub(crate) sandbox: Sandbox,
    pub(crate) client: reqwest::Client,
    folder: TempDir,
    url: String,
    /// Where the logs lie.
    logs: PathBuf,
    instances: Vec<Ports>,
}

/// Where one instance answers.
struct Ports {
    api: u16,
    intake: u16,
}

/// The program, running. Killed when dropped.
pub(crate) struct Running(Child);

/// A free port. Others may take it before it is used, which has not been seen.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Site {
    /// One instance over a SQLite file.
    pub(crate) async fn new(seed: u64, policy: &str) -> Self {
        Self::over(BESIDE, 1, seed, policy).await
    }

    /// So many instances over one database.
    pub(crate) async fn over(url: &str, instances: usize, seed: u64, policy: &str) -> Self {
        let sandbox = Sandbox::start(Settings { seed, ..Settings::default() }).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let instances: Vec<_> = (0..instances).map(|_| Ports { api: free_port(), intake: free_port() }).collect();
        let entra = &sandbox.entra;
        let text = format!(
            r#"
[database]
url = "{url}"
[entra]
tenant_id = "{tenant}"
client_id = "{client}"
client_secret = "{secret}"
login_url = "{login}"
graph_url = "{graph}"
ca_file = "sandbox-ca.pem"
[policy]
writes_per_second = 20
settle_seconds = 2
{policy}
[[source]]
name = "uem"
kind = "workspace-one-uem"
username = "handover"
passwords = ["demo"]
upn_from = "{{user_name}}@{DOMAIN}"
pool_accounts = ["{POOL}"]
"#,
            tenant = entra.tenant_id(),
            client = entra.client_id(),
            secret = entra.client_secret(),
            login = entra.login_url(),
            graph = entra.graph_url(),
        );
        fs::write(folder.path().join("handover.toml"), text).unwrap();
        fs::write(folder.path().join("sandbox-ca.pem"), sandbox.ca_pem()).unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        let logs = folder.path().to_owned();
        Self { sandbox, client, folder, url: url.to_owned(), logs, instances }
    }

    /// Lets the program log into another folder.
    pub(crate) fn log_into(&mut self, folder: &Path) {
        folder.clone_into(&mut self.logs);
    }

    /// The numbers of the only instance.
    pub(crate) async fn numbers(&self) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", self.instances[0].api);
        self.client.get(url).send().await.unwrap().text().await.unwrap()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config(&self) -> Config {
        let text = fs::read_to_string(self.folder().join("handover.toml")).unwrap();
        Config::read(&text, self.folder(), &std::collections::BTreeMap::new()).unwrap()
    }

    /// The command that runs one of the instances, of this release or of another.
    pub(crate) fn command(&self, instance: usize, program: &Path) -> Command {
        self.command_under(instance, None, program)
    }

    /// The same, by way of another program with arguments of its own.
    pub(crate) fn command_under(&self, instance: usize, over: Option<(&str, &[String])>, program: &Path) -> Command {
        let ports = &self.instances[instance];
        let log = || OpenOptions::new().create(true).append(true).open(self.log_file(instance)).unwrap();
        let (out, err): (File, File) = (log(), log());
        let mut command = match over {
            None => Command::new(program),
            Some((over, arguments)) => {
                let mut command = Command::new(over);
                command.args(arguments).arg(program);
                command
            }
        };
        command.arg("serve").arg("--config").arg(self.folder().join("handover.toml"));
        command.env("HANDOVER_SERVER__LISTEN", format!("127.0.0.1:{}", ports.api));
        command.env("HANDOVER_INTAKE__LISTEN", format!("127.0.0.1:{}", ports.intake));
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        command
    }

    /// Starts the only instance, and waits until it is ready. Says how long that took.
    pub(crate) async fn start(&self) -> (Running, Duration) {
        self.start_one(0).await
    }

    /// Starts one of the instances, and waits until it is ready. Says how long that took.
    pub(crate) async fn start_one(&self, instance: usize) -> (Running, Duration) {
        self.start_command(instance, self.command(instance, Path::new(PROGRAM))).await
    }

    /// Starts an instance by its command, and waits until it is ready. Says how long that took.
    pub(crate) async fn start_command(&self, instance: usize, command: Command) -> (Running, Duration) {
        let began = Instant::now();
        match self.try_command(instance, command).await {
            Ok(running) => (running, began.elapsed()),
            Err(status) => panic!("the program ended by itself with {status}:\n{}", self.log_tail()),
        }
    }

    /// Starts an instance by its command, and waits until it is ready, or has ended by itself; then says how.
    pub(crate) async fn try_command(&self, instance: usize, mut command: Command) -> Result<Running, ExitStatus> {
        let began = Instant::now();
        let mut running = Running(command.spawn().unwrap());
        loop {
            if self.is_ready(instance).await {
                return Ok(running);
            }
            if let Some(status) = running.ended() {
                return Err(status);
            }
            assert!(began.elapsed() < START_WITHIN, "not ready within {START_WITHIN:?}:\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether an instance says that it is ready.
    pub(crate) async fn is_ready(&self, instance: usize) -> bool {
        let url = format!("http://127.0.0.1:{}/health/ready", self.instances[instance].api);
        self.client.get(url).send().await.is_ok_and(|answer| answer.status() == 200)
    }

    /// Asks the API of an instance.
    pub(crate) async fn ask(&self, path: &str, token: &str) -> Option<(u16, Value)> {
        let url = format!("http://127.0.0.1:{}{path}", self.instances[0].api);
        let answer = self.client.get(url).bearer_auth(token).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }

    /// Posts one event to the only instance as the UEM would. `None` when no answer came.
    pub(crate) async fn post(&self, body: String) -> Option<(u16, Value)> {
        self.post_to(0, body).await
    }

    /// Posts one event to an instance as the UEM would. `None` when no answer came.
    pub(crate) async fn post_to(&self, instance: usize, body: String) -> Option<(u16, Value)> {
        let answer = self.send(instance, body).await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// Posts one event to an instance, and gives the whole answer.
    pub(crate) async fn send(&self, instance: usize, body: String) -> reqwest::Result<reqwest::Response> {
        let url = format!("http://127.0.0.1:{}/intake/uem", self.instances[instance].intake);
        let request = self.client.post(url).basic_auth("handover", Some("demo"));
        request.header("content-type", "application/json").body(body).send().await
    }

    /// The SQLite file of a site that has one.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder().join(self.url.strip_prefix("sqlite://").unwrap())
    }

    /// The database, to look at from outside.
    pub(crate) async fn database(&self) -> Database {
        if self.url.starts_with("sqlite://") {
            let options =
                SqliteConnectOptions::new().filename(self.file()).read_only(true).busy_timeout(Duration::from_secs(10));
            Database::Sqlite(SqlitePoolOptions::new().max_connections(2).connect_with(options).await.unwrap())
        } else {
            Database::Postgres(PgPoolOptions::new().max_connections(2).connect(&self.url).await.unwrap())
        }
    }

    fn log_file(&self, instance: usize) -> PathBuf {
        self.logs.join(format!("log-{instance}.txt"))
    }

    /// The last lines that the program wrote.
    pub(crate) fn log_tail(&self) -> String {
        let mut tails = String::new();
        for instance in 0..self.instances.len() {
            let log = fs::read(self.log_file(instance)).unwrap_or_default();
            tails.push_str(&String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]));
        }
        tails
    }
}

impl Running {
    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Sends a signal to a process; whether there was one.
pub(crate) fn signal(process: u32, name: &str) -> bool {
    let order = format!("kill -{name} {process}");
    Command::new("sh").args(["-c", &order]).stderr(Stdio::null()).status().unwrap().success()
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A check-out or check-in as the UEM posts it.
pub(crate) fn event(device: u32, user: &str, at: chrono::DateTime<chrono::Utc>) -> String {
    let (id, name) = if user == POOL { (9002, "Check In") } else { (9001, "Check Out") };
    serde_json::json!({
        "EventId": id, "EventType": name, "DeviceId": 41_000 + device,
        "DeviceFriendlyName": format!("iPad {device}"), "EnrollmentEmailAddress": "", "EnrollmentUserName": user,
        "EventTime": at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true), "EnrollmentStatus": "Enrolled",
        "SerialNumber": format!("DMPXK{device:05}"), "Platform": "Apple",
    })
    .to_string()
}

pub(crate) fn upn(user: &str) -> String {
    format!("{user}@{DOMAIN}")
}
