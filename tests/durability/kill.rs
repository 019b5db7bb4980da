//! Rounds of SIGKILL under load on SQLite, and what has to be true afterwards.
//!
//! `HANDOVER_KILL_ROUNDS` says how many (100), `HANDOVER_KILL_SEED` repeats a run; both are printed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rand::RngExt as _;

use crate::ledger::Ledger;
use crate::program::{Running, Site};
use crate::rounds::{self, AT_ONCE, Answered, EVENTS, Story, Told};

/// The longest life of a process, counted from being ready.
const LONGEST_LIFE_MS: u64 = 900;

/// How long everything may take to come to its end once nobody kills and nothing fails.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_it_loses_nothing_and_calls_nobody_twice() {
    let (rounds, seed) = (rounds::rounds(), rounds::seed());
    println!("HANDOVER_KILL_ROUNDS={rounds} HANDOVER_KILL_SEED={seed}");
    let site = Site::new(seed, "").await;
    let people = rounds::population(&site);
    let (mut story, mut told) = (Story::new(seed), Told::default());

    rounds::bad_days(&site);
    for _ in 0..rounds {
        let (running, took) = site.start().await;
        told.starts.push(took);
        let life = Duration::from_millis(story.dice.random_range(0..LONGEST_LIFE_MS));
        let killed_at = live_and_die(&site, running, life, &mut story, &mut told).await;
        told.kills.push(killed_at);
    }
    site.sandbox.entra.clear_faults();
    let (running, took) = site.start().await;
    told.starts.push(took);
    let drained = rounds::drain(&site, DRAINED_WITHIN).await;
    running.kill();

    let (ledger, calls) = (Ledger::read(&site.database().await).await, rounds::calls(&site));
    let replayed = ledger.hold_to_the_laws(&site, &told, &calls, people.into_iter()).await;
    told.print(&ledger, &calls, &replayed, drained);
}

/// One life: events come in, and in the middle of it the process is gone. Says when.
async fn live_and_die(
    site: &Site,
    running: Running,
    life: Duration,
    story: &mut Story,
    told: &mut Told,
) -> DateTime<Utc> {
    let end = tokio::time::sleep(life);
    tokio::pin!(end);
    let mut running = Some(running);
    let mut killed_at = site.sandbox.entra.now();
    let mut left = EVENTS;
    let mut posts = FuturesUnordered::new();
    loop {
        while left > 0 && running.is_some() && posts.len() < AT_ONCE {
            let body = story.next(site.sandbox.entra.now());
            posts.push(async { (site.post(body.clone()).await, body) });
            left -= 1;
        }
        tokio::select! {
            () = &mut end, if running.is_some() => {
                running.take().unwrap().kill();
                killed_at = site.sandbox.entra.now();
            }
            Some((answer, body)) = posts.next() => {
                let answered = told.hear(answer, &body);
                assert_ne!(answered, Answered::NotNow, "{}", site.log_tail());
                // Half of the senders come again.
                if answered == Answered::Never && story.dice.random_bool(0.5) {
                    story.waiting.push_back(body);
                }
            },
            else => return killed_at,
        }
    }
}
