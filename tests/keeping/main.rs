//! What the store and the deeds keep to, on both databases: who may write, what is refused, and that the order of arrival
//! makes no difference to what is written down.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test's own hands fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod copy;
mod fences;
mod history;
mod order;
mod reporting;
mod service;
