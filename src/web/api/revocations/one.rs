//! `GET /api/v1/revocations/{id}`: one revocation, with its attempts and receipt.

use std::sync::Arc;

use crate::store::asking::revocations::Revocation;
use crate::web::api::revocations::as_it_is;
use crate::web::refusal::Problem;
use crate::web::request::Named;
use crate::web::{Refusal, Site};
use axum::Json;
use axum::extract::State;
use uuid::Uuid;

/// One revocation, with its attempts and receipt.
#[utoipa::path(
    get,
    path = "/revocations/{id}",
    operation_id = "getRevocation",
    tag = "revocations",
    security(("token" = [])),
    params(("id" = Uuid, Path, description = "The revocation")),
    responses(
        (status = 200, description = "The revocation", body = Revocation),
        (status = 400, description = "A parameter cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such thing", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; `Retry-After` says when to come again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::web) async fn one(
    State(site): State<Arc<Site>>,
    Named(id): Named<Uuid>,
) -> Result<Json<Revocation>, Refusal> {
    Ok(Json(as_it_is(&site, id).await?))
}
