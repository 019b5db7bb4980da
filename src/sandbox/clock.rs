//! The time of one simulated server.
//!
//! Two readings, never mixed: [`Clock::real`] is what truly passes and decides how long a lag, a quota window or a token
//! lasts; [`Clock::says`] is what the server believes and writes into `Date` headers, stamps and event times. Setting the
//! server's clock wrong therefore changes what it says and nothing that it does.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

/// The clock of one simulated server.
#[derive(Debug, Default)]
pub(super) struct Clock {
    offset_ms: AtomicI64,
    advanced_ms: AtomicI64,
}

impl Clock {
    /// True time: the machine's, plus whatever was skipped by [`Clock::advance`].
    #[expect(clippy::disallowed_methods, reason = "this is the sandbox's clock")]
    pub(super) fn real(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::milliseconds(self.advanced_ms.load(Ordering::Relaxed))
    }

    /// The time this server believes it is.
    pub(super) fn says(&self) -> DateTime<Utc> {
        self.real() + TimeDelta::milliseconds(self.offset_ms.load(Ordering::Relaxed))
    }

    /// From now on the server is this far ahead of true time (behind, when negative).
    pub(super) fn set_offset_ms(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    /// Lets this much time pass at once, so that no test has to sleep through a lag.
    pub(super) fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX / 4);
        self.advanced_ms.fetch_add(by, Ordering::Relaxed);
    }
}

/// The instant `age` before `now`, or the earliest there is.
pub(super) fn before(now: DateTime<Utc>, age: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(age).ok().and_then(|age| now.checked_sub_signed(age)).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// An instant as HTTP headers write it.
pub(super) fn http_date(at: DateTime<Utc>) -> String {
    at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// An instant with whole seconds, as Entra writes its stamps.
pub(super) fn to_the_second(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
