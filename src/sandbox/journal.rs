//! What a server saw, to be asked afterwards.
//!
//! A request is written down when it has been read, before anything is done about it, and completed when its fate is
//! decided; so one whose client hung up is there as well. Old entries fall out at [`KEPT`]; the numbers never start again.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::sandbox::fault::{FaultKind, Route};

/// How many requests are kept: more than any test makes, and some tens of megabytes at most.
const KEPT: usize = 100_000;

/// One request as a server saw it.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// Counted from 1 since the server started.
    pub number: u64,
    /// When it had been read, in true time.
    pub at: DateTime<Utc>,
    /// `entra` or `uem`.
    pub server: &'static str,
    /// The method.
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// What it was for.
    pub route: Route,
    /// The user it was about, where that could be told.
    pub user: Option<Uuid>,
    /// The status answered; absent while undecided and for ever when the connection was dropped.
    pub status: Option<u16>,
    /// The `client-request-id` it carried.
    pub client_request_id: Option<String>,
    /// The `request-id` it was answered with.
    pub request_id: String,
    /// Whether it changed anything (a revocation that took effect).
    pub effect: bool,
    /// The application that called, where its credentials told.
    pub caller: Option<String>,
    /// The fault that hit it.
    pub fault: Option<FaultKind>,
}

/// How often each route was asked, with each status. Never forgets.
pub type Counts = BTreeMap<(Route, Option<u16>), u64>;

#[derive(Default)]
pub(super) struct Journal {
    entries: VecDeque<Seen>,
    arrived: u64,
    counts: Counts,
}

impl Journal {
    /// Writes a request down and gives it its number.
    pub(super) fn arrive(&mut self, mut seen: Seen) -> u64 {
        self.arrived += 1;
        seen.number = self.arrived;
        *self.counts.entry((seen.route, None)).or_default() += 1;
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(seen);
        self.arrived
    }

    /// Completes an entry, if it is still kept.
    pub(super) fn complete(&mut self, number: u64, route: Route, status: Option<u16>, effect: bool) {
        if status.is_some() {
            *self.counts.entry((route, status)).or_default() += 1;
            if let Some(undecided) = self.counts.get_mut(&(route, None)) {
                *undecided = undecided.saturating_sub(1);
            }
        }
        let first = self.entries.front().map_or(0, |seen| seen.number);
        let place = number.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        if let Some(seen) = place.and_then(|place| self.entries.get_mut(place)) {
            seen.status = status;
            seen.effect = effect;
        }
    }

    pub(super) fn entries(&self) -> Vec<Seen> {
        self.entries.iter().cloned().collect()
    }

    /// How many requests there have been, kept or not.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Counts by route and status. Without a status: dropped, or not answered yet.
    pub(super) fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// Forgets the entries, not the numbers.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}
