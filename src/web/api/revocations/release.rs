//! `POST /api/v1/revocations/{id}/release`: let a held revocation go. Needs the role operator.

use std::sync::Arc;

use crate::store::asking::revocations::Revocation;
use crate::web::api::revocations::as_it_is;
use crate::web::caller::Operator;
use crate::web::refusal::Problem;
use crate::web::request::{Named, Reason};
use crate::web::{Refusal, Site};
use axum::Json;
use axum::extract::State;
use uuid::Uuid;

/// Let a held revocation go. Needs the role operator.
#[utoipa::path(
    post,
    path = "/revocations/{id}/release",
    operation_id = "releaseRevocation",
    tag = "revocations",
    security(("token" = [])),
    params(("id" = Uuid, Path, description = "The revocation")),
    request_body = Reason,
    responses(
        (status = 200, description = "Done; the revocation as it is now", body = Revocation),
        (status = 400, description = "A parameter cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The token's role may not do this", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such thing", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The name is ambiguous, or the state no longer fits", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; `Retry-After` says when to come again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::web) async fn release(
    State(site): State<Arc<Site>>,
    Operator(actor): Operator,
    Named(id): Named<Uuid>,
    Reason { reason }: Reason,
) -> Result<Json<Revocation>, Refusal> {
    site.deeds.release(id, actor, reason).await?;
    Ok(Json(as_it_is(&site, id).await?))
}
