//! The process dies between two writes of one revocation: the next one does what is right, and no more.

use std::time::{Duration, Instant};

use handover::sandbox::{Fault, FaultKind, Lag, Route};
use uuid::Uuid;

use crate::ledger::Database;
use crate::program::{Running, Site, event, upn};

/// Longer than any test: what waits for it does not happen any more.
const NEVER_MS: u64 = 600_000;

const PATIENCE: Duration = Duration::from_secs(30);

/// Amina had an iPad, and Jonas has it now.
struct Stop {
    site: Site,
    amina: Uuid,
}

impl Stop {
    async fn new() -> Self {
        let site = Site::new(1, "").await;
        let amina = site.sandbox.entra.add_user(upn("amina").as_str());
        site.sandbox.entra.add_user(upn("jonas").as_str());
        Self { site, amina }
    }

    async fn hand_over(&self) {
        for user in ["amina", "jonas"] {
            let (status, answer) = self.site.post(event(1, user, self.site.sandbox.entra.now())).await.unwrap();
            assert_eq!(status, 200, "{answer}");
        }
    }

    fn calls(&self) -> usize {
        self.site.sandbox.entra.seen().iter().filter(|seen| seen.route == Route::Revoke).count()
    }

    async fn until(&self, what: &str, done: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !done().await {
            assert!(began.elapsed() < PATIENCE, "{what} within {PATIENCE:?}\n{}", self.site.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_state(&self, database: &Database, wanted: &str) {
        let is = async || database.states().await == [wanted];
        self.until(&format!("the revocation should be {wanted}"), is).await;
    }

    async fn kill_when(&self, running: Running, state: &str, calls: usize) {
        let database = self.site.database().await;
        self.until_state(&database, state).await;
        self.until("the call should be seen", async || self.calls() == calls).await;
        running.kill();
    }
}

#[tokio::test]
async fn killed_after_the_effect_and_before_the_answer_it_proves_it_without_a_second_call() {
    let stop = Stop::new().await;
    stop.site.sandbox.entra.fault(Fault::once(Route::Revoke, FaultKind::DelayAfter { ms: NEVER_MS }));
    let (running, _) = stop.site.start().await;
    stop.hand_over().await;

    stop.kill_when(running, "in_flight", 1).await;
    stop.until("the effect should be there", async || stop.site.sandbox.entra.effects(stop.amina).len() == 1).await;
    let (_running, _) = stop.site.start().await;

    stop.until_state(&stop.site.database().await, "verified").await;
    assert_eq!((stop.calls(), stop.site.sandbox.entra.effects(stop.amina).len()), (1, 1));
}

#[tokio::test]
async fn killed_before_the_effect_it_sends_it_again() {
    let stop = Stop::new().await;
    stop.site.sandbox.entra.fault(Fault::once(Route::Revoke, FaultKind::Delay { ms: NEVER_MS }));
    let (running, _) = stop.site.start().await;
    stop.hand_over().await;

    stop.kill_when(running, "in_flight", 1).await;
    let (_running, _) = stop.site.start().await;

    stop.until_state(&stop.site.database().await, "verified").await;
    assert_eq!((stop.calls(), stop.site.sandbox.entra.effects(stop.amina).len()), (2, 1));
}

#[tokio::test]
async fn killed_between_the_yes_and_the_proof_it_goes_on_reading_back() {
    let stop = Stop::new().await;
    stop.site.sandbox.entra.set_lag(None, Lag::Never);
    let (running, _) = stop.site.start().await;
    stop.hand_over().await;

    stop.kill_when(running, "accepted", 1).await;
    stop.site.sandbox.entra.set_lag(None, Lag::After(Duration::ZERO));
    let (_running, _) = stop.site.start().await;

    stop.until_state(&stop.site.database().await, "verified").await;
    assert_eq!((stop.calls(), stop.site.sandbox.entra.effects(stop.amina).len()), (1, 1));
}

#[tokio::test]
async fn killed_before_anything_was_sent_it_sends_it_once() {
    let stop = Stop::new().await;
    stop.site.sandbox.entra.fault(Fault::always(Route::Token, FaultKind::ResetBefore));
    let (running, _) = stop.site.start().await;
    stop.hand_over().await;

    stop.kill_when(running, "open", 0).await;
    stop.site.sandbox.entra.clear_faults();
    let (_running, _) = stop.site.start().await;

    stop.until_state(&stop.site.database().await, "verified").await;
    assert_eq!((stop.calls(), stop.site.sandbox.entra.effects(stop.amina).len()), (1, 1));
}
