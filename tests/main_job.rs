//! The main job from end to end: real webhooks over HTTP, a directory over TLS, and both databases.
//!
//! Each test is a story of a ward, told once on SQLite and once on PostgreSQL at the same time. PostgreSQL is found through
//! `HANDOVER_TEST_POSTGRES`; without it that half is left out with a message, unless `HANDOVER_TEST_POSTGRES_REQUIRED=1`.

#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "main_job/directory.rs"]
mod directory;
#[path = "main_job/hands.rs"]
mod hands;
#[path = "main_job/hostile.rs"]
mod hostile;
#[path = "intake/hostile.rs"]
mod hostile_bodies;
#[path = "main_job/people.rs"]
mod people;
#[path = "main_job/restore.rs"]
mod restore;
#[path = "main_job/sight.rs"]
mod sight;
#[path = "main_job/town.rs"]
mod town;
