//! HTTP: intake routes and the API.
//!
//! Handlers translate: a request, one call into `app` or `store`, an answer. What the service does is behind [`Deeds`], so
//! that this room has no rules of its own and can be tested without the others.
//!
//! Two routers for two listeners: [`intake()`] is all that a UEM can reach, [`api()`] is for people and programs.

pub mod api;
mod caller;
mod deeds;
mod health;
mod intake;
pub mod proxies;
mod refusal;
mod request;
pub mod serve;
mod watch;

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use metrics_exporter_prometheus::PrometheusHandle;
use uuid::Uuid;

use crate::custody::Moment;
use crate::store::Store;

pub use refusal::Refusal;

/// Something that is being done.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the handlers have.
pub struct Site {
    /// Where the answers are.
    pub store: Store,
    /// What is done.
    pub deeds: Arc<dyn Deeds>,
    /// The numbers.
    pub metrics: PrometheusHandle,
    /// The time.
    pub clock: Arc<dyn Fn() -> Moment + Send + Sync>,
    /// How many people a second may be revoked; for the projected drain.
    pub writes_per_second: f64,
    /// Whether nothing is sent.
    pub shadow: bool,
}

impl Site {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros((self.clock)().0).unwrap_or_default()
    }
}

/// What the service does, as far as HTTP can ask for it.
pub trait Deeds: Send + Sync {
    /// Whether these are the credentials of that source. An unknown source takes as long as a wrong secret (C6).
    fn greet(&self, source: &str, authorization: Option<&[u8]>) -> bool;

    /// Takes in one body of a source that was greeted. When it says yes, everything is on disk.
    fn receive(
        &self,
        source: String,
        content_type: Option<String>,
        body: Bytes,
    ) -> Doing<'_, Result<Received, Trouble>>;

    /// Takes in one body a line. The lines are counted from 1.
    fn receive_many(&self, source: String, lines: Vec<Bytes>) -> Doing<'_, Result<Many, Trouble>>;

    /// Tries a revocation again now.
    fn retry(&self, id: Uuid, actor: String, reason: String) -> Doing<'_, Result<(), Refused>>;

    /// Lets a held revocation go.
    fn release(&self, id: Uuid, actor: String, reason: String) -> Doing<'_, Result<(), Refused>>;

    /// Closes a revocation without sending it.
    fn waive(&self, id: Uuid, actor: String, reason: String) -> Doing<'_, Result<(), Refused>>;
}

/// What became of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It is an event, and was new.
    Recorded(Uuid),
    /// It is an event that we had.
    Duplicate(Uuid),
    /// It is well-formed and cannot be read; it is kept under this id.
    Quarantined(Uuid),
}

/// What became of many lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Many {
    /// How many were new events.
    pub recorded: u64,
    /// How many we had.
    pub duplicate: u64,
    /// How many are kept and cannot be read.
    pub quarantined: u64,
    /// Those that are nothing at all.
    pub refused: Vec<Line>,
}

/// A line that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which, counted from 1.
    pub line: u64,
    /// Why.
    pub why: String,
}

/// Why nothing was taken in.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The body is not well-formed.
    #[error("the body is not well-formed: {0}")]
    Malformed(String),
    /// More is waiting than can be written in time.
    #[error("too much is waiting to be written")]
    Overloaded,
    /// The database could not commit. The sender has to repeat itself.
    #[error("it could not be written down")]
    Unwritten(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why an operator's action was not done.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such revocation.
    #[error("there is no such revocation")]
    Unknown,
    /// It is in a state in which this cannot be done.
    #[error("the revocation is {0} now, which leaves nothing to do")]
    DoesNotFit(String),
    /// Somebody else changed it at the same time.
    #[error("somebody else changed the revocation at the same time")]
    Overtaken,
    /// The database could not commit.
    #[error("it could not be written down")]
    Unwritten(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Everything that the intake listener answers.
pub fn intake(site: Arc<Site>) -> Router {
    watch::watched("intake", intake::router().merge(health::probes()).with_state(site))
}

/// Everything that the API listener answers.
pub fn api(site: Arc<Site>) -> Router {
    let (routes, document) = api::router(&site).split_for_parts();
    let routes = routes.merge(health::probes()).merge(health::metrics()).merge(health::openapi(&document));
    watch::watched("api", routes.with_state(site))
}
