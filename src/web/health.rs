//! Health and numbers. No token, no personal data, and no call to anybody but the database.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::openapi::OpenApi;

use crate::store::asking::status;
use crate::web::{Refusal, Site};

/// How long the database may take to answer before we are not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn probes() -> Router<Arc<Site>> {
    Router::new().route("/health/live", get(async || "live\n")).route("/health/ready", get(ready))
}

async fn ready(State(site): State<Arc<Site>>) -> impl IntoResponse {
    let asked = async {
        let mut tx = site.store.read().await.map_err(Refusal::from)?;
        status::reachable(&mut tx).await.map_err(Refusal::from)
    };
    match tokio::time::timeout(READY_WITHIN, asked).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n"),
        Ok(Err(_)) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n"),
    }
}

pub(super) fn metrics() -> Router<Arc<Site>> {
    Router::new().route("/metrics", get(numbers))
}

async fn numbers(State(site): State<Arc<Site>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], site.metrics.render())
}

pub(super) fn openapi(document: &OpenApi) -> Router<Arc<Site>> {
    let text = serde_json::to_string(document).expect("the document is made of texts");
    let answer = move || {
        let text = text.clone();
        async move { ([(CONTENT_TYPE, "application/json")], text) }
    };
    Router::new().route("/openapi.json", get(answer))
}
