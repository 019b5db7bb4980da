//! Proving who we are: a token that is renewed in good time, or Basic.
//!
//! Wrong passwords in a row lock an administrator's account. So the first refusal closes the way for a minute, for
//! everybody, and the refusal itself is what they are told.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Client;
use reqwest::header::{ACCEPT, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::call::{Obstacle, limited_body, refusal};
use super::{Login, UemError, look, pace};

/// How long before its end a token is renewed.
const EARLY: Duration = Duration::from_mins(5);
/// How long nothing is sent after a refusal.
const CLOSED: Duration = Duration::from_mins(1);
/// The life of a token whose answer does not say.
const USUAL_LIFE: u64 = 3600;
/// A token is not kept longer than this, whatever its answer says.
const LONGEST_LIFE: u64 = 24 * 3600;

/// Our login, and what became of it.
#[derive(Debug)]
pub(super) struct Badge {
    login: Login,
    token: tokio::sync::Mutex<Option<Token>>,
    refused: Mutex<Option<Refusal>>,
}

#[derive(Debug)]
struct Token {
    value: SecretString,
    renew_at: Instant,
}

/// A refusal as the UEM worded it, to be repeated until it is time to try again.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: Option<String>,
    pub(super) activity_id: Option<String>,
    pub(super) until: Instant,
}

impl From<Refusal> for UemError {
    fn from(Refusal { status, code, activity_id, until: _ }: Refusal) -> Self {
        Self::Refused { status, code, activity_id }
    }
}

impl Badge {
    pub(super) fn new(login: Login) -> Self {
        Self { login, token: tokio::sync::Mutex::new(None), refused: Mutex::new(None) }
    }

    /// The `Authorization` of the next call.
    pub(super) async fn show(&self, http: &Client) -> Result<HeaderValue, Obstacle> {
        self.admitted()?;
        let shown = match &self.login {
            Login::Basic { user_name, password } => {
                format!("Basic {}", STANDARD.encode(format!("{user_name}:{}", password.expose_secret())))
            }
            Login::OAuth2 { token_url, client_id, client_secret } => {
                let mut token = self.token.lock().await;
                // Another call may have been refused while we queued for the token.
                self.admitted()?;
                let fresh = match token.take() {
                    Some(token) if token.renew_at > Instant::now() => token,
                    _ => self.fetch(http, token_url, client_id, client_secret).await?,
                };
                format!("Bearer {}", token.insert(fresh).value.expose_secret())
            }
        };
        let mut header = HeaderValue::try_from(shown)
            .map_err(|_| Obstacle::Final(UemError::unreadable("the login cannot be written into a header")))?;
        header.set_sensitive(true);
        Ok(header)
    }

    /// Whether a new login may help after this one was refused: a token can have been withdrawn before its time.
    pub(super) async fn renew(&self, shown: &HeaderValue) -> bool {
        if matches!(self.login, Login::Basic { .. }) {
            return false;
        }
        let mut token = self.token.lock().await;
        let ours = |token: &Token| *shown == format!("Bearer {}", token.value.expose_secret());
        if token.as_ref().is_some_and(ours) {
            *token = None;
        }
        true
    }

    /// Closes the way for a while.
    pub(super) fn close(&self, status: u16, body: &[u8]) -> UemError {
        let (code, activity_id) = refusal(body);
        let refusal = Refusal { status, code, activity_id, until: Instant::now() + CLOSED };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal.clone());
        refusal.into()
    }

    fn admitted(&self) -> Result<(), Obstacle> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match &*refused {
            Some(refusal) if refusal.until > Instant::now() => Err(Obstacle::Final(refusal.clone().into())),
            _ => Ok(()),
        }
    }

    async fn fetch(
        &self,
        http: &Client,
        token_url: &url::Url,
        client_id: &str,
        client_secret: &SecretString,
    ) -> Result<Token, Obstacle> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", client_id),
            ("client_secret", client_secret.expose_secret()),
        ];
        let asked_at = Instant::now();
        let request = http.post(token_url.clone()).header(ACCEPT, "application/json").form(&form);
        let answer = request.send().await.map_err(|error| Obstacle::Final(UemError::unreachable(error)))?;
        let status = answer.status().as_u16();
        let wait = pace::retry_after(answer.headers());
        let body = limited_body(answer).await?;
        match status {
            200..=299 => read_token(&body, asked_at),
            429 | 500..=599 => Err(Obstacle::Later(wait)),
            400 | 401 | 403 => Err(Obstacle::Final(self.close(status, &body))),
            _ => Err(Obstacle::Final(UemError::unreadable(format!("the token endpoint answered {status}")))),
        }
    }
}

fn read_token(body: &[u8], asked_at: Instant) -> Result<Token, Obstacle> {
    let unreadable = || Obstacle::Final(UemError::unreadable("the token endpoint answered no token"));
    let body: Value = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let value = body.get("access_token").and_then(Value::as_str).filter(|token| !token.is_empty());
    let value = SecretString::from(value.ok_or_else(unreadable)?.to_owned());
    let life = body.get("expires_in").and_then(look::scalar).and_then(|life| life.trim().parse::<f64>().ok());
    Ok(Token { value, renew_at: asked_at + keep(life) })
}

/// How long a token of this life is used. A short one is used for half its life.
fn keep(life_seconds: Option<f64>) -> Duration {
    let usual = Duration::from_secs(USUAL_LIFE);
    let life = life_seconds.map_or(usual, |life| Duration::try_from_secs_f64(life).unwrap_or_default());
    let life = life.min(Duration::from_secs(LONGEST_LIFE));
    life.saturating_sub(EARLY).max((life / 2).min(EARLY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_five_minutes_early() {
        assert_eq!(keep(Some(3600.0)), Duration::from_mins(55));
        assert_eq!(keep(None), Duration::from_mins(55));
        assert_eq!(keep(Some(200.0)), Duration::from_secs(100));
        assert_eq!(keep(Some(-5.0)), Duration::ZERO);
        assert_eq!(keep(Some(f64::INFINITY)), Duration::ZERO);
        assert_eq!(keep(Some(1e12)), Duration::from_secs(LONGEST_LIFE - 300));
    }

    #[test]
    fn the_life_of_a_token_is_a_number_or_a_text() {
        let now = Instant::now();
        for body in [r#"{"access_token":"t","expires_in":3600}"#, r#"{"access_token":"t","expires_in":"3600"}"#] {
            assert_eq!(read_token(body.as_bytes(), now).unwrap().renew_at, now + Duration::from_mins(55));
        }
        assert!(read_token(b"<html>", now).is_err());
        assert!(read_token(b"{}", now).is_err());
    }
}
