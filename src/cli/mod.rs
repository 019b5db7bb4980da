//! The commands: what they are called, what they print, and how they end.
//!
//! They promise one thing to scripts: exit code 0 is done, 1 is found wrong, 2 is misused; results go to standard output,
//! everything else to standard error.

pub mod config;
#[cfg(feature = "sandbox")]
pub mod demo;
pub mod house;
pub mod serve;
pub(crate) mod text;
pub(crate) mod time;
