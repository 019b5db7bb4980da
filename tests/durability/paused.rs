//! One of two instances stands still for longer than its leases last, and wakes up: what it then writes changes nothing, and
//! it calls at most once (S13).
//!
//! Only in the long run, because the lease has to run out.

use std::time::{Duration, Instant};

use handover::sandbox::{Fault, FaultKind, Route};

use crate::cluster::Cluster;
use crate::ledger::Ledger;
use crate::program::{Site, event, upn};
use crate::rounds::{self, Told};

/// Longer than a lease of 30 s and the time until somebody looks.
const PAUSE: Duration = Duration::from_secs(40);

/// How long the one that woke up may try to do harm.
const AWAKE: Duration = Duration::from_secs(5);

/// How soon the other one has to take an event although the one that stands still may hold locks.
const TAKEN_WITHIN: Duration = Duration::from_secs(15);

const PEOPLE: u32 = 12;
const PAUSES: usize = 3;
const DRAINED_WITHIN: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_stood_still_for_longer_than_its_lease_changes_nothing_when_it_wakes() {
    if !rounds::is_long() {
        eprintln!("skipped: only in the long run");
        return;
    }
    let Some(cluster) = Cluster::start().await else { return };
    let site = Site::over(&cluster.create("handover").await, 2, 1, "").await;
    let everybody: Vec<_> =
        (0..2 * PEOPLE).map(|nth| site.sandbox.entra.add_user(upn(&format!("person{nth}")).as_str())).collect();
    let (sleeper, one) = site.start_one(0).await;
    let (waker, other) = site.start_one(1).await;
    let database = site.database().await;
    let mut told = Told::default();
    told.starts.extend([one, other]);
    let (mut late_calls, mut slowest) = (0, Duration::ZERO);
    // Long enough for attempts to be under way when everything stops.
    site.sandbox.entra.fault(Fault::always(Route::Revoke, FaultKind::Delay { ms: 300 }));
    site.sandbox.entra.fault(Fault::always(Route::ReadUser, FaultKind::Delay { ms: 300 }));

    for pause in 0..PAUSES {
        for half in 0..2 {
            for device in 0..PEOPLE {
                let person = format!("person{}", (half + u32::try_from(pause).unwrap()) % 2 * PEOPLE + device);
                let body = event(device, &person, site.sandbox.entra.now());
                let answer = site.post_to(0, body.clone()).await;
                told.hear(answer, &body);
            }
        }
        tokio::time::sleep(Duration::from_millis(150 + 200 * u64::try_from(pause).unwrap())).await;
        sleeper.signal("STOP");
        told.kills.push(site.sandbox.entra.now());
        let stopped = Instant::now();
        let body = event(0, &format!("person{}", PEOPLE + 1), site.sandbox.entra.now());
        let began = Instant::now();
        while !told.hear(site.post_to(1, body.clone()).await, &body).is_acknowledged() {
            assert!(began.elapsed() < TAKEN_WITHIN, "the other instance takes nothing\n{}", site.log_tail());
        }
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(PAUSE.saturating_sub(stopped.elapsed())).await;
        // Everything was taken over and came to its end before the sleeper wakes.
        rounds::drain(&site, DRAINED_WITHIN).await;
        let (written, calls) = (database.written().await, rounds::calls(&site).len());
        sleeper.signal("CONT");
        tokio::time::sleep(AWAKE).await;
        assert_eq!(database.written().await, written, "it changed what others had finished");
        let late = rounds::calls(&site).len() - calls;
        assert!(late <= 1, "{late} calls after waking up");
        late_calls += late;
    }
    sleeper.kill();
    waker.kill();

    let (ledger, calls) = (Ledger::read(&database).await, rounds::calls(&site));
    let replayed = ledger.hold_to_the_laws(&site, &told, &calls, everybody.into_iter()).await;
    println!(
        "{PAUSES} pauses of {PAUSE:?}: 0 of {} attempts and revocations changed by who woke up, {late_calls} late calls; \
         the other instance took an event within {slowest:?}",
        ledger.attempts.len() + ledger.revocations.len()
    );
    told.print(&ledger, &calls, &replayed, Duration::ZERO);
}
