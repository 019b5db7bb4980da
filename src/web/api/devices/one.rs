//! `GET /api/v1/devices/{device}`: one device.

use std::sync::Arc;

use crate::store::asking::devices::{self, Device};
use crate::web::api::devices::named;
use crate::web::refusal::Problem;
use crate::web::request::Named;
use crate::web::{Refusal, Site};
use axum::Json;
use axum::extract::State;

/// One device.
#[utoipa::path(
    get,
    path = "/devices/{device}",
    operation_id = "getDevice",
    tag = "devices",
    security(("token" = [])),
    params(("device" = String, Path, description = "Serial number, UDID, UEM id or UEM uuid, in any case")),
    responses(
        (status = 200, description = "The device", body = Device),
        (status = 400, description = "A parameter cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such thing", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The name is ambiguous, or the state no longer fits", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; `Retry-After` says when to come again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::web) async fn one(
    State(site): State<Arc<Site>>,
    Named(device): Named<String>,
) -> Result<Json<Device>, Refusal> {
    let mut tx = site.store.read().await?;
    let id = named(&mut tx, &device).await?;
    Ok(Json(devices::one(&mut tx, id).await?.ok_or(Refusal::NotFound("device"))?))
}
