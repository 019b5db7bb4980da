//! Bad days, ordered in advance.
//!
//! A fault waits for a request that fits its route and user. The oldest that fits and whose dice agree is taken; one with
//! `times` is used up by that. Dice come from the sandbox's seed, so a run can be repeated.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a request is for. Both servers classify their requests with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// In a fault: every route. In the log: none of the others.
    #[default]
    Any,
    /// A token endpoint, Entra's or the UEM's.
    Token,
    /// `revokeSignInSessions`.
    Revoke,
    /// Graph reads of one user, or of users by filter. In the UEM: reads of one user.
    ReadUser,
    /// UEM: reads of one device.
    ReadDevice,
    /// UEM: device listings.
    ListDevices,
    /// UEM: the event notification rule.
    ReadRule,
    /// The sandbox's own controls; no fault touches them.
    Control,
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// This status in the server's own error form, without effect.
    Status {
        /// The status.
        code: u16,
        /// `Retry-After`, exactly as it shall be sent.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// 429 with this `Retry-After`, without effect.
    Throttle {
        /// Seconds; a fraction is sent as one.
        seconds: f64,
    },
    /// The connection ends; nothing happened.
    ResetBefore,
    /// The effect happens; the connection ends without an answer.
    ResetAfter,
    /// Waits, then does and answers.
    Delay {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Does, then waits, then answers.
    DelayAfter {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// The effect happens; the answer breaks off in the middle.
    HalfAnswer,
    /// A proxy answers 200 with a page. Nothing happened.
    Html200,
    /// A proxy answers 503 with a page. Nothing happened.
    Html503,
    /// 307 to another place, without effect.
    Redirect {
        /// The `Location`.
        to: String,
    },
    /// 401 although the credentials are good, without effect.
    Unauthorized,
    /// 403, without effect.
    Forbidden,
    /// 404, without effect.
    NotFound,
    /// The effect happens; the answer is 200 with garbage.
    WrongBody,
    /// The effect happens; the answer is 200 with 16 MiB.
    HugeBody,
    /// A read shows the stamp from before the last revocation.
    StaleStamp,
    /// A read leaves the stamp out.
    StampMissing,
}

/// A fault and the requests it waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Which requests.
    #[serde(default)]
    pub route: Route,
    /// Only requests about this user (Entra object id, or UEM user uuid).
    #[serde(default)]
    pub user: Option<Uuid>,
    /// How many requests; for ever when absent.
    #[serde(default)]
    pub times: Option<u32>,
    /// The share of fitting requests that are hit, from 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// What happens to them.
    pub kind: FaultKind,
}

const fn always() -> f64 {
    1.0
}

impl Fault {
    /// Hits the next fitting request.
    pub const fn once(route: Route, kind: FaultKind) -> Self {
        Self { route, user: None, times: Some(1), probability: 1.0, kind }
    }

    /// Hits every fitting request until the faults are cleared.
    pub const fn always(route: Route, kind: FaultKind) -> Self {
        Self { route, user: None, times: None, probability: 1.0, kind }
    }

    /// The same, this many times.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// The same, only for requests about this user.
    #[must_use]
    pub const fn for_user(mut self, user: Uuid) -> Self {
        self.user = Some(user);
        self
    }

    /// The same, for this share of the requests.
    #[must_use]
    pub const fn with_probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    fn fits(&self, route: Route, user: Option<Uuid>) -> bool {
        (self.route == Route::Any || self.route == route) && (self.user.is_none() || self.user == user)
    }
}

/// The faults that wait, and their dice.
pub(super) struct Faults {
    waiting: Vec<Fault>,
    dice: StdRng,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self { waiting: Vec::new(), dice: StdRng::seed_from_u64(seed) }
    }

    pub(super) fn add(&mut self, fault: Fault) {
        self.waiting.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// What happens to this request, if anything.
    pub(super) fn draw(&mut self, route: Route, user: Option<Uuid>) -> Option<FaultKind> {
        let hit = (0..self.waiting.len()).find(|&place| {
            let fault = &self.waiting[place];
            fault.fits(route, user)
                && (fault.probability >= 1.0 || self.dice.random_bool(fault.probability.clamp(0.0, 1.0)))
        })?;
        let fault = &mut self.waiting[hit];
        let kind = fault.kind.clone();
        if let Some(times) = &mut fault.times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                self.waiting.remove(hit);
            }
        }
        Some(kind)
    }
}
