//! What every request goes through: an id, the headers that keep an answer where it belongs, a log line, a counter, and a net
//! for panics.
//!
//! The log has the route as it is written in the code, never the address that was asked for: addresses name people.

use std::any::Any;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestId, RequestId, SetRequestIdLayer};
use uuid::Uuid;

use crate::web::Refusal;
use crate::web::proxies::ClientAddress;
use crate::web::request::PATIENCE;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What every answer says (K14). There is nothing here for a browser to run or to keep.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'"),
    ),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// An id of our own for each request. One that the sender brings is not taken over: it would be written to the log.
#[derive(Clone, Copy)]
struct Fresh;

impl MakeRequestId for Fresh {
    fn make_request_id<B>(&mut self, _: &axum::http::Request<B>) -> Option<RequestId> {
        HeaderValue::from_str(&Uuid::new_v4().to_string()).ok().map(RequestId::new)
    }
}

/// The router, watched.
pub(super) fn watched(listener: &'static str, router: Router) -> Router {
    router
        .method_not_allowed_fallback(async || Refusal::WrongMethod(None))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(move |request, next| noted(listener, request, next)))
        .layer(
            ServiceBuilder::new()
                .map_request(|mut request: Request| {
                    request.headers_mut().remove(REQUEST_ID);
                    request
                })
                .layer(SetRequestIdLayer::new(REQUEST_ID, Fresh)),
        )
}

async fn noted(listener: &'static str, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let id = request.headers().get(REQUEST_ID).cloned();
    let client = request.extensions().get::<ClientAddress>().map(|client| client.0.to_string()).unwrap_or_default();
    let mut response = match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refusal::Overloaded.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(value);
    }
    if let Some(id) = &id {
        headers.insert(REQUEST_ID, id.clone());
    }
    let (status, took) = (response.status().as_u16(), began.elapsed());
    metrics::counter!("handover_http_requests_total", "listener" => listener, "route" => route.clone(),
        "status" => status.to_string())
    .increment(1);
    metrics::histogram!("handover_http_request_seconds", "listener" => listener, "route" => route.clone())
        .record(took.as_secs_f64());
    let id = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(
        http.listener = listener,
        http.route = route,
        http.status = status,
        request.id = id,
        client.address = client,
        took_ms,
        "answered {method} {route} with {status}"
    );
    response
}

#[expect(clippy::needless_pass_by_value, reason = "the net hands the panic over")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Refusal::Ours(format!("a handler panicked: {}", said.unwrap_or("without a word")).into()).into_response()
}
