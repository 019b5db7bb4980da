//! `GET /api/v1/people/{person}/custodies`: the custodies of the person that overlap an interval, newest first.

use std::sync::Arc;

use crate::store::asking::custodies::{self, Custody};
use crate::store::asking::{Page, Span};
use crate::web::api::people::named;
use crate::web::refusal::Problem;
use crate::web::request::{Asked, Named, paging};
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
    /// Custodies that had not ended by then.
    from: Option<DateTime<Utc>>,
    /// Custodies that had begun before then.
    to: Option<DateTime<Utc>>,
    /// How many items, from 1 to 500; 50 unless told.
    limit: Option<u16>,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
}

/// The custodies of the person that overlap an interval, newest first.
#[utoipa::path(
    get,
    path = "/people/{person}/custodies",
    operation_id = "listPersonCustodies",
    tag = "people",
    security(("token" = [])),
    params(("person" = String, Path, description = "UPN, also a former one, in any case; or object id"), Query),
    responses(
        (status = 200, description = "A page of custodies", body = Page<Custody>),
        (status = 400, description = "A parameter cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such thing", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The name is ambiguous, or the state no longer fits", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; `Retry-After` says when to come again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::web) async fn custodies(
    State(site): State<Arc<Site>>,
    Named(person): Named<String>,
    Asked(query): Asked<Query>,
) -> Result<Json<Page<Custody>>, Refusal> {
    let paging = paging(query.limit, query.cursor)?;
    let span = Span { from: query.from, to: query.to };
    let mut tx = site.store.read().await?;
    let id = named(&mut tx, &person).await?;
    Ok(Json(custodies::of_person(&mut tx, id, span, &paging).await?))
}
