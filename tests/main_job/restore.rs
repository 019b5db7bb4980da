//! Restoring an older backup is quiet (S18, I22): nobody is signed out again for what had been answered, and nothing at all is sent
//! before the check is done.

use std::path::Path;
use std::process::Command;

use futures_util::future::join_all;
use handover::cli::config::Config;
use handover::sandbox::{Fault, FaultKind, Route};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

use crate::town::{Engine, Town, on_both};

/// Shared iPads, and how many people hold each before the backup: the last still has it, all others were revoked.
const IPADS: usize = 25;
const EACH: usize = 5;
/// iPads that change hands while Graph does not know their holders: owed when the backup is taken.
const OWED: usize = 10;
/// Of those, the ones that are closed without an answer after it, which the backup does not know.
const UNANSWERED: usize = 4;
/// iPads that change hands after the backup: forgotten by it.
const FORGOTTEN: usize = 10;

fn holder(ipad: usize, nth: usize) -> String {
    format!("p{}", ipad * 100 + nth)
}

fn serial(ipad: usize) -> String {
    format!("D{ipad}")
}

/// A backup by the means of the engine, taken while everything runs.
async fn back_up(town: &Town) {
    let file = town.folder().join("backup");
    match town.engine() {
        Engine::Sqlite => town.service.app.store.write_copy(&file).await.unwrap(),
        Engine::Postgres => {
            let url = &town.config.database.url;
            let done =
                Command::new("pg_dump").args(["--format=custom", "--file"]).arg(&file).arg(url).status().unwrap();
            assert!(done.success());
        }
    }
}

/// Puts the backup in the place of the database, by hand: nobody tells Handover.
async fn put_back(config: &Config, folder: &Path, engine: Engine) {
    let file = folder.join("backup");
    match engine {
        Engine::Sqlite => {
            for ending in ["-wal", "-shm"] {
                drop(std::fs::remove_file(folder.join(format!("handover.db{ending}"))));
            }
            std::fs::copy(file, folder.join("handover.db")).unwrap();
        }
        Engine::Postgres => {
            let url = &config.database.url;
            let mut connection = PgConnection::connect(url).await.unwrap();
            let text = "DROP SCHEMA IF EXISTS reporting CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public";
            sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
            let done = Command::new("pg_restore").args(["--no-owner", "--dbname", url]).arg(&file).output().unwrap();
            // A server of this version may warn about the schema that is there already.
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            let one: (i64,) = sqlx::query_as("SELECT COUNT(*) FROM house").fetch_one(&mut connection).await.unwrap();
            assert_eq!(one.0, 1, "{said}");
        }
    }
}

async fn status(town: &Town) -> Value {
    town.get("/api/v1/status").await
}

async fn until_open(town: &Town) {
    town.until("the check is done", async || status(town).await["house"]["state"] == "open").await;
}

fn lines(owed: &[String], ending: &str) -> usize {
    owed.iter().filter(|line| line.ends_with(ending)).count()
}

/// The revocations in their states, page by page.
async fn states(town: &Town, state: &str) -> Vec<Value> {
    let path = format!("/api/v1/revocations?limit=500&state={state}");
    town.get(&path).await["items"].as_array().unwrap().clone()
}

#[expect(clippy::too_many_lines, reason = "one story, told to its end")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_signs_nobody_out_again() {
    on_both(async |plan| {
        let town = plan.policy("clock_skew_seconds = 1").empty().await;
        town.entra().set_quota(None);
        let mut ids = std::collections::HashMap::new();
        for ipad in 0..IPADS {
            for nth in 0..=EACH {
                ids.insert(holder(ipad, nth), town.person(&holder(ipad, nth)));
            }
            ids.insert(holder(ipad, 9), town.person(&holder(ipad, 9)));
            town.uem().add_device(serial(ipad).as_str());
        }
        town.sweep().await;
        town.until("the census is in", async || town.devices().await.len() == IPADS).await;
        town.until_at_rest().await;

        // 100 people are revoked before the backup.
        let town_ref = &town;
        join_all((0..IPADS).map(|ipad| async move {
            for nth in 0..EACH {
                town_ref.takes(&serial(ipad), &[&holder(ipad, nth)]).await;
            }
        }))
        .await;
        let revoked = IPADS * (EACH - 1);
        town.until("all of them are proven", async || states(&town, "verified").await.len() == revoked).await;

        // Ten more are owed when it is taken, as Graph says that it knows none of them.
        for ipad in 0..OWED {
            let user = Some(ids[&holder(ipad, EACH - 1)]);
            town.entra().fault(Fault { user, ..Fault::always(Route::Revoke, FaultKind::NotFound) });
        }
        for ipad in 0..OWED {
            town.takes(&serial(ipad), &[&holder(ipad, EACH)]).await;
        }
        town.until("they are owed", async || town.revocations().await.len() == revoked + OWED).await;
        town.until_at_rest().await;
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        back_up(&town).await;

        // After it, most of them are answered, and ten others come and go.
        town.entra().clear_faults();
        let open = states(&town, "open").await;
        assert_eq!(open.len(), OWED, "{:?}", town.owed().await);
        for row in &open[..UNANSWERED] {
            town.operate(row, "waive").await;
        }
        for ipad in OWED..OWED + FORGOTTEN {
            town.takes(&serial(ipad), &[&holder(ipad, EACH)]).await;
        }
        let answered = revoked + OWED - UNANSWERED + FORGOTTEN;
        town.until("they are answered", async || {
            town.hurry().await;
            states(&town, "verified").await.len() == answered
        })
        .await;
        let effects = |town: &Town| town.calls().iter().filter(|seen| seen.status == Some(200)).count();
        assert_eq!(effects(&town), answered);

        // The old backup takes the database's place. The stamps cannot be read at first, and the process is stopped in the middle.
        town.entra().clear_faults();
        town.entra().fault(Fault::always(Route::ReadUser, FaultKind::Html503));
        let before = town.calls().len();
        let (folder, engine) = (town.folder().to_path_buf(), town.engine());
        let town = town.restarted(async |config| put_back(config, &folder, engine).await).await;
        let said = status(&town).await;
        assert_eq!((said["mode"].as_str(), said["house"]["state"].as_str()), (Some("checking"), Some("checking")), "{said:#}");
        assert_eq!(states(&town, "held").await.len(), OWED, "{:?}", town.owed().await);
        let epoch = said["house"]["epoch"].clone();
        town.hurry().await;
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let town = town.restarted(async |_| {}).await;
        let said = status(&town).await;
        assert_eq!((&said["house"]["state"], &said["house"]["epoch"]), (&Value::from("checking"), &epoch), "it goes on: {said:#}");
        let held = states(&town, "held").await;
        let early = town.client.post(format!("http://{}/api/v1/revocations/{}/release", town.service.api, held[0]["id"].as_str().unwrap()));
        let early = early.bearer_auth(&town.token).json(&serde_json::json!({"reason": "too early"})).send().await.unwrap();
        assert_eq!(early.status(), 409, "nothing is released before the check is done");
        assert_eq!(town.calls().len(), before, "nothing at all is sent before the check is done");

        town.entra().clear_faults();
        until_open(&town).await;

        let owed = town.owed().await;
        let after = states(&town, "verified").await;
        let noted = after.iter().filter(|row| row["note"].as_str().is_some_and(|note| note.contains("after a restore"))).count();
        assert_eq!(noted, OWED - UNANSWERED, "closed by their stamps: {owed:?}");
        assert_eq!(lines(&owed, " held"), UNANSWERED + FORGOTTEN, "{owed:?}");
        assert_eq!(lines(&owed, " open") + lines(&owed, " in_flight"), 0, "{owed:?}");
        assert_eq!(town.calls().len(), before, "the check itself sends nothing");

        // What happens from now on is paid; what is held waits for a person.
        let fresh = OWED + FORGOTTEN;
        town.takes(&serial(fresh), &[&holder(fresh, 9)]).await;
        town.until("a new hand-over is paid", async || {
            town.owed().await.contains(&format!("{} {} verified", holder(fresh, EACH - 1), serial(fresh)))
        })
        .await;
        assert_eq!(town.calls().len(), before + 1);
        let released = town.service.app.release_many(handover::custody::Why::Restored, "cli:test", "checked").await.unwrap();
        assert_eq!((released.revocations, released.people_left), (UNANSWERED + FORGOTTEN, 0));
        town.until("what was released is sent", async || {
            town.hurry().await;
            lines(&town.owed().await, " verified") == revoked + OWED + FORGOTTEN + 1
        })
        .await;
        println!(
            "{engine:?}: restored with {OWED} owed and {FORGOTTEN} forgotten: 0 calls to {} people already answered, 0 before the \
             check was done; {noted} of {} closed by their stamps, {} of {} held",
            OWED - UNANSWERED + FORGOTTEN,
            OWED - UNANSWERED,
            UNANSWERED + FORGOTTEN,
            UNANSWERED + FORGOTTEN
        );
        town.close().await;
    })
    .await;
}
