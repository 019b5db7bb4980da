//! `GET /api/v1/devices`: the devices, by serial number.

use std::sync::Arc;

use crate::store::asking::Page;
use crate::store::asking::devices::{self, Device, Filter};
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
    /// Held by this person: UPN or object id.
    holder: Option<String>,
    /// `person`, `pool` or `unknown`.
    state: Option<String>,
    /// Of this site.
    site: Option<String>,
    /// With this text in serial number, UDID, name, asset number, holder or account.
    q: Option<String>,
    /// How many items, from 1 to 500; 50 unless told.
    limit: Option<u16>,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
}

/// The devices, by serial number.
#[utoipa::path(
    get,
    path = "/devices",
    operation_id = "listDevices",
    tag = "devices",
    security(("token" = [])),
    params(Query),
    responses(
        (status = 200, description = "A page of devices", body = Page<Device>),
        (status = 400, description = "A parameter cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database does not answer; `Retry-After` says when to come again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(in crate::web) async fn list(
    State(site): State<Arc<Site>>,
    Asked(query): Asked<Query>,
) -> Result<Json<Page<Device>>, Refusal> {
    if query.state.as_deref().is_some_and(|state| !matches!(state, "person" | "pool" | "unknown")) {
        return Err(Refusal::Unintelligible(String::from("state must be person, pool or unknown")));
    }
    let paging = paging(query.limit, query.cursor)?;
    let filter = Filter { holder: query.holder, state: query.state, site: query.site, q: query.q };
    let mut tx = site.store.read().await?;
    Ok(Json(devices::list(&mut tx, &filter, &paging).await?))
}
