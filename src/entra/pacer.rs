//! How fast we call.
//!
//! Calls leave evenly, after a rest at most one second's worth at once. A 429 stops everybody who shares the pacer for the
//! whole wait the server asked for, because calls made while throttled still count against us (G5), and afterwards there
//! is no burst. Above the limit that the server reports (`x-ms-throttle-limit-percentage`) the pace gives way a little and
//! comes back slowly (G16); it never exceeds what is configured.
//!
//! Waiting is first come, first served, and a caller that is cancelled while it waits takes nobody's place.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Chance;
use super::backoff::full_jitter;

/// First wait after a 429 that names none.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Longest wait after a 429 that names none: the length of Microsoft's window for writes is 150 s.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Shortest wait after a 429 that names none.
const LEAST_WAIT: Duration = Duration::from_millis(500);
/// How much of what can be saved up may leave at once.
const BURST: Duration = Duration::from_secs(1);
/// The slowest we get from reported pressure alone: a quarter of the configured pace.
const MOST_STRETCH: f64 = 4.0;
/// What is left of the stretch after each answer without pressure: full pace again after some 60 answers.
const RELAX: f64 = 0.98;

#[derive(Debug)]
struct State {
    /// When the next call would leave if nothing had been saved up.
    next: Instant,
    /// Nobody leaves before this.
    closed_until: Option<Instant>,
    /// 429s in a row.
    throttled: u32,
    /// The gap between two calls is this many times the configured one.
    stretch: f64,
}

/// See the head of this file.
pub(crate) struct Pacer {
    gap: Duration,
    chance: Chance,
    state: Mutex<State>,
    queue: tokio::sync::Mutex<()>,
}

/// A turn is too far away to wait for it; it comes in about this long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooFar(pub(crate) Duration);

impl Pacer {
    pub(crate) fn new(per_second: f64, now: Instant, chance: Chance) -> Self {
        let state = State { next: now, closed_until: None, throttled: 0, stretch: 1.0 };
        let gap = Duration::from_secs(1).div_f64(per_second);
        Self { gap, chance, state: Mutex::new(state), queue: tokio::sync::Mutex::new(()) }
    }

    /// Waits for a turn and takes it; gives up at once when the server has closed the door for longer than `patience`.
    pub(crate) async fn turn(&self, patience: Duration) -> Result<(), TooFar> {
        self.door(Instant::now(), patience)?;
        let _first = self.queue.lock().await;
        loop {
            let now = Instant::now();
            self.door(now, patience)?;
            match self.take(now) {
                Ok(()) => return Ok(()),
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// How long until a turn is free; zero when one is.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.lock().free_at(self.gap).saturating_duration_since(now)
    }

    /// The time between two calls.
    pub(crate) fn gap(&self) -> Duration {
        self.gap
    }

    /// A 429: nobody leaves before the wait is over. Without a wait of the server's own we choose a growing one.
    pub(crate) fn throttled(&self, asked: Option<Duration>, now: Instant) -> Duration {
        let mut state = self.lock();
        let wait = asked
            .unwrap_or_else(|| full_jitter(FIRST_WAIT, state.throttled, LONGEST_WAIT, LEAST_WAIT, (self.chance)()));
        state.throttled = state.throttled.saturating_add(1);
        let until = now + wait;
        state.closed_until = Some(state.closed_until.map_or(until, |already| already.max(until)));
        state.next = state.next.max(until + state.saved(self.gap));
        tracing::warn!(throttle.wait_ms = wait.as_millis(), "Microsoft Graph throttles us, calls wait {wait:?}");
        wait
    }

    /// An answer that was no 429. `pressure` is the share of the limit that is used up, from 0.8 upwards; 1.0 is the limit.
    pub(crate) fn answered(&self, pressure: Option<f64>) {
        let mut state = self.lock();
        state.throttled = 0;
        state.stretch = match pressure {
            Some(pressure) if pressure >= 1.0 => (state.stretch.max(pressure) * 1.05).min(MOST_STRETCH),
            Some(_) | None => (state.stretch * RELAX).max(1.0),
        };
    }

    fn door(&self, now: Instant, patience: Duration) -> Result<(), TooFar> {
        let closed = self.lock().closed_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        if closed > patience { Err(TooFar(closed)) } else { Ok(()) }
    }

    fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.lock();
        let free_at = state.free_at(self.gap);
        if free_at > now {
            return Err(free_at.duration_since(now));
        }
        state.next = state.next.max(now) + self.gap.mul_f64(state.stretch);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How far ahead of the even pace a burst may run.
    fn saved(&self, gap: Duration) -> Duration {
        BURST.saturating_sub(gap.mul_f64(self.stretch))
    }

    fn free_at(&self, gap: Duration) -> Instant {
        let even = self.next.checked_sub(self.saved(gap)).unwrap_or(self.next);
        self.closed_until.map_or(even, |closed| even.max(closed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pacer(per_second: f64, now: Instant) -> Pacer {
        Pacer::new(per_second, now, Arc::new(|| 1.0))
    }

    /// The times at which `calls` leave, as fast as they may, counted from `start`.
    fn leave(pacer: &Pacer, calls: usize, start: Instant) -> Vec<Duration> {
        let mut now = start;
        (0..calls)
            .map(|_| {
                while let Err(wait) = pacer.take(now) {
                    now += wait;
                }
                now - start
            })
            .collect()
    }

    #[test]
    fn a_burst_is_one_second_worth_and_then_the_pace_is_even() {
        let now = Instant::now();

        let left = leave(&pacer(10.0, now), 30, now);

        assert_eq!(left.iter().filter(|at| at.is_zero()).count(), 10);
        assert_eq!(left.last(), Some(&(2 * SECOND)));
    }

    #[test]
    fn a_slow_pace_has_no_burst() {
        let now = Instant::now();

        assert_eq!(leave(&pacer(0.5, now), 3, now), [Duration::ZERO, 2 * SECOND, 4 * SECOND]);
    }

    #[test]
    fn a_429_holds_everybody_for_the_whole_wait_and_no_burst_follows() {
        let now = Instant::now();
        let pacer = pacer(10.0, now);

        pacer.throttled(Some(Duration::from_millis(2128)), now);

        let left = leave(&pacer, 3, now);
        assert_eq!(left, [2128, 2228, 2328].map(Duration::from_millis));
    }

    #[test]
    fn a_shorter_429_does_not_undercut_a_longer_one() {
        let now = Instant::now();
        let pacer = pacer(10.0, now);

        pacer.throttled(Some(30 * SECOND), now);
        pacer.throttled(Some(SECOND), now);

        assert_eq!(pacer.wait(now), 30 * SECOND);
    }

    #[test]
    fn a_429_without_a_wait_doubles_ours_until_an_answer_comes() {
        let now = Instant::now();
        let waits = |pacer: &Pacer| {
            pacer.lock().closed_until = None;
            pacer.lock().next = now;
            pacer.throttled(None, now);
            pacer.wait(now).as_secs()
        };
        let pacer = pacer(10.0, now);

        assert_eq!([waits(&pacer), waits(&pacer), waits(&pacer)], [2, 4, 8]);
        pacer.answered(None);
        assert_eq!(waits(&pacer), 2);
    }

    #[test]
    fn pressure_slows_the_pace_and_calm_brings_it_back() {
        let now = Instant::now();
        let pacer = pacer(10.0, now);

        pacer.answered(Some(1.2));
        assert!(pacer.lock().stretch > 1.2);
        for _ in 0..1000 {
            pacer.answered(Some(1.8));
        }
        assert!(pacer.lock().stretch <= MOST_STRETCH);
        for _ in 0..100 {
            pacer.answered(Some(0.9));
        }
        assert!((pacer.lock().stretch - 1.0).abs() < f64::EPSILON);
    }

    #[tokio::test]
    async fn a_door_closed_for_long_is_not_waited_at() {
        let now = Instant::now();
        let pacer = pacer(10.0, now);
        pacer.throttled(Some(600 * SECOND), now);

        let turn = pacer.turn(15 * SECOND).await;

        assert!(matches!(turn, Err(TooFar(wait)) if wait > 590 * SECOND));
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_its_pace_and_one_burst(per_second in 1.0_f64..50.0, calls in 1_usize..300) {
            let now = Instant::now();
            let left = leave(&pacer(per_second, now), calls, now);

            for (index, from) in left.iter().enumerate() {
                let within = left[index..].iter().take_while(|at| **at <= *from + SECOND).count();
                prop_assert!(f64::from(u32::try_from(within).unwrap()) <= 2.0 * per_second + 2.0);
            }
        }
    }
}
