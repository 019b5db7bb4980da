//! Two instances over one PostgreSQL, and in each round somebody is killed: an instance, a process of the database, or the
//! whole database server.
//!
//! One round for five of `HANDOVER_KILL_ROUNDS`: 20 unless somebody says otherwise. `HANDOVER_KILL_SEED` repeats the choices,
//! though not the races.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::future::join;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rand::RngExt as _;

use crate::cluster::Cluster;
use crate::ledger::Ledger;
use crate::program::{Running, Site, signal};
use crate::rounds::{self, AT_ONCE, EVENTS, Story, Told};

/// The longest quiet before the fault of a round.
const QUIET_MS: u64 = 700;

/// How long a killed server stays away, at most.
const AWAY_MS: u64 = 1500;

/// How long a sender waits before it posts, at most, so that posts come before, in and after a fault.
const APART_MS: u64 = 200;

/// How long an instance may take until it is ready again after the database was away.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// How long everything may take to come to its end once nobody kills: a lease of 30 s runs out first.
const DRAINED_WITHIN: Duration = Duration::from_secs(120);

/// Who is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Instance(usize),
    /// SIGKILL to a process that serves a connection: the server takes all others down with it, and recovers.
    Backend,
    /// A connection is ended from the other side.
    Connection,
    Server,
}

struct Ward {
    site: Site,
    cluster: Cluster,
    instances: [Option<Running>; 2],
}

/// How often whom, and how long it took until both instances were ready again.
#[derive(Default)]
struct Faults {
    instances: usize,
    backends: usize,
    connections: usize,
    servers: usize,
    ready_again: Vec<Duration>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_over_a_database_that_dies_lose_nothing_and_call_nobody_twice() {
    let (rounds, seed) = ((rounds::rounds() / 5).max(1), rounds::seed());
    let Some(cluster) = Cluster::start().await else { return };
    println!("{rounds} rounds on PostgreSQL, HANDOVER_KILL_SEED={seed}");
    let site = Site::over(&cluster.create("handover").await, 2, seed, "").await;
    let people = rounds::population(&site);
    let (mut story, mut told, mut faults) = (Story::new(seed), Told::default(), Faults::default());
    let mut ward = Ward { site, cluster, instances: [None, None] };

    rounds::bad_days(&ward.site);
    for _ in 0..rounds {
        ward.everybody_is_up(&mut told, &mut faults).await;
        let victim = match story.dice.random_range(0..8) {
            nth @ 0..4 => Victim::Instance(nth % 2),
            4 | 5 => Victim::Server,
            6 => Victim::Backend,
            _ => Victim::Connection,
        };
        faults.count(victim);
        ward.live_and_suffer(victim, &mut story, &mut told).await;
    }
    ward.site.sandbox.entra.clear_faults();
    ward.everybody_is_up(&mut told, &mut faults).await;
    ward.send_the_rest(&mut story, &mut told).await;
    let drained = rounds::drain(&ward.site, DRAINED_WITHIN).await;
    ward.instances.into_iter().flatten().for_each(Running::kill);

    let (ledger, calls) = (Ledger::read(&ward.site.database().await).await, rounds::calls(&ward.site));
    let replayed = ledger.hold_to_the_laws(&ward.site, &told, &calls, people.into_iter()).await;
    faults.print();
    told.print(&ledger, &calls, &replayed, drained);
}

impl Ward {
    /// Starts whoever is down, and waits until both instances are ready. Only who was killed may be down.
    async fn everybody_is_up(&mut self, told: &mut Told, faults: &mut Faults) {
        for (nth, running) in self.instances.iter_mut().enumerate() {
            if let Some(running) = running {
                let ended = running.ended();
                assert!(ended.is_none(), "instance {nth} ended by itself with {ended:?}\n{}", self.site.log_tail());
            } else {
                let (started, took) = self.site.start_one(nth).await;
                told.starts.push(took);
                *running = Some(started);
            }
        }
        let began = Instant::now();
        for nth in 0..self.instances.len() {
            while !self.site.is_ready(nth).await {
                let log = self.site.log_tail();
                assert!(began.elapsed() < READY_WITHIN, "instance {nth} is not ready within {READY_WITHIN:?}\n{log}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        faults.ready_again.push(began.elapsed());
    }

    /// Events come in to either instance or both, and in the middle of it somebody is killed.
    async fn live_and_suffer(&mut self, victim: Victim, story: &mut Story, told: &mut Told) {
        let quiet = Duration::from_millis(story.dice.random_range(0..QUIET_MS));
        let away = Duration::from_millis(story.dice.random_range(0..AWAY_MS));
        let chance: usize = story.dice.random_range(0..1000);
        let Self { site, cluster, instances } = self;
        let site = &*site;
        let fault = async {
            tokio::time::sleep(quiet).await;
            strike(victim, site, cluster, instances, away, chance).await
        };
        tokio::pin!(fault);
        let mut struck = false;
        let mut left = EVENTS;
        let mut posts = FuturesUnordered::new();
        loop {
            while left > 0 && posts.len() < AT_ONCE {
                let body = story.next(site.sandbox.entra.now());
                let to = story.dice.random_range(0..5);
                let after = Duration::from_millis(story.dice.random_range(0..APART_MS));
                posts.push(async move {
                    tokio::time::sleep(after).await;
                    (post(site, to, body.clone()).await, body)
                });
                left -= 1;
            }
            tokio::select! {
                at = &mut fault, if !struck => {
                    told.kills.push(at);
                    struck = true;
                }
                Some((answers, body)) = posts.next() => hear(answers, body, story, told),
                else => return,
            }
        }
    }

    /// The senders that were not answered come again, until there are none.
    async fn send_the_rest(&self, story: &mut Story, told: &mut Told) {
        while let Some(body) = story.waiting.pop_front() {
            hear(vec![self.site.post(body.clone()).await], body, story, told);
        }
    }
}

/// Posts to one instance or the other, or to both at once.
async fn post(site: &Site, to: usize, body: String) -> Vec<Option<(u16, serde_json::Value)>> {
    if to < 4 {
        return vec![site.post_to(to % 2, body).await];
    }
    let (one, other) = join(site.post_to(0, body.clone()), site.post_to(1, body)).await;
    vec![one, other]
}

/// Whoever was not told yes comes again.
fn hear(answers: Vec<Option<(u16, serde_json::Value)>>, body: String, story: &mut Story, told: &mut Told) {
    let answered: Vec<_> = answers.into_iter().map(|answer| told.hear(answer, &body)).collect();
    if !answered.iter().any(|answered| answered.is_acknowledged()) {
        story.waiting.push_back(body);
    }
}

/// Does it, and says when.
async fn strike(
    victim: Victim,
    site: &Site,
    cluster: &mut Cluster,
    instances: &mut [Option<Running>; 2],
    away: Duration,
    chance: usize,
) -> DateTime<Utc> {
    let at = site.sandbox.entra.now();
    let backends = cluster.backends();
    let backend = backends.get(chance % backends.len().max(1)).copied();
    match (victim, backend) {
        (Victim::Instance(nth), _) => instances[nth].take().into_iter().for_each(Running::kill),
        (Victim::Backend, Some(backend)) => drop(signal(backend, "KILL")),
        (Victim::Connection, Some(backend)) => drop(signal(backend, "TERM")),
        (Victim::Backend | Victim::Connection, None) => panic!("nobody is connected"),
        (Victim::Server, _) => {
            cluster.kill();
            tokio::time::sleep(away).await;
            cluster.start_again().await;
        }
    }
    at
}

impl Faults {
    fn count(&mut self, victim: Victim) {
        match victim {
            Victim::Instance(_) => self.instances += 1,
            Victim::Backend => self.backends += 1,
            Victim::Connection => self.connections += 1,
            Victim::Server => self.servers += 1,
        }
    }

    fn print(&self) {
        let longest = self.ready_again.iter().max().unwrap();
        println!(
            "killed: {} instances, {} processes of the database, {} connections, {} servers; \
             both instances ready {longest:?} after the end of it at the latest",
            self.instances, self.backends, self.connections, self.servers
        );
    }
}
