//! One release is replaced by the next while events come in: both run over one database for a while, and the new one has
//! brought the schema up to date under the feet of the old one.
//!
//! `HANDOVER_PREVIOUS` names the program of the previous release; `scripts/test` builds it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rand::RngExt as _;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::ledger::Ledger;
use crate::program::Site;
use crate::rounds::{self, AT_ONCE, Story, Told};

/// How long each part of the replacement takes at least.
const PART: Duration = Duration::from_millis(1500);

/// How long a sender comes again before the event counts as refused.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest that a sender may have to come again while the schema is brought up to date.
const REFUSED_AT_MOST: Duration = Duration::from_secs(10);

const DRAINED_WITHIN: Duration = Duration::from_secs(90);

const OLD: usize = 0;
const NEW: usize = 1;

fn previous() -> Option<PathBuf> {
    let named = std::env::var_os("HANDOVER_PREVIOUS").map(PathBuf::from);
    let required = std::env::var("HANDOVER_PREVIOUS_REQUIRED").is_ok_and(|required| required == "1");
    assert!(named.is_some() || !required, "HANDOVER_PREVIOUS names no program, and one is required");
    if named.is_none() {
        eprintln!("skipped: HANDOVER_PREVIOUS names no previous release");
    }
    named
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_previous_release_goes_on_beside_the_new_one_until_it_is_replaced() {
    let Some(previous) = previous() else { return };
    let Some(cluster) = Cluster::start().await else { return };
    let seed = rounds::seed();
    let site = Site::over(&cluster.create("handover").await, 2, seed, "").await;
    let people = rounds::population(&site);
    let mut senders =
        Senders { site: &site, story: Story::new(seed), told: Told::default(), slowest: [Duration::ZERO; 2] };

    let (mut old, _) = site.start_command(OLD, site.command(OLD, &previous)).await;
    senders.post_while(&[OLD], tokio::time::sleep(PART)).await;
    let began = Instant::now();
    let (new, took) = senders
        .post_while(&[OLD], site.start_command(NEW, site.command(NEW, Path::new(crate::program::PROGRAM))))
        .await;
    let migrated_within = began.elapsed();
    let before_both = senders.slowest[OLD];
    senders.post_while(&[OLD, NEW], tokio::time::sleep(2 * PART)).await;
    assert!(old.ended().is_none(), "the previous release ended by itself\n{}", site.log_tail());
    let stopped = senders.post_while(&[NEW], old.stop()).await;
    assert!(stopped.success(), "the previous release ended with {stopped}");
    senders.post_while(&[NEW], tokio::time::sleep(PART)).await;
    let Senders { mut told, slowest, .. } = senders;
    told.starts.push(took);
    let drained = rounds::drain(&site, DRAINED_WITHIN).await;
    new.kill();

    let (ledger, calls) = (Ledger::read(&site.database().await).await, rounds::calls(&site));
    let replayed = ledger.hold_to_the_laws(&site, &told, &calls, people.into_iter()).await;
    println!(
        "the new release was ready {migrated_within:?} after its start; the previous one took at most {before_both:?} to take an \
         event until then, and {:?} in all; the new one {:?}",
        slowest[OLD], slowest[NEW]
    );
    let twice = site.database().await.stored_twice().await;
    println!("{twice} of {} events are stored under a former id and a present one", ledger.events.len());
    told.print(&ledger, &calls, &replayed, drained);
    assert!(slowest.iter().all(|slowest| *slowest <= REFUSED_AT_MOST), "{slowest:?}");
}

/// Who posts, and what they heard.
struct Senders<'a> {
    site: &'a Site,
    story: Story,
    told: Told,
    /// The longest that it took from an event's first post to its acknowledgement, by instance.
    slowest: [Duration; 2],
}

impl Senders<'_> {
    /// Posts to any of these instances until something else has come to its end.
    async fn post_while<T>(&mut self, to: &[usize], something: impl Future<Output = T>) -> T {
        tokio::pin!(something);
        let mut posts = FuturesUnordered::new();
        let mut done = None;
        loop {
            while done.is_none() && posts.len() < AT_ONCE {
                let body = self.story.next(self.site.sandbox.entra.now());
                let instance = to[self.story.dice.random_range(0..to.len())];
                posts.push(post(self.site, instance, body));
            }
            tokio::select! {
                value = &mut something, if done.is_none() => done = Some(value),
                Some((instance, answers, body, took)) = posts.next() => {
                    self.slowest[instance] = self.slowest[instance].max(took);
                    for answer in answers {
                        self.told.hear(answer, &body);
                    }
                }
                else => return done.unwrap(),
            }
        }
    }
}

/// Posts until it is acknowledged.
async fn post(site: &Site, instance: usize, body: String) -> (usize, Vec<Option<(u16, Value)>>, String, Duration) {
    let (began, mut answers) = (Instant::now(), Vec::new());
    loop {
        let answer = site.post_to(instance, body.clone()).await;
        let acknowledged = answer.as_ref().is_some_and(|(status, _)| *status == 200);
        answers.push(answer);
        if acknowledged {
            return (instance, answers, body, began.elapsed());
        }
        assert!(
            began.elapsed() < PATIENCE,
            "instance {instance} does not take an event: {answers:?}\n{}",
            site.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
