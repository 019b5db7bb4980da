//! What a UEM can reach.
//!
//! In this order (K1, K3): the form of the request as far as its head tells, the credentials, the body within its limits, and
//! one call into the service. Nothing is parsed here but the lines of a bulk delivery.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use crate::web::request::{Named, essence, whole};
use crate::web::{Line, Many, Received, Refusal, Site};

/// How large one event may be (E12).
const EVENT_BYTES: usize = 256 * 1024;

/// How large a bulk delivery may be.
const BULK_BYTES: usize = 8 * 1024 * 1024;

/// How many lines a bulk delivery may have.
const BULK_LINES: usize = 10_000;

pub(super) fn router() -> Router<Arc<Site>> {
    Router::new()
        .route("/intake/{source}", get(knock).post(take).head(wrong_method).fallback(wrong_method))
        .fallback(async || Refusal::NoRoute)
}

async fn wrong_method() -> Refusal {
    Refusal::WrongMethod(Some("GET, POST"))
}

/// The UEM's *Test Connection*.
async fn knock(
    State(site): State<Arc<Site>>,
    Named(source): Named<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    greeted(&site, &source, &headers)?;
    Ok(StatusCode::OK)
}

fn greeted(site: &Site, source: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let sent = headers.get(AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
    if site.deeds.greet(source, sent) { Ok(()) } else { Err(Refusal::WrongCredentials) }
}

async fn take(
    State(site): State<Arc<Site>>,
    Named(source): Named<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let headers = request.headers();
    let encoded = headers.get(CONTENT_ENCODING).is_some_and(|coding| coding.as_bytes() != b"identity");
    if encoded {
        return Err(Refusal::Unsupported("compressed bodies are not taken"));
    }
    let in_bulk = essence(headers).as_deref() == Some("application/x-ndjson");
    let limit = if in_bulk { BULK_BYTES } else { EVENT_BYTES };
    let told = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|length| length > limit as u64) {
        return Err(Refusal::TooLarge(limit));
    }
    greeted(&site, &source, headers)?;

    let content_type = headers.get(CONTENT_TYPE).and_then(|sent| sent.to_str().ok()).map(String::from);
    let body = whole(request, limit).await?;
    if in_bulk {
        return take_many(&site, source, &body).await;
    }
    let (status, word, event) = match site.deeds.receive(source, content_type, body).await? {
        Received::Recorded(event) => (StatusCode::OK, "recorded", event),
        Received::Duplicate(event) => (StatusCode::OK, "duplicate", event),
        Received::Quarantined(event) => (StatusCode::ACCEPTED, "quarantined", event),
    };
    Ok((status, Json(Taken { status: word, event })).into_response())
}

/// What became of one event.
#[derive(Serialize)]
struct Taken {
    status: &'static str,
    event: Uuid,
}

/// What became of many.
#[derive(Serialize)]
struct TakenMany {
    recorded: u64,
    duplicate: u64,
    quarantined: u64,
    refused: Vec<RefusedLine>,
}

#[derive(Serialize)]
struct RefusedLine {
    line: u64,
    why: String,
}

async fn take_many(site: &Site, source: String, body: &Bytes) -> Result<Response, Refusal> {
    let Lines { taken, numbers, mut refused } = lines(body)?;
    let Many { recorded, duplicate, quarantined, refused: theirs } =
        if taken.is_empty() { Many::default() } else { site.deeds.receive_many(source, taken).await? };
    let numbered = theirs.into_iter().map(|line| {
        let nth = usize::try_from(line.line).ok().and_then(|nth| nth.checked_sub(1));
        Line { line: nth.and_then(|nth| numbers.get(nth).copied()).unwrap_or(line.line), why: line.why }
    });
    refused.extend(numbered);
    refused.sort_by_key(|line| line.line);
    let refused = refused.into_iter().map(|line| RefusedLine { line: line.line, why: line.why }).collect();
    Ok(Json(TakenMany { recorded, duplicate, quarantined, refused }).into_response())
}

/// The lines of a bulk delivery.
struct Lines {
    /// Those that are handed on.
    taken: Vec<Bytes>,
    /// Which line of the body each of them is, counted from 1.
    numbers: Vec<u64>,
    /// Those that are too long to be.
    refused: Vec<Line>,
}

/// The lines that are not blank, each with its own number.
fn lines(body: &Bytes) -> Result<Lines, Refusal> {
    let mut lines = Lines { taken: Vec::new(), numbers: Vec::new(), refused: Vec::new() };
    for (number, line) in (1_u64..).zip(body.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if lines.taken.len() + lines.refused.len() == BULK_LINES {
            return Err(Refusal::Unintelligible(format!("a delivery has {BULK_LINES} lines at most")));
        }
        if line.len() > EVENT_BYTES {
            lines.refused.push(Line { line: number, why: format!("it is longer than {EVENT_BYTES} bytes") });
        } else {
            lines.taken.push(body.slice_ref(line));
            lines.numbers.push(number);
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_count_and_are_not_handed_on() {
        let body = Bytes::from_static(b"{\"a\":1}\n\n  \r\n{\"b\":2}\r\n");

        let lines = lines(&body).unwrap_or_else(|_| panic!("four lines are allowed"));

        assert_eq!(lines.taken, [Bytes::from_static(b"{\"a\":1}"), Bytes::from_static(b"{\"b\":2}")]);
        assert_eq!(lines.numbers, [1, 4]);
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_alone_and_too_many_lines_together() {
        let mut long = vec![b'x'; EVENT_BYTES + 1];
        long.extend_from_slice(b"\n{}");
        let lines_of_long = lines(&Bytes::from(long)).unwrap_or_else(|_| panic!("two lines are allowed"));
        assert_eq!((lines_of_long.numbers, lines_of_long.refused[0].line), (vec![2], 1));

        let many = Bytes::from("{}\n".repeat(BULK_LINES + 1));
        assert!(matches!(lines(&many), Err(Refusal::Unintelligible(_))));
    }
}
