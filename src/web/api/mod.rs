//! The API: one file per operation, from which the OpenAPI document is made.

pub mod audit;
pub mod devices;
pub mod people;
pub mod revocations;
pub mod status;

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::web::refusal::Problem;
use crate::web::request::Reason;
use crate::web::{Refusal, Site, caller};

/// Every route behind a token, and their description.
pub(super) fn router(site: &Arc<Site>) -> OpenApiRouter<Arc<Site>> {
    let routes =
        routes().fallback(async || Refusal::NoRoute).layer(from_fn_with_state(Arc::clone(site), caller::signed_in));
    OpenApiRouter::with_openapi(base()).nest("/api/v1", routes).fallback(async || Refusal::NoRoute)
}

fn routes() -> OpenApiRouter<Arc<Site>> {
    OpenApiRouter::new()
        .routes(routes!(devices::list::list))
        .routes(routes!(devices::one::one))
        .routes(routes!(devices::holder::holder))
        .routes(routes!(devices::custodies::custodies))
        .routes(routes!(devices::timeline::timeline))
        .routes(routes!(people::one::one))
        .routes(routes!(people::custodies::custodies))
        .routes(routes!(revocations::list::list))
        .routes(routes!(revocations::one::one))
        .routes(routes!(revocations::retry::retry))
        .routes(routes!(revocations::release::release))
        .routes(routes!(revocations::waive::waive))
        .routes(routes!(audit::audit))
        .routes(routes!(status::status))
}

/// What the document says beside the routes.
fn base() -> OpenApi {
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API token, as `handover token create` prints it: viewer reads, operator also retries and releases, admin also waives."))
        .build();
    let problem = ResponseBuilder::new()
        .description("A problem document (RFC 9457). Its `type` never changes.")
        .content(
            "application/problem+json",
            ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name("Problem")))).build(),
        )
        .build();
    let mut components = Components::new();
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    components.schemas.insert(Reason::name().into_owned(), Reason::schema());
    components.responses.insert(String::from("Problem"), RefOr::T(problem));
    components.add_security_scheme("token", SecurityScheme::Http(token));
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Handover")
                .version("1")
                .description(Some(
                    "Who holds each shared iPad, who held it before, and what became of their tokens. Times are RFC 3339 \
                     with `Z`; what is absent is `null`; lists are pages, newest first. Routes and fields are added, never \
                     renamed or removed.",
                ))
                .build(),
        )
        .components(Some(components))
        .build()
}

/// The OpenAPI document.
pub fn document() -> OpenApi {
    OpenApiRouter::with_openapi(base()).nest("/api/v1", routes()).into_openapi()
}
