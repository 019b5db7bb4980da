//! The sweep: every device that a source lists is compared with what we believe, so that a lost webhook is found.
//!
//! A sweep suspects, a re-read convicts. A listing can be stale, or half-way through a change; so a difference only asks
//! for a settled look. A device that we never heard of is taken as it is listed: there is nobody it could wrong. The first
//! sweep of an empty database is therefore the census.
//!
//! Of several instances the one that leads sweeps. A leader that was paused half-way finds out before each page and in the
//! transaction of each suspicion that it leads no more. What it may still write down is the census of that one page: an
//! event that bears the source's own time and an id derived from what it says, and so is as true as when it was read.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::app::lead::Lead;
use crate::app::record::Incoming;
use crate::app::{App, Source, folding, names};
use crate::intake::workspace_one::rest::{ReadDevice, UemError, newest_of_each_serial};
use crate::store::looks::LookRow;
use crate::store::times::utc;
use crate::store::{looks, recording, sources};

/// More pages than any estate has: a listing that never ends is not followed for ever.
const PAGES: usize = 10_000;

/// What a sweep found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Devices listed.
    pub listed: usize,
    /// Devices that we had not heard of.
    pub new: usize,
    /// Devices that differ from what we believe, or are missing, and will be looked at.
    pub suspected: usize,
}

/// Why a sweep did not come to its end. The next one starts anew.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The source did not answer.
    #[error(transparent)]
    Uem(#[from] UemError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// Nothing could be written down.
    #[error(transparent)]
    Refused(#[from] crate::app::record::Refused),
}

impl App {
    /// Compares every device that a source lists with what we believe, if this instance leads or nobody does.
    ///
    /// # Errors
    /// When the source or the database fails on the way, or somebody else leads. What was found until then stands.
    pub async fn sweep(&self, source: &Source) -> Result<Swept, Broken> {
        match self.lead().await? {
            Some(lead) => self.sweep_as(lead, source).await,
            None => Err(Broken::Store(crate::store::Error::NotLeading)),
        }
    }

    /// The same for an instance that leads.
    ///
    /// # Errors
    /// As [`Self::sweep`].
    pub async fn sweep_as(&self, lead: Lead, source: &Source) -> Result<Swept, Broken> {
        let Some(api) = &source.api else { return Ok(Swept::default()) };
        let mut swept = Swept::default();
        let mut listed = HashSet::new();
        for page in 0..PAGES {
            let seen = api.devices(page).await?;
            let last = seen.value.last;
            let devices = newest_of_each_serial(seen.value.devices);
            swept.listed += devices.len();
            self.compare_page(lead, source, devices, seen.at, &mut listed, &mut swept).await?;
            if last {
                break;
            }
        }
        swept.suspected += self.suspect_missing(lead, source, &listed).await?;
        let mut tx = self.write_as_leader(lead).await?;
        sources::swept(&mut tx, &source.name, self.utc()).await?;
        tx.commit().await?;
        metrics::counter!("handover_sweeps_total").increment(1);
        self.looking.notify_one();
        tracing::info!(
            source.name = source.name,
            sweep.listed = swept.listed,
            sweep.new = swept.new,
            sweep.suspected = swept.suspected,
            "swept {}: {} devices, {} new, {} to look at",
            source.name,
            swept.listed,
            swept.new,
            swept.suspected
        );
        Ok(swept)
    }

    async fn compare_page(
        &self,
        lead: Lead,
        source: &Source,
        devices: Vec<ReadDevice>,
        at: Option<crate::custody::Moment>,
        listed: &mut HashSet<Uuid>,
        swept: &mut Swept,
    ) -> Result<(), Broken> {
        // Whoever leads no more compares nothing.
        drop(self.write_as_leader(lead).await?);
        let keyed: Vec<_> = devices.iter().map(|read| names::device_keys(&read.names, &source.name)).collect();
        let values: Vec<_> = keyed.iter().flatten().map(|(.., value)| value.clone()).collect();
        let mut known = HashMap::new();
        for some in values.chunks(1000) {
            let mut tx = self.store.read().await?;
            known.extend(
                recording::keys(&mut tx, some)
                    .await?
                    .into_iter()
                    .map(|key| ((key.kind, key.scope, key.value), key.device_id)),
            );
        }
        let mut fresh = Vec::new();
        let mut suspects = Vec::new();
        let now = self.now();
        for (read, keys) in devices.into_iter().zip(keyed) {
            let found = keys
                .iter()
                .find_map(|(kind, scope, value)| known.get(&((*kind).to_owned(), scope.clone(), value.clone())));
            let Some(id) = found.copied() else {
                if let Some((kind, scope, value)) = keys.first() {
                    listed.insert(names::device_id(kind, scope, value));
                    swept.new += 1;
                    fresh.push(census(source, read, names::device_id(kind, scope, value), at, now));
                }
                continue;
            };
            listed.insert(id);
            let Some(device) = self.device_row(id).await? else { continue };
            if device.confirmed_at.is_none() {
                let mut tx = self.write_as_leader(lead).await?;
                let released = folding::confirm(self, &mut tx, id).await?;
                tx.commit().await?;
                if released {
                    self.owing.notify_one();
                }
            }
            let account = read.account.as_ref().map(|names| names::account_id(&source.name, names));
            let same =
                if read.enrolled { self.is_same(&device, account).await? } else { device.holder_account.is_none() };
            if !same {
                suspects.push(id);
            }
        }
        for some in fresh.chunks(200) {
            self.record(some.to_vec()).await?;
        }
        swept.suspected += suspects.len();
        self.suspect(lead, source, &suspects, false).await?;
        Ok(())
    }

    /// Devices of this source that the listing lacks are looked at too.
    async fn suspect_missing(&self, lead: Lead, source: &Source, listed: &HashSet<Uuid>) -> Result<usize, Broken> {
        if listed.is_empty() {
            return Ok(0);
        }
        let held = recording::held_devices(&mut self.store.read().await?, &source.name).await?;
        let missing: Vec<_> = held.into_iter().filter(|id| !listed.contains(id)).collect();
        self.suspect(lead, source, &missing, true).await?;
        Ok(missing.len())
    }

    async fn suspect(&self, lead: Lead, source: &Source, devices: &[Uuid], unlisted: bool) -> Result<(), Broken> {
        let now = self.now();
        for some in devices.chunks(500) {
            let looks: Vec<_> = some
                .iter()
                .map(|id| LookRow {
                    device_id: *id,
                    source: source.name.clone(),
                    settled: true,
                    due_at: utc(now.plus(self.rules.settle)),
                    asked_at: utc(now),
                    tries: 0,
                    unlisted,
                })
                .collect();
            let mut tx = self.write_as_leader(lead).await?;
            looks::suspect(&mut tx, &looks).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

/// A device that is listed and was never heard of.
fn census(
    source: &Source,
    read: ReadDevice,
    device: Uuid,
    at: Option<crate::custody::Moment>,
    now: crate::custody::Moment,
) -> Incoming {
    let at = at.unwrap_or(now);
    let account = if read.enrolled { read.account } else { None };
    let id = account.as_ref().map(|names| names::account_id(&source.name, names));
    let (id, formerly) = names::read_id(&source.name, device, at, id);
    let what = match (read.enrolled, &account) {
        (true, Some(_)) => "with",
        (true, None) => "silent",
        (false, _) => "gone",
    };
    let raw = serde_json::json!({ "read": { "what": what, "account": account, "device": read.names } }).to_string();
    Incoming {
        id,
        formerly,
        source: source.name.clone(),
        device: read.names,
        account,
        class: "read",
        kind: None,
        label: None,
        what,
        how: "read",
        occurred_at: Some(at),
        received_at: now,
        oddity: None,
        content_type: Some(String::from("application/json")),
        raw: raw.into(),
    }
}
