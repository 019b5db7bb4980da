//! Who holds which iPad, what we owe, and what to do next.
//!
//! The core is pure: it uses `std` and nothing else, reads no clock, throws no dice, and cannot fail. What is argued about is
//! decided here; the other rooms do.
//!
//! [`fold()`] turns what was said about a device into custodies and into what is owed; [`Stamps`] and [`answered_by_earlier`]
//! say what counts as an answer to it; [`after_answer`] says how to go on.

mod attempt;
mod event;
mod fold;
mod moment;
mod restored;
mod revocation;
mod verdict;

pub use attempt::{Dice, Step, Tries, after_answer, after_lost_answer, next_read};
pub use event::{AccountId, Event, EventId, Holder, How, PersonId, Standing, Subject, What};
pub use fold::{Custody, Departure, Ended, Folded, Known, Leaver, Oddity, Owed, Policy, Reason, RevokeOn, State, fold};
pub use moment::Moment;
pub use restored::{Claimed, Debt, Doubt, Judgement, Sight, answered_by_stamp, judge};
pub use revocation::{
    Stamps, Standpoint, Why, answered_by_earlier, first_state, hold_if_not_in_inventory, hold_if_restored,
};
pub use verdict::Verdict;
