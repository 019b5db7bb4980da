//! The program as an administrator runs it: a folder with a configuration, two ports, and a process that can be killed.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use handover::cli::config::Config;
use handover::sandbox::{Sandbox, Settings};
use serde_json::Value;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tempfile::TempDir;

pub(crate) const DOMAIN: &str = "contoso.example";
pub(crate) const POOL: &str = "stg-ipad";

/// How long a start may take before it has failed.
const START_WITHIN: Duration = Duration::from_secs(30);

/// A sandbox, and a folder in which the program runs against it. The source has no API: the events posted are all there is.
pub(crate) struct Site {
    pub(crate) sandbox: Sandbox,
    pub(crate) client: reqwest::Client,
    folder: TempDir,
    api: u16,
    intake: u16,
}

/// The program, running. Killed when dropped.
pub(crate) struct Running(Child);

impl Site {
    pub(crate) async fn new(seed: u64, policy: &str) -> Self {
        let sandbox = Sandbox::start(Settings { seed, ..Settings::default() }).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        // Bound at once, so that the two differ.
        let (api, intake) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (api, intake) = (api.local_addr().unwrap().port(), intake.local_addr().unwrap().port());
        let entra = &sandbox.entra;
        let text = format!(
            r#"
[server]
listen = "127.0.0.1:{api}"
[intake]
listen = "127.0.0.1:{intake}"
[database]
url = "sqlite://handover.db"
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
        Self { sandbox, client, folder, api, intake }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config(&self) -> Config {
        let text = fs::read_to_string(self.folder().join("handover.toml")).unwrap();
        Config::read(&text, self.folder(), &std::collections::BTreeMap::new()).unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
        command.arg("serve").arg("--config").arg(self.folder().join("handover.toml"));
        command
    }

    /// Starts the program, and waits until it is ready. Says how long that took.
    pub(crate) async fn start(&self) -> (Running, Duration) {
        let began = Instant::now();
        let log = || OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let (out, err): (File, File) = (log(), log());
        let child = self.command().stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
        let mut running = Running(child);
        let url = format!("http://127.0.0.1:{}/health/ready", self.api);
        loop {
            if let Ok(answer) = self.client.get(&url).send().await
                && answer.status() == 200
            {
                return (running, began.elapsed());
            }
            if let Some(status) = running.0.try_wait().unwrap() {
                panic!("the program ended by itself with {status}:\n{}", self.log_tail());
            }
            assert!(began.elapsed() < START_WITHIN, "not ready within {START_WITHIN:?}:\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Posts one event as the UEM would. `None` when no answer came.
    pub(crate) async fn post(&self, body: String) -> Option<(u16, Value)> {
        let url = format!("http://127.0.0.1:{}/intake/uem", self.intake);
        let request = self.client.post(url).basic_auth("handover", Some("demo"));
        let answer = request.header("content-type", "application/json").body(body).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// The database, to look at from outside.
    pub(crate) async fn database(&self) -> SqlitePool {
        let options = SqliteConnectOptions::new()
            .filename(self.folder().join("handover.db"))
            .read_only(true)
            .busy_timeout(Duration::from_secs(10));
        SqlitePoolOptions::new().max_connections(2).connect_with(options).await.unwrap()
    }

    fn log_file(&self) -> PathBuf {
        self.folder().join("log.txt")
    }

    /// The last lines that the program wrote.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
    }
}

impl Running {
    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
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
