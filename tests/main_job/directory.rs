//! The directory has a bad day: what is sent again, what is not, and what is proven in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::TimeDelta;
use handover::sandbox::{Fault, FaultKind, Lag, Route};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::town::{Plan, Town, on_both};

/// Amina hands W1 to Jonas while one call to revoke her goes wrong in this way.
async fn handed_over_while(plan: Plan, kind: FaultKind) -> (Town, Uuid) {
    let town = plan.empty().await;
    let amina = town.person("amina");
    town.person("jonas");
    town.device("W1").await;
    town.fault(kind);
    town.takes("W1", &["amina", "jonas"]).await;
    (town, amina)
}

/// After this fault the revocation is proven, with so many calls and one effect.
async fn is_proven_after(kind: FaultKind, calls: usize) {
    on_both(async |plan| {
        let (town, amina) = handed_over_while(plan, kind.clone()).await;

        let row = town.until_state("verified").await;
        town.until_at_rest().await;

        assert_eq!(town.owed().await, ["amina W1 verified"]);
        assert_eq!((town.calls().len(), town.effects(amina)), (calls, 1), "{row:#}");
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_made_before_retry_after_has_run_out() {
    on_both(async |plan| {
        let (town, amina) = handed_over_while(plan, FaultKind::Throttle { seconds: 2.128 }).await;

        town.until_state("verified").await;

        let calls = town.calls();
        assert_eq!((calls.len(), town.effects(amina)), (2, 1));
        assert!(calls[1].at - calls[0].at >= TimeDelta::milliseconds(2_128), "{calls:#?}");
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_server_is_tried_again() {
    is_proven_after(FaultKind::Status { code: 500, retry_after: None }, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_before_the_deed_is_tried_again() {
    is_proven_after(FaultKind::ResetBefore, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_after_the_deed_is_proven_without_a_second_call() {
    is_proven_after(FaultKind::ResetAfter, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_an_answer_is_proven_without_a_second_call() {
    is_proven_after(FaultKind::HalfAnswer, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxys_page_is_no_yes() {
    is_proven_after(FaultKind::Html200, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_401_costs_a_new_token_and_nothing_else() {
    is_proven_after(FaultKind::Unauthorized, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_never_followed() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("http://{}/v1.0/me", trap.local_addr().unwrap());
    let caught = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&caught);
    tokio::spawn(async move {
        while trap.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });

    is_proven_after(FaultKind::Redirect { to }, 2).await;

    assert_eq!(caught.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_keeps_everything_owed_until_it_is_corrected() {
    on_both(async |plan| {
        let town = plan.open().await;
        let right = town.entra().client_secret();
        town.write_secret("not the secret");
        town.takes("W1", &["amina", "jonas"]).await;
        town.until("the secret was refused", async || {
            town.entra().seen().iter().any(|seen| seen.route == Route::Token && seen.status == Some(401))
        })
        .await;
        town.until_owed(&["amina W1 open"]).await;
        assert_eq!(town.calls().len(), 0);

        town.write_secret(&right);

        town.until_owed(&["amina W1 verified"]).await;
        assert_eq!(town.calls().len(), 1);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stamp_that_never_moves_is_not_believed_and_the_revocation_is_sent_once_more() {
    on_both(async |plan| {
        let town = plan.empty().await;
        let amina = town.person("amina");
        town.person("jonas");
        town.device("W1").await;
        town.entra().set_lag(Some(amina), Lag::Never);
        town.takes("W1", &["amina", "jonas"]).await;
        town.until_state("accepted").await;

        town.until("it is sent once more", async || {
            town.hurry().await;
            town.calls().len() == 2
        })
        .await;
        town.entra().set_lag(Some(amina), Lag::After(std::time::Duration::ZERO));

        let row = town.until_state("verified").await;
        assert_eq!(row["attempts"].as_array().unwrap().len(), 2);
        assert_eq!(row["attempts"][1]["state"], "unproven", "{row:#}");
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_stamp_may_not_be_read_accepted_is_the_best_there_is() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.entra().fault(Fault::always(Route::ReadUser, FaultKind::StampMissing));
        town.takes("W1", &["amina", "jonas"]).await;

        town.until("it counts as done", async || {
            let rows = town.revocations().await;
            rows.len() == 1 && !rows[0]["closed_at"].is_null()
        })
        .await;

        let row = town.until_state("accepted").await;
        assert!(row["verified_at"].is_null(), "{row:#}");
        assert_eq!(town.calls().len(), 1);
        town.close().await;
    })
    .await;
}
