//! Rounds of failover under load: the primary dies, its synchronous standby is promoted, the old one is rebuilt behind it.
//!
//! `HANDOVER_FAILOVER_ROUNDS` says how many (3); what was measured is printed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::server::{Programs, Server, free_port};

const SENDERS: u32 = 3;

/// How soon after the promotion an event is accepted again (M11).
const ACCEPTS_WITHIN: Duration = Duration::from_secs(10);

/// What the primary waits for before a commit counts: any one standby, or, as whoever watches over the servers sets it while
/// there is none, nobody.
const ANY: &str = "synchronous_standby_names = '*'\n";
const NONE: &str = "synchronous_standby_names = ''\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_primary_dies() {
    let Some(programs) = Programs::find() else { return };
    let rounds: usize = std::env::var("HANDOVER_FAILOVER_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    let mut pair = Pair::new(&programs).await;
    let site = Site::new(&pair);
    let told = Told::default();
    let stop = CancellationToken::new();
    let senders: Vec<_> = (0..SENDERS).map(|number| site.sender(number, told.clone(), stop.clone())).collect();

    let mut waits = Vec::new();
    for round in 0..rounds {
        told.wait_for_more(30, Duration::from_secs(60)).await;
        pair.kill_primary(round);
        let began = Instant::now();
        pair.promote();
        let promoted = Instant::now();
        if round % 3 == 2 {
            pair.raise_the_dead().await;
        }
        let again = told.first_since(began).await;
        waits.push((again.saturating_duration_since(promoted), again - began));
        let kept = pair.kept().await;
        let acknowledged = told.acknowledged_before(began);
        let lost: Vec<_> = acknowledged.difference(&kept).collect();
        assert!(
            lost.is_empty(),
            "round {round}: {} of {} acknowledged are lost: {lost:?}",
            lost.len(),
            acknowledged.len()
        );
        pair.rebuild().await;
    }
    told.wait_for_more(30, Duration::from_secs(60)).await;
    stop.cancel();
    for sender in senders {
        sender.await.unwrap();
    }

    let (acknowledged, kept) = (told.acknowledged(), pair.kept().await);
    let lost = acknowledged.difference(&kept).count();
    let checked = site.replay();
    let sorted = |which: fn(&(Duration, Duration)) -> Duration| {
        let mut sorted: Vec<_> = waits.iter().map(which).collect();
        sorted.sort();
        sorted
    };
    let half = |which| sorted(which)[waits.len() / 2].as_millis();
    let most = |which| sorted(which)[waits.len() - 1].as_millis();
    println!(
        "{rounds} rounds: {lost} of {} acknowledged events lost; {} refused posts repeated; accepted again after {} ms (p50), {} ms (max) of {} promotions, {} ms (p50), {} ms (max) of the primary's death",
        acknowledged.len(),
        told.refused(),
        half(|wait| wait.0),
        most(|wait| wait.0),
        waits.len(),
        half(|wait| wait.1),
        most(|wait| wait.1),
    );
    println!("replay --check: {}", checked.trim());
    assert_eq!(lost, 0);
    assert_eq!(pair.house().await, "open", "a failover that lost nothing was taken for a restore");
    assert!(waits.iter().all(|wait| wait.0 <= ACCEPTS_WITHIN), "{waits:?}");
    assert_eq!(kept.len(), acknowledged.len(), "an event that nobody sent, or that was never acknowledged");
}

/// Two servers, of which one is the primary.
struct Pair {
    servers: [Server; 2],
    primary: usize,
}

impl Pair {
    async fn new(programs: &Programs) -> Self {
        let mut one = Server::made(programs);
        let file = one.data().join("postgresql.conf");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}\ninclude_if_exists 'waits_for.conf'\nshared_buffers = 32MB\n")).unwrap();
        one.start(&[]).await;
        one.run("CREATE DATABASE handover").await;
        let two = Server::standby_of(programs, &one);
        let mut pair = Self { servers: [one, two], primary: 0 };
        pair.follow().await;
        pair
    }

    fn url(&self) -> String {
        let [one, two] = &self.servers;
        format!("postgres://handover@127.0.0.1:{},127.0.0.1:{}/handover?sslmode=disable", one.port, two.port)
    }

    fn standby(&mut self) -> &mut Server {
        &mut self.servers[1 - self.primary]
    }

    /// Starts the standby, and makes the primary wait for it from now on.
    async fn follow(&mut self) {
        self.standby().start(&[]).await;
        self.waits_for(ANY).await;
        let mut aside = PgConnection::connect(&self.servers[self.primary].url("postgres")).await.unwrap();
        let began = Instant::now();
        loop {
            let following: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'",
            )
            .fetch_one(&mut aside)
            .await
            .unwrap();
            if following == 1 {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "the standby does not follow");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn waits_for(&self, whom: &str) {
        let primary = &self.servers[self.primary];
        primary.put("waits_for.conf", whom);
        primary.run("SELECT pg_reload_conf()").await;
    }

    fn kill_primary(&mut self, round: usize) {
        let primary = &mut self.servers[self.primary];
        if round.is_multiple_of(2) { primary.kill() } else { primary.stop_at_once() }
    }

    /// The standby becomes the primary, and waits for nobody until there is a standby again.
    fn promote(&mut self) {
        self.standby().put("waits_for.conf", NONE);
        self.standby().promote();
        self.primary = 1 - self.primary;
    }

    /// The old primary comes back as if nothing had been, and takes writes that no standby will ever see.
    async fn raise_the_dead(&mut self) {
        let old = self.standby();
        old.put("waits_for.conf", NONE);
        old.start(&[]).await;
    }

    async fn rebuild(&mut self) {
        let [one, two] = &mut self.servers;
        let (primary, old) = if self.primary == 0 { (one, two) } else { (two, one) };
        old.begin_again_as_standby_of(primary);
        self.follow().await;
    }

    /// The events that the primary has.
    async fn kept(&self) -> BTreeSet<Uuid> {
        let mut aside = PgConnection::connect(&self.servers[self.primary].url("handover")).await.unwrap();
        let kept: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM events").fetch_all(&mut aside).await.unwrap();
        kept.into_iter().collect()
    }
}

impl Pair {
    /// Whether anything is sent, or held until a restore has been looked into.
    async fn house(&self) -> String {
        let mut aside = PgConnection::connect(&self.servers[self.primary].url("handover")).await.unwrap();
        sqlx::query_scalar("SELECT state FROM house").fetch_one(&mut aside).await.unwrap()
    }
}

/// The program, running in a folder of its own.
struct Site {
    folder: tempfile::TempDir,
    intake: u16,
    running: Child,
}

impl Site {
    fn new(pair: &Pair) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (api, intake) = (free_port(), free_port());
        let text = format!(
            r#"
[server]
listen = "127.0.0.1:{api}"
[intake]
listen = "127.0.0.1:{intake}"
[database]
url = "{url}"
[[source]]
name = "uem"
kind = "workspace-one-uem"
username = "handover"
passwords = ["demo"]
upn_from = "{{user_name}}@contoso.example"
pool_accounts = ["stg-ipad"]
"#,
            url = pair.url(),
        );
        fs::write(folder.path().join("handover.toml"), text).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut serve = Self::command(folder.path());
        let running = serve.arg("serve").stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { folder, intake, running }
    }

    fn command(folder: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
        command.current_dir(folder).stdin(Stdio::null());
        command
    }

    /// Posts one event after the other, and each again until it is acknowledged.
    fn sender(&self, number: u32, told: Told, stop: CancellationToken) -> JoinHandle<()> {
        let url = format!("http://127.0.0.1:{}/intake/uem", self.intake);
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        tokio::spawn(async move {
            for turn in 0_u32.. {
                let body = event(number * 100 + turn % 7, turn);
                while !told.hear(Instant::now(), post(&client, &url, &body).await) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                if stop.is_cancelled() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }

    /// What `handover replay --check` prints. It must find nothing.
    fn replay(&self) -> String {
        let output = Self::command(self.folder.path()).args(["replay", "--check"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        text
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.running.kill().unwrap();
        self.running.wait().unwrap();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(60).collect();
            eprintln!("{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the program under test takes its time from the machine")]
fn now() -> String {
    Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// A check-out by somebody, or every third time a return.
fn event(device: u32, turn: u32) -> String {
    let (id, name, user) =
        if turn % 3 == 2 { (9002, "Check In", "stg-ipad".to_owned()) } else { (9001, "Check Out", format!("p{turn}")) };
    json!({
        "EventId": id, "EventType": name, "DeviceId": 41_000 + device, "DeviceFriendlyName": format!("iPad {device}"),
        "EnrollmentEmailAddress": "", "EnrollmentUserName": user,
        "EventTime": now(),
        "EnrollmentStatus": "Enrolled", "SerialNumber": format!("DMPXF{device:05}"), "Platform": "Apple",
    })
    .to_string()
}

async fn post(client: &reqwest::Client, url: &str, body: &str) -> Option<Uuid> {
    let request = client.post(url).basic_auth("handover", Some("demo")).header("content-type", "application/json");
    let answer = request.body(body.to_owned()).send().await.ok()?;
    if answer.status() != 200 {
        assert!(answer.status() == 503, "an event was refused for good: {}", answer.status());
        return None;
    }
    answer.json::<Value>().await.ok()?["event"].as_str()?.parse().ok()
}

/// What the senders heard.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    acknowledged: Vec<Acknowledged>,
    refused: usize,
}

struct Acknowledged {
    asked: Instant,
    heard: Instant,
    id: Uuid,
}

impl Told {
    fn hear(&self, asked: Instant, answer: Option<Uuid>) -> bool {
        let mut heard = self.0.lock().unwrap();
        match answer {
            Some(id) => heard.acknowledged.push(Acknowledged { asked, heard: Instant::now(), id }),
            None => heard.refused += 1,
        }
        answer.is_some()
    }

    fn refused(&self) -> usize {
        self.0.lock().unwrap().refused
    }

    fn acknowledged(&self) -> BTreeSet<Uuid> {
        self.0.lock().unwrap().acknowledged.iter().map(|one| one.id).collect()
    }

    fn acknowledged_before(&self, then: Instant) -> BTreeSet<Uuid> {
        let heard = self.0.lock().unwrap();
        heard.acknowledged.iter().filter(|one| one.heard < then).map(|one| one.id).collect()
    }

    async fn wait_for_more(&self, many: usize, within: Duration) {
        let (began, before) = (Instant::now(), self.0.lock().unwrap().acknowledged.len());
        while self.0.lock().unwrap().acknowledged.len() < before + many {
            assert!(began.elapsed() < within, "nothing is acknowledged any more");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// When something was first acknowledged that was asked since then: what was asked earlier may have been
    /// written down by the server that is gone.
    async fn first_since(&self, then: Instant) -> Instant {
        loop {
            let first = self.0.lock().unwrap().acknowledged.iter().find(|one| one.asked >= then).map(|one| one.heard);
            if let Some(at) = first {
                return at;
            }
            assert!(then.elapsed() < Duration::from_secs(60), "nothing is acknowledged any more");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
