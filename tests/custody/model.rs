//! The reference model: what the history of a device is, said as plainly as possible.
//!
//! It is written from the rules in prose, not from the fold, and shares no decision with it: no state, no steps. All events are
//! laid out in order, what counts for nothing is struck out, equal neighbours become one stretch, and what is owed is found by
//! looking forward over the finished list. It may be slow; it has to be obvious.

use handover::custody::{
    AccountId, Custody, Departure, Ended, Event, Holder, How, Known, Leaver, Owed, PersonId, Policy, Reason, RevokeOn,
    Standing, State, Subject, What,
};

/// What is true of a device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) custodies: Vec<Custody>,
    pub(crate) owed: Vec<Owed>,
    pub(crate) state: State,
}

/// Who has it, for the purpose of telling one from the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Person(PersonId),
    Pool,
    Account(AccountId),
    Nameless,
    Undecided(AccountId),
}

/// A time with one holder, from the event that began it to the next stretch.
#[derive(Clone, Copy)]
struct Stretch {
    event: Event,
    who: Who,
    holder: Holder,
}

/// What became of somebody who left.
enum Fate {
    /// Owed, because of this stretch.
    Owed(usize, Reason),
    /// Nothing to owe, whatever comes.
    Nothing,
    /// Not known yet.
    Waiting,
}

/// The history that follows from a set of events.
pub(crate) fn history(events: &[Event], standing: impl Fn(AccountId) -> Standing, policy: Policy) -> History {
    let mut set = events.to_vec();
    set.sort_by_key(|event| (event.at, event.id));
    set.dedup();

    let counting = (0..set.len()).filter(|&nth| !is_void(&set, nth, policy)).map(|nth| set[nth]);
    let stretches = merged(counting.filter_map(|event| stretch(event, &standing)).collect());
    let fates: Vec<_> = (0..stretches.len()).map(|nth| fate(&stretches, nth, policy.revoke_on)).collect();

    let custodies: Vec<_> = (0..stretches.len()).map(|nth| custody(&stretches, nth)).collect();
    let mut owed: Vec<_> = fates.iter().enumerate().filter_map(|(nth, fate)| debt(&stretches, nth, fate)).collect();
    owed.sort_by_key(|debt| set.iter().position(|event| event.id == debt.because));
    let leaver = (0..stretches.len()).rev().find(|&nth| is_leaver(&stretches, nth, &fates[nth]));

    History {
        state: State {
            open: custodies.last().copied(),
            leaver: leaver.map(|nth| Leaver {
                custody: stretches[nth].event.id,
                holder: stretches[nth].holder,
                left_at: stretches[nth + 1].event.at,
                left_by: stretches[nth + 1].event.id,
            }),
            told_at: set.iter().filter(|event| event.how == How::Told).map(|event| event.at).max(),
            last: set.last().map(|event| (event.at, event.id)),
        },
        custodies,
        owed,
    }
}

/// A read counts for nothing if anything was told in the settling time before it.
fn is_void(set: &[Event], nth: usize, policy: Policy) -> bool {
    let read = set[nth];
    let settled = i128::from(read.at.0) - i128::try_from(policy.settle.as_micros()).expect("a span has fewer bits");
    read.how == How::Read && set[..nth].iter().any(|told| told.how == How::Told && i128::from(told.at.0) > settled)
}

fn stretch(event: Event, standing: impl Fn(AccountId) -> Standing) -> Option<Stretch> {
    let (who, holder) = match event.what {
        What::Silent => return None,
        What::Nameless | What::Gone | What::Erased => (Who::Nameless, Holder::Unknown(None)),
        What::With(account) | What::Enrolled(account) => match standing(account) {
            Standing::Person(person) => (Who::Person(person), Holder::Person(person, account)),
            Standing::Pool => (Who::Pool, Holder::Pool(account)),
            Standing::Unresolved => (Who::Account(account), Holder::Unknown(Some(account))),
            Standing::Undecided => (Who::Undecided(account), Holder::Undecided(account)),
        },
    };
    Some(Stretch { event, who, holder })
}

/// Neighbours of the same holder are one; but a new enrolment ends what somebody had, even if the same person has it again.
fn merged(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.dedup_by(|later, earlier| {
        let anew = matches!(later.event.what, What::Enrolled(_)) && subject(earlier.who).is_some();
        later.who == earlier.who && !anew
    });
    stretches
}

/// Whose tokens somebody may leave behind.
fn subject(who: Who) -> Option<Subject> {
    match who {
        Who::Person(person) => Some(Subject::Person(person)),
        Who::Account(account) => Some(Subject::Account(account)),
        Who::Pool | Who::Nameless | Who::Undecided(_) => None,
    }
}

/// Looks forward from a departure for what decides about it.
fn fate(stretches: &[Stretch], nth: usize, revoke_on: RevokeOn) -> Fate {
    let left = stretches[nth];
    for (later, next) in stretches.iter().enumerate().skip(nth + 1) {
        let at_every_departure = revoke_on == RevokeOn::Return;
        return match (next.event.what, next.who) {
            (What::Gone, _) => Fate::Owed(later, Reason::LeftSight),
            (What::Erased, _) if at_every_departure => Fate::Owed(later, Reason::Return),
            (What::Erased, _) => Fate::Nothing,
            (_, Who::Pool) if at_every_departure => Fate::Owed(later, Reason::Return),
            (_, Who::Pool | Who::Undecided(_)) => continue,
            (_, who) if who == left.who && at_every_departure && later == nth + 1 => Fate::Owed(later, Reason::Return),
            (_, who) if who == left.who => Fate::Nothing,
            (_, Who::Person(_)) => Fate::Owed(later, Reason::NextUser),
            (_, Who::Account(_) | Who::Nameless) => Fate::Owed(later, Reason::UnknownUser),
        };
    }
    Fate::Waiting
}

fn is_leaver(stretches: &[Stretch], nth: usize, fate: &Fate) -> bool {
    matches!(fate, Fate::Waiting) && subject(stretches[nth].who).is_some() && nth + 1 < stretches.len()
}

fn debt(stretches: &[Stretch], nth: usize, fate: &Fate) -> Option<Owed> {
    let Fate::Owed(later, reason) = *fate else { return None };
    let (left, end, cause) = (stretches[nth], stretches[nth + 1].event, stretches[later].event);
    let somebody_has_it_since = match reason {
        Reason::NextUser | Reason::UnknownUser => cause.at,
        Reason::LeftSight | Reason::Return => end.at,
    };
    Some(Owed {
        custody: left.event.id,
        subject: subject(left.who)?,
        departed_at: end.at,
        departed_by: end.id,
        exposed_from: somebody_has_it_since,
        because: cause.id,
        reason,
    })
}

fn custody(stretches: &[Stretch], nth: usize) -> Custody {
    let Stretch { event, holder, .. } = stretches[nth];
    Custody {
        id: event.id,
        holder,
        started_at: event.at,
        started: if event.how == How::Told { Known::Observed } else { Known::Reconciled },
        ended: stretches.get(nth + 1).map(|next| end(stretches[nth].who, next)),
    }
}

fn end(who: Who, next: &Stretch) -> Ended {
    let Event { at, id: by, .. } = next.event;
    let into = match next.event.what {
        What::Gone => Departure::Gone,
        What::Erased => Departure::Erased,
        What::Enrolled(_) if subject(who).is_some() => Departure::ReEnrolled,
        What::With(_) | What::Enrolled(_) if next.who == Who::Pool => Departure::Return,
        What::With(_) | What::Enrolled(_) | What::Nameless | What::Silent => Departure::Next,
    };
    let how = match (next.event.how, into) {
        (How::Read, _) => Known::Reconciled,
        (How::Told, Departure::Next | Departure::ReEnrolled) => Known::Inferred,
        (How::Told, Departure::Return | Departure::Gone | Departure::Erased) => Known::Observed,
    };
    Ended { at, by, how, into }
}
