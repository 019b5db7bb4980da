//! What the service does: one function per deed, one transaction each, and the loops that do them for ever.
//!
//! | deed | file |
//! | --- | --- |
//! | an event arrives and is written down, and what follows from it | [`receive`], [`record`], [`folding`] |
//! | an account is looked up, a device looked at | [`look`] |
//! | all devices are compared with the UEM | [`sweep`] |
//! | all instances keep one pace | `pace` |
//! | a revocation is paid, settled, and proven | [`pay`], [`settle`], [`prove`] |
//! | whether this is the database that was served on last; the check after a restore; moving to another | [`house`], [`check`], [`moving`] |
//! | a person says how to go on, or gets a token | [`operate`], [`tokens`] |
//! | one instance does what only one may do | [`lead`] |
//! | clocks, deadlines, old snapshots | [`keep`] |
//! | what is too old is dropped | [`retain`] |
//! | everything is folded again and compared | [`replay`] |
//!
//! Nothing that matters waits in memory: the queues are tables, and what is kept here can be lost at any instruction.

pub mod again;
pub mod bells;
pub mod check;
pub mod facts;
pub mod folding;
pub mod house;
pub mod keep;
pub mod lead;
pub mod look;
pub mod moving;
pub mod names;
pub mod operate;
mod pace;
pub mod pay;
pub mod prove;
pub mod receive;
pub mod record;
pub mod replay;
pub mod retain;
pub mod run;
pub mod settle;
pub mod sweep;
pub mod tokens;

pub(crate) use again::again;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};
use uuid::{NoContext, Timestamp, Uuid};

use crate::custody::{Dice, Moment, Policy, RevokeOn};
use crate::entra::Entra;
use crate::intake::workspace_one::rest::Uem;
use crate::intake::{Door, People, Rules};
use crate::store::audit::Entry;
use crate::store::{Store, times};

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

/// What the site decided.
#[derive(Debug, Clone, Copy)]
pub struct Rulebook {
    /// What makes a departure ask for a revocation.
    pub revoke_on: RevokeOn,
    /// Write down what would be sent, and send nothing.
    pub shadow: bool,
    /// How long after an event the look that may convict is taken.
    pub settle: Duration,
    /// How long an account may stay undecided before its holder counts as unknown.
    pub wait_for_account: Duration,
    /// How late an event may be for what it makes owed to act by itself.
    pub act_within: Duration,
    /// How far two clocks may be apart.
    pub clock_skew: Duration,
    /// How far back snapshots lie.
    pub snapshot_age: Duration,
    /// For how many months history is kept; absent: for good.
    pub keep_months: Option<NonZeroU32>,
    /// How many revocations may be under way at once.
    pub workers: usize,
    /// How long one instance may keep an attempt to itself.
    pub lease: Duration,
}

impl Default for Rulebook {
    fn default() -> Self {
        Self {
            revoke_on: RevokeOn::NextUser,
            shadow: true,
            settle: Duration::from_secs(20),
            wait_for_account: Duration::from_secs(300),
            act_within: Duration::from_secs(24 * 3600),
            clock_skew: Duration::from_secs(300),
            snapshot_age: Duration::from_secs(7 * 24 * 3600),
            keep_months: NonZeroU32::new(72),
            workers: 8,
            lease: Duration::from_secs(30),
        }
    }
}

impl Rulebook {
    /// What the fold has to know of it. A read is worthless for half the settling time, so that the look taken after the
    /// whole of it counts, although the source's `Date` is cut to the second. That holds from two seconds on.
    pub fn policy(&self) -> Policy {
        Policy { revoke_on: self.revoke_on, settle: self.settle / 2 }
    }
}

/// A configured feed of events.
pub struct Source {
    /// Its name, as in its URL.
    pub name: String,
    /// Who may post.
    pub door: Door,
    /// How its bodies are read.
    pub rules: Rules,
    /// Who is who, where there is no API to ask; and the pool accounts that are known by name either way.
    pub people: People,
    /// Its API.
    pub api: Option<Uem>,
    /// How often everything is compared with it.
    pub sweep_every: Duration,
    /// How long it may be silent before that is an alarm.
    pub silence: Duration,
}

/// The service: everything its deeds need.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

/// What all deeds share. Reached through [`App`].
pub struct Inner {
    /// The database.
    pub store: Store,
    /// What the site decided.
    pub rules: Rulebook,
    /// The feeds, by name.
    pub sources: HashMap<String, Arc<Source>>,
    /// The directory; absent in shadow mode without a tenant.
    pub entra: Option<Entra>,
    /// The time.
    pub clock: Clock,
    /// This instance, as leases name it.
    pub owner: String,
    /// Rung when there may be something to pay.
    pub owing: bells::Bell,
    /// Rung when there may be something to look at.
    pub looking: bells::Bell,
    /// Rung when a stamp may have to be read back.
    pub proving: bells::Bell,
    /// Rung when the check after a restore may go on.
    pub checking: bells::Bell,
    /// What is remembered of the house outside of the database.
    pub house: house::Memory,
    /// Rung with every bell, for whoever tells the other instances.
    rings: Arc<Notify>,
    /// Rung when whoever led has let the lead go.
    handing_over: Notify,
    /// Whether this instance leads, as far as it knows.
    leading: watch::Sender<Option<lead::Lead>>,
    /// Which people this instance takes up first.
    share: Mutex<pay::Share>,
    alarms: keep::Alarms,
    tended: retain::Tended,
    recorder: record::Recorder,
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl App {
    /// Puts the service together. Nothing runs yet but the writer of commit groups, which ends with the last [`App`].
    pub fn new(
        store: Store,
        rules: Rulebook,
        sources: Vec<Source>,
        entra: Option<Entra>,
        clock: Clock,
        owner: String,
    ) -> Self {
        if let Some(entra) = entra.as_ref().filter(|_| store.is_shared()) {
            entra.share_pace(Arc::new(pace::SharedPace::new(store.clone())));
        }
        let bells = bells::Bells::new();
        let (recorder, queue) = record::Recorder::new();
        let sources = sources.into_iter().map(|source| (source.name.clone(), Arc::new(source))).collect();
        let app = Self {
            inner: Arc::new(Inner {
                store,
                rules,
                sources,
                entra,
                clock,
                owner,
                owing: bells.owing,
                looking: bells.looking,
                proving: bells.proving,
                checking: bells.checking,
                house: house::Memory::default(),
                rings: bells.rings,
                handing_over: Notify::new(),
                leading: watch::Sender::new(None),
                share: Mutex::new(pay::Share::ALL),
                alarms: keep::Alarms::default(),
                tended: retain::Tended::default(),
                recorder,
            }),
        };
        tokio::spawn(record::write_groups(Arc::downgrade(&app.inner), queue));
        app
    }

    pub(crate) fn held_by(inner: Arc<Inner>) -> Self {
        Self { inner }
    }
}

impl Inner {
    /// Now, cut to microseconds.
    pub fn now(&self) -> Moment {
        (self.clock)()
    }

    /// Now, as the database has it.
    pub fn utc(&self) -> DateTime<Utc> {
        times::utc(self.now())
    }

    /// The moment after which nothing waits: what is due later than this was put off by a clock that has been put back since
    /// (E8).
    pub fn never(&self) -> DateTime<Utc> {
        times::utc(self.now().plus(LONGEST_WAIT))
    }

    /// An id that sorts by time.
    pub fn new_id(&self) -> Uuid {
        id_at(self.now())
    }

    /// An audit entry of now.
    pub fn entry(&self, actor: &str, action: &'static str, detail: serde_json::Value) -> Entry {
        entry_at(self.utc(), actor, action, detail)
    }
}

/// An id that sorts by time.
fn id_at(now: Moment) -> Uuid {
    let micros = u64::try_from(now.0).unwrap_or(0);
    let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1000;
    Uuid::new_v7(Timestamp::from_unix(NoContext, micros / 1_000_000, nanos))
}

/// An audit entry of a deed that needs no service around it.
pub(crate) fn entry_at(at: DateTime<Utc>, actor: &str, action: &'static str, detail: serde_json::Value) -> Entry {
    Entry {
        id: id_at(times::moment(at)),
        at,
        actor: actor.to_owned(),
        action,
        device_id: None,
        person_id: None,
        subject: None,
        detail,
    }
}

/// Longer than anything is ever put off: a quarter of an hour, or ten minutes of somebody's `Retry-After`.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A throw of the dice.
pub(crate) fn dice() -> Dice {
    Dice(rand::random_range(0..=1000))
}

/// The name under which what Handover does by itself stands in the audit history.
pub(crate) const HANDOVER: &str = "handover";
