//! Several instances over one database: one leads, all share the work and the pace, and none does what another has done.
//!
//! The instances are services of one process, each with its own connections. What only PostgreSQL can show is told there
//! alone.

#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test's own hands fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod bells;
mod lead;
#[path = "../custody/model.rs"]
mod model;
mod order;
mod pace;
mod race;
mod site;
