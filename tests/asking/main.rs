//! The asking side: the read models and the HTTP room, on both databases.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test's own hands fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod api;
mod models;
mod openapi;
mod plans;
mod reach;
mod serve;
mod tokens;
mod ward;
