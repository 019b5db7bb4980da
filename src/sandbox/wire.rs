//! What comes in and what goes out, in the plainest form that still shows everything.
//!
//! Routes are matched by hand on decoded path segments, because Graph addresses the same thing as `/users/x` and as
//! `/users('x')`, and a router that normalises paths would hide the difference our client has to get right.

use std::collections::HashMap;

use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use serde_json::Value;
use url::form_urlencoded;

/// One request, read to its end.
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query as they were sent.
    pub(super) target: String,
    /// The path's segments, decoded one by one.
    pub(super) segments: Vec<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) version: Version,
    query: Vec<(String, String)>,
}

impl Call {
    pub(super) fn new(head: &http::request::Parts, body: Bytes) -> Self {
        let path = head.uri.path();
        let query = head.uri.query().unwrap_or_default();
        Self {
            method: head.method.clone(),
            target: head.uri.path_and_query().map_or_else(|| path.to_owned(), ToString::to_string),
            segments: path.trim_start_matches('/').split('/').map(decoded).collect(),
            headers: head.headers.clone(),
            body,
            version: head.version,
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        }
    }

    /// The path as borrowed segments, to be matched on.
    pub(super) fn path(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// A query parameter. Names are compared without regard to case, as both vendors do.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// A header, when it is readable text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The fields of a posted form.
    pub(super) fn form(&self) -> HashMap<String, String> {
        form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// The bearer token.
    pub(super) fn bearer(&self) -> Option<&str> {
        credentials(self.header("authorization")?, "bearer")
    }

    /// User name and password of HTTP Basic, not yet form-decoded.
    pub(super) fn basic(&self) -> Option<(String, String)> {
        let encoded = credentials(self.header("authorization")?, "basic")?;
        let decoded = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
        decoded.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned()))
    }
}

fn credentials<'a>(header: &'a str, scheme: &str) -> Option<&'a str> {
    let (said, rest) = header.split_once(' ')?;
    said.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// `text` with its percent-encoding undone. A plus stays a plus, which it does in paths.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        if let Some(byte) = hex.and_then(|two| u8::from_str_radix(two, 16).ok()).filter(|_| first == b'%') {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, body: body.into() }
    }

    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", body.to_string())
    }

    pub(super) fn html(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "text/html; charset=utf-8", body)
    }

    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// The same answer with this header. A value that no header can carry is left out.
    pub(super) fn with(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        self.set(name, value);
        self
    }

    pub(super) fn set(&mut self, name: &'static str, value: impl AsRef<str>) {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
    }

    /// For the connection, with `body` in place of ours.
    pub(super) fn with_body(self, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
