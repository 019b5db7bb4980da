//! What the commands need of the running service: one function per deed, with everything it is given.
//!
//! The commands read arguments and print; what is done is done here, through the other rooms.

use anyhow::bail;
use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

#[cfg(feature = "sandbox")]
use super::args::{Demo, Sandbox};
use super::config::{Config, Source};
use super::import::{Batch, Counts};
use crate::store::Store;

/// The time.
pub(crate) fn now() -> DateTime<Utc> {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    let now = Utc::now();
    DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}

/// What an operator does with a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Try again at once.
    Retry,
    /// Send one that is held.
    Release,
    /// Close it without sending.
    Waive,
}

/// What replaying found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Replayed {
    /// How many devices were folded again.
    pub(crate) devices: u64,
    /// How many events.
    pub(crate) events: u64,
    /// What differs from what is stored, a sentence each.
    pub(crate) differences: Vec<String>,
}

/// Runs everything until the process is asked to stop.
pub(crate) async fn serve(_config: Config) -> anyhow::Result<()> {
    bail!("serve is not part of this build")
}

/// Tells the whole story against the sandbox.
#[cfg(feature = "sandbox")]
pub(crate) async fn demo(_options: Demo) -> anyhow::Result<()> {
    bail!("demo is not part of this build")
}

/// Runs the sandbox alone.
#[cfg(feature = "sandbox")]
pub(crate) async fn sandbox(_options: Sandbox) -> anyhow::Result<()> {
    bail!("sandbox is not part of this build")
}

/// Takes in lines that a source said, each as its webhook would be; what cannot be read goes to quarantine.
pub(crate) async fn take_in(
    _config: &Config,
    _store: &Store,
    _source: &Source,
    _batch: Batch<'_>,
) -> anyhow::Result<Counts> {
    bail!("import is not part of this build")
}

/// Does what an operator asks, and says what state the revocation is in then. `None`: there is no such revocation. An
/// error that is a refusal (the state does not allow it) says why.
pub(crate) async fn on_revocation(
    _config: &Config,
    _store: &Store,
    _deed: Deed,
    _id: Uuid,
    _reason: &str,
    _actor: &str,
) -> anyhow::Result<Option<()>> {
    bail!("acting on revocations is not part of this build")
}

/// Folds everything again and compares; changes nothing.
pub(crate) async fn replay(_config: &Config, _store: &Store) -> anyhow::Result<Replayed> {
    bail!("replay is not part of this build")
}
