//! `GET /api/v1/audit`: the audit history, newest first.

use std::sync::Arc;

use crate::store::asking::audit::{self, AuditEntry, Filter};
use crate::store::asking::{Page, Span};
use crate::web::api::{devices, people};
use crate::web::refusal::Problem;
use crate::web::request::{Asked, paging};
use crate::web::{Refusal, Site};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::IntoParams;

/// What may be asked.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::web) struct Query {
    /// About this device.
    device: Option<String>,
    /// About this person: UPN or object id.
    person: Option<String>,
    /// Of this action.
    action: Option<String>,
    /// From this moment on.
    from: Option<DateTime<Utc>>,
    /// Before this moment.
    to: Option<DateTime<Utc>>,
    /// How many items, from 1 to 500; 50 unless told.
    limit: Option<u16>,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
}

/// The audit history, newest first.
#[utoipa::path(
    get,
    path = "/audit",
    operation_id = "listAudit",
    tag = "audit",
    security(("token" = [])),
    params(Query),
    responses(
        (status = 200, description = "A page of audit entries", body = Page<AuditEntry>),
        (status = 400, description = "A parameter cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such thing", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The name is ambiguous, or the state no longer fits", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; `Retry-After` says when to come again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::web) async fn audit(
    State(site): State<Arc<Site>>,
    Asked(query): Asked<Query>,
) -> Result<Json<Page<AuditEntry>>, Refusal> {
    let paging = paging(query.limit, query.cursor)?;
    let mut tx = site.store.read().await?;
    let device = match &query.device {
        Some(device) => Some(devices::named(&mut tx, device).await?),
        None => None,
    };
    let person = match &query.person {
        Some(person) => Some(people::named(&mut tx, person).await?),
        None => None,
    };
    let span = Span { from: query.from, to: query.to };
    Ok(Json(audit::list(&mut tx, &Filter { device, person, action: query.action, span }, &paging).await?))
}
