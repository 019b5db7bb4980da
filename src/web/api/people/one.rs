//! `GET /api/v1/people/{person}`: one person, and what they have.

use std::sync::Arc;

use crate::store::asking::people::{self, Person};
use crate::web::api::people::named;
use crate::web::refusal::Problem;
use crate::web::request::Named;
use crate::web::{Refusal, Site};
use axum::Json;
use axum::extract::State;

/// One person, and what they have.
#[utoipa::path(
    get,
    path = "/people/{person}",
    operation_id = "getPerson",
    tag = "people",
    security(("token" = [])),
    params(("person" = String, Path, description = "UPN, also a former one, in any case; or object id")),
    responses(
        (status = 200, description = "The person", body = Person),
        (status = 400, description = "A parameter cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such thing", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The name is ambiguous, or the state no longer fits", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; `Retry-After` says when to come again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::web) async fn one(
    State(site): State<Arc<Site>>,
    Named(person): Named<String>,
) -> Result<Json<Person>, Refusal> {
    let mut tx = site.store.read().await?;
    let id = named(&mut tx, &person).await?;
    Ok(Json(people::one(&mut tx, id).await?.ok_or(Refusal::NotFound("person"))?))
}
