//! `GET /api/v1/devices/{device}/holder`: who held the device at an instant.

use std::sync::Arc;

use crate::store::asking::custodies::{self, HolderAt};
use crate::web::api::devices::named;
use crate::web::refusal::Problem;
use crate::web::request::{Asked, Named};
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
    /// The instant; now unless told.
    at: Option<DateTime<Utc>>,
}

/// Who held the device at an instant.
#[utoipa::path(
    get,
    path = "/devices/{device}/holder",
    operation_id = "getHolder",
    tag = "devices",
    security(("token" = [])),
    params(("device" = String, Path, description = "Serial number, UDID, UEM id or UEM uuid, in any case"), Query),
    responses(
        (status = 200, description = "Who held it, the custody, and what became of the revocation", body = HolderAt),
        (status = 400, description = "A parameter cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such thing", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The name is ambiguous, or the state no longer fits", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; `Retry-After` says when to come again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::web) async fn holder(
    State(site): State<Arc<Site>>,
    Named(device): Named<String>,
    Asked(query): Asked<Query>,
) -> Result<Json<HolderAt>, Refusal> {
    let mut tx = site.store.read().await?;
    let id = named(&mut tx, &device).await?;
    Ok(Json(custodies::at(&mut tx, id, query.at.unwrap_or_else(|| site.now())).await?))
}
