//! A token bucket as Microsoft Graph meters writes.
//!
//! A refused call counts as well: whoever keeps calling while throttled stays throttled. The debt has a bottom, so that it
//! ends within a quarter of the window once the caller goes quiet.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// How a 429 says when to come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// Whole seconds, rounded up.
    #[default]
    Integer,
    /// Seconds with three digits, as in `2.128`.
    Fraction,
    /// Not at all.
    Absent,
}

/// How many writes an application may make.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    /// Writes per window, all of which may come at once. Default: 3,000.
    pub writes: u32,
    /// The window. Default: 150 s.
    pub per_seconds: f64,
    /// How a refusal says when to come back.
    #[serde(default)]
    pub retry_after: RetryAfter,
}

impl Default for Quota {
    fn default() -> Self {
        Self { writes: 3_000, per_seconds: 150.0, retry_after: RetryAfter::Integer }
    }
}

/// What one application has left.
pub(super) struct Bucket {
    level: f64,
    filled_at: DateTime<Utc>,
}

/// What the bucket says to one write.
pub(super) struct Metered {
    /// Share of the quota in use: 1 is where refusing starts.
    pub(super) used: f64,
    /// How long until a write is let through again, when this one is not.
    pub(super) refused_for: Option<Duration>,
}

impl Bucket {
    pub(super) fn full(quota: &Quota, now: DateTime<Utc>) -> Self {
        Self { level: f64::from(quota.writes), filled_at: now }
    }

    /// Takes one write out.
    pub(super) fn take(&mut self, quota: &Quota, now: DateTime<Utc>) -> Metered {
        let capacity = f64::from(quota.writes);
        let rate = capacity / quota.per_seconds.max(0.001);
        let passed = (now - self.filled_at).as_seconds_f64().max(0.0);
        self.filled_at = now;
        self.level = (self.level + passed * rate).min(capacity);
        let let_through = self.level >= 1.0;
        self.level = (self.level - 1.0).max(-capacity / 4.0);
        let missing = (1.0 - self.level).max(0.0) / rate.max(f64::MIN_POSITIVE);
        Metered {
            used: 1.0 - self.level / capacity.max(1.0),
            refused_for: (!let_through).then(|| Duration::from_secs_f64(missing.min(86_400.0))),
        }
    }
}

impl RetryAfter {
    /// The header's value.
    pub(super) fn written(self, wait: Duration) -> Option<String> {
        match self {
            Self::Integer => Some(format!("{:.0}", wait.as_secs_f64().ceil().max(1.0))),
            // Rounded up: a caller that obeys to the millisecond must get through.
            Self::Fraction => Some(format!("{:.3}", wait.as_secs_f64() + 0.001)),
            Self::Absent => None,
        }
    }
}
