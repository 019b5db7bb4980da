//! The laws of the pure decisions: what follows an answer, what counts as one, and where a revocation stands.

use std::time::Duration;

use handover::custody::{
    AccountId, Dice, Moment, PersonId, Stamps, Standpoint, Step, Subject, Tries, Verdict, Why, after_answer,
    after_lost_answer, answered_by_earlier, first_state, next_read,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::world::thorough;

const LONGEST_WAIT: Duration = Duration::from_secs(300);
const SECOND: i64 = 1_000_000;

/// The bound within which clocks are taken to agree (R5, R6).
const SKEW: Duration = Duration::from_secs(300);
const SKEW_MICROS: i64 = 300 * SECOND;

fn moment() -> impl Strategy<Value = Moment> {
    prop_oneof![
        3 => (-400 * SECOND..4_000 * SECOND).prop_map(Moment),
        1 => any::<i64>().prop_map(Moment),
        1 => select(vec![Moment(i64::MIN), Moment(i64::MAX), Moment(i64::MAX - SECOND), Moment(0)]),
    ]
}

fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        3 => (0_u64..4_000_000_000).prop_map(Duration::from_micros),
        1 => any::<u64>().prop_map(Duration::from_micros),
        1 => Just(Duration::MAX),
    ]
}

fn tries() -> impl Strategy<Value = Tries> {
    let count = || prop_oneof![0_u32..12, any::<u32>(), Just(u32::MAX)];
    (count(), count(), count()).prop_map(|(failed, unfound, blind)| Tries { failed, unfound, blind })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        2 => option::of(span()).prop_map(Verdict::Throttled),
        2 => option::of(span()).prop_map(Verdict::Unavailable),
        3 => select(vec![
            Verdict::Accepted, Verdict::Ambiguous, Verdict::Misled, Verdict::Credentials, Verdict::Forbidden,
            Verdict::Unfound, Verdict::Refused,
        ]),
    ]
}

/// A whole second, as stamps and `Date` headers have them.
fn second(at: i64) -> Moment {
    Moment(at.div_euclid(SECOND) * SECOND)
}

proptest! {
    #![proptest_config(thorough())]

    /// R4: an answer that may yet become better is followed by another try, however many there were; the server's wait is kept
    /// in full, and a wait of our own is five minutes at most.
    #[test]
    fn the_servers_wait_is_kept_and_tries_never_run_out(
        verdict in verdict(), tries in tries(), now in moment(), dice in any::<u16>(),
    ) {
        let step = after_answer(verdict, tries, now, Dice(dice));

        let again = if let Step::Again(at) = step { Some(at) } else { None };
        match verdict {
            Verdict::Throttled(Some(theirs)) | Verdict::Unavailable(Some(theirs)) => {
                let at = again.expect("another try");
                prop_assert!(at >= now.plus(theirs));
                prop_assert!(at <= now.plus(theirs).plus(Duration::from_secs(1)));
            }
            Verdict::Throttled(None) | Verdict::Unavailable(None) | Verdict::Misled | Verdict::Credentials => {
                let at = again.expect("another try");
                prop_assert!(at >= now && at <= now.plus(LONGEST_WAIT));
            }
            Verdict::Unfound if tries.unfound > 3 => prop_assert_eq!(step, Step::Gone),
            Verdict::Unfound => prop_assert!(again.is_some_and(|at| at >= now.plus(Duration::from_secs(60)))),
            Verdict::Accepted => prop_assert!(matches!(step, Step::ReadBack(at) if at >= now)),
            Verdict::Ambiguous => prop_assert_eq!(step, Step::ReadNow),
            Verdict::Forbidden => prop_assert_eq!(step, Step::Operator(Why::Forbidden)),
            Verdict::Refused => prop_assert_eq!(step, Step::Operator(Why::Refused)),
        }
    }

    /// A lost answer is tried again for ever while its effect can be checked, and comes before a person when it cannot.
    #[test]
    fn a_lost_answer_is_never_forgotten(readable in any::<bool>(), tries in tries(), now in moment(), dice in any::<u16>()) {
        let step = after_lost_answer(readable, tries, now, Dice(dice));

        if readable || tries.blind < 3 {
            prop_assert!(matches!(step, Step::Again(at) if at >= now && at <= now.plus(LONGEST_WAIT)));
        } else {
            prop_assert_eq!(step, Step::Operator(Why::Unreadable));
        }
    }

    /// Reading back goes on, later each time, and ends.
    #[test]
    fn reading_back_moves_forward_and_ends(accepted_at in moment(), reads in any::<usize>()) {
        if let Some(at) = next_read(accepted_at, reads) {
            prop_assert!(at >= accepted_at);
            prop_assert!(next_read(accepted_at, reads + 1).is_none_or(|later| later >= at));
        } else {
            prop_assert!(reads >= 6);
        }
    }

    /// R5: with a source whose clock is off by no more than the bound, an earlier attempt that counts did begin after the
    /// true departure; and one that began late enough does count when that clock is right.
    #[test]
    fn an_earlier_attempt_that_counts_began_after_the_departure(
        left in 0..4_000 * SECOND,
        began in 0..4_000 * SECOND,
        off in -SKEW_MICROS..=SKEW_MICROS,
        measured in option::of((0_u64..600_000_000).prop_map(Duration::from_micros)),
    ) {
        let counts = answered_by_earlier(Moment(left + off), Moment(began), SKEW, measured);

        if counts {
            prop_assert!(began >= left);
            prop_assert!(measured.is_some_and(|offset| offset <= SKEW), "the source's clock must be known to be near");
        }
        if off == 0 && measured.is_some_and(|offset| offset <= SKEW) {
            prop_assert_eq!(counts, began >= left + SKEW_MICROS);
        }
    }

    /// R5 at the ends of time: an attempt from before the departure never counts, nor one inside the bound.
    #[test]
    fn an_attempt_inside_the_bound_never_counts(left in moment(), began in moment(), skew in span()) {
        if answered_by_earlier(left, began, skew, Some(Duration::ZERO)) {
            prop_assert!(i128::from(began.0) - i128::from(left.0) >= i128::try_from(skew.as_micros()).expect("a span has fewer bits"));
        }
    }

    /// R6: in a directory with a clock of its own, copies that lag and answers that get lost, a stamp that is taken as proof
    /// moved because of a revocation not older than the debt, less the bound; and where the stamp before was read from an
    /// up-to-date copy, because of one after that reading. So it never vouches for an attempt without effect.
    #[test]
    fn a_proof_is_the_work_of_a_revocation_that_is_new_enough(directory in directory(), happened in any::<bool>()) {
        let Directory { clock, date, ref earlier, debt, attempt, seen_before, verified, read } = directory;
        let stamp = |at: i64| second(at + clock);
        let mut stamps: Vec<_> = earlier.iter().map(|at| stamp(*at)).collect();
        let known = |index: &Option<Index>| index.map(|index| *index.get(&stamps));
        let (before, verified) = (known(&seen_before), known(&verified));
        let up_to_date = before.is_some() && before == stamps.last().copied();
        if happened {
            stamps.push(stamp(attempt));
        }
        let read = *read.get(&stamps);
        let not_before = second(debt + date);

        let shown = Stamps { before, verified }.show_effect(read, not_before, SKEW, false);

        if shown {
            prop_assert!(read.0 >= not_before.0 - SKEW_MICROS);
            prop_assert!(read > before.or(verified).expect("a lost answer proves nothing where no stamp is known"));
            prop_assert!(!up_to_date || happened, "it proved an attempt that had no effect");
        }
        let fresh = happened && read == stamp(attempt);
        let is_newer = before.max(verified).is_some_and(|known| read > known);
        prop_assert!(shown || !(fresh && is_newer), "a fresh proof was thrown away although all clocks were near");
    }

    /// R6: where no stamp is known from before, only a yes of the directory and a stamp not older than the debt will do.
    #[test]
    fn without_a_stamp_from_before_only_a_yes_counts(read in moment(), not_before in moment(), accepted in any::<bool>()) {
        let none = Stamps { before: None, verified: None };

        let shown = none.show_effect(read, not_before, SKEW, accepted);

        prop_assert!(!shown || accepted);
        if accepted {
            // To the second, since stamps have no finer time.
            prop_assert_eq!(shown, read.0.div_euclid(SECOND) >= not_before.0.div_euclid(SECOND) || read >= not_before);
        }
    }

    /// R6: what was seen before is never proof, however the clocks stand.
    #[test]
    fn what_was_seen_before_proves_nothing(
        before in option::of(moment()), verified in option::of(moment()), not_before in moment(), skew in span(),
        accepted in any::<bool>(),
    ) {
        let stamps = Stamps { before, verified };

        for seen in [before, verified].into_iter().flatten() {
            prop_assert!(!stamps.show_effect(seen, not_before, skew, accepted));
        }
    }

    /// A revocation begins to be paid, or it waits with a reason, or nothing is to be sent at all; and only shadow mode and
    /// a reason keep it from being sent.
    #[test]
    fn what_becomes_owed_is_sent_or_waits_with_a_reason(
        is_person in any::<bool>(), lateness in span(), act_within in span(), shadow in any::<bool>(),
    ) {
        let subject =
            if is_person { Subject::Person(PersonId([1; 16])) } else { Subject::Account(AccountId([1; 16])) };

        let (state, why) = first_state(subject, lateness, act_within, shadow);

        prop_assert!(state.is_unsent());
        prop_assert_eq!(state == Standpoint::Shadow, shadow);
        prop_assert_eq!(state.is_unfinished(), !shadow);
        prop_assert_eq!(why.is_some(), matches!(state, Standpoint::Held | Standpoint::NeedsOperator));
        prop_assert!(is_person || shadow || state == Standpoint::NeedsOperator);
        prop_assert!(state != Standpoint::Open || lateness <= act_within);
    }
}

/// What a revocation meets: a directory whose clock is off, stamps from before, and readings of copies that lag.
#[derive(Debug)]
struct Directory {
    /// How far the clock that makes stamps is off.
    clock: i64,
    /// How far the clock of the `Date` header is off.
    date: i64,
    /// When, in truth, the person was revoked before the attempt began; at the latest when the account was made.
    earlier: Vec<i64>,
    /// When, in truth, the debt was written down.
    debt: i64,
    /// When, in truth, the attempt has its effect, if it has one.
    attempt: i64,
    /// Which stamp was read before the attempt, which was the last to verify anything, and which is read now.
    seen_before: Option<Index>,
    verified: Option<Index>,
    read: Index,
}

fn directory() -> impl Strategy<Value = Directory> {
    let off = || -SKEW_MICROS / 2..=SKEW_MICROS / 2;
    let times = (vec(0..2_000 * SECOND, 1..5), 0..2_000 * SECOND, 0..60 * SECOND);
    let reads = (option::of(any::<Index>()), option::of(any::<Index>()), any::<Index>());
    (off(), off(), times, reads).prop_map(|(clock, date, (mut earlier, debt, pause), (seen_before, verified, read))| {
        earlier.sort_unstable();
        let attempt = debt.max(earlier.last().copied().unwrap_or(0)) + pause;
        Directory { clock, date, earlier, debt, attempt, seen_before, verified, read }
    })
}

/// I12, as far as the core has it: every state has one name, and is waiting, under way or closed, and never two of them.
#[test]
fn every_state_is_one_thing() {
    let mut names: Vec<_> = Standpoint::ALL.iter().map(|state| state.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Standpoint::ALL.len());

    let sorted =
        |is: fn(Standpoint) -> bool| Standpoint::ALL.into_iter().filter(|state| is(*state)).collect::<Vec<_>>();
    for state in Standpoint::ALL {
        assert_eq!(Standpoint::named(state.name()), Some(state));
    }
    assert_eq!(
        sorted(|state| state.is_unsent() && state.is_unfinished()),
        [Standpoint::Open, Standpoint::Held, Standpoint::NeedsOperator]
    );
    assert_eq!(
        sorted(|state| !state.is_unsent() && state.is_unfinished()),
        [Standpoint::InFlight, Standpoint::Accepted]
    );
    assert_eq!(sorted(|state| state.is_unsent() && !state.is_unfinished()), [Standpoint::Shadow]);
    assert_eq!(
        sorted(|state| !state.is_unsent() && !state.is_unfinished()),
        [
            Standpoint::Verified,
            Standpoint::CoveredByOther,
            Standpoint::Moot,
            Standpoint::NotEffective,
            Standpoint::Waived
        ]
    );
}
