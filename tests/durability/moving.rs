//! Moving house and restoring, with the program itself: killed in the middle, and as the documents tell it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use handover::custody::Moment;
use handover::store::{Store, house};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::service::app;

/// How often the copy is killed.
const KILLS: usize = 6;
const EVENTS: usize = 4_500;

async fn state(url: &str) -> String {
    let store = Store::attach(&handover::store::Settings::new(url), Path::new("/")).await.unwrap();
    let read = async { house::read(&mut store.read().await?).await }.await;
    store.close().await;
    // Killed before its first commit, it has no schema yet.
    read.ok().flatten().map_or_else(|| "empty".to_owned(), |house| house.state)
}

async fn fill(url: &str) {
    let store = Store::open(url, Path::new("/")).await.unwrap();
    let app = app(store.clone(), Moment::from_seconds(1_772_438_400));
    app.enter_house().await.unwrap();
    let bodies: Vec<_> = (0..EVENTS)
        .map(|nth| {
            let device = nth % 150;
            format!(
                r#"{{"EventId":9001,"EventType":"Check Out","DeviceId":{},"SerialNumber":"W{device}","EventTime":"/Date({})/","EnrollmentUserName":"u{}","EnrollmentStatus":"Enrolled"}}"#,
                41_000 + device,
                (1_772_431_200 + nth) * 1000,
                nth % 97
            )
            .into()
        })
        .collect();
    for group in bodies.chunks(500) {
        app.receive_many("uem", None, group.to_vec()).await.unwrap();
    }
    drop(app);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_killed_again_and_again_ends_in_one_open_house() {
    let Ok(server) = std::env::var("HANDOVER_TEST_POSTGRES") else {
        let required = std::env::var("HANDOVER_TEST_POSTGRES_REQUIRED").is_ok_and(|required| required == "1");
        assert!(!required, "HANDOVER_TEST_POSTGRES says where PostgreSQL is, and it is not set");
        eprintln!("skipped: no PostgreSQL");
        return;
    };
    let name = format!("handover_{}", Uuid::new_v4().simple());
    let mut aside = PgConnection::connect(&server).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut aside).await.unwrap();
    let mut to: url::Url = server.parse().unwrap();
    to.set_path(&name);
    let folder = tempfile::tempdir().unwrap();
    let from = format!("sqlite://{}", folder.path().join("handover.db").display());
    fill(&from).await;
    std::fs::write(folder.path().join("handover.toml"), format!("[database]\nurl = \"{from}\"\n")).unwrap();
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
        command.arg("--config").arg(folder.path().join("handover.toml"));
        command.args(["database", "copy", "--json", "--from", &from, "--to", to.as_str()]);
        command
    };
    let mut dice = StdRng::seed_from_u64(7);
    let mut met = std::collections::BTreeMap::<_, usize>::new();
    for _ in 0..KILLS {
        let mut child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(dice.random_range(300..2_500))).await;
        let ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        let states = (state(&from).await, state(to.as_str()).await);
        let fine = [("open", "empty"), ("open", "sealed"), ("sealed", "sealed"), ("sealed", "open")];
        assert!(fine.contains(&(states.0.as_str(), states.1.as_str())), "{states:?}");
        *met.entry(states).or_default() += 1;
        if ended {
            break;
        }
    }
    let done = state(to.as_str()).await == "open";
    if !done {
        let done = command().output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        let rows = said["rows"].as_i64().unwrap();
        println!(
            "killed {KILLS} times, {met:?}; then {rows} rows were moved, and both databases gave the same digests"
        );
        assert!(rows > 10_000);
    }

    assert_eq!((state(&from).await.as_str(), state(to.as_str()).await.as_str()), ("sealed", "open"));
    let serve = Command::new(env!("CARGO_BIN_EXE_handover"))
        .arg("--config")
        .arg(folder.path().join("handover.toml"))
        .arg("serve")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&serve.stderr).into_owned();
    assert!(!serve.status.success() && said.contains("this database was moved to postgres://"), "{said}");
    let who = Command::new(env!("CARGO_BIN_EXE_handover"))
        .arg("--config")
        .arg(folder.path().join("handover.toml"))
        .args(["who", "W7"])
        .output()
        .unwrap();
    assert!(who.status.success(), "questions are still answered: {}", String::from_utf8_lossy(&who.stderr));
    assert!(String::from_utf8_lossy(&who.stderr).contains("was moved to"), "with a warning");
    sqlx::query(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&mut aside).await.unwrap();
}

#[test]
fn the_drill_restores_a_backup_that_was_taken_under_load() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));

    let drill = Command::new(root.join("scripts/drill-restore"))
        .env("HANDOVER", env!("CARGO_BIN_EXE_handover"))
        .output()
        .unwrap();

    let said = format!("{}{}", String::from_utf8_lossy(&drill.stdout), String::from_utf8_lossy(&drill.stderr));
    assert!(drill.status.success(), "{said}");
    let last = said.lines().rfind(|line| line.starts_with("drill-restore: good")).unwrap_or_default();
    println!("{last}");
    assert!(last.contains("the house is checking"), "{said}");
}
