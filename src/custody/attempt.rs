//! What to do after an attempt.
//!
//! Decided here, written down by `app`. Chance is handed in as a [`Dice`], the clock as a [`Moment`]. The directory's own "not
//! before" is a floor that is never undercut, and no number of tries ends anything (R4).

use std::time::Duration;

use super::{Moment, Verdict, Why};

/// The longest wait of our own choosing between two tries (R4).
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// When an accepted revocation is read back, counted from the answer (G1). After the last it counts as unproven.
const READ_BACK: [Duration; 6] = [
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(900),
];

/// How long to wait after each 404 in a row (G4). The last span is the quarter of an hour that lies between the two answers
/// which make an account count as deleted (E16).
const UNFOUND: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(900)];

/// How often a lost answer is followed by another try when the stamp may not be read (G14).
const BLIND_TRIES: u32 = 3;

/// A throw of the dice, from 0 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dice(pub u16);

/// What happened to a revocation so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tries {
    /// Attempts without success in a row, this one included.
    pub failed: u32,
    /// Answers 404 in a row, this one included.
    pub unfound: u32,
    /// Lost answers in a row with a stamp that may not be read, this one included.
    pub blind: u32,
}

/// What we write down after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It was accepted: read the stamp at this time.
    ReadBack(Moment),
    /// Its outcome is not known: read the stamp at once, and go by [`after_lost_answer`].
    ReadNow,
    /// Try again, not before this time.
    Again(Moment),
    /// The account does not exist any more: nothing to revoke.
    Gone,
    /// A person has to look.
    Operator(Why),
}

/// Decides what follows the verdict on an attempt.
pub fn after_answer(verdict: Verdict, tries: Tries, now: Moment, dice: Dice) -> Step {
    match verdict {
        Verdict::Accepted => Step::ReadBack(now.plus(READ_BACK[0])),
        Verdict::Ambiguous => Step::ReadNow,
        Verdict::Throttled(theirs) | Verdict::Unavailable(theirs) => Step::Again(again(theirs, tries, now, dice)),
        Verdict::Misled | Verdict::Credentials => Step::Again(again(None, tries, now, dice)),
        Verdict::Unfound => match usize::try_from(tries.unfound.max(1) - 1).ok().and_then(|nth| UNFOUND.get(nth)) {
            Some(wait) => Step::Again(now.plus(*wait)),
            None => Step::Gone,
        },
        Verdict::Forbidden => Step::Operator(Why::Forbidden),
        Verdict::Refused => Step::Operator(Why::Refused),
    }
}

/// Decides what follows when the effect of an attempt with a lost answer was not seen: `readable` says whether the stamp
/// could be read at all.
pub fn after_lost_answer(readable: bool, tries: Tries, now: Moment, dice: Dice) -> Step {
    if !readable && tries.blind >= BLIND_TRIES {
        return Step::Operator(Why::Unreadable);
    }
    Step::Again(again(None, tries, now, dice))
}

/// When to read the stamp again, `reads` reads after the answer; `None` once the schedule has run out.
pub fn next_read(accepted_at: Moment, reads: usize) -> Option<Moment> {
    READ_BACK.get(reads).map(|wait| accepted_at.plus(*wait))
}

/// Full jitter between nothing and a bound that doubles, but not before the server's own time.
fn again(theirs: Option<Duration>, tries: Tries, now: Moment, dice: Dice) -> Moment {
    let bound = Duration::from_secs(1 << tries.failed.clamp(1, 9)).min(LONGEST_WAIT);
    let ours = bound * u32::from(dice.0.min(1000)) / 1000;
    now.plus(theirs.map_or(ours, |theirs| theirs.saturating_add(ours.min(Duration::from_secs(1)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(0);

    fn failed(failed: u32) -> Tries {
        Tries { failed, unfound: failed, blind: failed }
    }

    #[test]
    fn each_answer_has_one_consequence() {
        let after = |verdict| after_answer(verdict, failed(1), NOW, Dice(500));
        let second = Moment::from_seconds(1);

        assert_eq!(after(Verdict::Accepted), Step::ReadBack(Moment::from_seconds(2)));
        assert_eq!(after(Verdict::Ambiguous), Step::ReadNow);
        assert_eq!(after(Verdict::Throttled(Some(Duration::from_secs(30)))), Step::Again(Moment::from_seconds(31)));
        assert_eq!(after(Verdict::Unavailable(None)), Step::Again(second));
        assert_eq!(after(Verdict::Misled), Step::Again(second));
        assert_eq!(after(Verdict::Credentials), Step::Again(second));
        assert_eq!(after(Verdict::Forbidden), Step::Operator(Why::Forbidden));
        assert_eq!(after(Verdict::Refused), Step::Operator(Why::Refused));
    }

    #[test]
    fn tries_never_run_out_and_waits_stop_growing_at_five_minutes() {
        for tries in [9, 10, 1000, u32::MAX] {
            let step = after_answer(Verdict::Unavailable(None), failed(tries), NOW, Dice(1000));
            assert_eq!(step, Step::Again(Moment::from_seconds(300)), "after {tries}");
        }
    }

    #[test]
    fn the_servers_own_wait_is_never_undercut() {
        for dice in [0, 1, 999, 1000] {
            let theirs = Duration::from_millis(2_128);
            let Step::Again(at) = after_answer(Verdict::Throttled(Some(theirs)), failed(3), NOW, Dice(dice)) else {
                panic!("throttling is followed by another try")
            };
            assert!(at >= NOW.plus(theirs));
        }
    }

    #[test]
    fn an_account_is_gone_after_two_404s_a_quarter_of_an_hour_apart() {
        let waits: Vec<_> = (1..=4).map(|nth| after_answer(Verdict::Unfound, failed(nth), NOW, Dice(0))).collect();

        let again = |seconds| Step::Again(Moment::from_seconds(seconds));
        assert_eq!(waits, [again(60), again(300), again(900), Step::Gone]);
    }

    #[test]
    fn a_lost_answer_that_cannot_be_checked_is_tried_three_times_and_then_held() {
        assert!(matches!(after_lost_answer(false, failed(2), NOW, Dice(0)), Step::Again(_)));
        assert_eq!(after_lost_answer(false, failed(3), NOW, Dice(0)), Step::Operator(Why::Unreadable));
        assert!(matches!(after_lost_answer(true, failed(30), NOW, Dice(0)), Step::Again(_)));
    }

    #[test]
    fn an_accepted_revocation_is_read_back_six_times_within_a_quarter_of_an_hour() {
        let reads: Vec<_> = (0..7).map(|reads| next_read(NOW, reads).map(|at| at.0 / 1_000_000)).collect();

        assert_eq!(reads, [Some(2), Some(5), Some(15), Some(60), Some(300), Some(900), None]);
    }
}
