//! How long a server asks us to stay away.
//!
//! Graph documents whole seconds and has sent fractions; HTTP also allows a date. The wait is rounded up to the
//! millisecond, never down: it is their door. What makes no sense counts as absent, and the caller backs off by itself.

use std::time::Duration;

use chrono::DateTime;

use crate::custody::Moment;

/// The longest wait we believe (G5). Microsoft's windows are at most 5 minutes; more than twice that is a mistake.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// The wait in a `Retry-After` header, more than zero and at most [`LONGEST_WAIT`]. A date counts from `date`, the same
/// answer's own clock.
pub(crate) fn wait(header: &str, date: Option<Moment>) -> Option<Duration> {
    let text = header.trim();
    let wait = match seconds(text) {
        Some(wait) => wait,
        None => http_date(text)?.since(date?),
    };
    (wait > Duration::ZERO).then(|| wait.min(LONGEST_WAIT))
}

/// The moment in an HTTP date such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http_date(text: &str) -> Option<Moment> {
    DateTime::parse_from_rfc2822(text).ok().map(|at| Moment(at.timestamp_micros()))
}

fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    // More digits than fit are a very long wait.
    let whole = whole.parse().unwrap_or(u64::MAX);
    let mut millis = 0;
    for place in 0..3 {
        millis = millis * 10 + u64::from(fraction.as_bytes().get(place).map_or(0, |digit| digit - b'0'));
    }
    let rest = fraction.bytes().skip(3).any(|digit| digit != b'0');
    Some(Duration::from_secs(whole).saturating_add(Duration::from_millis(millis + u64::from(rest))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::whole("30", Some(30_000))]
    #[case::spaces(" 30 ", Some(30_000))]
    #[case::fraction("2.128", Some(2_128))]
    #[case::fraction_up("2.1280001", Some(2_129))]
    #[case::hair("0.0000001", Some(1))]
    #[case::tenth("0.1", Some(100))]
    #[case::just_below("1.9999", Some(2_000))]
    #[case::bare_point("5.", Some(5_000))]
    #[case::huge("86400", Some(600_000))]
    #[case::astronomic("99999999999999999999999999", Some(600_000))]
    #[case::zero("0", None)]
    #[case::negative("-5", None)]
    #[case::exponent("1e9", None)]
    #[case::infinite("inf", None)]
    #[case::nothing("", None)]
    #[case::point(".5", None)]
    #[case::words("soon", None)]
    #[case::date("Sun, 06 Nov 1994 08:49:37 GMT", Some(37_000))]
    #[case::date_past("Sun, 06 Nov 1994 08:48:00 GMT", None)]
    #[case::date_far("Mon, 06 Nov 1995 08:49:37 GMT", Some(600_000))]
    fn a_header_has_one_wait(#[case] header: &str, #[case] millis: Option<u64>) {
        let date = http_date("Sun, 06 Nov 1994 08:49:00 GMT");

        assert_eq!(wait(header, date), millis.map(Duration::from_millis));
    }

    #[test]
    fn a_date_without_the_servers_clock_is_no_wait() {
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT", None), None);
    }

    proptest! {
        #[test]
        fn a_wait_is_never_cut_short(whole in 0_u64..600, fraction in "[0-9]{1,9}") {
            let text = format!("{whole}.{fraction}");
            let asked = text.parse::<f64>().unwrap();

            let given = wait(&text, None).map_or(0.0, |wait| wait.as_secs_f64());
            prop_assert!(given >= asked - 1e-9 && given < asked + 0.002);
        }

        #[test]
        fn any_header_is_survived(text in ".*") {
            prop_assert!(wait(&text, Some(Moment(0))).is_none_or(|wait| wait <= LONGEST_WAIT));
        }
    }
}
