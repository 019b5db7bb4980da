//! Times as management systems write them.
//!
//! Three generations: `2026-03-02T05:58:41.2284513Z` with 0 to 7 fraction digits (trailing zeros are cut off by the
//! sender), the same without a zone, and `/Date(1772528403986)/`. What is finer than a microsecond is cut off here, once.

use chrono::{FixedOffset, NaiveDate, NaiveDateTime, NaiveTime};

use super::canon::Odd;
use crate::custody::Moment;

/// 0001-01-01T00:00:00Z in milliseconds: .NET's default, which means "never".
const NEVER_MILLIS: i64 = -62_135_596_800_000;
/// 9999-12-31T23:59:59.999Z in milliseconds: .NET's last moment.
const LAST_MILLIS: i64 = 253_402_300_799_999;

/// Reads a time; `assumed` is the zone of one that names none. `Ok(None)` for nothing and for "never".
pub(super) fn read(sent: &str, assumed: FixedOffset) -> Result<Option<Moment>, Odd> {
    let sent = sent.trim();
    if sent.is_empty() {
        return Ok(None);
    }
    let moment = match milliseconds(sent) {
        Some(inner) => Moment::from_millis(inner?),
        None => calendar(sent, assumed).ok_or(Odd)?,
    };
    let never = Moment::from_millis(NEVER_MILLIS);
    let a_day = std::time::Duration::from_hours(24);
    if moment < never.less(a_day) || moment > Moment::from_millis(LAST_MILLIS).plus(a_day) {
        return Err(Odd);
    }
    // "Never" may have been moved by a zone.
    Ok((moment > never.plus(a_day)).then_some(moment))
}

/// `/Date(ms)/`, `\/Date(ms)\/` or `/Date(ms+0100)/`; the suffix is the sender's zone and does not move the instant.
/// `None` when the text has another form altogether.
fn milliseconds(sent: &str) -> Option<Result<i64, Odd>> {
    let sent = sent.strip_prefix('\\').unwrap_or(sent).strip_prefix("/Date(")?;
    let inner = sent.strip_suffix(")/").or_else(|| sent.strip_suffix(")\\/"));
    Some(inner.ok_or(Odd).and_then(|inner| {
        let (sign, digits) = match inner.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, inner),
        };
        let digits = match digits.split_once(['+', '-']) {
            Some((digits, zone)) if zone.len() == 4 && all_digits(zone) => digits,
            Some(_) => return Err(Odd),
            None => digits,
        };
        if !all_digits(digits) {
            return Err(Odd);
        }
        let millis = digits.parse::<i64>().map_err(|_| Odd)? * sign;
        (NEVER_MILLIS..=LAST_MILLIS).contains(&millis).then_some(millis).ok_or(Odd)
    }))
}

/// `YYYY-MM-DDTHH:MM[:SS[.fraction]][zone]`, with `T`, `t` or a blank in the middle.
fn calendar(sent: &str, assumed: FixedOffset) -> Option<Moment> {
    if !sent.is_ascii() || sent.len() < 16 {
        return None;
    }
    let (date, rest) = sent.split_at(10);
    let date = date_of(date)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, zone) = match rest.find(['Z', 'z', '+', '-']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let offset = offset_of(zone.trim(), assumed)?;
    let (time, fraction) = clock_of(clock.trim_end())?;
    let local = NaiveDateTime::new(date, time).and_utc().timestamp();
    let seconds = local.checked_sub(i64::from(offset.local_minus_utc()))?;
    Some(Moment(seconds.checked_mul(1_000_000)?.checked_add(fraction)?))
}

fn date_of(sent: &str) -> Option<NaiveDate> {
    let mut parts = sent.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 {
        return None;
    }
    NaiveDate::from_ymd_opt(i32::try_from(digits(year)?).ok()?, two(month)?, two(day)?)
}

/// The time of day in whole seconds, and the microseconds beyond.
fn clock_of(sent: &str) -> Option<(NaiveTime, i64)> {
    let (clock, fraction) = match sent.split_once('.') {
        Some((clock, fraction)) => (clock, micros_of(fraction)?),
        None => (sent, 0),
    };
    let mut parts = clock.split(':');
    let (hour, minute) = (two(parts.next()?)?, two(parts.next()?)?);
    let second = match parts.next() {
        Some(second) => two(second)?,
        None if fraction == 0 && clock.len() == sent.len() => 0,
        None => return None,
    };
    if parts.next().is_some() {
        return None;
    }
    Some((NaiveTime::from_hms_opt(hour, minute, second)?, fraction))
}

/// The first six digits of a fraction; the rest is cut off.
fn micros_of(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || fraction.len() > 12 || !all_digits(fraction) {
        return None;
    }
    let kept = &fraction[..fraction.len().min(6)];
    format!("{kept:0<6}").parse().ok()
}

fn offset_of(zone: &str, assumed: FixedOffset) -> Option<FixedOffset> {
    if zone.is_empty() {
        return Some(assumed);
    }
    if zone.eq_ignore_ascii_case("z") {
        return FixedOffset::east_opt(0);
    }
    let (sign, rest) = match zone.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, zone.strip_prefix('+')?),
    };
    let (hours, minutes) = match rest.len() {
        2 => (two(rest)?, 0),
        4 => (two(&rest[..2])?, two(&rest[2..])?),
        5 => (two(&rest[..2])?, two(rest[2..].strip_prefix(':')?)?),
        _ => return None,
    };
    if hours > 14 || minutes > 59 {
        return None;
    }
    FixedOffset::east_opt(sign * i32::try_from(hours * 3600 + minutes * 60).ok()?)
}

fn two(sent: &str) -> Option<u32> {
    if sent.len() == 2 { digits(sent) } else { None }
}

fn digits(sent: &str) -> Option<u32> {
    if all_digits(sent) { sent.parse().ok() } else { None }
}

fn all_digits(sent: &str) -> bool {
    !sent.is_empty() && sent.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn utc() -> FixedOffset {
        FixedOffset::east_opt(0).unwrap()
    }

    #[rstest]
    #[case::seven_digits("2026-03-02T05:58:41.2284513Z", 1_772_431_121_228_451)]
    #[case::five_digits("2026-03-02T14:07:03.67145Z", 1_772_460_423_671_450)]
    #[case::one_digit("2026-03-02T14:07:03.6Z", 1_772_460_423_600_000)]
    #[case::no_fraction("2026-03-02T21:30:00Z", 1_772_487_000_000_000)]
    #[case::no_seconds("2026-03-02T21:30", 1_772_487_000_000_000)]
    #[case::no_seconds_with_a_zone("2026-03-02T22:30+01:00", 1_772_487_000_000_000)]
    #[case::no_zone("2026-03-02T21:30:00", 1_772_487_000_000_000)]
    #[case::a_blank_in_the_middle("2026-03-02 21:30:00Z", 1_772_487_000_000_000)]
    #[case::east("2026-03-02T22:30:00+01:00", 1_772_487_000_000_000)]
    #[case::west_without_colon("2026-03-02T16:00:00.0-0530", 1_772_487_000_000_000)]
    #[case::hours_only("2026-03-02T22:30:00+01", 1_772_487_000_000_000)]
    #[case::old_json("/Date(1772528403986)/", 1_772_528_403_986_000)]
    #[case::old_json_escaped_twice("\\/Date(1772528403986)\\/", 1_772_528_403_986_000)]
    #[case::a_zone_that_moves_nothing("/Date(1772528403986+0100)/", 1_772_528_403_986_000)]
    #[case::before_1970("/Date(-1000)/", -1_000_000)]
    #[case::before_1970_with_a_zone("/Date(-1000-0500)/", -1_000_000)]
    #[case::before_1970_with_a_fraction("1969-12-31T23:59:59.9999999Z", -1)]
    #[case::leap_day("2028-02-29T00:00:00Z", 1_835_395_200_000_000)]
    fn every_generation_of_times_is_read(#[case] sent: &str, #[case] micros: i64) {
        assert_eq!(read(sent, utc()), Ok(Some(Moment(micros))));
    }

    #[rstest]
    #[case("")]
    #[case("0001-01-01T00:00:00.000")]
    #[case("0001-01-01T00:00:00+01:00")]
    #[case("/Date(-62135596800000)/")]
    fn never_is_no_time(#[case] sent: &str) {
        assert_eq!(read(sent, utc()), Ok(None));
    }

    #[rstest]
    #[case("soon")]
    #[case("2026-02-29T00:00:00Z")]
    #[case("2026-03-02")]
    #[case("2026-03-02T24:00:00Z")]
    #[case("2026-03-02T05:58.5Z")]
    #[case("2026-03-02T05:58:41.Z")]
    #[case("2026-03-02T05:58:41+25:00")]
    #[case("2026-03-02T05:58:41+1é0")]
    #[case("03/02/2026 05:58:41 AM")]
    #[case("1772528403986")]
    #[case("/Date()/")]
    #[case("/Date(9223372036854775807)/")]
    #[case("/Date(-9223372036854775808)/")]
    #[case("/Date(17725+1)/")]
    #[case("/Date(17725")]
    #[case("/Date(--5)/")]
    fn what_is_not_a_time_is_odd(#[case] sent: &str) {
        assert_eq!(read(sent, utc()), Err(Odd));
    }

    #[test]
    fn a_time_without_a_zone_is_in_the_assumed_one() {
        let berlin = FixedOffset::east_opt(3600).unwrap();

        assert_eq!(read("2026-03-02T22:30:00", berlin), read("2026-03-02T21:30:00Z", utc()));
        assert_eq!(read("2026-03-02T21:30:00Z", berlin), read("2026-03-02T21:30:00Z", utc()));
    }

    proptest! {
        #[test]
        fn a_time_survives_being_written(micros in 0_i64..253_402_300_799_999_999) {
            let written = chrono::DateTime::from_timestamp_micros(micros).unwrap();
            let with_six = written.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
            let cut = format!("{}Z", with_six.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.'));

            prop_assert_eq!(read(&with_six, utc()), Ok(Some(Moment(micros))));
            prop_assert_eq!(read(&cut, utc()), Ok(Some(Moment(micros))));
            prop_assert_eq!(read(&format!("/Date({})/", micros / 1000), utc()), Ok(Some(Moment(micros / 1000 * 1000))));
        }

        #[test]
        fn no_text_breaks_it(sent in "\\PC{0,40}", zone in -14_i32..14) {
            let _ = read(&sent, FixedOffset::east_opt(zone * 3600).unwrap());
        }

        #[test]
        fn nothing_that_looks_like_a_time_breaks_it(sent in r"[\\/Date()0-9TZ:.+ -]{0,40}") {
            let _ = read(&sent, utc());
        }
    }
}
