//! `GET /api/v1/revocations`: what is owed, held, done and failed, the newest first.

use std::sync::Arc;

use crate::custody::Standpoint;
use crate::store::asking::Page;
use crate::store::asking::revocations::{self, Filter, Revocation};
use crate::web::api::{devices, people};
use crate::web::refusal::Problem;
use crate::web::request::{Asked, paging};
use crate::web::{Refusal, Site};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

/// What may be asked.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::web) struct Query {
    /// In this state.
    state: Option<String>,
    /// Because of a departure from this device.
    device: Option<String>,
    /// Of this person: UPN or object id.
    person: Option<String>,
    /// How many items, from 1 to 500; 50 unless told.
    limit: Option<u16>,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
}

/// What is owed, held, done and failed, the newest first.
#[utoipa::path(
    get,
    path = "/revocations",
    operation_id = "listRevocations",
    tag = "revocations",
    security(("token" = [])),
    params(Query),
    responses(
        (status = 200, description = "A page of revocations", body = Page<Revocation>),
        (status = 400, description = "A parameter cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such thing", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The name is ambiguous, or the state no longer fits", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; `Retry-After` says when to come again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::web) async fn list(
    State(site): State<Arc<Site>>,
    Asked(query): Asked<Query>,
) -> Result<Json<Page<Revocation>>, Refusal> {
    let paging = paging(query.limit, query.cursor)?;
    let state = query.state.map(|name| Standpoint::named(&name).ok_or(name)).transpose();
    let state = state.map_err(|name| Refusal::Unintelligible(format!("no revocation is ever in the state {name}")))?;
    let mut tx = site.store.read().await?;
    let device = match &query.device {
        Some(device) => Some(devices::named(&mut tx, device).await?),
        None => None,
    };
    let person = match &query.person {
        Some(person) => Some(people::named(&mut tx, person).await?),
        None => None,
    };
    Ok(Json(revocations::list(&mut tx, &Filter { state, device, person }, &paging).await?))
}
