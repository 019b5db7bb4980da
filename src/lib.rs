//! Handover remembers who holds each shared iPad, and revokes the previous holder's Microsoft Entra ID tokens when the
//! device changes hands.

pub mod cli;
pub mod custody;
pub mod entra;
pub mod intake;
pub mod store;
