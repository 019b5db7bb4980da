//! What the commands need of the running service: one function per deed, with everything it is given.
//!
//! The commands read arguments and print; what is done is done here, through the other rooms.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

#[cfg(feature = "sandbox")]
use super::args::{Demo, Sandbox};
use super::config::{Config, Source};
use super::import::{Batch, Content, Counts};
use super::{house, serve};
use crate::app::operate::{Action, NotDone};
use crate::app::receive::Received;
pub(crate) use crate::app::replay::Replayed;
use crate::store::Store;
use crate::store::times::utc;

/// The time.
pub(crate) fn now() -> DateTime<Utc> {
    utc(house::clock()())
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

/// Runs everything until the process is asked to stop.
pub(crate) async fn serve(config: Config) -> anyhow::Result<()> {
    serve::serve(&config).await
}

/// Tells the whole story against the sandbox.
#[cfg(feature = "sandbox")]
pub(crate) async fn demo(options: Demo) -> anyhow::Result<()> {
    super::demo::demo(options.exit).await
}

/// Runs the sandbox alone; one line of JSON says where.
#[cfg(feature = "sandbox")]
pub(crate) async fn sandbox(options: Sandbox) -> anyhow::Result<()> {
    let settings = crate::sandbox::Settings { folder: Some(options.folder), ..crate::sandbox::Settings::default() };
    crate::sandbox::run(settings).await.context("the sandbox cannot run")
}

/// Takes in lines that a source said, each as its webhook would be; what cannot be read goes to quarantine.
pub(crate) async fn take_in(
    config: &Config,
    store: &Store,
    source: &Source,
    batch: Batch<'_>,
) -> anyhow::Result<Counts> {
    let app = house::app(config, store.clone())?;
    let mut counts = Counts::default();
    let mut numbers = Vec::new();
    let mut bodies = Vec::new();
    for line in batch.lines {
        match &line.content {
            Content::Json(json) => bodies.push(Bytes::copy_from_slice(json)),
            Content::Record(record) => {
                let fields = batch.header.into_iter().flat_map(|header| header.iter().zip(record.iter()));
                let object: Map<String, Value> =
                    fields.map(|(name, value)| (name.to_owned(), Value::String(value.to_owned()))).collect();
                bodies.push(Bytes::from(Value::Object(object).to_string()));
            }
            Content::Unreadable(_) => {
                counts.refused.push(line.number);
                continue;
            }
        }
        numbers.push(line.number);
    }
    let json = Some(String::from("application/json"));
    let received = app.receive_many(&source.name, json, bodies).await.context("the lines could not be written down")?;
    for (number, received) in numbers.into_iter().zip(received) {
        match received {
            Received::Recorded(_) => counts.recorded += 1,
            Received::Duplicate(_) => counts.duplicates += 1,
            Received::Quarantined(_) | Received::Malformed(_) => counts.refused.push(number),
        }
    }
    counts.refused.sort_unstable();
    Ok(counts)
}

/// Does what an operator asks. `None`: there is no such revocation. An error that is a refusal (the state does not allow it)
/// says why.
pub(crate) async fn on_revocation(
    config: &Config,
    store: &Store,
    deed: Deed,
    id: Uuid,
    reason: &str,
    actor: &str,
) -> anyhow::Result<Option<()>> {
    let action = match deed {
        Deed::Retry => Action::Retry,
        Deed::Release => Action::Release,
        Deed::Waive => Action::Waive,
    };
    match house::app(config, store.clone())?.operate(action, id, actor, reason).await {
        Ok(()) => Ok(Some(())),
        Err(NotDone::Unknown(_)) => Ok(None),
        Err(NotDone::Unfit { state }) => bail!("the revocation is {state}; that cannot be done to it"),
        Err(NotDone::Store(error)) => Err(error.into()),
    }
}

/// Folds everything again and compares; changes nothing.
pub(crate) async fn replay(config: &Config, store: &Store) -> anyhow::Result<Replayed> {
    let bar = indicatif::ProgressBar::new_spinner();
    let found =
        house::app(config, store.clone())?.replay(|devices| bar.set_message(format!("{devices} devices"))).await?;
    bar.finish_and_clear();
    Ok(found)
}
