//! Whether calling Microsoft makes sense just now.
//!
//! After twenty failures in a row (G6), or as soon as our own credentials are refused (G2, G13), the circuit opens: calls
//! are answered here, at once and unsent. When the wait is over one call goes out as a probe, alone; its outcome closes the
//! circuit or opens it again for longer.
//!
//! Two calls at once: an answer to a call that began before the circuit opened changes nothing while it is open. A probe
//! that is given up half-way (its task was cancelled) leaves the circuit open and the next probe due.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::full_jitter;
use super::{Chance, Clock};
use crate::custody::{Moment, Verdict};

/// Failures in a row that open the circuit.
const ENOUGH_FAILURES: u32 = 20;
/// First wait of an open circuit; it doubles with each failed probe.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait of an open circuit.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// One probe a minute while our credentials are refused: more would only lock us out.
const CREDENTIALS_WAIT: Duration = Duration::from_mins(1);
/// How soon to look again while a probe is on its way.
const PROBE_LOOK: Duration = Duration::from_millis(250);

/// Why the circuit is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nobody answers, or only to say "later".
    Unavailable,
    /// Somebody else answers: a redirect, HTML, a wrong certificate.
    Misled,
    /// Our credentials are refused.
    Credentials,
}

/// The circuit as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Calls go through.
    Closed,
    /// Calls are answered unsent.
    Open {
        /// What made it open, last.
        why: Fault,
        /// When it opened.
        since: Moment,
        /// When one call may try again. In the past while that call is on its way or awaited.
        next_probe: Moment,
    },
}

#[derive(Debug)]
struct Open {
    why: Fault,
    since: Moment,
    next_probe: Instant,
    /// Failed probes, and the failures that opened it as the first.
    rounds: u32,
    probing: bool,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open: Option<Open>,
}

/// See the head of this file.
pub(crate) struct Circuit {
    state: Mutex<State>,
    clock: Clock,
    chance: Chance,
}

/// Leave to make one call. It is settled with the call's verdict, or given back by dropping it.
pub(crate) struct Permit<'a> {
    circuit: &'a Circuit,
    probe: bool,
    settled: bool,
}

impl Circuit {
    pub(crate) fn new(clock: Clock, chance: Chance) -> Self {
        Self { state: Mutex::default(), clock, chance }
    }

    /// Leave to make a call, or what to answer instead.
    pub(crate) fn enter(&self, now: Instant) -> Result<Permit<'_>, Verdict> {
        let mut state = self.lock();
        let probe = match &mut state.open {
            None => false,
            Some(open) if !open.probing && now >= open.next_probe => {
                open.probing = true;
                true
            }
            Some(open) => return Err(open.why.verdict(open.wait(now))),
        };
        Ok(Permit { circuit: self, probe, settled: false })
    }

    /// How long until a call may go through; zero when it may now.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.lock().open.as_ref().map_or(Duration::ZERO, |open| open.wait(now))
    }

    pub(crate) fn state(&self, now: Instant) -> CircuitState {
        self.lock().open.as_ref().map_or(CircuitState::Closed, |open| CircuitState::Open {
            why: open.why,
            since: open.since,
            next_probe: (self.clock)().plus(open.next_probe.saturating_duration_since(now)),
        })
    }

    fn settle(&self, verdict: Verdict, probe: bool, now: Instant) {
        let mut state = self.lock();
        if state.open.is_some() && !probe {
            return;
        }
        let Some((why, asked)) = Fault::of(verdict) else {
            if state.open.take().is_some() {
                tracing::info!("Microsoft answers again, calls go out");
            }
            state.failures = 0;
            return;
        };
        state.failures = state.failures.saturating_add(1);
        let enough = probe || why == Fault::Credentials || state.failures >= ENOUGH_FAILURES;
        if !enough {
            return;
        }
        let (since, rounds) = state.open.as_ref().map_or_else(|| ((self.clock)(), 0), |open| (open.since, open.rounds));
        let wait = match why {
            Fault::Credentials => CREDENTIALS_WAIT,
            Fault::Unavailable | Fault::Misled => {
                full_jitter(FIRST_WAIT, rounds, LONGEST_WAIT, FIRST_WAIT, (self.chance)())
                    .max(asked.unwrap_or_default())
            }
        };
        if state.open.is_none() {
            tracing::error!(
                circuit.why = ?why,
                circuit.wait_ms = wait.as_millis(),
                "calls to Microsoft stop: {}",
                why.sentence()
            );
        }
        let rounds = rounds.saturating_add(1);
        state.open = Some(Open { why, since, next_probe: now + wait, rounds, probing: false });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn wait(&self, now: Instant) -> Duration {
        let due = self.next_probe.saturating_duration_since(now);
        if self.probing { due.max(PROBE_LOOK) } else { due }
    }
}

impl Fault {
    fn of(verdict: Verdict) -> Option<(Self, Option<Duration>)> {
        match verdict {
            Verdict::Unavailable(asked) => Some((Self::Unavailable, asked)),
            Verdict::Ambiguous => Some((Self::Unavailable, None)),
            Verdict::Misled => Some((Self::Misled, None)),
            Verdict::Credentials => Some((Self::Credentials, None)),
            Verdict::Accepted | Verdict::Throttled(_) | Verdict::Forbidden | Verdict::Unfound | Verdict::Refused => {
                None
            }
        }
    }

    fn verdict(self, wait: Duration) -> Verdict {
        match self {
            Self::Unavailable => Verdict::Unavailable((!wait.is_zero()).then_some(wait)),
            Self::Misled => Verdict::Misled,
            Self::Credentials => Verdict::Credentials,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Unavailable => "nobody answers, or only to say later",
            Self::Misled => "somebody else answers; look at proxies, DNS and trust anchors",
            Self::Credentials => "the app's credentials are refused; look at client id, secret and consent",
        }
    }
}

impl Permit<'_> {
    /// This call goes out alone, to see whether the fault is over.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe
    }

    /// The call is over.
    pub(crate) fn settle(mut self, verdict: Verdict, now: Instant) {
        self.settled = true;
        self.circuit.settle(verdict, self.probe, now);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.probe
            && !self.settled
            && let Some(open) = &mut self.circuit.lock().open
        {
            open.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn circuit(chance: f64) -> Circuit {
        Circuit::new(Arc::new(|| Moment::from_seconds(1000)), Arc::new(move || chance))
    }

    fn fail(circuit: &Circuit, times: u32, now: Instant) {
        for _ in 0..times {
            circuit.enter(now).ok().unwrap().settle(Verdict::Unavailable(None), now);
        }
    }

    #[test]
    fn twenty_failures_in_a_row_open_it() {
        let (circuit, now) = (circuit(1.0), Instant::now());

        fail(&circuit, 19, now);
        assert_eq!(circuit.state(now), CircuitState::Closed);
        fail(&circuit, 1, now);

        let CircuitState::Open { why, since, next_probe } = circuit.state(now) else { panic!("still closed") };
        assert_eq!((why, since), (Fault::Unavailable, Moment::from_seconds(1000)));
        assert_eq!(next_probe, Moment::from_seconds(1001));
        assert_eq!(circuit.enter(now).err(), Some(Verdict::Unavailable(Some(SECOND))));
    }

    #[test]
    fn an_answer_in_between_starts_the_count_again() {
        let (circuit, now) = (circuit(1.0), Instant::now());

        for verdict in
            [Verdict::Accepted, Verdict::Forbidden, Verdict::Unfound, Verdict::Refused, Verdict::Throttled(None)]
        {
            fail(&circuit, 19, now);
            circuit.enter(now).ok().unwrap().settle(verdict, now);
        }

        assert_eq!(circuit.state(now), CircuitState::Closed);
    }

    #[test]
    fn one_probe_goes_out_alone_and_closes_it() {
        let (circuit, now) = (circuit(1.0), Instant::now());
        fail(&circuit, 20, now);

        let due = now + SECOND;
        let probe = circuit.enter(due).ok().unwrap();
        assert!(probe.is_probe());
        assert!(circuit.enter(due).is_err());
        assert!(circuit.wait(due) > Duration::ZERO);
        probe.settle(Verdict::Accepted, due);

        assert!(!circuit.enter(due).ok().unwrap().is_probe());
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_five_minutes() {
        let (circuit, mut now) = (circuit(1.0), Instant::now());
        fail(&circuit, 20, now);

        let mut waits = vec![];
        for _ in 0..11 {
            let wait = circuit.wait(now);
            waits.push(wait.as_secs());
            now += wait;
            fail(&circuit, 1, now);
        }

        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn refused_credentials_open_it_at_once_for_a_minute() {
        let (circuit, now) = (circuit(0.0), Instant::now());

        circuit.enter(now).ok().unwrap().settle(Verdict::Credentials, now);

        assert_eq!(circuit.wait(now), Duration::from_mins(1));
        assert_eq!(circuit.enter(now + 59 * SECOND).err(), Some(Verdict::Credentials));
        assert!(circuit.enter(now + 60 * SECOND).is_ok());
    }

    #[test]
    fn a_probe_given_up_half_way_does_not_block_the_next() {
        let (circuit, now) = (circuit(1.0), Instant::now());
        fail(&circuit, 20, now);

        drop(circuit.enter(now + SECOND).ok().unwrap());

        assert!(circuit.enter(now + SECOND).ok().unwrap().is_probe());
    }

    #[test]
    fn a_late_answer_from_before_does_not_close_it() {
        let (circuit, now) = (circuit(1.0), Instant::now());
        let early = circuit.enter(now).ok().unwrap();
        fail(&circuit, 20, now);

        early.settle(Verdict::Accepted, now);

        assert_ne!(circuit.state(now), CircuitState::Closed);
    }

    #[test]
    fn the_servers_own_wait_is_not_undercut() {
        let (circuit, now) = (circuit(0.0), Instant::now());
        fail(&circuit, 19, now);

        circuit.enter(now).ok().unwrap().settle(Verdict::Unavailable(Some(90 * SECOND)), now);

        assert_eq!(circuit.wait(now), 90 * SECOND);
    }
}
