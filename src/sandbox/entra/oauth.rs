//! What the token endpoint says: tokens, or an error in the form MSAL takes apart.

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::sandbox::wire::Reply;

/// A successful answer of the token endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tokens {
    /// Always `Bearer`.
    pub token_type: String,
    /// The scopes granted; absent for an application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Seconds until the access token expires.
    pub expires_in: u32,
    /// The same again, as the real endpoint has it.
    pub ext_expires_in: u32,
    /// The access token.
    pub access_token: String,
    /// The refresh token, for users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// The id token, for users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_token: Option<String>,
    /// Who signed in, in MSAL's own form, for users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_info: Option<String>,
}

/// A refusal of the token endpoint.
#[derive(Clone, Debug, Serialize, thiserror::Error)]
#[error("{description}")]
pub struct OAuthError {
    /// The HTTP status.
    #[serde(skip)]
    pub status: u16,
    /// The OAuth error, such as `invalid_grant`.
    pub error: &'static str,
    /// The `AADSTS…` text.
    #[serde(rename = "error_description")]
    pub description: String,
    /// The number of the `AADSTS…` code, in a list as the real endpoint has it.
    #[serde(rename = "error_codes")]
    pub codes: [u32; 1],
    /// On the server's clock.
    pub timestamp: String,
    /// The server's id of the request.
    pub trace_id: Uuid,
    /// The caller's id of the request, or a fresh one.
    pub correlation_id: Uuid,
    /// `bad_token` when MSAL shall throw the refresh token away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suberror: Option<&'static str>,
}

impl OAuthError {
    pub(super) fn new(status: u16, error: &'static str, code: u32, text: &str, now: DateTime<Utc>) -> Self {
        let (trace_id, correlation_id) = (Uuid::new_v4(), Uuid::new_v4());
        let timestamp = now.format("%Y-%m-%d %H:%M:%SZ").to_string();
        let description = format!(
            "AADSTS{code}: {text} Trace ID: {trace_id} Correlation ID: {correlation_id} Timestamp: {timestamp}"
        );
        Self { status, error, description, codes: [code], timestamp, trace_id, correlation_id, suberror: None }
    }

    /// An error that a fault ordered.
    pub(super) fn ordered(status: StatusCode, now: DateTime<Utc>) -> Self {
        let (error, code, text) = match status.as_u16() {
            401 => ("invalid_client", 7_000_215, "Invalid client secret provided."),
            400..=428 | 430..=499 => ("invalid_request", 900_144, "The request could not be understood."),
            429 => ("temporarily_unavailable", 90_055, "The tenant is throttled."),
            _ => ("temporarily_unavailable", 90_033, "A transient error has occurred. Please try again."),
        };
        Self::new(status.as_u16(), error, code, text, now)
    }

    pub(super) fn with_suberror(mut self, suberror: &'static str) -> Self {
        self.suberror = Some(suberror);
        self
    }

    pub(super) fn correlated(mut self, client_request_id: Option<&str>) -> Self {
        if let Some(given) = client_request_id.and_then(|id| Uuid::try_parse(id).ok()) {
            self.description = self.description.replace(&self.correlation_id.to_string(), &given.to_string());
            self.correlation_id = given;
        }
        self
    }

    pub(super) fn reply(&self) -> Reply {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        Reply::json(status, &json!(self))
    }
}
