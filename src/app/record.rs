//! An event is written down, and everything that follows from it, in one transaction (R1, R2).
//!
//! The promise: when [`App::record`] returns `Ok`, the event, its device, its custodies, what they make owed and the audit
//! entries are on stable storage, or were before. No network call happens on the way.
//!
//! Events of many requests share a commit. A group is what waits when a writer becomes free; it is folded in memory, and written
//! by a handful of multi-row statements; meanwhile the next one gathers. What waits here has been acknowledged to nobody.
//!
//! What would surprise: a group that fails for good is tried again one event at a time, so that one bad event does not
//! keep its neighbours out.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::types::Json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::app::again::{self, TRIES};
use crate::app::folding::{self, Standings};
use crate::app::{App, Inner, Source, names};
use crate::custody::{Custody, Event, EventId, Moment, State, fold};
use crate::intake::{AccountNames, Class, DeviceNames, Notice};
use crate::store::accounts::{AccountRow, PersonRow};
use crate::store::audit::Entry;
use crate::store::looks::LookRow;
use crate::store::recording::{CustodyRow, DeviceRow, EventRow, FoldedEvent};
use crate::store::revocations::RevocationRow;
use crate::store::snapshot::Snapshot;
use crate::store::times::{moment, utc};
use crate::store::{Error, Tx, accounts, audit, looks, recording, revocations, sources};

/// How many events share a commit at most. Twenty columns each stay far below what either engine binds.
const GROUP: usize = 256;

/// How many events have to wait for another group to be begun while one is under way. Fewer share too little of the ten
/// statements that a group is written by.
const WORTHWHILE: usize = 8;

/// How many events may wait for a commit before more are refused with 503.
const QUEUE: usize = 4096;

/// Over how many events a source's clock offset is measured (E7).
const OFFSETS: usize = 50;

/// How far in the future an event's own time may lie before it is ordered by our receipt (E7).
const FUTURE: Duration = Duration::from_secs(300);

/// How many names of devices are kept in memory: those of some twenty thousand devices, in about ten megabytes.
const KEYS: usize = 65_536;

/// How often it is written down that a source was heard. Silence is counted in minutes.
const HEARD: Duration = Duration::from_secs(1);

/// An event on its way into the store.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its id, derived from what it says.
    pub id: Uuid,
    /// The id that the first release gave it.
    pub formerly: Uuid,
    /// Who said it.
    pub source: String,
    /// The device as it is named.
    pub device: DeviceNames,
    /// The account as it is named.
    pub account: Option<AccountNames>,
    /// The vendor's kind, classified; `read` for what we read ourselves.
    pub class: &'static str,
    /// The vendor's number of it.
    pub kind: Option<i64>,
    /// The vendor's name of it.
    pub label: Option<String>,
    /// What it says about the holder.
    pub what: &'static str,
    /// `told` or `read`.
    pub how: &'static str,
    /// The source's own time.
    pub occurred_at: Option<Moment>,
    /// When we received it.
    pub received_at: Moment,
    /// What is odd about it.
    pub oddity: Option<&'static str>,
    /// Of the body.
    pub content_type: Option<String>,
    /// The body.
    pub raw: Bytes,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is new, and written down.
    New,
    /// We had it, under this id: its own or its former one.
    Duplicate(Uuid),
}

impl Incoming {
    /// An event that a source told.
    pub fn told(
        source: &Source,
        notice: Notice,
        received_at: Moment,
        content_type: Option<String>,
        raw: Bytes,
    ) -> Self {
        let what = what(&notice, source.api.is_some());
        let oddity = if notice.occurred_at.is_none() {
            Some("no_time")
        } else if notice.occurred_at.is_some_and(|at| at > received_at.plus(FUTURE)) {
            Some("future_time")
        } else {
            None
        };
        Self {
            id: notice.id,
            formerly: notice.formerly,
            source: source.name.clone(),
            device: notice.device,
            account: notice.account,
            class: class_name(notice.class),
            kind: notice.kind,
            label: notice.text,
            what,
            how: "told",
            occurred_at: notice.occurred_at,
            received_at,
            oddity,
            content_type,
            raw,
        }
    }

    /// The ordering time: the source's own, unless it has none or one that cannot be.
    fn at(&self) -> Moment {
        match self.occurred_at {
            Some(at) if at <= self.received_at.plus(FUTURE) => at,
            Some(_) | None => self.received_at,
        }
    }
}

/// What a notice says about the holder. Never by its name alone: a name only tells leaving from staying.
///
/// Where no user is named, an event of a source that can be asked says nothing yet: the look decides. Of one that cannot be
/// asked, a hand-over to nobody in particular is a hand-over all the same.
fn what(notice: &Notice, can_ask: bool) -> &'static str {
    let named = notice.account.is_some();
    match notice.class {
        Class::Unenrolled | Class::Deleted => "gone",
        Class::Wiped => "erased",
        Class::Enrolled if named => "enrolled",
        Class::Handover if !named && !can_ask => "nameless",
        Class::Handover | Class::Attribute | Class::WipeRequested | Class::Unknown if named => "with",
        Class::Handover | Class::Attribute | Class::WipeRequested | Class::Unknown | Class::Enrolled => "silent",
    }
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Handover => "handover",
        Class::Enrolled => "enrolled",
        Class::Unenrolled => "unenrolled",
        Class::Wiped => "wiped",
        Class::WipeRequested => "wipe_requested",
        Class::Deleted => "deleted",
        Class::Attribute => "attribute",
        Class::Unknown => "unknown",
    }
}

/// Why an event could not be written down. The sender should come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many wait already.
    #[error("too many events wait to be written")]
    Busy,
    /// The database could not take it.
    #[error("the database could not take the event")]
    Database,
}

struct Waiting {
    events: Vec<Incoming>,
    answer: oneshot::Sender<Result<Vec<Recorded>, Refused>>,
}

/// A name of a device: its kind, its scope and what it says.
type Key = (&'static str, String, String);

/// The way into the commit groups.
pub struct Recorder {
    queue: mpsc::Sender<Waiting>,
    offsets: Mutex<HashMap<String, VecDeque<i64>>>,
    /// Names that were read from the database. A name stays with its device for good, so that what stands here is true
    /// whoever else writes; what does not stand here is looked up.
    keys: Mutex<HashMap<Key, Uuid>>,
    /// When it was last written down that a source was heard.
    heard: Mutex<HashMap<String, Moment>>,
}

/// The other end of it.
pub struct Queue(mpsc::Receiver<Waiting>);

impl Recorder {
    pub(crate) fn new() -> (Self, Queue) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let recorder = Self { queue, offsets: Mutex::default(), keys: Mutex::default(), heard: Mutex::default() };
        (recorder, Queue(waiting))
    }

    /// Those of the names whose device is known here.
    fn known<'a>(&self, names: impl Iterator<Item = &'a Key>) -> HashMap<Key, Uuid> {
        let keys = held(&self.keys);
        names.filter_map(|name| keys.get(name).map(|id| (name.clone(), *id))).collect()
    }

    /// Remembers names that stand in the database. Forgets all others when there are too many.
    fn remember(&self, found: &[(Key, Uuid)]) {
        let mut keys = held(&self.keys);
        if keys.len() + found.len() > KEYS {
            keys.clear();
        }
        keys.extend(found.iter().take(KEYS).cloned());
    }

    /// Whether it is time to write down that a source was heard.
    fn is_news(&self, source: &str, at: Moment) -> bool {
        held(&self.heard).get(source).is_none_or(|last| at >= last.plus(HEARD) || at < *last)
    }

    /// It was written down.
    fn wrote_heard(&self, heard: Vec<(String, Moment)>) {
        held(&self.heard).extend(heard);
    }

    /// Measures a source's clock by one more event, and gives the median.
    fn measure(&self, source: &str, offset: i64) -> Option<i64> {
        let mut offsets = held(&self.offsets);
        let ring = offsets.entry(source.to_owned()).or_default();
        if ring.len() == OFFSETS {
            ring.pop_front();
        }
        ring.push_back(offset);
        let mut sorted: Vec<_> = ring.iter().copied().collect();
        let middle = sorted.len() / 2;
        (!sorted.is_empty()).then(|| *sorted.select_nth_unstable(middle).1)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl App {
    /// Writes events down. When this returns, they are on stable storage; what became of each is said in the order given.
    ///
    /// # Errors
    /// [`Refused`]: none of them is known to be written down; sending them again is safe.
    pub async fn record(&self, events: Vec<Incoming>) -> Result<Vec<Recorded>, Refused> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        self.recorder.queue.try_send(Waiting { events, answer }).map_err(|_| Refused::Busy)?;
        answered.await.map_err(|_| Refused::Database)?
    }
}

/// Writes commit groups for as long as there is an [`App`]: one after the other where the database has one writer, else a few
/// at once. Two groups that concern one device wait for each other at its row.
pub(crate) async fn write_groups(inner: Weak<Inner>, mut queue: Queue) {
    let mut under_way = JoinSet::new();
    while let Some(first) = queue.0.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        let app = App::held_by(inner);
        let mut size = first.events.len();
        let mut group = vec![first];
        loop {
            while size < GROUP
                && let Ok(next) = queue.0.try_recv()
            {
                size += next.events.len();
                group.push(next);
            }
            let is_worth_it = size >= WORTHWHILE && under_way.len() < app.store.writers();
            if under_way.is_empty() || is_worth_it {
                break;
            }
            // What arrives meanwhile joins the group.
            tokio::select! {
                ended = under_way.join_next() => look_after(ended),
                Some(next) = queue.0.recv(), if size < GROUP => {
                    size += next.events.len();
                    group.push(next);
                }
            }
        }
        under_way.spawn(async move { write_group(&app, group).await });
    }
    while let ended @ Some(_) = under_way.join_next().await {
        look_after(ended);
    }
}

/// A panic fails the group that it happened in, whose senders are refused; the next group is written (S19).
fn look_after(ended: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(error)) = ended {
        metrics::counter!("handover_panics_total").increment(1);
        tracing::error!(error = %error, "the writing of a commit group panicked");
    }
}

async fn write_group(app: &App, group: Vec<Waiting>) {
    let events: Vec<_> = group.iter().flat_map(|waiting| waiting.events.iter().cloned()).collect();
    let mut written = Vec::with_capacity(events.len());
    for some in events.chunks(GROUP) {
        written.push(write_events(app, some).await);
    }
    if written.iter().all(Result::is_ok) {
        let mut outcomes = written.into_iter().flatten().flatten();
        for waiting in group {
            let answer = outcomes.by_ref().take(waiting.events.len()).collect();
            // A sender that went away meanwhile hears nothing; the event is written down all the same.
            drop(waiting.answer.send(Ok(answer)));
        }
    } else if let [_] = group.as_slice() {
        for waiting in group {
            drop(waiting.answer.send(Err(Refused::Database)));
        }
    } else {
        for waiting in group {
            Box::pin(write_group(app, vec![waiting])).await;
        }
    }
}

async fn write_events(app: &App, events: &[Incoming]) -> Result<Vec<Recorded>, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_write_events(app, events).await {
            Ok((recorded, owes)) => {
                count(events, &recorded);
                if owes {
                    app.owing.notify_one();
                }
                app.looking.notify_one();
                return Ok(recorded);
            }
            // An event that was written down after all meets its own row (E1).
            Err(error) if (error.is_passing() || error.is_unsure()) && tries < TRIES => {
                tokio::time::sleep(again::pause(tries)).await;
            }
            Err(error) => {
                tracing::error!(error = %error, error.source = ?std::error::Error::source(&error), events = events.len(),
                    "could not write {} events down", events.len());
                error.end_if_fatal();
                app.not_written(&error);
                return Err(error);
            }
        }
    }
}

fn count(events: &[Incoming], recorded: &[Recorded]) {
    let new = recorded.iter().filter(|outcome| **outcome == Recorded::New).count() as u64;
    metrics::counter!("handover_events_total", "outcome" => "recorded").increment(new);
    metrics::counter!("handover_events_total", "outcome" => "duplicate").increment(events.len() as u64 - new);
}

async fn try_write_events(app: &App, events: &[Incoming]) -> Result<(Vec<Recorded>, bool), Error> {
    let mut tx = app.store.write().await?;
    let mut group = Group::gather(app, &mut tx, events).await?;
    group.find_new(&mut tx).await?;
    group.fold(&mut tx).await?;
    group.write(&mut tx).await?;
    tx.commit().await?;
    app.recorder.wrote_heard(group.heard);
    Ok((group.outcomes, group.owes))
}

/// A commit group on its way through the transaction.
struct Group<'a> {
    app: &'a Inner,
    events: &'a [Incoming],
    now: DateTime<Utc>,
    devices: BTreeMap<Uuid, DeviceRow>,
    /// The device of each event, in the order of `events`.
    device_of: Vec<Uuid>,
    standings: Standings,
    outcomes: Vec<Recorded>,
    new: HashSet<Uuid>,
    rows: Vec<EventRow>,
    custodies: Vec<CustodyRow>,
    /// Custodies that had begun before this group, and of which nothing changes but that they end.
    ended: Vec<CustodyRow>,
    /// Devices of which more changes than where their fold has come to.
    renamed: HashSet<Uuid>,
    owed: Vec<RevocationRow>,
    audit: Vec<Entry>,
    odd: Vec<(Uuid, String)>,
    heard: Vec<(String, Moment)>,
    owes: bool,
}

impl<'a> Group<'a> {
    /// Finds or adds the devices and accounts that the events name.
    async fn gather(app: &'a Inner, tx: &mut Tx, events: &'a [Incoming]) -> Result<Self, Error> {
        let mut group = Self {
            app,
            events,
            now: app.utc(),
            devices: BTreeMap::new(),
            device_of: Vec::with_capacity(events.len()),
            standings: Standings::default(),
            outcomes: Vec::new(),
            new: HashSet::new(),
            rows: Vec::new(),
            custodies: Vec::new(),
            ended: Vec::new(),
            renamed: HashSet::new(),
            owed: Vec::new(),
            audit: Vec::new(),
            odd: Vec::new(),
            heard: Vec::new(),
            owes: false,
        };
        group.find_devices(tx).await?;
        group.find_accounts(tx).await?;
        Ok(group)
    }

    async fn find_devices(&mut self, tx: &mut Tx) -> Result<(), Error> {
        let names: Vec<_> = self.events.iter().map(|event| names::device_keys(&event.device, &event.source)).collect();
        let mut by_key = self.app.recorder.known(names.iter().flatten());
        let unknown: HashSet<_> = names.iter().flatten().filter(|name| !by_key.contains_key(*name)).collect();
        let values: HashSet<_> = unknown.iter().map(|(.., value)| value.clone()).collect();
        let values: Vec<_> = values.into_iter().collect();
        let stored = recording::keys(tx, &values).await?;
        let stored: HashMap<_, _> =
            stored.into_iter().map(|key| ((key.kind, key.scope, key.value), key.device_id)).collect();
        let owned = |(kind, scope, value): &Key| ((*kind).to_owned(), scope.clone(), value.clone());
        let found: Vec<_> =
            unknown.into_iter().filter_map(|name| Some((name.clone(), *stored.get(&owned(name))?))).collect();
        self.app.recorder.remember(&found);
        by_key.extend(found);

        let mentioned: HashSet<_> = names.iter().flatten().filter_map(|name| by_key.get(name).copied()).collect();
        let mentioned: Vec<_> = mentioned.into_iter().collect();
        let rows = recording::lock_devices(tx, &mentioned).await?;
        self.devices = rows.into_iter().map(|row| (row.id, row)).collect();

        let mut fresh = BTreeMap::new();
        let mut keys = Vec::new();
        for (event, names) in self.events.iter().zip(&names) {
            // A device is its serial number. Another name leads to it only if that does not name another serial number.
            let fits = |id: &Uuid| {
                let serial =
                    self.devices.get(id).or_else(|| fresh.get(id)).and_then(|row: &DeviceRow| row.serial.as_ref());
                serial.is_none() || event.device.serial.is_none() || serial == event.device.serial.as_ref()
            };
            let found = names.iter().filter_map(|name| by_key.get(name).copied()).find(fits);
            let id = found.unwrap_or_else(|| {
                let id =
                    names.first().map_or_else(Uuid::nil, |(kind, scope, value)| names::device_id(kind, scope, value));
                fresh.entry(id).or_insert_with(|| new_device(id, &event.source));
                id
            });
            for name in names {
                if !by_key.contains_key(name) {
                    keys.push(names::key_row(name, id));
                    by_key.insert(name.clone(), id);
                }
            }
            if let Some(row) = self.devices.get_mut(&id).or_else(|| fresh.get_mut(&id))
                && learn_names(row, event)
            {
                self.renamed.insert(id);
            }
            self.device_of.push(id);
        }
        let added: Vec<_> = fresh.into_values().collect();
        recording::add_devices(tx, &added).await?;
        recording::add_keys(tx, &keys).await?;
        let ids: Vec<_> = added.iter().map(|row| row.id).collect();
        for row in recording::lock_devices(tx, &ids).await? {
            self.devices.insert(row.id, row);
        }
        Ok(())
    }

    async fn find_accounts(&mut self, tx: &mut Tx) -> Result<(), Error> {
        let named: Vec<_> = self
            .events
            .iter()
            .filter_map(|event| {
                event.account.as_ref().map(|names| (names::account_id(&event.source, names), event, names))
            })
            .collect();
        let heads = self.devices.values().flat_map(|device| folding::accounts_in(&State::from(device.head.0.clone())));
        let ids = self.standings.missing(named.iter().map(|(id, ..)| *id).chain(heads));
        for some in ids.chunks(500) {
            self.standings.learn(&accounts::standings(tx, some).await?);
        }
        let missing = self.standings.missing(named.iter().map(|(id, ..)| *id));
        let mut fresh = Vec::new();
        for id in &missing {
            if let Some((_, event, names)) = named.iter().find(|(named, ..)| named == id) {
                fresh.push(self.new_account(tx, *id, event, names).await?);
            }
        }
        accounts::add(tx, &fresh).await?;
        if !fresh.is_empty() {
            // Somebody else may have added, or even decided, one of them meanwhile.
            self.standings.learn(&accounts::standings(tx, &missing).await?);
        }
        Ok(())
    }

    /// An account that was not heard of before. Where there is no API to ask, what is configured decides at once.
    async fn new_account(
        &self,
        tx: &mut Tx,
        id: Uuid,
        event: &Incoming,
        names: &AccountNames,
    ) -> Result<AccountRow, Error> {
        let source = self.app.sources.get(&event.source);
        let mut row = AccountRow {
            id,
            source: event.source.clone(),
            uem_uuid: names.uuid.clone(),
            uem_id: names.id.clone(),
            user_name: names.user_name.clone(),
            email: names.email.clone(),
            standing: String::from("undecided"),
            person_id: None,
            rule: None,
            why: None,
            first_seen_at: self.now,
            decided_at: None,
            due_at: Some(self.now),
            tries: 0,
        };
        let Some(source) = source else { return Ok(row) };
        if source.people.is_pool(names) {
            "pool".clone_into(&mut row.standing);
            row.rule = Some(String::from("pool_accounts"));
        } else if source.api.is_some() {
            return Ok(row);
        } else if let Some(upn) = source.people.upn(names) {
            let person = person_by_upn(tx, &upn, self.now).await?;
            "person".clone_into(&mut row.standing);
            row.person_id = Some(person.id);
            row.rule = Some(String::from("upn_from"));
        } else {
            "unresolved".clone_into(&mut row.standing);
            row.why = Some(String::from("the event names no user that upn_from can be applied to"));
        }
        row.decided_at = Some(self.now);
        row.due_at = None;
        Ok(row)
    }

    /// Finds out which events are new. They are written when they have been folded, with what is odd about them.
    async fn find_new(&mut self, tx: &mut Tx) -> Result<(), Error> {
        self.new = self.events.iter().map(|event| event.id).collect();
        let names: HashMap<_, _> =
            self.events.iter().flat_map(|event| [(event.id, event.id), (event.formerly, event.id)]).collect();
        let ids: Vec<_> = names.keys().copied().collect();
        let mut stored_as = HashMap::new();
        for known in recording::known_events(tx, &ids).await? {
            if let Some(id) = names.get(&known) {
                self.new.remove(id);
                stored_as.insert(*id, known);
            }
        }
        let mut unanswered = self.new.clone();
        let outcome = |event: &Incoming| {
            if unanswered.remove(&event.id) {
                Recorded::New
            } else {
                Recorded::Duplicate(stored_as.get(&event.id).copied().unwrap_or(event.id))
            }
        };
        self.outcomes = self.events.iter().map(outcome).collect();
        Ok(())
    }

    fn event_row(&self, event: &Incoming, device: Uuid) -> EventRow {
        let base = self.devices.get(&device).and_then(|device| State::from(device.base.0.clone()).last);
        let key = (event.at(), EventId(event.id.into_bytes()));
        let too_late = base.is_some_and(|base| key <= base);
        EventRow {
            id: event.id,
            device_id: device,
            source: event.source.clone(),
            class: event.class.to_owned(),
            kind: event.kind,
            label: event.label.clone(),
            what: event.what.to_owned(),
            how: event.how.to_owned(),
            account_id: event.account.as_ref().map(|names| names::account_id(&event.source, names)),
            occurred_at: event.occurred_at.map(utc),
            at: utc(event.at()),
            received_at: utc(event.received_at),
            disposition: String::from(if too_late { "too_late" } else { "folded" }),
            oddity: if too_late { Some(String::from("too_late")) } else { event.oddity.map(str::to_owned) },
            content_type: event.content_type.clone(),
            raw: event.raw.to_vec(),
        }
    }

    /// Folds the new events of each device.
    async fn fold(&mut self, tx: &mut Tx) -> Result<(), Error> {
        let mut fresh: BTreeMap<Uuid, Vec<(FoldedEvent, &Incoming)>> = BTreeMap::new();
        let mut seen = HashSet::new();
        for (event, device) in self.events.iter().zip(&self.device_of) {
            if self.new.contains(&event.id) && seen.insert(event.id) {
                let row = self.event_row(event, *device);
                self.audit.push(self.recorded_entry(event, &row));
                if row.disposition == "folded" {
                    let folded = FoldedEvent {
                        id: row.id,
                        what: row.what.clone(),
                        how: row.how.clone(),
                        account_id: row.account_id,
                        at: row.at,
                        received_at: row.received_at,
                    };
                    fresh.entry(*device).or_default().push((folded, event));
                }
                self.rows.push(row);
            }
        }
        for (id, events) in fresh {
            let Some(mut device) = self.devices.remove(&id) else { continue };
            let head = State::from(device.head.0.clone());
            let first = events.iter().map(|(row, _)| folding::event(row).key()).min();
            if first > head.last || head.last.is_none() {
                self.fold_onto_head(&mut device, head, &events);
            } else {
                // It is folded from what is stored, so everything that waits in this group has to be there.
                self.flush(tx).await?;
                self.owes |= folding::fold_device_again(self.app, tx, &mut device, "a late event").await?;
            }
            device.last_event_at = device.last_event_at.max(events.iter().map(|(row, _)| row.at).max());
            self.devices.insert(id, device);
        }
        Ok(())
    }

    fn fold_onto_head(&mut self, device: &mut DeviceRow, head: State, events: &[(FoldedEvent, &Incoming)]) {
        let rows: Vec<Event> = events.iter().map(|(row, _)| folding::event(row)).collect();
        let folded = fold(head, rows, |account| self.standings.of(account), self.app.rules.policy());
        for custody in &folded.custodies {
            let row = folding::custody_row(device.id, custody);
            match head.open {
                Some(open) if open == *custody => {}
                // Most of what changes is the end of a custody; writing that alone spares the indexes of the rest.
                Some(open) if open == (Custody { ended: None, ..*custody }) => self.ended.push(row),
                Some(_) | None => self.custodies.push(row),
            }
        }
        for owed in &folded.owed {
            let because = Uuid::from_bytes(owed.because.0);
            let received =
                events.iter().find(|(row, _)| row.id == because).map_or(self.now, |(row, _)| row.received_at);
            let row = folding::revocation_row(self.app, device, &self.standings, owed, received, self.now);
            self.audit.push(folding::owed_entry(self.app, &row));
            self.owed.push(row);
            self.owes = true;
        }
        let oddities = folded.oddities.iter();
        self.odd.extend(oddities.map(|(id, odd)| (Uuid::from_bytes(id.0), folding::oddity_name(*odd).to_owned())));
        folding::set_head(device, &folded.state);
    }

    fn recorded_entry(&self, event: &Incoming, row: &EventRow) -> Entry {
        Entry {
            device_id: Some(row.device_id),
            subject: Some(event.id),
            ..self.app.entry(
                &event.source,
                "event.recorded",
                json!({ "class": event.class, "what": event.what, "how": event.how, "at": row.at, "disposition": row.disposition }),
            )
        }
    }

    /// Writes the events, custodies and revocations gathered so far.
    async fn flush(&mut self, tx: &mut Tx) -> Result<(), Error> {
        let mut odd: HashMap<_, _> = std::mem::take(&mut self.odd).into_iter().rev().collect();
        let mut rows = std::mem::take(&mut self.rows);
        for row in rows.iter_mut().filter(|row| row.oddity.is_none()) {
            row.oddity = odd.remove(&row.id);
        }
        let new = rows.len();
        if recording::add_events(tx, rows).await? != new {
            return Err(Error::Overtaken("an event"));
        }
        // Whatever is left is of an event that was written before it turned out to be odd.
        let odd: Vec<_> = odd.into_iter().collect();
        recording::mark_odd(tx, &odd).await?;
        let ended = std::mem::take(&mut self.ended);
        if recording::end_custodies(tx, &ended).await? != ended.len() {
            return Err(Error::Overtaken("a custody"));
        }
        recording::save_custodies(tx, &std::mem::take(&mut self.custodies)).await?;
        revocations::owe(tx, &std::mem::take(&mut self.owed)).await
    }

    async fn write(&mut self, tx: &mut Tx) -> Result<(), Error> {
        self.flush(tx).await?;
        let touched: HashSet<_> = self
            .events
            .iter()
            .zip(&self.device_of)
            .filter(|(event, _)| self.new.contains(&event.id))
            .map(|(_, device)| *device)
            .collect();
        let touched = self.devices.values().filter(|row| touched.contains(&row.id)).cloned();
        let (renamed, moved): (Vec<_>, Vec<_>) = touched.partition(|row| self.renamed.contains(&row.id));
        recording::save_devices(tx, &renamed).await?;
        recording::move_heads(tx, &moved).await?;
        looks::ask(tx, &self.looks()).await?;
        audit::write(tx, &self.audit).await?;
        self.hear(tx).await
    }

    /// Every told event of a source that can be asked leads to a look, at once and again after the settling time.
    fn looks(&self) -> Vec<LookRow> {
        let mut asked = BTreeMap::new();
        for (event, device) in self.events.iter().zip(&self.device_of) {
            let can_ask = self.app.sources.get(&event.source).is_some_and(|source| source.api.is_some());
            if can_ask && event.how == "told" && self.new.contains(&event.id) {
                let look = LookRow {
                    device_id: *device,
                    source: event.source.clone(),
                    settled: false,
                    due_at: self.now,
                    asked_at: self.now,
                    tries: 0,
                    unlisted: false,
                };
                asked.insert(*device, look);
            }
        }
        asked.into_values().collect()
    }

    /// Remembers when each source was heard, and how its clock goes.
    async fn hear(&mut self, tx: &mut Tx) -> Result<(), Error> {
        let mut heard = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.how == "told") {
            let offset = event
                .occurred_at
                .filter(|_| self.new.contains(&event.id))
                .and_then(|at| self.app.recorder.measure(&event.source, event.received_at.0.saturating_sub(at.0)));
            let last = heard.entry(event.source.as_str()).or_insert((event.received_at, None));
            *last = (last.0.max(event.received_at), offset.or(last.1));
        }
        for (source, (at, offset)) in heard {
            if self.app.recorder.is_news(source, at) {
                sources::heard(tx, source, utc(at), offset).await?;
                self.heard.push((source.to_owned(), at));
            }
        }
        Ok(())
    }
}

fn new_device(id: Uuid, source: &str) -> DeviceRow {
    DeviceRow {
        id,
        source: source.to_owned(),
        serial: None,
        udid: None,
        uem_id: None,
        uem_uuid: None,
        name: None,
        asset_number: None,
        site: None,
        state: String::from("unknown"),
        holder_person: None,
        holder_account: None,
        undecided: false,
        since: None,
        last_event_at: None,
        head: Json(Snapshot::default()),
        base: Json(Snapshot::default()),
        base_at: None,
        confirmed_at: None,
        version: 0,
    }
}

/// Takes over the names of an event, unless a newer event named the device already. Says whether that changed anything.
fn learn_names(row: &mut DeviceRow, event: &Incoming) -> bool {
    let newest = row.last_event_at.is_none_or(|last| moment(last) <= event.at());
    let mut changed = false;
    let mut learn = |mine: &mut Option<String>, theirs: &Option<String>| {
        if theirs.is_some() && (newest || mine.is_none()) && mine != theirs {
            mine.clone_from(theirs);
            changed = true;
        }
    };
    learn(&mut row.serial, &event.device.serial);
    learn(&mut row.udid, &event.device.udid);
    learn(&mut row.uem_id, &event.device.uem_id);
    learn(&mut row.uem_uuid, &event.device.uem_uuid);
    learn(&mut row.name, &event.device.name);
    learn(&mut row.asset_number, &event.device.asset_number);
    learn(&mut row.site, &event.device.site);
    if row.source != event.source {
        row.source.clone_from(&event.source);
        changed = true;
    }
    if event.how == "read" && row.confirmed_at.is_none() {
        row.confirmed_at = Some(utc(event.received_at));
        changed = true;
    }
    changed
}

/// The person known by a UPN, added if nobody is.
pub(crate) async fn person_by_upn(tx: &mut Tx, upn: &str, now: DateTime<Utc>) -> Result<PersonRow, Error> {
    let upn_key = upn.to_ascii_lowercase();
    if let Some(person) = accounts::person_by_upn(tx, &upn_key).await? {
        return Ok(person);
    }
    let person = PersonRow {
        id: names::person_by_upn(&upn_key),
        object_id: None,
        upn: upn.to_owned(),
        guest: upn_key.contains("#ext#"),
        upn_key,
        stamp_verified: None,
        first_seen_at: now,
    };
    accounts::add_person(tx, &person).await?;
    Ok(person)
}
