//! Bells wake a loop sooner than it would look by itself: here, and on the other instances.
//!
//! Nothing depends on them. What is to be done stands in the database, and a loop that hears no bell looks twice a second.
//!
//! What would surprise: other instances are told by a statement of its own, some time after the deed's commit. Told inside
//! the deed's transaction, every commit would queue for one lock of the whole server; and a little later, the instance that
//! rang has had the first go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::run::rest;
use crate::store::Error;

/// How long rings are gathered before other instances are told.
const GATHER: Duration = Duration::from_millis(50);

/// How long to wait before listening again after the connection was lost: first, and at most.
const LISTEN_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The channel that instances tell each other by.
const CHANNEL: &str = "handover";

/// What stands for the lead in what is told.
const LEAD: &str = "lead";

/// Rung when there may be something to do.
pub struct Bell {
    name: &'static str,
    here: Notify,
    /// Whether it was rung here since other instances were told last.
    rung: AtomicBool,
    rings: Arc<Notify>,
}

impl Bell {
    /// Rings here at once, and elsewhere a little later. A ring that nobody waits for is kept for whoever comes.
    pub fn notify_one(&self) {
        self.here.notify_one();
        if !self.rung.swap(true, Ordering::Relaxed) {
            self.rings.notify_one();
        }
    }

    /// Waits for a ring.
    pub fn notified(&self) -> Notified<'_> {
        self.here.notified()
    }
}

/// The bells of an instance.
pub(crate) struct Bells {
    pub(crate) owing: Bell,
    pub(crate) looking: Bell,
    pub(crate) proving: Bell,
    pub(crate) checking: Bell,
    pub(crate) rings: Arc<Notify>,
}

impl Bells {
    pub(crate) fn new() -> Self {
        let rings = Arc::new(Notify::new());
        let bell = |name| Bell { name, here: Notify::new(), rung: AtomicBool::new(false), rings: Arc::clone(&rings) };
        Self {
            owing: bell("owing"),
            looking: bell("looking"),
            proving: bell("proving"),
            checking: bell("checking"),
            rings,
        }
    }
}

impl App {
    fn bells(&self) -> [&Bell; 4] {
        [&self.owing, &self.looking, &self.proving, &self.checking]
    }

    /// Tells the other instances what was rung here.
    pub(crate) async fn tell_for_ever(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.rings.notified() => {}
                () = stop.cancelled() => return,
            }
            rest(stop, GATHER).await;
            let rung = self.bells().into_iter().filter(|bell| bell.rung.swap(false, Ordering::Relaxed));
            let names: Vec<_> = rung.map(|bell| bell.name).collect();
            if !names.is_empty()
                && !self.is_alone()
                && let Err(error) = self.tell(&names.join(" ")).await
            {
                tracing::debug!(error = %error, "could not ring the bells of other instances");
            }
        }
    }

    /// Tells the other instances that nobody leads any more.
    pub(crate) async fn tell_of_the_lead(&self) -> Result<(), Error> {
        if self.store.is_shared() { self.tell(LEAD).await } else { Ok(()) }
    }

    async fn tell(&self, names: &str) -> Result<(), Error> {
        self.store.tell(CHANNEL, &format!("{} {names}", self.owner)).await
    }

    /// Rings here what was rung elsewhere.
    pub(crate) async fn listen_for_ever(&self, stop: &CancellationToken) {
        let mut wait = LISTEN_AGAIN.0;
        while !stop.is_cancelled() {
            tokio::select! {
                lost = self.listen(&mut wait) => {
                    tracing::debug!(error = %lost, "the bells of other instances are not heard for now");
                }
                () = stop.cancelled() => return,
            }
            rest(stop, wait).await;
            wait = (wait * 2).min(LISTEN_AGAIN.1);
        }
    }

    /// Listens until the connection is lost, and says why it was.
    async fn listen(&self, wait: &mut Duration) -> Error {
        let mut ear = match self.store.listen(CHANNEL).await {
            Ok(ear) => ear,
            Err(error) => return error,
        };
        *wait = LISTEN_AGAIN.0;
        // Whatever was rung while nobody listened.
        self.bells().into_iter().for_each(|bell| bell.here.notify_one());
        loop {
            let told = match ear.next().await {
                Ok(told) => told,
                Err(error) => return error,
            };
            let mut words = told.split(' ');
            if words.next() == Some(self.owner.as_str()) {
                continue;
            }
            for word in words {
                if word == LEAD {
                    self.handing_over.notify_one();
                }
                self.bells().into_iter().filter(|bell| bell.name == word).for_each(|bell| bell.here.notify_one());
            }
        }
    }
}
