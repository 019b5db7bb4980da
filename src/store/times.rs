//! Between the core's moments and the databases' times.

use chrono::{DateTime, Utc};

use crate::custody::Moment;

/// The first and the last second that both databases and RFC 3339 can write down: the years 1 and 9999.
const RANGE: (i64, i64) = (-62_135_596_800_000_000, 253_402_300_799_999_999);

/// The database's form of a moment; what lies beyond the years 1 to 9999 is moved to their ends.
pub fn utc(at: Moment) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.0.clamp(RANGE.0, RANGE.1)).unwrap_or_default()
}

/// The core's form of a time.
pub fn moment(at: DateTime<Utc>) -> Moment {
    Moment(at.timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_time_can_be_written_down() {
        assert_eq!(utc(Moment(i64::MAX)).to_rfc3339(), "9999-12-31T23:59:59.999999+00:00");
        assert_eq!(utc(Moment(i64::MIN)).to_rfc3339(), "0001-01-01T00:00:00+00:00");
        assert_eq!(moment(utc(Moment(1_772_431_121_228_451))), Moment(1_772_431_121_228_451));
    }
}
