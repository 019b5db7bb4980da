//! `GET /api/v1/devices/{device}/timeline`: everything that happened to the device, newest first.

use std::sync::Arc;

use crate::store::asking::Page;
use crate::store::asking::timeline::{self, TimelineEntry};
use crate::web::api::devices::named;
use crate::web::refusal::Problem;
use crate::web::request::{Asked, Named, paging};
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
    /// How many items, from 1 to 500; 50 unless told.
    limit: Option<u16>,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
}

/// Everything that happened to the device, newest first.
#[utoipa::path(
    get,
    path = "/devices/{device}/timeline",
    operation_id = "getTimeline",
    tag = "devices",
    security(("token" = [])),
    params(("device" = String, Path, description = "Serial number, UDID, UEM id or UEM uuid, in any case"), Query),
    responses(
        (status = 200, description = "A page of events, custodies, revocations, attempts and operator actions", body = Page<TimelineEntry>),
        (status = 400, description = "A parameter cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such thing", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The name is ambiguous, or the state no longer fits", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; `Retry-After` says when to come again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::web) async fn timeline(
    State(site): State<Arc<Site>>,
    Named(device): Named<String>,
    Asked(query): Asked<Query>,
) -> Result<Json<Page<TimelineEntry>>, Refusal> {
    let paging = paging(query.limit, query.cursor)?;
    let mut tx = site.store.read().await?;
    let id = named(&mut tx, &device).await?;
    Ok(Json(timeline::of_device(&mut tx, id, &paging).await?))
}
