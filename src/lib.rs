//! Handover remembers who holds each shared iPad, and revokes the previous holder's Microsoft Entra ID tokens when the
//! device changes hands.

pub mod custody;
pub mod store;
pub mod web;
