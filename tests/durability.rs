//! What was acknowledged survives, and nobody is signed out twice for it: the real program, killed with SIGKILL again and
//! again while events come in and the directory has a bad day (S1, R1, R6, R7, I2, I6–I8, I10).

#![cfg(all(feature = "sandbox", unix))]
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "durability/cluster.rs"]
mod cluster;
#[path = "durability/disk.rs"]
mod disk;
#[path = "durability/kill.rs"]
mod kill;
#[path = "durability/ledger.rs"]
mod ledger;
#[path = "durability/many.rs"]
mod many;
#[path = "durability/migrating.rs"]
mod migrating;
#[path = "durability/moving.rs"]
mod moving;
#[path = "durability/paused.rs"]
mod paused;
#[path = "durability/program.rs"]
mod program;
#[path = "durability/replaced.rs"]
mod replaced;
#[path = "durability/rounds.rs"]
mod rounds;
#[path = "durability/schema.rs"]
mod schema;
#[path = "keeping/service.rs"]
mod service;
#[path = "durability/stops.rs"]
mod stops;
#[path = "durability/strace.rs"]
mod strace;
