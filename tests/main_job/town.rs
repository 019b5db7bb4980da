//! A ward with its UEM, its directory, and Handover between them, in one process and over real sockets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use handover::cli::config::Config;
use handover::cli::serve::Service;
use handover::sandbox::{Entra, Fault, FaultKind, Hook, Route, Sandbox, Seen, Settings, Uem, UemUserSpec};
use handover::store::looks;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const DOMAIN: &str = "contoso.example";
pub(crate) const POOL: &str = "stg-ipad";

/// How long anything may take before it has failed. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Where a story is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// Tells a story on both databases at the same time.
pub(crate) async fn on_both(story: impl AsyncFn(Plan)) {
    let on = |engine| {
        let plan = Plan { engine, policy: String::new(), source: String::new(), api: true, hook: Hook::default() };
        Box::pin(story(plan))
    };
    if std::env::var("HANDOVER_TEST_POSTGRES").is_ok() {
        futures_util::future::join(on(Engine::Sqlite), on(Engine::Postgres)).await;
        return;
    }
    let required = std::env::var("HANDOVER_TEST_POSTGRES_REQUIRED").is_ok_and(|required| required == "1");
    assert!(!required, "HANDOVER_TEST_POSTGRES says where PostgreSQL is, and it is not set");
    println!("HANDOVER_TEST_POSTGRES is not set: told on SQLite only");
    on(Engine::Sqlite).await;
}

/// What is special about a ward before it opens.
pub(crate) struct Plan {
    engine: Engine,
    policy: String,
    source: String,
    api: bool,
    hook: Hook,
}

impl Plan {
    /// A line of `[policy]`.
    pub(crate) fn policy(mut self, line: &str) -> Self {
        self.policy.push_str(line);
        self.policy.push('\n');
        self
    }

    /// Without the UEM's API: the payload decides, by these lines of the source.
    pub(crate) fn payload_only(mut self, lines: &str) -> Self {
        self.api = false;
        lines.clone_into(&mut self.source);
        self
    }

    /// How the webhooks look.
    pub(crate) fn hook(mut self, change: impl FnOnce(&mut Hook)) -> Self {
        change(&mut self.hook);
        self
    }

    /// Opens an empty ward.
    pub(crate) async fn empty(self) -> Town {
        Town::open(self).await
    }

    /// Opens a ward where Amina, Jonas and Carla share the iPad `W1`, and nobody has it.
    pub(crate) async fn open(self) -> Town {
        let town = self.empty().await;
        for name in ["amina", "jonas", "carla"] {
            town.person(name);
        }
        town.device("W1").await;
        town
    }
}

/// The ward.
pub(crate) struct Town {
    pub(crate) sandbox: Sandbox,
    pub(crate) service: Service,
    pub(crate) client: reqwest::Client,
    pub(crate) token: String,
    pub(crate) config: Config,
    engine: Engine,
    hook: Hook,
    folder: TempDir,
}

impl Town {
    async fn open(plan: Plan) -> Self {
        let sandbox = Sandbox::start(Settings { seed: 1, ..Settings::default() }).await.unwrap();
        sandbox.uem.add_pool_account(POOL);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), sandbox.ca_pem()).unwrap();
        std::fs::write(folder.path().join("secret"), sandbox.entra.client_secret()).unwrap();
        let text = configuration(&plan, &sandbox, &database(plan.engine).await);
        let config = Config::read(&text, folder.path(), &BTreeMap::new()).unwrap();
        let mut service = Service::start(&config).await.unwrap();
        let token = service.first_token.take().unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        let town = Self { sandbox, service, client, token, config, engine: plan.engine, hook: plan.hook, folder };
        town.hook(|_| {});
        town
    }

    /// Lets the UEM post to where the service listens, from now on in this way.
    pub(crate) fn hook(&self, change: impl FnOnce(&mut Hook)) {
        let url = format!("http://{}/intake/uem", self.service.intake);
        let mut hook = Hook { url, user_name: "handover".into(), password: "demo".into(), ..self.hook.clone() };
        change(&mut hook);
        self.sandbox.uem.set_hook(Some(hook));
    }

    /// The client secret as Handover reads it.
    pub(crate) fn write_secret(&self, secret: &str) {
        std::fs::write(self.folder.path().join("secret"), secret).unwrap();
    }

    pub(crate) fn entra(&self) -> &Entra {
        &self.sandbox.entra
    }

    pub(crate) fn uem(&self) -> &Uem {
        &self.sandbox.uem
    }

    /// Somebody whom the UEM and the directory know by the same UPN.
    pub(crate) fn person(&self, name: &str) -> Uuid {
        self.account(name);
        self.entra().add_user(upn(name).as_str())
    }

    /// Somebody whom only the UEM knows.
    pub(crate) fn account(&self, name: &str) {
        self.uem().add_user(UemUserSpec { user_name: name.into(), upn: Some(upn(name)), ..UemUserSpec::default() });
    }

    /// An iPad that its pool account has, and that Handover has heard of.
    pub(crate) async fn device(&self, serial: &str) {
        self.uem().add_device(serial);
        if self.config.sources[0].api.is_some() {
            self.sweep().await;
            self.until("the census is in", async || {
                self.devices().await.iter().any(|device| device["serial"] == serial)
            })
            .await;
            self.until_at_rest().await;
        }
    }

    pub(crate) async fn sweep(&self) {
        for source in self.service.app.sources.values() {
            self.service.app.sweep(source).await.unwrap();
        }
    }

    /// People take the device one after the other, each known to Handover before the next comes.
    pub(crate) async fn takes(&self, device: &str, names: &[&str]) {
        for name in names {
            self.uem().check_out(device, name).await.unwrap();
            self.until_holds(device, name).await;
        }
    }

    pub(crate) async fn returns(&self, device: &str) {
        self.uem().check_in(device).await.unwrap();
        self.until(&format!("{device} is in the rack"), async || self.device_row(device).await["state"] == "pool")
            .await;
    }

    pub(crate) async fn until_holds(&self, device: &str, name: &str) {
        let holds = async || self.device_row(device).await["holder"]["upn"] == upn(name).as_str();
        self.until(&format!("{name} holds {device}"), holds).await;
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let url = format!("http://{}{path}", self.service.api);
        let answer = self.client.get(url).bearer_auth(&self.token).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    pub(crate) async fn devices(&self) -> Vec<Value> {
        self.get("/api/v1/devices?limit=500").await["items"].as_array().unwrap().clone()
    }

    pub(crate) async fn device_row(&self, serial: &str) -> Value {
        self.devices().await.into_iter().find(|device| device["serial"] == serial).unwrap_or_default()
    }

    /// The revocations, oldest first.
    pub(crate) async fn revocations(&self) -> Vec<Value> {
        let mut rows = self.get("/api/v1/revocations?limit=500").await["items"].as_array().unwrap().clone();
        rows.sort_by_key(|row| row["owed_at"].as_str().unwrap().to_owned());
        rows
    }

    /// Whose revocations there are, on which device, and where they stand: `amina W1 verified`.
    pub(crate) async fn owed(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or("nobody").to_owned();
        let name = |row: &Value| text(&row["person"]["upn"]).replace(&format!("@{DOMAIN}"), "");
        let line = |row: &Value| format!("{} {} {}", name(row), text(&row["device"]), text(&row["state"]));
        let mut lines: Vec<_> = self.revocations().await.iter().map(line).collect();
        lines.sort();
        lines
    }

    pub(crate) async fn until_owed(&self, wanted: &[&str]) {
        let began = Instant::now();
        loop {
            let owed = self.owed().await;
            if owed == wanted {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{:?}: owed is {owed:?}, and should be {wanted:?}: {:#?}",
                self.engine,
                self.revocations().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the only revocation is in this state, and returns it.
    pub(crate) async fn until_state(&self, state: &str) -> Value {
        let began = Instant::now();
        loop {
            let rows = self.revocations().await;
            if let [row] = rows.as_slice()
                && row["state"] == state
            {
                return row.clone();
            }
            assert!(began.elapsed() < PATIENCE, "{:?}: no single revocation is {state}: {rows:#?}", self.engine);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn until(&self, what: &str, done: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !done().await {
            assert!(
                began.elapsed() < PATIENCE,
                "{:?}: {what}: not within {PATIENCE:?}; owed {:?}, devices {:#?}",
                self.engine,
                self.owed().await,
                self.devices().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until every look has been taken, the settled ones too, and every account is decided.
    pub(crate) async fn until_at_rest(&self) {
        let far = self.entra().now() + TimeDelta::days(1);
        let rests = async || {
            let mut tx = self.service.app.store.read().await.unwrap();
            let looks = looks::due(&mut tx, far, far, 1).await.unwrap();
            drop(tx);
            looks.is_empty() && self.devices().await.iter().all(|device| device["undecided"] != true)
        };
        self.until("everything has been looked at", rests).await;
    }

    pub(crate) fn fault(&self, kind: FaultKind) {
        self.entra().fault(Fault::once(Route::Revoke, kind));
    }

    /// The calls to revoke somebody, in their order.
    pub(crate) fn calls(&self) -> Vec<Seen> {
        self.entra().seen().into_iter().filter(|seen| seen.route == Route::Revoke).collect()
    }

    pub(crate) fn effects(&self, person: Uuid) -> usize {
        self.entra().effects(person).len()
    }

    /// Posts a body to the intake as the UEM would, and says how it was answered.
    pub(crate) async fn post(&self, content_type: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let url = format!("http://{}/intake/uem", self.service.intake);
        let request = self.client.post(url).basic_auth("handover", Some("demo")).header("content-type", content_type);
        let answer = request.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    pub(crate) async fn post_event(&self, event: &Value) -> (u16, Value) {
        self.post("application/json", event.to_string()).await
    }

    /// What an operator does about a revocation.
    pub(crate) async fn operate(&self, revocation: &Value, action: &str) {
        let id = revocation["id"].as_str().unwrap();
        let url = format!("http://{}/api/v1/revocations/{id}/{action}", self.service.api);
        let request = self.client.post(url).bearer_auth(&self.token).json(&json!({"reason": "the test says so"}));
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{action}: {}", answer.text().await.unwrap());
    }

    /// Lets everything that waits for its time be due now.
    pub(crate) async fn hurry(&self) {
        const REVOCATIONS: &str = "UPDATE revocations SET due_at = owed_at WHERE state = 'open'";
        const ATTEMPTS: &str = "UPDATE attempts SET read_at = began_at WHERE read_at IS NOT NULL";
        for text in [REVOCATIONS, ATTEMPTS] {
            match self.engine {
                Engine::Sqlite => {
                    let file = self.folder.path().join("handover.db");
                    let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(10));
                    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
                    sqlx::query(text).execute(&mut connection).await.unwrap();
                }
                Engine::Postgres => {
                    let mut connection = PgConnection::connect(&self.config.database.url).await.unwrap();
                    sqlx::query(text).execute(&mut connection).await.unwrap();
                }
            }
        }
    }

    /// Stops the service, does something to its database, and starts it again on the same addresses of its own choosing.
    pub(crate) async fn restarted(self, between: impl AsyncFnOnce(&Config)) -> Self {
        let Self { sandbox, service, client, token, config, engine, hook, folder } = self;
        service.stop().await.unwrap();
        between(&config).await;
        let service = Service::start(&config).await.unwrap();
        let town = Self { sandbox, service, client, token, config, engine, hook, folder };
        town.hook(|_| {});
        town
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Custodies are what the fold makes of the events.
    pub(crate) async fn close(self) {
        let replayed = self.service.app.replay(|_| {}).await.unwrap();
        assert_eq!(replayed.differ, 0, "{:?}: {:#?}", self.engine, replayed.differences);
        self.service.stop().await.unwrap();
        if self.engine == Engine::Postgres {
            let url: url::Url = self.config.database.url.parse().unwrap();
            let name = url.path().trim_start_matches('/');
            command_postgres(format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

/// A check-out (or check-in, for the pool) as a UEM without API posts it.
pub(crate) fn event(serial: &str, user: &str, at: DateTime<Utc>) -> Value {
    let (id, name) = if user == POOL { (9002, "Check In") } else { (9001, "Check Out") };
    json!({
        "EventId": id, "EventType": name, "DeviceFriendlyName": format!("iPad {serial}"), "EnrollmentEmailAddress": "",
        "EnrollmentUserName": user, "EventTime": at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        "EnrollmentStatus": "Enrolled", "SerialNumber": serial, "Platform": "Apple",
    })
}

pub(crate) fn upn(name: &str) -> String {
    format!("{name}@{DOMAIN}")
}

async fn database(engine: Engine) -> String {
    if engine == Engine::Sqlite {
        return "sqlite://handover.db".to_owned();
    }
    let server = std::env::var("HANDOVER_TEST_POSTGRES").unwrap();
    let name = format!("handover_{}", Uuid::new_v4().simple());
    command_postgres(format!("CREATE DATABASE {name}")).await;
    let mut url: url::Url = server.parse().unwrap();
    url.set_path(&name);
    url.into()
}

async fn command_postgres(command: String) {
    let server = std::env::var("HANDOVER_TEST_POSTGRES").unwrap();
    let mut connection = PgConnection::connect(&server).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(command)).execute(&mut connection).await.unwrap();
}

fn configuration(plan: &Plan, sandbox: &Sandbox, database: &str) -> String {
    let (entra, uem) = (&sandbox.entra, &sandbox.uem);
    let api = format!(
        r#"
[source.api]
url = "{url}"
token_url = "{token_url}"
client_id = "{client_id}"
client_secret = "{client_secret}"
tenant_code = "{tenant_code}"
ca_file = "ca.pem"
sweep_seconds = 86400
"#,
        url = uem.url(),
        token_url = uem.token_url(),
        client_id = uem.client_id(),
        client_secret = uem.client_secret(),
        tenant_code = uem.tenant_code(),
    );
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
[intake]
listen = "127.0.0.1:0"
[database]
url = "{database}"
[entra]
tenant_id = "{tenant}"
client_id = "{client}"
client_secret_file = "secret"
login_url = "{login}"
graph_url = "{graph}"
ca_file = "ca.pem"
[policy]
settle_seconds = 2
{policy}
[[source]]
name = "uem"
kind = "workspace-one-uem"
username = "handover"
passwords = ["demo"]
{source}
{api}
"#,
        tenant = entra.tenant_id(),
        client = entra.client_id(),
        login = entra.login_url(),
        graph = entra.graph_url(),
        policy = plan.policy,
        source = plan.source,
        api = if plan.api { api.as_str() } else { "" },
    )
}
