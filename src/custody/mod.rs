//! Who holds which iPad, what we owe, and what to do next.
//!
//! The core is pure: it uses `std` and nothing else, reads no clock, and cannot fail.

mod moment;
mod verdict;

pub use moment::Moment;
pub use verdict::Verdict;
