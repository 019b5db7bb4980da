//! One request over HTTP, and what came back of it.
//!
//! No redirect is followed, nothing is repeated behind our back, certificates are always verified, and of an answer at most
//! 64 KiB are read. Whether a request can have arrived is decided here, and when in doubt it can: only a connection that
//! never stood counts as unsent. (The one silent repeat left is the connection pool's own, of a request whose first byte
//! was never written because the idle connection had died.)

use std::error::Error as _;
use std::time::Duration;

use chrono::DateTime;
use http::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tokio::time::Instant;

use super::retry_after;
use super::settings::{Addresses, Settings, SetupError};
use super::verdict::{Body, Happened};
use crate::custody::Moment;

/// The most we read of one answer (G10). Graph's to us are under 4 KiB.
const MOST_BODY: usize = 64 * 1024;
/// The most we keep of one header or error code.
const MOST_TEXT: usize = 1024;
/// Idle connections are closed before the balancers between us and Graph forget them.
const IDLE: Duration = Duration::from_secs(50);

/// The client for both hosts.
pub(crate) fn client(settings: &Settings, addresses: &Addresses) -> Result<Client, SetupError> {
    let mut builder = Client::builder()
        .user_agent(concat!("handover/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .https_only(addresses.all_https())
        .tls_version_min(reqwest::tls::Version::TLS_1_2)
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(IDLE)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .http2_keep_alive_timeout(Duration::from_secs(5));
    if addresses.any_loopback() {
        builder = builder.no_proxy();
    }
    if let Some(pem) = &settings.ca_pem {
        let anchors = reqwest::Certificate::from_pem_bundle(pem).map_err(SetupError::TrustAnchor)?;
        builder = builder.tls_certs_merge(anchors);
    }
    builder.build().map_err(SetupError::Client)
}

/// What came back of one request.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) happened: Happened,
    pub(crate) headers: HeaderMap,
    /// The body, when it was JSON.
    pub(crate) json: Option<Value>,
    /// When it was sent, and when its headers were there.
    pub(crate) began: Instant,
    pub(crate) headed: Instant,
}

/// Sends one request. Nothing about it is an error: what can go wrong is an outcome.
pub(crate) async fn send(request: RequestBuilder) -> Exchange {
    let began = Instant::now();
    let answer = request.send().await;
    let headed = Instant::now();
    match answer {
        Ok(response) => read(response, began, headed).await,
        Err(error) => {
            let happened = failure(&error);
            let error = error.without_url();
            tracing::debug!(%error, cause = ?error.source(), "no answer from Microsoft: {happened:?}");
            Exchange { happened, headers: HeaderMap::new(), json: None, began, headed }
        }
    }
}

impl Exchange {
    /// The request can have arrived.
    pub(crate) fn sent(&self) -> bool {
        match self.happened {
            Happened::Unreached | Happened::Impostor => false,
            Happened::Lost | Happened::Answered { .. } => true,
        }
    }

    /// The HTTP status, if one came.
    pub(crate) fn status(&self) -> Option<u16> {
        match self.happened {
            Happened::Answered { status, .. } => Some(status),
            Happened::Unreached | Happened::Impostor | Happened::Lost => None,
        }
    }

    /// The answer's own clock, to the second.
    pub(crate) fn date(&self) -> Option<Moment> {
        date(&self.headers)
    }

    /// A header, if it is short text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        short(self.headers.get(name)?.to_str().ok()?)
    }

    /// A text in the JSON body, if it is short.
    pub(crate) fn text(&self, pointer: &str) -> Option<String> {
        short(self.json.as_ref()?.pointer(pointer)?.as_str()?)
    }
}

async fn read(mut response: Response, began: Instant, headed: Instant) -> Exchange {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let retry_after = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| retry_after::wait(value, date(&headers)));
    let (body, json) = match limited(&mut response).await {
        Some(bytes) => kind(&bytes, &headers),
        None => (Body::Partial, None),
    };
    let happened = Happened::Answered { status, body, retry_after };
    Exchange { happened, headers, json, began, headed }
}

/// The whole body, unless it broke off or is too long.
async fn limited(response: &mut Response) -> Option<Vec<u8>> {
    let most = u64::try_from(MOST_BODY).unwrap_or(u64::MAX);
    if response.content_length().is_some_and(|length| length > most) {
        return None;
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if bytes.len() + chunk.len() > MOST_BODY {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    Some(bytes)
}

fn kind(bytes: &[u8], headers: &HeaderMap) -> (Body, Option<Value>) {
    let html = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("text/html"));
    if html {
        (Body::Foreign, None)
    } else if bytes.trim_ascii().is_empty() {
        (Body::Empty, None)
    } else {
        match serde_json::from_slice(bytes) {
            Ok(json) => (Body::Json, Some(json)),
            Err(_) => (Body::Foreign, None),
        }
    }
}

fn date(headers: &HeaderMap) -> Option<Moment> {
    retry_after::http_date(headers.get(DATE)?.to_str().ok()?)
}

/// An instant as Graph's JSON writes it, cut to microseconds.
pub(crate) fn instant(text: &str) -> Option<Moment> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| Moment(at.timestamp_micros()))
}

fn short(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.chars().filter(|letter| !letter.is_control()).take(MOST_TEXT).collect())
}

fn failure(error: &reqwest::Error) -> Happened {
    if error.is_builder() {
        return Happened::Unreached;
    }
    if !error.is_connect() {
        return Happened::Lost;
    }
    if tls_error(error).is_some_and(|error| !passing(error)) { Happened::Impostor } else { Happened::Unreached }
}

/// A TLS failure that says nothing about who is there.
fn passing(error: &rustls::Error) -> bool {
    use rustls::AlertDescription::{CloseNotify, InternalError, UserCanceled};
    matches!(error, rustls::Error::AlertReceived(CloseNotify | InternalError | UserCanceled))
}

fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // What an I/O error wraps is not its source but itself.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = wrapped.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| error.source());
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing("", "", Body::Empty)]
    #[case::blanks(" \r\n", "application/json", Body::Empty)]
    #[case::json("{\"value\":true}", "application/json;odata.metadata=minimal", Body::Json)]
    #[case::json_unsaid("true", "", Body::Json)]
    #[case::page("<html></html>", "text/html; charset=utf-8", Body::Foreign)]
    #[case::page_unsaid("<html></html>", "", Body::Foreign)]
    #[case::empty_page("", "TEXT/HTML", Body::Foreign)]
    #[case::text("OK", "text/plain", Body::Foreign)]
    #[case::half_json("{\"value\":", "application/json", Body::Foreign)]
    fn a_body_is_what_it_is(#[case] bytes: &str, #[case] content_type: &'static str, #[case] is: Body) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));

        assert_eq!(kind(bytes.as_bytes(), &headers).0, is);
    }

    #[rstest]
    #[case("2026-03-02T05:58:41Z", Some(1_772_431_121_000_000))]
    #[case("2026-03-02T05:58:41.1234567Z", Some(1_772_431_121_123_456))]
    #[case("2026-03-02T06:58:41+01:00", Some(1_772_431_121_000_000))]
    #[case("yesterday", None)]
    fn an_instant_is_cut_to_microseconds(#[case] text: &str, #[case] micros: Option<i64>) {
        assert_eq!(instant(text), micros.map(Moment));
    }
}
