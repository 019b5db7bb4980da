//! The PostgreSQL that Handover is told of: which servers it refuses, how the way there is secured, and what becomes of events
//! while a primary dies and its standby is promoted (S9, S10, K17, M11). Every server is the test's own.

#![cfg(all(feature = "sandbox", unix))]
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "failover/rounds.rs"]
mod rounds;
#[path = "failover/secured.rs"]
mod secured;
#[path = "failover/server.rs"]
mod server;
