//! Handover remembers who holds each shared iPad, and revokes the previous holder's Microsoft Entra ID tokens when the
//! device changes hands.
//!
//! The rooms, and what each may know, are told in `ARCHITECTURE.md`; `tests/walls.rs` holds them.

pub mod app;
pub mod cli;
pub mod custody;
pub mod entra;
pub mod intake;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod store;
pub mod web;
