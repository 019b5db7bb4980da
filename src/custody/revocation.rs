//! The life of a revocation, from being owed to being answered.
//!
//! `open` → `in_flight` → `accepted` → `verified`; or it waits, `held` or `needs_operator`; or it is closed otherwise. There is
//! no "given up", and no number of tries after which it would be.

use std::time::Duration;

use super::{Moment, Subject};

/// Where a revocation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standpoint {
    /// To be sent when due.
    Open,
    /// An attempt that covers it is under way.
    InFlight,
    /// The directory said yes; the effect is being read back.
    Accepted,
    /// The effect was seen.
    Verified,
    /// Waits for a check or a person; counted and shown.
    Held,
    /// Only a person can say how to go on.
    NeedsOperator,
    /// An earlier attempt for the same person answers it too (R5).
    CoveredByOther,
    /// Nothing to revoke: the account is deleted, or the reason went away before anything was sent.
    Moot,
    /// The directory cannot revoke this person (guests sign in at home).
    NotEffective,
    /// A named person closed it, with a reason.
    Waived,
    /// Shadow mode: it would have been sent.
    Shadow,
}

impl Standpoint {
    /// Every state there is.
    pub const ALL: [Self; 11] = [
        Self::Open,
        Self::InFlight,
        Self::Accepted,
        Self::Verified,
        Self::Held,
        Self::NeedsOperator,
        Self::CoveredByOther,
        Self::Moot,
        Self::NotEffective,
        Self::Waived,
        Self::Shadow,
    ];

    /// Its name in SQL, JSON and on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::InFlight => "in_flight",
            Self::Accepted => "accepted",
            Self::Verified => "verified",
            Self::Held => "held",
            Self::NeedsOperator => "needs_operator",
            Self::CoveredByOther => "covered_by_other",
            Self::Moot => "moot",
            Self::NotEffective => "not_effective",
            Self::Waived => "waived",
            Self::Shadow => "shadow",
        }
    }

    /// The state of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing has been sent for it, so that it can still be closed without an answer.
    pub fn is_unsent(self) -> bool {
        match self {
            Self::Open | Self::Held | Self::NeedsOperator | Self::Shadow => true,
            Self::InFlight
            | Self::Accepted
            | Self::Verified
            | Self::CoveredByOther
            | Self::Moot
            | Self::NotEffective
            | Self::Waived => false,
        }
    }

    /// Whether somebody or something still has to do something about it.
    pub fn is_unfinished(self) -> bool {
        match self {
            Self::Open | Self::InFlight | Self::Accepted | Self::Held | Self::NeedsOperator => true,
            Self::Verified | Self::CoveredByOther | Self::Moot | Self::NotEffective | Self::Waived | Self::Shadow => {
                false
            }
        }
    }
}

/// Why a revocation waits for a person or a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The event that made it owed came more than a day late.
    Late,
    /// The source's inventory does not know the device, or has not been asked yet.
    UnknownDevice,
    /// Its account is nobody we know.
    UnknownPerson,
    /// Several people could be meant.
    SeveralPeople,
    /// The directory forbids it for this person: an administrator, or a permission is missing.
    Forbidden,
    /// The directory says that the request is wrong.
    Refused,
    /// Its outcome cannot be known: the stamp may not be read.
    Unreadable,
    /// The database was restored, and the stamp does not show that it was answered meanwhile.
    Restored,
}

impl Why {
    /// Every reason there is.
    pub const ALL: [Self; 8] = [
        Self::Late,
        Self::UnknownDevice,
        Self::UnknownPerson,
        Self::SeveralPeople,
        Self::Forbidden,
        Self::Refused,
        Self::Unreadable,
        Self::Restored,
    ];

    /// The reason of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.name() == name)
    }

    /// Its name in SQL and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::UnknownDevice => "unknown_device",
            Self::UnknownPerson => "unknown_person",
            Self::SeveralPeople => "several_people",
            Self::Forbidden => "forbidden",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
            Self::Restored => "restored",
        }
    }

    /// What it means and what to do about it.
    pub fn explained(self) -> &'static str {
        match self {
            Self::Late => {
                "the event that made it owed arrived more than a day after it happened; release it to send it now"
            }
            Self::UnknownDevice => {
                "the UEM's inventory does not show the device; it goes on by itself once it does, or release it"
            }
            Self::UnknownPerson => {
                "the UEM account could not be tied to an Entra user; correct the user in the UEM or the directory, then retry"
            }
            Self::SeveralPeople => "more than one Entra user fits the UEM account; make them distinct, then retry",
            Self::Forbidden => {
                "Entra refused it for this person; for an administrator give the service principal the role Privileged \
                 Authentication Administrator, otherwise consent to User.RevokeSessions.All, then retry"
            }
            Self::Refused => "Graph called the request wrong; keep the request id for Microsoft's support, then retry",
            Self::Unreadable => {
                "the answer was lost and the effect cannot be read; consent to User.Read.All, then release it"
            }
            Self::Restored => {
                "the database was restored from an earlier state, and the person's stamp does not show that it was answered \
                 since; release it to send it now, or waive it"
            }
        }
    }
}

/// In which state a revocation is when it becomes owed.
///
/// `lateness` is how long after its own time the event that made it owed reached us; `act_within` how late it may be for
/// the revocation to act by itself (E3).
pub fn first_state(
    subject: Subject,
    lateness: Duration,
    act_within: Duration,
    shadow: bool,
) -> (Standpoint, Option<Why>) {
    match subject {
        _ if shadow => (Standpoint::Shadow, None),
        Subject::Account(_) => (Standpoint::NeedsOperator, Some(Why::UnknownPerson)),
        Subject::Person(_) if lateness > act_within => (Standpoint::Held, Some(Why::Late)),
        Subject::Person(_) => (Standpoint::Open, None),
    }
}

/// Holds back what an event made owed about a device that the source's inventory does not show (E9).
pub fn hold_if_not_in_inventory(state: (Standpoint, Option<Why>), shown: bool) -> (Standpoint, Option<Why>) {
    if state.0 == Standpoint::Open && !shown { (Standpoint::Held, Some(Why::UnknownDevice)) } else { state }
}

/// Holds back what a departure asks for that lies before a restore: it may have been answered by what the restore forgot.
pub fn hold_if_restored(state: (Standpoint, Option<Why>), before_restore: bool) -> (Standpoint, Option<Why>) {
    if state.0 == Standpoint::Open && before_restore { (Standpoint::Held, Some(Why::Restored)) } else { state }
}

/// Whether an attempt that began before a departure was known answers it all the same (R5).
///
/// It does if it began at least the skew bound after the departure, and the source's clock is known to be off by no more
/// than that. `began_at` and `departed_at` are by two clocks, which is why the bound has to lie between them.
pub fn answered_by_earlier(
    departed_at: Moment,
    began_at: Moment,
    skew: Duration,
    source_offset: Option<Duration>,
) -> bool {
    source_offset.is_some_and(|offset| offset <= skew) && began_at >= departed_at && began_at.since(departed_at) >= skew
}

/// What is known about the person's stamp around an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamps {
    /// As read just before the attempt.
    pub before: Option<Moment>,
    /// The newest that ever verified a revocation of this person.
    pub verified: Option<Moment>,
}

impl Stamps {
    /// Whether `read` shows the effect of an attempt: it moved past everything seen before, and it is not older than
    /// `not_before`, on the directory's clock, less the skew bound (R6).
    ///
    /// Where no stamp is known from before, a move cannot be seen. Then only a stamp that is not older than `not_before`
    /// itself counts, and only where the directory has said yes (`accepted`); a lost answer proves nothing.
    pub fn show_effect(self, read: Moment, not_before: Moment, skew: Duration, accepted: bool) -> bool {
        match self.before.max(self.verified) {
            Some(known) => read > known && read >= not_before.less(skew),
            None => accepted && read >= whole_second(not_before),
        }
    }
}

/// Stamps and `Date` headers have whole seconds.
fn whole_second(at: Moment) -> Moment {
    Moment(at.0.saturating_sub(at.0.rem_euclid(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::super::{AccountId, PersonId};
    use super::*;

    const SKEW: Duration = Duration::from_secs(300);
    const AMINA: Subject = Subject::Person(PersonId([1; 16]));

    fn at(seconds: i64) -> Moment {
        Moment::from_seconds(seconds)
    }

    #[test]
    fn every_state_has_a_name_of_its_own() {
        for state in Standpoint::ALL {
            assert_eq!(Standpoint::named(state.name()), Some(state));
        }
        assert_eq!(Standpoint::named("given_up"), None);
    }

    #[test]
    fn an_account_that_is_nobody_needs_an_operator_and_shadow_mode_sends_nothing() {
        let day = Duration::from_secs(86_400);
        let nobody = Subject::Account(AccountId([2; 16]));

        assert_eq!(first_state(AMINA, Duration::ZERO, day, false), (Standpoint::Open, None));
        assert_eq!(first_state(AMINA, day * 2, day, false), (Standpoint::Held, Some(Why::Late)));
        assert_eq!(
            first_state(nobody, Duration::ZERO, day, false),
            (Standpoint::NeedsOperator, Some(Why::UnknownPerson))
        );
        assert_eq!(first_state(AMINA, Duration::ZERO, day, true), (Standpoint::Shadow, None));
    }

    #[test]
    fn an_earlier_attempt_counts_only_past_the_skew_bound_and_with_a_known_clock() {
        let near = Some(Duration::from_secs(2));

        assert!(answered_by_earlier(at(1000), at(1300), SKEW, near));
        assert!(!answered_by_earlier(at(1000), at(1299), SKEW, near));
        assert!(!answered_by_earlier(at(1000), at(9000), SKEW, None));
        assert!(!answered_by_earlier(at(1000), at(9000), SKEW, Some(Duration::from_secs(301))));
    }

    #[test]
    fn a_stamp_shows_an_effect_only_if_it_moved_past_all_that_was_seen() {
        let stamps = Stamps { before: Some(at(100)), verified: Some(at(500)) };

        assert!(stamps.show_effect(at(501), at(600), SKEW, false));
        assert!(
            !stamps.show_effect(at(500), at(600), SKEW, false),
            "a stale read of the attempt row is outdone by the last proof"
        );
        assert!(!stamps.show_effect(at(501), at(900), SKEW, false), "older than the debt");
    }

    #[test]
    fn without_a_stamp_from_before_a_lost_answer_proves_nothing() {
        let stamps = Stamps { before: None, verified: None };

        assert!(!stamps.show_effect(at(600), at(600), SKEW, false));
        assert!(stamps.show_effect(at(600), Moment(600_400_000), SKEW, true));
        assert!(!stamps.show_effect(at(599), at(600), SKEW, true));
    }
}
