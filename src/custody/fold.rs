//! The custody history of one iPad, folded out of what was said about it.
//!
//! The fold cannot fail: what makes no sense is kept as an [`Oddity`], because a confused log must never stop a revocation.
//! Direction comes from comparing holders, never from the name of an event.
//!
//! Laws, each with a property test in `tests/custody`:
//!
//! 1. the order in which events arrived, and how often, makes no difference (I1);
//! 2. folding from a snapshot gives what folding from the beginning gives, for every event after the snapshot;
//! 3. every departure that asks for a revocation has one owed (I4), and nothing else has (I6);
//! 4. consecutive custodies of one person, with nobody in between, owe nothing under `next_user` (I11);
//! 5. custodies of a device do not overlap, leave no gap, and at most the last is open.
//!
//! **The trap of the overtaking read.** The UEM's webhook may reach us before its own database shows the change, so a read
//! taken just after an event may still show the previous user. Taken at its word it would end the custody of the person
//! who just took the device. So a read that falls within [`Policy::settle`] after something was told counts for nothing;
//! this is decided by the source's clock alone, and so comes out the same in every order of arrival.
//!
//! **The trap of the undecided account.** While nothing is known of an account its stretch is transparent: who left before it
//! stays the one who left, and nothing is owed on its account. Once it is decided, the device is folded again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{AccountId, Event, EventId, Holder, How, Moment, Standing, Subject, What};

/// When a departure is owed a revocation, and what a read is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What makes a departure ask for a revocation.
    pub revoke_on: RevokeOn,
    /// A read counts only if nothing was told about the device for so long before it.
    pub settle: Duration,
}

/// What makes a departure ask for a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RevokeOn {
    /// Somebody else follows on the device, or the device leaves our sight.
    NextUser,
    /// Every departure, at once.
    Return,
}

/// One stretch of time with one holder. It is a custody where the holder is a person or unknown; stretches in the pool are
/// kept beside them, so that "who had it then" is one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Custody {
    /// The event that began it.
    pub id: EventId,
    /// Who.
    pub holder: Holder,
    /// From when.
    pub started_at: Moment,
    /// How the beginning is known.
    pub started: Known,
    /// Its end, once it has one.
    pub ended: Option<Ended>,
}

/// The end of a custody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ended {
    /// When.
    pub at: Moment,
    /// The event that showed it.
    pub by: EventId,
    /// How it is known.
    pub how: Known,
    /// What it came to.
    pub into: Departure,
}

/// How one end of a custody is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Known {
    /// The source told it.
    Observed,
    /// It follows from the next holder, or from a new enrolment: nobody told the end itself.
    Inferred,
    /// It was read from the source.
    Reconciled,
}

/// How a custody came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Departure {
    /// Back to the pool.
    Return,
    /// Somebody else has it.
    Next,
    /// Enrolled anew.
    ReEnrolled,
    /// Unenrolled, wiped by the enterprise, or deleted.
    Gone,
    /// Erased.
    Erased,
}

/// A revocation that a departure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owed {
    /// The custody it answers; with the device, its identity.
    pub custody: EventId,
    /// Whose tokens.
    pub subject: Subject,
    /// When they left.
    pub departed_at: Moment,
    /// The event that showed that they left.
    pub departed_by: EventId,
    /// From when somebody else could use what they left behind.
    pub exposed_from: Moment,
    /// The event that made it owed.
    pub because: EventId,
    /// Why.
    pub reason: Reason,
}

/// Why a revocation is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Another person has the device.
    NextUser,
    /// Somebody unknown has the device.
    UnknownUser,
    /// The device left our sight with tokens that may still be on it.
    LeftSight,
    /// The device was returned, and the site revokes at every departure.
    Return,
}

/// An event that does not fit. Kept and shown; never an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Oddity {
    /// A read so soon after an event that it may show the time before it.
    Overtaken,
    /// Somebody took the device while somebody else still had it.
    TakenWhileHeld,
    /// An event that should name a user named nobody.
    Nameless,
    /// The device left our sight twice.
    GoneTwice,
}

/// What the fold has to know of the past to go on: enough to fold the next event, and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// Who has it, since when. Nothing before the first event.
    pub open: Option<Custody>,
    /// Who left, whose tokens may still be on the device, and whom nobody has followed yet.
    pub leaver: Option<Leaver>,
    /// When something was last told.
    pub told_at: Option<Moment>,
    /// The last event folded.
    pub last: Option<(Moment, EventId)>,
}

/// Somebody who left a device that nobody took since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaver {
    /// Their custody.
    pub custody: EventId,
    /// The holder that left. Holds the account, so that what is learned of it later counts.
    pub holder: Holder,
    /// When.
    pub left_at: Moment,
    /// The event that showed it.
    pub left_by: EventId,
}

/// What came out of a fold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folded {
    /// Where the fold stands now.
    pub state: State,
    /// The custodies from the one that was open at the start on, oldest first.
    pub custodies: Vec<Custody>,
    /// The revocations that events of this fold made owed, oldest first.
    pub owed: Vec<Owed>,
    /// What did not fit.
    pub oddities: Vec<(EventId, Oddity)>,
}

/// Folds events onto a state.
///
/// Events may come in any order and more than once. Those that the state has seen already, and those from before it,
/// are passed over: whoever calls with a snapshot calls with what came after it.
///
/// What was learned since the snapshot of the account that had the device then, and of who left before it, counts. What was
/// learned of an account whose stretches all lie before the snapshot does not: that takes a snapshot from before them.
pub fn fold(
    from: State,
    events: impl IntoIterator<Item = Event>,
    standing: impl Fn(AccountId) -> Standing,
    policy: Policy,
) -> Folded {
    let ordered: BTreeMap<_, _> = events.into_iter().map(|event| (event.key(), event)).collect();
    let state = from.seen_with(&standing);
    let mut fold =
        Fold { policy, out: Folded { custodies: state.open.into_iter().collect(), state, ..Folded::default() } };
    fold.hear_who_has_it(&from);
    for (key, event) in ordered {
        if fold.out.state.last.is_none_or(|last| key > last) {
            fold.event(&event, &standing);
            fold.out.state.last = Some(key);
        }
    }
    fold.out.state.open = fold.out.custodies.last().copied();
    fold.out
}

impl State {
    /// The same state, with what is known of its accounts now.
    fn seen_with(mut self, standing: &impl Fn(AccountId) -> Standing) -> Self {
        let again = |holder: &mut Holder| {
            if let Some(account) = holder.account() {
                *holder = Holder::of(account, standing(account));
            }
        };
        if let Some(open) = &mut self.open {
            again(&mut open.holder);
        }
        if let Some(leaver) = &mut self.leaver {
            again(&mut leaver.holder);
        }
        self
    }
}

struct Fold {
    policy: Policy,
    out: Folded,
}

impl Fold {
    /// Decides about who left before the open custody, if something was learned of its account since the snapshot.
    fn hear_who_has_it(&mut self, from: &State) {
        let (Some(open), Some(before)) = (self.out.state.open, from.open) else { return };
        if open.holder == before.holder {
            return;
        }
        if self.out.state.leaver.is_some_and(|leaver| leaver.holder.same(&open.holder)) {
            self.out.state.leaver = None;
        }
        self.answer_for_who_left((open.started_at, open.id), open.holder);
    }

    fn event(&mut self, event: &Event, standing: &impl Fn(AccountId) -> Standing) {
        match event.how {
            How::Told => self.out.state.told_at = Some(event.at),
            How::Read if self.is_overtaken(event.at) => return self.odd(event, Oddity::Overtaken),
            How::Read => {}
        }
        match event.what {
            What::With(account) => self.arrives(event, Holder::of(account, standing(account))),
            What::Enrolled(account) => {
                self.leaves(event, Departure::ReEnrolled);
                self.arrives(event, Holder::of(account, standing(account)));
            }
            What::Nameless => {
                self.odd(event, Oddity::Nameless);
                self.arrives(event, Holder::Unknown(None));
            }
            What::Gone => self.vanishes(event, Departure::Gone),
            What::Erased => self.vanishes(event, Departure::Erased),
            What::Silent => {}
        }
    }

    fn is_overtaken(&self, read_at: Moment) -> bool {
        self.out.state.told_at.is_some_and(|told| read_at.since(told) < self.policy.settle)
    }

    fn odd(&mut self, event: &Event, oddity: Oddity) {
        self.out.oddities.push((event.id, oddity));
    }

    /// Somebody is said to have the device.
    fn arrives(&mut self, event: &Event, holder: Holder) {
        if let Some(open) = self.open() {
            if open.holder.same(&holder) {
                return;
            }
            let into = if matches!(holder, Holder::Pool(_)) { Departure::Return } else { Departure::Next };
            if open.holder.subject().is_some() && into == Departure::Next && event.how == How::Told {
                self.odd(event, Oddity::TakenWhileHeld);
            }
            self.leaves(event, into);
        }
        self.answer_for_who_left(event.key(), holder);
        self.begin(event, holder);
    }

    /// The device is out of our sight, or empty.
    fn vanishes(&mut self, event: &Event, into: Departure) {
        if self.open().is_some_and(|open| open.holder == Holder::Unknown(None)) {
            self.odd(event, Oddity::GoneTwice);
        }
        self.leaves(event, into);
        match (self.policy.revoke_on, into) {
            (RevokeOn::NextUser, Departure::Erased) => self.out.state.leaver = None,
            (RevokeOn::Return, Departure::Erased) => self.owe(event.key(), Reason::Return),
            (_, Departure::Return | Departure::Next | Departure::ReEnrolled | Departure::Gone) => {
                self.owe(event.key(), Reason::LeftSight);
            }
        }
        if self.open().is_none_or(|open| open.holder != Holder::Unknown(None)) {
            self.begin(event, Holder::Unknown(None));
        }
    }

    /// Ends what is open, and keeps who left in mind.
    ///
    /// An undecided holder leaves no trace here: who left before it is still who left. Neither do the pool and a holder whom
    /// nobody named: there is nobody to revoke.
    fn leaves(&mut self, event: &Event, into: Departure) {
        let how = match (event.how, into) {
            (How::Read, _) => Known::Reconciled,
            (How::Told, Departure::Next | Departure::ReEnrolled) => Known::Inferred,
            (How::Told, Departure::Return | Departure::Gone | Departure::Erased) => Known::Observed,
        };
        let keeps = |open: &Custody| into != Departure::ReEnrolled || open.holder.subject().is_some();
        let goes_on = |open: &Custody| {
            open.holder == Holder::Unknown(None) && matches!(into, Departure::Gone | Departure::Erased)
        };
        if let Some(open) = self.out.custodies.last_mut()
            && open.ended.is_none()
            && keeps(open)
            && !goes_on(open)
        {
            open.ended = Some(Ended { at: event.at, by: event.id, how, into });
            if open.holder.subject().is_some() {
                let left = Leaver { custody: open.id, holder: open.holder, left_at: event.at, left_by: event.id };
                self.out.state.leaver = Some(left);
            }
        }
    }

    /// Decides whether the arrival of `next` asks for the revocation of whoever left.
    fn answer_for_who_left(&mut self, (at, by): (Moment, EventId), next: Holder) {
        let Some(leaver) = self.out.state.leaver else { return };
        match (next, self.policy.revoke_on) {
            // Nothing is known of the next account: nothing is owed yet. Or: it lies in the rack, and nobody has it.
            (Holder::Undecided(_), _) | (Holder::Pool(_), RevokeOn::NextUser) => {}
            (Holder::Pool(_), RevokeOn::Return) => self.owe((at, by), Reason::Return),
            // Enrolled anew by the same person: a departure all the same, where every departure counts.
            (Holder::Person(..) | Holder::Unknown(_), RevokeOn::Return)
                if leaver.holder.same(&next) && leaver.left_by == by =>
            {
                self.owe((at, by), Reason::Return);
            }
            (Holder::Person(..) | Holder::Unknown(_), _) if leaver.holder.same(&next) => self.out.state.leaver = None,
            (Holder::Person(..), _) => self.owe((at, by), Reason::NextUser),
            (Holder::Unknown(_), _) => self.owe((at, by), Reason::UnknownUser),
        }
    }

    fn owe(&mut self, (at, because): (Moment, EventId), reason: Reason) {
        if let Some(leaver) = self.out.state.leaver.take()
            && let Some(subject) = leaver.holder.subject()
        {
            let exposed_from = match reason {
                Reason::NextUser | Reason::UnknownUser => at,
                Reason::LeftSight | Reason::Return => leaver.left_at,
            };
            self.out.owed.push(Owed {
                custody: leaver.custody,
                subject,
                departed_at: leaver.left_at,
                departed_by: leaver.left_by,
                exposed_from,
                because,
                reason,
            });
        }
    }

    fn open(&self) -> Option<&Custody> {
        self.out.custodies.last().filter(|custody| custody.ended.is_none())
    }

    fn begin(&mut self, event: &Event, holder: Holder) {
        let started = match event.how {
            How::Told => Known::Observed,
            How::Read => Known::Reconciled,
        };
        self.out.custodies.push(Custody { id: event.id, holder, started_at: event.at, started, ended: None });
    }
}
