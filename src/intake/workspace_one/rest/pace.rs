//! Going no faster than the UEM allows.
//!
//! The quota belongs to the account, so the pace is shared by all calls. What the UEM asks for is measured on its own
//! clock (the answer's `Date`) and never shortened; what is longer than our patience is handed to the caller instead of
//! waited for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::DateTime;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use tokio::time::{Instant, sleep_until};

use super::UemError;
use crate::custody::Moment;

/// With no more calls than this left, we wait for the next window, so that the last ones remain for other clients.
const FEW_LEFT: u64 = 5;
/// The longest we wait for the next window.
const LONGEST_WINDOW: Duration = Duration::from_mins(1);
/// A longer wait than this is not believed.
const LONGEST_WAIT: Duration = Duration::from_hours(24);
/// A reset below this (in 2001) is a number of seconds to wait, not a time.
const FIRST_EPOCH: i64 = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Pace {
    not_before: Mutex<Option<Instant>>,
    patience: Duration,
}

impl Pace {
    pub(super) fn new(patience: Duration) -> Self {
        Self { not_before: Mutex::new(None), patience }
    }

    /// Waits until we may call, or says how long that would take when it is too long.
    pub(super) async fn turn(&self) -> Result<(), UemError> {
        loop {
            let Some(then) = *self.lock() else { return Ok(()) };
            let wait = then.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Ok(());
            }
            if wait > self.patience {
                return Err(UemError::Busy { retry_after: Some(wait) });
            }
            sleep_until(then).await;
        }
    }

    /// Nobody calls for this long.
    pub(super) fn hold(&self, wait: Duration) {
        let then = Instant::now() + wait.min(LONGEST_WAIT);
        let mut not_before = self.lock();
        *not_before = Some(not_before.map_or(then, |already| already.max(then)));
    }

    /// Takes note of the quota that an answer tells.
    pub(super) fn hear(&self, headers: &HeaderMap) {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
        let Some(left) = number("x-ratelimit-remaining").and_then(|left| u64::try_from(left).ok()) else { return };
        let Some(reset) = number("x-ratelimit-reset") else { return };
        let seconds = match date(headers) {
            _ if reset < FIRST_EPOCH => reset,
            Some(Moment(now)) => reset.saturating_sub(now.div_euclid(1_000_000)),
            None => 1,
        };
        if let Ok(seconds @ 1..) = u64::try_from(seconds)
            && left <= FEW_LEFT
        {
            self.hold(Duration::from_secs(seconds).min(LONGEST_WINDOW));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.not_before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time of an answer, by the clock of whoever gave it.
pub(super) fn date(headers: &HeaderMap) -> Option<Moment> {
    http_date(headers.get(DATE)?.to_str().ok()?)
}

/// How long the answer asks us to wait: a number of seconds, or a time on its own clock.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let sent = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = sent.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(LONGEST_WAIT));
    }
    Some(http_date(sent)?.since(date(headers)?).min(LONGEST_WAIT))
}

fn http_date(sent: &str) -> Option<Moment> {
    Some(Moment(DateTime::parse_from_rfc2822(sent.trim()).ok()?.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    async fn wait_after(given: &[(&'static str, &'static str)]) -> Option<Duration> {
        let pace = Pace::new(Duration::ZERO);
        pace.hear(&headers(given));
        match pace.turn().await {
            Err(UemError::Busy { retry_after }) => {
                retry_after.map(|wait| Duration::from_secs((wait + Duration::from_millis(500)).as_secs()))
            }
            _ => None,
        }
    }

    const DATE: (&str, &str) = ("date", "Mon, 02 Mar 2026 05:58:50 GMT");

    #[tokio::test]
    async fn with_few_calls_left_we_wait_for_the_reset_on_the_uems_clock() {
        let reset = ("x-ratelimit-reset", "1772431160");

        assert_eq!(wait_after(&[DATE, reset, ("x-ratelimit-remaining", "2")]).await, Some(Duration::from_secs(30)));
        assert_eq!(wait_after(&[DATE, reset, ("x-ratelimit-remaining", "200")]).await, None);
        assert_eq!(wait_after(&[reset, ("x-ratelimit-remaining", "2")]).await, Some(Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn a_window_is_waited_for_no_longer_than_a_minute() {
        let far = ("x-ratelimit-reset", "1999999999");
        let past = ("x-ratelimit-reset", "1700000000");
        let relative = ("x-ratelimit-reset", "7");

        assert_eq!(wait_after(&[DATE, far, ("x-ratelimit-remaining", "0")]).await, Some(Duration::from_mins(1)));
        assert_eq!(wait_after(&[DATE, past, ("x-ratelimit-remaining", "0")]).await, None);
        assert_eq!(wait_after(&[DATE, relative, ("x-ratelimit-remaining", "0")]).await, Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_wait_is_seconds_or_a_time_on_their_clock() {
        let later = ("retry-after", "Mon, 02 Mar 2026 05:59:20 GMT");

        assert_eq!(retry_after(&headers(&[("retry-after", "7")])), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers(&[DATE, later])), Some(Duration::from_secs(30)));
        assert_eq!(retry_after(&headers(&[later])), None);
        assert_eq!(retry_after(&headers(&[("retry-after", "soon")])), None);
        assert_eq!(retry_after(&headers(&[("retry-after", "18446744073709551615")])), Some(LONGEST_WAIT));
    }

    #[test]
    fn an_answers_date_is_a_moment() {
        assert_eq!(date(&headers(&[DATE])), Some(Moment::from_seconds(1_772_431_130)));
        assert_eq!(date(&headers(&[("date", "today")])), None);
    }
}
