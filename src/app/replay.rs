//! Everything is folded again from its stored events and compared with what is stored.
//!
//! Custodies are a projection: they may differ from the fold only if somebody changed them by hand, or if a fact about an
//! account changed after its events had been folded for good (see `facts`). Where events were dropped for their age, folding
//! begins with what they had come to.

use uuid::Uuid;

use crate::app::folding::{self, Standings};
use crate::app::{App, names};
use crate::custody::{EventId, fold};
use crate::store::recording::DeviceRow;
use crate::store::times::{moment, utc};
use crate::store::{Error, accounts, recording, revocations};

/// How many devices are taken up at once.
const PAGE: i64 = 500;

/// What a replay found.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Replayed {
    /// Devices folded.
    pub devices: u64,
    /// Events folded.
    pub events: u64,
    /// Custodies compared, stretches in the pool included.
    pub custodies: u64,
    /// What differs, in words; the first hundred.
    pub differences: Vec<String>,
    /// How many differ in all.
    pub differ: u64,
}

impl Replayed {
    fn differs(&mut self, words: String) {
        self.differ += 1;
        if self.differences.len() < 100 {
            self.differences.push(words);
        }
    }
}

impl App {
    /// Folds every device again and compares; changes nothing. `seen` hears of each device.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn replay(&self, mut seen: impl FnMut(u64)) -> Result<Replayed, Error> {
        let mut found = Replayed::default();
        let mut after = Uuid::nil();
        loop {
            let ids = recording::device_ids(&mut self.store.read().await?, after, PAGE).await?;
            let Some(last) = ids.last() else { return Ok(found) };
            after = *last;
            for id in ids {
                self.replay_device(id, &mut found).await?;
                found.devices += 1;
                seen(found.devices);
            }
        }
    }

    async fn replay_device(&self, device: Uuid, found: &mut Replayed) -> Result<(), Error> {
        let mut tx = self.store.read().await?;
        let origin = folding::origin(&mut tx, device).await?;
        let after = origin.last.map(|(at, id)| (utc(at), Uuid::from_bytes(id.0)));
        let events = recording::events_after(&mut tx, device, after).await?;
        let mut standings = Standings::default();
        let missing =
            standings.missing(events.iter().filter_map(|row| row.account_id).chain(folding::accounts_in(&origin)));
        for some in missing.chunks(500) {
            standings.learn(&accounts::standings(&mut tx, some).await?);
        }
        let folded =
            fold(origin, events.iter().map(folding::event), |account| standings.of(account), self.rules.policy());
        let mut stored = recording::custodies_from(&mut tx, device, None).await?;
        // What had ended before the origin cannot be folded again.
        let begins = origin.open.map(|open| (open.started_at, open.id)).or(origin.last);
        stored
            .retain(|row| begins.is_none_or(|begins| (moment(row.started_at), EventId(row.id.into_bytes())) >= begins));
        found.events += events.len() as u64;
        found.custodies += folded.custodies.len() as u64;
        let expected: Vec<_> = folded.custodies.iter().map(|custody| folding::custody_row(device, custody)).collect();
        for row in &expected {
            match stored.iter().find(|stored| stored.id == row.id) {
                None => found.differs(format!("device {device}: custody {} is missing", row.id)),
                Some(stored) if stored != row => found.differs(format!("device {device}: custody {} differs", row.id)),
                Some(_) => {}
            }
        }
        if let Some(row) = recording::device(&mut tx, device).await? {
            // Who has a device now, and what a person has, is read from here.
            let holder = |row: &DeviceRow| (row.state.clone(), row.holder_person, row.holder_account, row.since);
            let mut folded_row = row.clone();
            folding::set_head(&mut folded_row, &folded.state);
            if holder(&folded_row) != holder(&row) {
                found.differs(format!("device {device}: it is not with whom its events say"));
            }
        }
        for row in stored.iter().filter(|stored| expected.iter().all(|row| row.id != stored.id)) {
            found.differs(format!("device {device}: custody {} has no events", row.id));
        }
        let owed = revocations::of_device(&mut tx, device, None).await?;
        for want in &folded.owed {
            let custody = Uuid::from_bytes(want.custody.0);
            let id = names::revocation_id(device, custody);
            if !owed.iter().any(|row| row.id == id || row.custody_id == custody) {
                found.differs(format!("device {device}: custody {custody} asks for a revocation that is not there"));
            }
        }
        Ok(())
    }
}
