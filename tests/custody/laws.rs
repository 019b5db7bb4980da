//! The laws of the fold.

use std::collections::BTreeMap;

use handover::custody::{
    AccountId, Custody, Departure, Event, EventId, Folded, Holder, Moment, Owed, PersonId, Policy, RevokeOn, Standing,
    State, Subject, What, fold,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::model::{History, history};
use crate::world::{World, account, decided, delivery, thorough, world, world_at_the_ends_of_time};

fn scratch(world: &World) -> Folded {
    fold(State::default(), world.events.iter().copied(), world.standing(), world.policy)
}

/// Custodies and debts as a store would have them that wrote down one fold after another.
#[derive(Default)]
struct Book {
    custodies: BTreeMap<(Moment, EventId), Custody>,
    owed: Vec<Owed>,
    state: State,
}

impl Book {
    fn write(&mut self, folded: Folded) {
        self.custodies.extend(folded.custodies.into_iter().map(|custody| ((custody.started_at, custody.id), custody)));
        self.owed.extend(folded.owed);
        self.state = folded.state;
    }

    fn history(self) -> History {
        History { custodies: self.custodies.into_values().collect(), owed: self.owed, state: self.state }
    }
}

fn as_history(folded: Folded) -> History {
    History { custodies: folded.custodies, owed: folded.owed, state: folded.state }
}

/// Somebody whose tokens may stay behind: the rule, said once more and apart from the code.
fn leaves_tokens(holder: Holder) -> Option<Subject> {
    match holder {
        Holder::Person(person, _) => Some(Subject::Person(person)),
        Holder::Unknown(Some(account)) => Some(Subject::Account(account)),
        Holder::Unknown(None) | Holder::Pool(_) | Holder::Undecided(_) => None,
    }
}

fn debts_of(folded: &Folded, custody: EventId) -> Vec<&Owed> {
    folded.owed.iter().filter(|debt| debt.custody == custody).collect()
}

fn first_mention(events: &[Event], account: AccountId) -> Option<(Moment, EventId)> {
    events
        .iter()
        .find(|event| matches!(event.what, What::With(named) | What::Enrolled(named) if named == account))
        .map(Event::key)
}

proptest! {
    #![proptest_config(thorough())]

    /// An id sorts by the time of its event, lies between the first ids of its millisecond and the next, and is a uuid.
    #[test]
    fn ids_lie_by_time(
        milliseconds in 0_i64..(1 << 48) - 1,
        micros in 0_i64..1000,
        digest in any::<[u8; 16]>(),
    ) {
        let at = Moment(milliseconds * 1000 + micros);
        let id = EventId::timed(Some(at), digest);

        prop_assert!(EventId::first_at(at) <= id && id < EventId::first_at(Moment(at.0 + 1000)));
        prop_assert_eq!(&id.0[9..], &digest[9..]);
        prop_assert_eq!((id.0[6] >> 4, id.0[8] >> 6), (8, 2));
        prop_assert!(EventId::timed(None, digest) < EventId::first_at(Moment(1000)));
        prop_assert_eq!(EventId::timed(Some(Moment(-1 - at.0)), digest), EventId::timed(None, digest));
    }

    /// I1: order and multiplicity of delivery make no difference, and what comes out is what the model says.
    #[test]
    fn any_delivery_gives_the_history_of_the_model(world in world(), delivery in delivery()) {
        let expected = history(&world.events, world.standing(), world.policy);

        let folded = fold(State::default(), world.delivered(&delivery), world.standing(), world.policy);

        prop_assert_eq!(as_history(folded), expected);
    }

    /// I1: any split into batches, folded one after another, with earlier events heard again, gives the same history.
    #[test]
    fn any_split_into_batches_gives_the_history_of_the_model(
        world in world(),
        cuts in proptest::collection::vec(any::<Index>(), 0..6),
        echo in any::<Index>(),
    ) {
        let expected = history(&world.events, world.standing(), world.policy);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(world.events.len() + 1)).collect();
        cuts.extend([0, world.events.len()]);
        cuts.sort_unstable();

        let mut book = Book::default();
        for pair in cuts.windows(2) {
            let heard_again = &world.events[echo.index(pair[0] + 1)..pair[0]];
            let batch = world.events[pair[0]..pair[1]].iter().rev().chain(heard_again).copied();
            book.write(fold(book.state, batch, world.standing(), world.policy));
        }

        prop_assert_eq!(book.history(), expected);
    }

    /// Law 2: an older snapshot with all that came after it, late or not, gives what folding from the beginning gives.
    #[test]
    fn a_late_event_lands_after_an_older_snapshot(world in world(), snapshot in any::<Index>(), delivery in delivery()) {
        let expected = as_history(scratch(&world));
        let (before, since) = world.events.split_at(snapshot.index(world.events.len() + 1));
        let late = World { events: since.to_vec(), ..world.clone() };

        let mut book = Book::default();
        book.write(fold(State::default(), before.iter().copied(), world.standing(), world.policy));
        book.write(fold(book.state, late.delivered(&delivery), world.standing(), world.policy));

        prop_assert_eq!(book.history(), expected);
    }

    /// Law 5: custodies follow each other without overlap and without a gap, and only the last is open.
    #[test]
    fn custodies_lie_end_to_end(world in world()) {
        let folded = scratch(&world);

        for pair in folded.custodies.windows(2) {
            let end = pair[0].ended.expect("only the last is open");
            prop_assert_eq!((end.at, end.by), (pair[1].started_at, pair[1].id));
            prop_assert!((pair[0].started_at, pair[0].id) < (pair[1].started_at, pair[1].id));
        }
        prop_assert!(folded.custodies.last().is_none_or(|last| last.ended.is_none()));
        prop_assert_eq!(folded.custodies.last().copied(), folded.state.open);
    }

    /// I4: every departure that asks for a revocation has one, and only one.
    #[test]
    fn every_required_departure_is_owed_once(world in world()) {
        let folded = scratch(&world);

        for (left, later) in (0..folded.custodies.len()).map(|nth| folded.custodies.split_at(nth + 1)) {
            let left = left.last().expect("it was split after one");
            if left.ended.is_none() {
                continue;
            }
            let Some(subject) = leaves_tokens(left.holder) else { continue };
            // Who is known to have had it next, if anybody is; nobody decides in between.
            let next = later.iter().find(|next| !matches!(next.holder, Holder::Undecided(_)));
            let next_user = later.iter().find(|next| !matches!(next.holder, Holder::Undecided(_) | Holder::Pool(_)));
            let somebody_else = |next: &Custody| leaves_tokens(next.holder) != Some(subject);
            let until_then = later.iter().take_while(|custody| Some(custody.id) != next_user.map(|next| next.id));
            let erased_first = std::iter::once(left)
                .chain(until_then)
                .any(|custody| custody.ended.is_some_and(|end| end.into == Departure::Erased));
            let required = match world.policy.revoke_on {
                RevokeOn::NextUser => next_user.is_some_and(somebody_else) && !erased_first,
                RevokeOn::Return => next.is_some_and(|next| somebody_else(next) || next.id == later[0].id),
            };
            let debts = debts_of(&folded, left.id);
            prop_assert_eq!(debts.len(), usize::from(required), "{:?}", left);
        }
    }

    /// I6: nothing is owed without a departure of that very person from that very custody, and a cause not before it.
    #[test]
    fn nothing_is_owed_without_a_departure(world in world()) {
        let folded = scratch(&world);

        for debt in &folded.owed {
            let left = folded.custodies.iter().find(|custody| custody.id == debt.custody).expect("a custody");
            let end = left.ended.expect("it has ended");
            prop_assert_eq!(leaves_tokens(left.holder), Some(debt.subject));
            prop_assert_eq!((end.at, end.by), (debt.departed_at, debt.departed_by));
            let cause = world.events.iter().find(|event| event.id == debt.because).expect("an event");
            prop_assert!(cause.key() >= (debt.departed_at, debt.departed_by));
            prop_assert!(debt.departed_at <= debt.exposed_from && debt.exposed_from <= cause.at);
        }
    }

    /// I6: who still has the device and never left it is never owed.
    #[test]
    fn who_never_left_is_never_owed(world in world()) {
        let folded = scratch(&world);

        for debt in &folded.owed {
            let theirs = folded.custodies.iter().filter(|custody| leaves_tokens(custody.holder) == Some(debt.subject));
            prop_assert!(theirs.into_iter().any(|custody| custody.ended.is_some()));
        }
        if let Some(open) = folded.state.open {
            prop_assert!(debts_of(&folded, open.id).is_empty());
        }
    }

    /// I11: the same person again, with nobody in between, owes nothing when the next user counts.
    #[test]
    fn the_same_person_again_owes_nothing(mut world in world()) {
        world.policy = Policy { revoke_on: RevokeOn::NextUser, ..world.policy };

        let folded = scratch(&world);

        let had: Vec<_> = folded.custodies.iter()
            .filter(|custody| !matches!(custody.holder, Holder::Pool(_) | Holder::Undecided(_)))
            .collect();
        for pair in had.windows(2) {
            if let (Holder::Person(one, _), Holder::Person(two, _)) = (pair[0].holder, pair[1].holder) && one == two {
                prop_assert!(debts_of(&folded, pair[0].id).is_empty());
            }
        }
    }

    /// A revocation once owed stays as it is, whatever happens later.
    #[test]
    fn a_later_event_takes_nothing_away(world in world(), cut in any::<Index>()) {
        let (before, _) = world.events.split_at(cut.index(world.events.len() + 1));

        let early = fold(State::default(), before.iter().copied(), world.standing(), world.policy);
        let late = scratch(&world);

        prop_assert!(late.owed.starts_with(&early.owed), "{:?} became {:?}", early.owed, late.owed);
    }

    /// What is learned of an account takes away nothing that is owed for those who left before it, unless it is one of them.
    #[test]
    fn deciding_an_account_takes_nothing_away(mut world in world(), who in account(), becomes in decided()) {
        let place = usize::from(who.0[0]);
        world.standings[place] = Standing::Undecided;
        let before = scratch(&world);
        world.standings[place] = becomes;
        let after = scratch(&world);

        let from = first_mention(&world.events, who);
        for debt in &before.owed {
            let custody = before.custodies.iter().find(|custody| custody.id == debt.custody).expect("a custody");
            let is_earlier = from.is_none_or(|from| (custody.started_at, custody.id) < from);
            let is_theirs = matches!(becomes, Standing::Person(person) if debt.subject == Subject::Person(person));
            if is_earlier && !is_theirs {
                prop_assert!(
                    after.owed.iter().any(|now| (now.custody, now.subject) == (debt.custody, debt.subject)),
                    "{:?} got lost", debt
                );
            }
        }
    }

    /// A snapshot taken while nothing was known of the account that has the device loses nobody once something is.
    #[test]
    fn deciding_the_open_account_after_a_snapshot_loses_nobody(
        mut world in world(),
        cut in any::<Index>(),
        becomes in select(vec![stranger(), Standing::Pool, Standing::Unresolved]),
    ) {
        // The last event before the snapshot names a newcomer; some of those after it do, too.
        let newcomer = AccountId([u8::try_from(world.standings.len()).expect("a few"); 16]);
        let cut = cut.index(world.events.len() + 1);
        for (nth, event) in world.events.iter_mut().enumerate() {
            let is_last = nth + 1 == cut;
            if is_last && matches!(event.what, What::Enrolled(_)) {
                event.what = What::Enrolled(newcomer);
            } else if is_last || (nth >= cut && event.what == What::With(AccountId([0; 16]))) {
                event.what = What::With(newcomer);
            }
        }
        let (before, since) = world.events.split_at(cut);

        let mut book = Book::default();
        world.standings.push(Standing::Undecided);
        book.write(fold(book.state, before.iter().copied(), world.standing(), world.policy));
        world.standings.pop();
        world.standings.push(becomes);
        book.write(fold(book.state, since.iter().copied(), world.standing(), world.policy));

        let whole = scratch(&world);
        let names = |owed: &[Owed]| -> Vec<_> { owed.iter().map(|debt| (debt.custody, debt.because)).collect() };
        prop_assert_eq!(names(&book.owed), names(&whole.owed));
    }

    /// The fold is total, and agrees with the model to the ends of time.
    #[test]
    fn the_ends_of_time_hold(world in world_at_the_ends_of_time(), delivery in delivery()) {
        let expected = history(&world.events, world.standing(), world.policy);

        let folded = fold(State::default(), world.delivered(&delivery), world.standing(), world.policy);

        prop_assert_eq!(as_history(folded), expected);
    }

    /// The fold is total for any state at all, even one that no fold could have left behind.
    #[test]
    fn no_state_makes_it_fail(one in world_at_the_ends_of_time(), other in world()) {
        let state = scratch(&one).state;
        let strange = State { last: None, open: scratch(&other).state.open, ..state };

        for state in [state, strange] {
            let folded = fold(state, other.events.iter().copied(), other.standing(), other.policy);
            prop_assert!(folded.custodies.last().is_none_or(|last| last.ended.is_none()));
        }
    }
}

/// Somebody whom no world knows yet.
fn stranger() -> Standing {
    Standing::Person(PersonId([9; 16]))
}
