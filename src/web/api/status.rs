//! `GET /api/v1/status`: how things stand, all at once.

use std::sync::Arc;

use crate::store::asking::status::{self, Circumstances, Status};
use crate::web::refusal::Problem;
use crate::web::{Refusal, Site};
use axum::Json;
use axum::extract::State;

/// How things stand, all at once.
#[utoipa::path(
    get,
    path = "/status",
    operation_id = "getStatus",
    tag = "status",
    security(("token" = [])),
    responses(
        (status = 200, description = "The tiles", body = Status),
        (status = 400, description = "A parameter cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; `Retry-After` says when to come again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::web) async fn status(State(site): State<Arc<Site>>) -> Result<Json<Status>, Refusal> {
    let circumstances =
        Circumstances { now: site.now(), writes_per_second: site.writes_per_second, shadow: site.shadow };
    let mut tx = site.store.read().await?;
    Ok(Json(status::read(&mut tx, site.store.finished(), circumstances).await?))
}
