//! Times as people write and read them. Everything is UTC unless an offset is written.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

/// A time that was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a time; write 2026-03-02T14:00:00Z (or with another offset), \"2026-03-02 14:00\", 14:00 or \"yesterday 14:00\", the latter in UTC"
)]
pub struct NotATime(String);

/// A time as asked for: some forms need to know which day it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// An instant.
    At(DateTime<Utc>),
    /// So many days before today, at this time.
    DaysAgo(u8, NaiveTime),
}

impl Asked {
    /// The instant that is meant, if it is `now`.
    pub fn instant(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(at) => at,
            Self::DaysAgo(days, time) => (now.date_naive() - TimeDelta::days(i64::from(days))).and_time(time).and_utc(),
        }
    }
}

impl std::str::FromStr for Asked {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let text = text.trim();
        let bare = text.strip_suffix("UTC").or_else(|| text.strip_suffix('Z')).unwrap_or(text).trim_end();
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(at.to_utc()));
        }
        for form in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
            if let Ok(at) = NaiveDateTime::parse_from_str(bare, form) {
                return Ok(Self::At(at.and_utc()));
            }
        }
        if let Ok(day) = NaiveDate::parse_from_str(bare, "%Y-%m-%d") {
            return Ok(Self::At(day.and_time(NaiveTime::MIN).and_utc()));
        }
        let (days, time) = match bare.split_once(' ') {
            Some(("yesterday", time)) => (1, time.trim()),
            Some(("today", time)) => (0, time.trim()),
            _ => (0, bare),
        };
        for form in ["%H:%M:%S", "%H:%M"] {
            if let Ok(time) = NaiveTime::parse_from_str(time, form) {
                return Ok(Self::DaysAgo(days, time));
            }
        }
        Err(NotATime(text.to_owned()))
    }
}

/// `2026-03-02 05:58:41`, for columns that say UTC in their header.
pub(crate) fn short(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// The same, or a dash.
pub(crate) fn short_or_dash(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "–".to_owned(), short)
}

/// `05:58:41 UTC on 2 March 2026`.
pub(crate) fn long(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S UTC on %-d %B %Y").to_string()
}

/// `05:58:41 UTC`, or with the day where it is not `day`'s.
pub(crate) fn same_day(at: DateTime<Utc>, day: DateTime<Utc>) -> String {
    if at.date_naive() == day.date_naive() { at.format("%H:%M:%S UTC").to_string() } else { long(at) }
}

/// How long something lasted: `8 h 08 min`, `3 d 04 h`, `42 s`.
pub(crate) struct Lasted(pub(crate) i64);

impl fmt::Display for Lasted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.max(0);
        match seconds {
            0..60 => write!(f, "{seconds} s"),
            60..3600 => write!(f, "{} min {:02} s", seconds / 60, seconds % 60),
            3600..86_400 => write!(f, "{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
            _ => write!(f, "{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2026-03-02T14:00:00Z", "2026-03-02T14:00:00+00:00")]
    #[case("2026-03-02T14:00:00+01:00", "2026-03-02T13:00:00+00:00")]
    #[case("2026-03-02 14:00", "2026-03-02T14:00:00+00:00")]
    #[case("2026-03-02 14:00 UTC", "2026-03-02T14:00:00+00:00")]
    #[case("2026-03-02 14:00:01.5", "2026-03-02T14:00:01.500+00:00")]
    #[case("2026-03-02", "2026-03-02T00:00:00+00:00")]
    #[case("14:00", "2026-03-05T14:00:00+00:00")]
    #[case("yesterday 14:00", "2026-03-04T14:00:00+00:00")]
    fn a_time_is_read_as_people_write_it(#[case] text: &str, #[case] means: &str) {
        let now = "2026-03-05T09:00:00Z".parse().unwrap();

        assert_eq!(text.parse::<Asked>().unwrap().instant(now).to_rfc3339(), means);
    }

    #[rstest]
    #[case("")]
    #[case("noon")]
    #[case("2026-13-02 14:00")]
    #[case("25:00")]
    #[case("03/02/2026 14:00")]
    fn what_is_no_time_is_refused(#[case] text: &str) {
        assert!(text.parse::<Asked>().is_err());
    }

    #[test]
    fn a_duration_is_told_in_two_parts() {
        let told: Vec<_> = [42, 125, 29_302, 270_000].map(|seconds| Lasted(seconds).to_string()).into();

        assert_eq!(told, ["42 s", "2 min 05 s", "8 h 08 min", "3 d 03 h"]);
    }
}
