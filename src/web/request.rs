//! What a request asks, taken apart. What cannot be understood is refused as a problem that names the parameter.

use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::store::asking::{MAX_LIMIT, Paging};
use crate::web::Refusal;
use crate::web::serve::TooSlow;

/// How large the body of an operator's action may be.
const ACTION_BYTES: usize = 16 * 1024;

/// How long a reason may be, in characters.
const REASON_CHARS: usize = 500;

/// How long a parameter may be.
const TEXT_BYTES: usize = 4096;

/// The query. A parameter that is not known is refused, since a filter with a typo would show too much.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = parts.uri.query().unwrap_or_default();
        if query.len() > TEXT_BYTES || query.contains("%00") {
            return Err(Refusal::Unintelligible(String::from("the query is too long or has a NUL in it")));
        }
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => {
                Err(Refusal::Unintelligible(error.body_text()))
            }
            Err(error) => Err(Refusal::Unintelligible(error.to_string())),
        }
    }
}

/// What the path names.
pub(super) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = parts.uri.path();
        if path.len() > TEXT_BYTES || path.contains("%00") {
            return Err(Refusal::Unintelligible(String::from("the name is too long or has a NUL in it")));
        }
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(named)) => Ok(Self(named)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => Err(Refusal::Unintelligible(error.body_text())),
            Err(error) => Err(Refusal::Unintelligible(error.to_string())),
        }
    }
}

/// Which part of a list.
pub(super) fn paging(limit: Option<u16>, cursor: Option<String>) -> Result<Paging, Refusal> {
    if limit.is_some_and(|limit| limit == 0 || limit > MAX_LIMIT) {
        return Err(Refusal::Unintelligible(format!("limit must be from 1 to {MAX_LIMIT}")));
    }
    Ok(Paging::new(limit, cursor))
}

/// Why an operator does something.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    /// Why, in 1 to 500 characters; it is kept in the audit history.
    #[schema(min_length = 1, max_length = 500)]
    pub(super) reason: String,
}

impl<S: Send + Sync> FromRequest<S> for Reason {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        if essence(request.headers()).as_deref() != Some("application/json") {
            return Err(Refusal::Unsupported("the body must be application/json"));
        }
        let body = whole(request, ACTION_BYTES).await?;
        let asked: Self = serde_json::from_slice(&body)
            .map_err(|error| Refusal::Unintelligible(format!("the body must be {{\"reason\":\"…\"}}: {error}")))?;
        let reason = asked.reason.trim();
        let chars = reason.chars().count();
        if chars == 0 || chars > REASON_CHARS || reason.contains('\0') {
            return Err(Refusal::Unintelligible(format!("a reason has 1 to {REASON_CHARS} characters")));
        }
        Ok(Self { reason: String::from(reason) })
    }
}

/// The content type without its parameters, in lower case.
pub(super) fn essence(headers: &axum::http::HeaderMap) -> Option<String> {
    let sent = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    sent.split(';').next().map(|essence| essence.trim().to_ascii_lowercase())
}

/// The whole body, unless it is too large or too slow. Holds for bodies that lie about their length too (E12).
pub(super) async fn whole(request: Request, limit: usize) -> Result<Bytes, Refusal> {
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge(limit)),
        Err(error) if is_slow(error.as_ref()) => Err(Refusal::TooSlow),
        Err(_) => Err(Refusal::Unintelligible(String::from("the body broke off"))),
    }
}

fn is_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<TooSlow>() || error.source().is_some_and(is_slow)
}

/// How long an answer may take before its sender is told to come again.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
