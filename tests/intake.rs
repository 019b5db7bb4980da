//! What the intake room understands, shown with bodies as they are sent, bodies that nobody should send, and a UEM that
//! answers over real HTTP.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

#[path = "intake/fixtures.rs"]
mod fixtures;
#[path = "intake/hostile.rs"]
mod hostile;
#[path = "intake/properties.rs"]
mod properties;
#[path = "intake/rest.rs"]
mod rest;
