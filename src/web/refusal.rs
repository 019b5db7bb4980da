//! Why we said no, as a problem document (RFC 9457).
//!
//! Each variant is part of the API: its `type` never changes. What went wrong inside stays in our log.

use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::{self, asking};
use crate::web::{Refused, Trouble};

/// Why we said no.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No token, or one that is not valid.
    #[error("a valid token is needed: Authorization: Bearer ho_…")]
    Unauthenticated,
    /// The source's credentials are wrong, or there is no such source.
    #[error("the credentials are not those of this source")]
    WrongCredentials,
    /// The token's role may not do this.
    #[error("this needs the role {0}")]
    Forbidden(&'static str),
    /// There is no such thing.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// There is no such route.
    #[error("there is nothing at this address")]
    NoRoute,
    /// The route does not do this method.
    #[error("this address does not do that")]
    WrongMethod(Option<&'static str>),
    /// A parameter or the body cannot be understood.
    #[error("{0}")]
    Unintelligible(String),
    /// The cursor is not one of this list.
    #[error("the cursor is not one that this list gave out")]
    Cursor,
    /// The name fits several.
    #[error("{name} is ambiguous; name one of the candidates in another way")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// What it could be.
        candidates: Vec<String>,
    },
    /// The state no longer fits.
    #[error("{0}")]
    Conflict(String),
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The body is too large.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The body is compressed, or of a type that is not taken.
    #[error("{0}")]
    Unsupported(&'static str),
    /// Not now.
    #[error("not now; try again in {RETRY_SECONDS} seconds")]
    Overloaded,
    /// Our fault.
    #[error("something went wrong on our side")]
    Ours(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How long a sender is asked to wait. Long enough for a commit group or a restart of the database, short enough that a
/// UEM's own patience does not run out.
const RETRY_SECONDS: &str = "5";

/// A problem document.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// What kind of problem; never changes.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The kind in words.
    pub(super) title: String,
    /// The HTTP status.
    pub(super) status: u16,
    /// What exactly is the matter.
    pub(super) detail: String,
    /// What an ambiguous name could mean.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) candidates: Vec<String>,
}

impl Refusal {
    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", "Not signed in"),
            Self::WrongCredentials => (StatusCode::UNAUTHORIZED, "wrong-credentials", "Wrong credentials"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Not allowed"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::NoRoute => (StatusCode::NOT_FOUND, "no-route", "No such address"),
            Self::WrongMethod(_) => (StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "Method not allowed"),
            Self::Unintelligible(_) => (StatusCode::BAD_REQUEST, "unintelligible", "Not understood"),
            Self::Cursor => (StatusCode::BAD_REQUEST, "cursor", "Unknown cursor"),
            Self::Ambiguous { .. } => (StatusCode::CONFLICT, "ambiguous", "Ambiguous name"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict", "The state no longer fits"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too-slow", "Too slow"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large"),
            Self::Unsupported(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported", "Not taken in this form"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Not now"),
            Self::Ours(_) => (StatusCode::INTERNAL_SERVER_ERROR, "ours", "Our fault"),
        }
    }
}

impl Refusal {
    /// What the caller's machine should know beside the problem.
    fn header(&self) -> Option<(HeaderName, &'static str)> {
        match self {
            Self::Unauthenticated => Some((WWW_AUTHENTICATE, "Bearer realm=\"handover\"")),
            Self::WrongCredentials => Some((WWW_AUTHENTICATE, "Basic realm=\"handover\", charset=\"UTF-8\"")),
            Self::Overloaded => Some((RETRY_AFTER, RETRY_SECONDS)),
            Self::WrongMethod(allowed) => allowed.map(|allowed| (ALLOW, allowed)),
            Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::NoRoute
            | Self::Unintelligible(_)
            | Self::Cursor
            | Self::Ambiguous { .. }
            | Self::Conflict(_)
            | Self::TooSlow
            | Self::TooLarge(_)
            | Self::Unsupported(_)
            | Self::Ours(_) => None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, kind, title) = self.kind();
        if let Self::Ours(error) = &self {
            tracing::error!(error = chain(error.as_ref()), "a request could not be answered");
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = self.header() {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let problem = Problem {
            kind: format!("urn:handover:problem:{kind}"),
            title: String::from(title),
            status: status.as_u16(),
            detail: self.to_string(),
            candidates: if let Self::Ambiguous { candidates, .. } = self { candidates } else { Vec::new() },
        };
        let body = serde_json::to_vec(&problem).expect("a problem is texts and a number");
        (status, headers, body).into_response()
    }
}

/// The error and everything beneath it, for the log.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<asking::Error> for Refusal {
    fn from(error: asking::Error) -> Self {
        match error {
            asking::Error::Cursor => Self::Cursor,
            asking::Error::Ambiguous { name, candidates } => Self::Ambiguous { name, candidates },
            asking::Error::Store(error) => Self::from(error),
        }
    }
}

/// Whatever it is, a reader can only come again.
impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        tracing::error!(error = chain(&error), "the database could not be read");
        Self::Overloaded
    }
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Malformed(_) => Self::Unintelligible(trouble.to_string()),
            Trouble::Overloaded => Self::Overloaded,
            Trouble::Unwritten(error) => {
                tracing::error!(error = chain(error.as_ref()), "an event could not be written down");
                Self::Overloaded
            }
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unknown => Self::NotFound("revocation"),
            Refused::DoesNotFit(_) | Refused::Overtaken => Self::Conflict(refused.to_string()),
            Refused::Unwritten(error) => {
                tracing::error!(error = chain(error.as_ref()), "an operator's action could not be written down");
                Self::Overloaded
            }
        }
    }
}
