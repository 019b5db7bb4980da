//! One call: in turn, with a login, repeated where that is allowed, and its answer told apart.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

use super::login::Badge;
use super::pace::{self, Pace};
use super::{BadSettings, Settings, UemError, look};
use crate::custody::Moment;

/// How often a call is repeated at most.
const MOST_REPEATS: u32 = 3;
/// A back-off never grows beyond this.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// A body larger than this is not read. A page of 500 devices has less than 3 MiB.
const LARGEST_BODY: usize = 16 * 1024 * 1024;

/// A whole answer to a call: something, or the word that there is no such thing.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) at: Option<Moment>,
    pub(super) missing: bool,
    pub(super) body: Vec<u8>,
}

/// What stands between us and an answer.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// It may work later; the wait is the server's own.
    Later(Option<Duration>),
    /// It will not work this time.
    Final(UemError),
}

impl From<UemError> for Obstacle {
    fn from(error: UemError) -> Self {
        Self::Final(error)
    }
}

/// Makes the calls.
#[derive(Debug)]
pub(super) struct Caller {
    http: Client,
    badge: Badge,
    pace: Pace,
    tenant_code: Option<SecretString>,
    back_off: Duration,
}

impl Caller {
    pub(super) fn new(settings: Settings) -> Result<Self, BadSettings> {
        let http = settings.client()?;
        let Settings { login, tenant_code, patience, back_off, .. } = settings;
        Ok(Self { http, badge: Badge::new(login), pace: Pace::new(patience), tenant_code, back_off })
    }

    /// Gets this address, in this version of its form.
    pub(super) async fn get(&self, url: Url, version: u8) -> Result<Answer, UemError> {
        let mut repeats = 0;
        loop {
            self.pace.turn().await?;
            let wait = match self.once(&url, version).await {
                Ok(answer) => return Ok(answer),
                Err(Obstacle::Final(error)) => return Err(error),
                Err(Obstacle::Later(wait)) => wait,
            };
            if let Some(wait) = wait {
                // It is their door: nobody knocks before.
                self.pace.hold(wait);
            }
            if repeats == MOST_REPEATS {
                return Err(UemError::Busy { retry_after: wait });
            }
            if wait.is_none() {
                tokio::time::sleep(self.jittered(repeats)).await;
            }
            repeats += 1;
        }
    }

    fn jittered(&self, repeats: u32) -> Duration {
        let longest = self.back_off.saturating_mul(2_u32.saturating_pow(repeats)).min(LONGEST_BACK_OFF);
        longest.mul_f64(rand::random_range(0.5..1.0))
    }

    async fn once(&self, url: &Url, version: u8) -> Result<Answer, Obstacle> {
        let badge = self.badge.show(&self.http).await?;
        let answer = self.send(url, version, badge.clone()).await?;
        if answer.status().as_u16() != 401 {
            return self.understand(answer).await;
        }
        if !self.badge.renew(&badge).await {
            return self.understand(answer).await;
        }
        let badge = self.badge.show(&self.http).await?;
        let answer = self.send(url, version, badge).await?;
        self.understand(answer).await
    }

    async fn send(&self, url: &Url, version: u8, badge: HeaderValue) -> Result<Response, Obstacle> {
        const TENANT: HeaderName = HeaderName::from_static("aw-tenant-code");
        let mut request = self
            .http
            .get(url.clone())
            .header(reqwest::header::AUTHORIZATION, badge)
            .header(ACCEPT, format!("application/json;version={version}"))
            .header(reqwest::header::CACHE_CONTROL, "no-cache");
        if let Some(code) = &self.tenant_code {
            let mut code = HeaderValue::try_from(code.expose_secret())
                .map_err(|_| UemError::unreadable("the tenant code cannot be written into a header"))?;
            code.set_sensitive(true);
            request = request.header(TENANT, code);
        }
        let answer = request.send().await.map_err(UemError::unreachable)?;
        self.pace.hear(answer.headers());
        Ok(answer)
    }

    async fn understand(&self, answer: Response) -> Result<Answer, Obstacle> {
        let status = answer.status().as_u16();
        let at = pace::date(answer.headers());
        let wait = pace::retry_after(answer.headers());
        let foreign = is_html(answer.headers());
        let body = limited_body(answer).await?;
        match status {
            429 | 500..=599 => Err(Obstacle::Later(wait)),
            401 => Err(self.badge.close(status, &body).into()),
            403 => {
                let (code, activity_id) = refusal(&body);
                Err(UemError::Refused { status, code, activity_id }.into())
            }
            200..=299 | 404 if foreign => Err(UemError::unreadable("it is a web page").into()),
            200..=299 => Ok(Answer { at, missing: false, body }),
            404 => Ok(Answer { at, missing: true, body }),
            300..=399 => Err(UemError::unreadable("it leads elsewhere").into()),
            _ => {
                let (code, activity_id) = refusal(&body);
                let (code, activity_id) = (code.unwrap_or_default(), activity_id.unwrap_or_default());
                Err(UemError::unreadable(format!("status {status}, error {code:?}, activity {activity_id:?}")).into())
            }
        }
    }
}

fn is_html(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.to_ascii_lowercase().contains("html")
}

/// The whole body, unless it is too large.
pub(super) async fn limited_body(mut answer: Response) -> Result<Vec<u8>, Obstacle> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(UemError::unreachable)? {
        if body.len() + chunk.len() > LARGEST_BODY {
            return Err(UemError::unreadable("it is too large").into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Error code and activity id of an error's body. The code is a number or a text; the message may name people and is left.
pub(super) fn refusal(body: &[u8]) -> (Option<String>, Option<String>) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let short = |name| look::at(&body, &[name]).and_then(look::scalar).map(|text| text.chars().take(100).collect());
    (short("errorCode").or_else(|| short("error")), short("activityId"))
}
