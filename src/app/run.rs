//! The loops: what the deeds do once, done for ever.
//!
//! A bell that rings while a loop works is kept for it, so that what arrives in between is not missed; and the loop looks all
//! the same when the bell is silent. A loop that panics is started again; three panics within five minutes end the process
//! (S19), because whoever runs it will start it anew.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::bells::Bell;
use crate::app::house::NotEntered;
use crate::app::look::Turn;
use crate::app::sweep::Broken;
use crate::app::{App, Source, dice};
use crate::store::{Error, Kind, attempts, house, leases};

/// How long a loop waits for its bell before it looks all the same.
const LOOK_ANYWAY: Duration = Duration::from_millis(500);

/// How often house is kept.
const KEEP_HOUSE: Duration = Duration::from_secs(15);

/// How often the house is looked at, and the witness written: what a restore may forget without being noticed is less.
const WATCH: Duration = Duration::from_secs(10);

/// How long a loop rests after the database failed.
const REST: Duration = Duration::from_secs(1);

/// How many panics within how long end the process.
const PANICS: (usize, Duration) = (3, Duration::from_secs(300));

/// Why the loops ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// They were asked to.
    Stopped,
    /// Too many panics.
    Broken,
}

impl App {
    /// Runs every loop until `stop`.
    ///
    /// # Errors
    /// When the database cannot even be started on.
    pub async fn run(&self, host: &str, stop: CancellationToken) -> Result<Ended, Error> {
        self.begin().await?;
        let ended = self.run_loops(host, &stop).await;
        // Whoever waits for the lead gets it at once. If this fails, they wait until it has run out.
        for farewell in [self.let_go().await, self.be_gone().await] {
            if let Err(error) = farewell {
                tracing::warn!(error = %error, "could not say goodbye to the other instances");
            }
        }
        Ok(ended)
    }

    /// What has to be there before anything runs.
    async fn begin(&self) -> Result<(), Error> {
        let mut tx = self.store.write().await?;
        house::ensure(&mut tx, self.utc()).await?;
        if self.store.kind() == Kind::Sqlite {
            // Nobody else can run on this file: what is claimed or in flight was left behind by a process that is gone.
            let before = self.utc() - chrono::TimeDelta::milliseconds(1);
            attempts::expire_leases(&mut tx, before).await?;
            leases::expire(&mut tx, before).await?;
        }
        tx.commit().await?;
        self.read_quarantine_again().await?;
        Ok(())
    }

    async fn run_loops(&self, host: &str, stop: &CancellationToken) -> Ended {
        let mut loops = JoinSet::new();
        self.spawn_all(&mut loops, host, stop);
        let mut panics: Vec<Instant> = Vec::new();
        while let Some(ended) = loops.join_next().await {
            let Err(error) = ended else { continue };
            if !error.is_panic() {
                continue;
            }
            metrics::counter!("handover_panics_total").increment(1);
            panics.retain(|at| at.elapsed() < PANICS.1);
            panics.push(Instant::now());
            tracing::error!(error = %error, "a loop panicked");
            if panics.len() >= PANICS.0 {
                stop.cancel();
                loops.shutdown().await;
                return Ended::Broken;
            }
            tokio::time::sleep(REST).await;
            // Which one it was is not known; all are started anew, and those that still run end first.
            loops.shutdown().await;
            self.spawn_all(&mut loops, host, stop);
        }
        Ended::Stopped
    }

    fn spawn_all(&self, loops: &mut JoinSet<()>, host: &str, stop: &CancellationToken) {
        let seen = Loop::BeSeen(host.to_owned());
        let alone = [Loop::Pay, Loop::Prove, Loop::Look, Loop::Keep, Loop::Watch, Loop::Check, Loop::Lead, seen];
        let among_others = self.store.is_shared().then_some([Loop::Tell, Loop::Listen]);
        for which in alone.into_iter().chain(among_others.into_iter().flatten()) {
            self.spawn(loops, which, stop);
        }
        for source in self.sources.values().filter(|source| source.api.is_some()) {
            self.spawn(loops, Loop::Sweep(Arc::clone(source)), stop);
        }
    }

    fn spawn(&self, loops: &mut JoinSet<()>, which: Loop, stop: &CancellationToken) {
        let app = self.clone();
        let stop = stop.clone();
        loops.spawn(async move {
            match which {
                Loop::Pay => turns(&app, &stop, &app.owing, "pay", || app.pay_until(&stop)).await,
                Loop::Prove => turns(&app, &stop, &app.proving, "prove", || app.prove()).await,
                Loop::Look => turns(&app, &stop, &app.looking, "look", || app.look()).await,
                Loop::Keep => app.keep_house_for_ever(&stop).await,
                Loop::Watch => app.watch_house_for_ever(&stop).await,
                Loop::Check => turns(&app, &stop, &app.checking, "check", || app.check_house()).await,
                Loop::Lead => app.lead_for_ever(&stop).await,
                Loop::BeSeen(host) => app.be_seen_for_ever(&host, &stop).await,
                Loop::Tell => app.tell_for_ever(&stop).await,
                Loop::Listen => app.listen_for_ever(&stop).await,
                Loop::Sweep(source) => app.sweep_for_ever(&source, &stop).await,
            }
        });
    }

    async fn keep_house_for_ever(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.measure().await {
                tracing::error!(error = %error, "could not measure how things stand");
            }
            let leading = *self.leading.borrow();
            if let Some(lead) = leading
                && let Err(error) = self.keep_house(lead).await
            {
                if matches!(error, Error::NotLeading) {
                    tracing::info!("another instance keeps house now");
                } else {
                    tracing::error!(error = %error, "could not keep house");
                }
            }
            rest(stop, KEEP_HOUSE).await;
        }
    }

    async fn watch_house_for_ever(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            match self.watch_house().await {
                Ok(()) => {}
                Err(NotEntered::Sealed(why)) => {
                    tracing::error!("{why}; nothing more can be done here");
                    stop.cancel();
                }
                Err(NotEntered::Store(error)) => {
                    tracing::warn!(error = %error, "could not look whether the database is still the same");
                }
            }
            rest(stop, WATCH).await;
        }
    }

    async fn lead_for_ever(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.lead().await {
                tracing::warn!(error = %error, "could not find out who leads");
            }
            tokio::select! {
                () = self.handing_over.notified() => {}
                () = rest(stop, self.lead_again_after()) => {}
            }
        }
    }

    async fn be_seen_for_ever(&self, host: &str, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.be_seen(host).await {
                tracing::warn!(error = %error, "could not write down that this instance is there");
            }
            rest(stop, self.rules.lease / 3).await;
        }
    }

    async fn sweep_for_ever(&self, source: &Source, stop: &CancellationToken) {
        loop {
            let swept = async { self.sweep_as(self.until_leading().await, source).await };
            let swept = tokio::select! {
                swept = swept => swept,
                () = stop.cancelled() => return,
            };
            match swept {
                Ok(_) => {}
                Err(Broken::Store(Error::NotLeading)) => {
                    tracing::info!(source.name = source.name, "another instance sweeps {} now", source.name);
                    continue;
                }
                Err(error) => {
                    metrics::counter!("handover_sweeps_broken_total").increment(1);
                    tracing::warn!(source.name = source.name, error = %error, "could not sweep {} to the end", source.name);
                }
            }
            // A tenth of jitter, so that many instances and sources do not sweep in step.
            let jitter = source.sweep_every * u32::from(dice().0) / 10_000;
            rest(stop, source.sweep_every + jitter).await;
        }
    }
}

enum Loop {
    Pay,
    Prove,
    Look,
    Keep,
    Watch,
    Check,
    Lead,
    BeSeen(String),
    Tell,
    Listen,
    Sweep(Arc<Source>),
}

async fn turns<F: Future<Output = Result<Turn, Error>>>(
    app: &App,
    stop: &CancellationToken,
    bell: &Bell,
    name: &'static str,
    turn: impl Fn() -> F,
) {
    while !stop.is_cancelled() {
        match turn().await {
            Ok(Turn::Worked(_)) => {}
            Ok(Turn::Idle) => {
                tokio::select! {
                    () = bell.notified() => {}
                    () = tokio::time::sleep(LOOK_ANYWAY) => {}
                    () = stop.cancelled() => {}
                }
            }
            Err(error) => {
                if !error.is_passing() {
                    tracing::error!(error = %error, error.source = ?std::error::Error::source(&error), "the {name} loop met a database failure");
                }
                error.end_if_fatal();
                app.not_written(&error);
                rest(stop, REST).await;
            }
        }
    }
}

pub(crate) async fn rest(stop: &CancellationToken, span: Duration) {
    tokio::select! {
        () = tokio::time::sleep(span) => {}
        () = stop.cancelled() => {}
    }
}
