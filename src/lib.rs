//! Handover remembers who holds each shared iPad.

#[cfg(feature = "sandbox")]
pub mod sandbox;
