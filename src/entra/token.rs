//! The app's access token: asked for once, kept, renewed in good time.
//!
//! A token is renewed at half its life by a task beside the call that noticed, and used to its end while the token endpoint
//! is down, so that an outage under half an hour goes unnoticed (G12). At most one request is under way. After a failure
//! nobody asks again before the wait is over: a minute when our credentials were refused (G13), else growing with full
//! jitter.
//!
//! Two calls at once: a call that was refused with an old token does not drop a newer one; it says which token it used.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::Chance;
use super::backoff::full_jitter;
use super::circuit::Fault;
use super::settings::{Addresses, Credential, SecretError, Settings};
use super::verdict::{Body, Happened};
use super::wire::{self, Exchange};
use crate::custody::{Moment, Verdict};

/// How long nobody asks for a token after our credentials were refused.
const REFUSED_WAIT: Duration = Duration::from_mins(1);
/// First, longest and shortest wait after the endpoint failed us otherwise.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
const LEAST_WAIT: Duration = Duration::from_millis(500);
/// A token is not used in its last seconds, as it would expire on the way.
const MARGIN: Duration = Duration::from_secs(10);
/// The life of a token that does not say. Entra's say about an hour.
const UNSAID_LIFE: Duration = Duration::from_mins(5);
/// The longest life we believe.
const LONGEST_LIFE: Duration = Duration::from_hours(24);

/// One access token.
pub(crate) struct Token {
    value: SecretString,
    /// Which one, counted from 1.
    number: u64,
    renew_at: Instant,
    pub(crate) expires_at: Instant,
    /// The token endpoint's clock when it was given.
    pub(crate) date: Option<Moment>,
}

impl Token {
    /// The header that carries it, marked so that nothing prints it.
    pub(crate) fn header(&self) -> Option<(http::HeaderName, HeaderValue)> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.value.expose_secret())).ok()?;
        value.set_sensitive(true);
        Some((AUTHORIZATION, value))
    }

    pub(crate) fn value(&self) -> &SecretString {
        &self.value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no access token: {}", self.sentence())]
pub struct TokenFault {
    /// What kind of fault it is.
    pub fault: Fault,
    /// How long until we ask again.
    pub wait: Duration,
    /// The HTTP status, if one came.
    pub status: Option<u16>,
    /// OAuth2's `error`, such as `invalid_client`.
    pub error: Option<String>,
    /// Entra's own numbers (AADSTS…), for display only.
    pub error_codes: Vec<i64>,
    /// Entra's trace id, for a support case.
    pub trace_id: Option<String>,
    /// Our side: the secret or the federated token could not be read.
    pub secret: Option<SecretError>,
}

impl TokenFault {
    pub(crate) fn verdict(&self) -> Verdict {
        match self.fault {
            Fault::Unavailable => Verdict::Unavailable(Some(self.wait)),
            Fault::Misled => Verdict::Misled,
            Fault::Credentials => Verdict::Credentials,
        }
    }

    fn sentence(&self) -> String {
        if let Some(secret) = &self.secret {
            return secret.to_string();
        }
        let codes: Vec<String> = self.error_codes.iter().map(|code| format!("AADSTS{code}")).collect();
        let what = match self.fault {
            Fault::Unavailable => "the token endpoint does not answer or says later",
            Fault::Misled => "somebody other than Entra answers at the token endpoint",
            Fault::Credentials => {
                "Entra refuses the app; check entra.tenant_id, entra.client_id and the client secret or federated credential"
            }
        };
        match &self.error {
            Some(error) => format!("{what} ({error} {})", codes.join(" ")).replace(" )", ")"),
            None => what.to_owned(),
        }
    }
}

/// How the token stands, for alarms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHealth {
    /// How long the cached token still serves. `None`: there is none.
    pub expires_in: Option<Duration>,
    /// Why the last request for one failed, if it did.
    pub fault: Option<TokenFault>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Token>>,
    given: u64,
    failures: u32,
    fault: Option<(TokenFault, Instant)>,
}

/// See the head of this file.
pub(crate) struct Tokens {
    client: Client,
    addresses: Addresses,
    client_id: String,
    credential: Credential,
    timeout: Duration,
    chance: Chance,
    state: Mutex<State>,
    flight: tokio::sync::Mutex<()>,
}

/// No token, and whether the endpoint was asked just now or is being spared.
pub(crate) struct NoToken {
    pub(crate) fault: TokenFault,
    pub(crate) asked: bool,
}

impl Tokens {
    pub(crate) fn new(client: Client, addresses: Addresses, settings: &Settings, chance: Chance) -> Self {
        Self {
            client,
            addresses,
            client_id: settings.client_id.clone(),
            credential: settings.credential.clone(),
            timeout: settings.token_timeout,
            chance,
            state: Mutex::default(),
            flight: tokio::sync::Mutex::new(()),
        }
    }

    /// A token that is good now.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<Arc<Token>, NoToken> {
        if let Some(token) = self.cached(Instant::now()) {
            if self.renewal_due(&token, Instant::now()) {
                let tokens = Arc::clone(self);
                tokio::spawn(async move { tokens.renew().await });
            }
            return Ok(token);
        }
        let _alone = self.flight.lock().await;
        let now = Instant::now();
        if let Some(token) = self.cached(now) {
            return Ok(token);
        }
        match self.spared(now) {
            Some(fault) => Err(NoToken { fault, asked: false }),
            None => self.ask().await.map_err(|fault| NoToken { fault, asked: true }),
        }
    }

    /// This token was refused: it is not used again. A newer one stays.
    pub(crate) fn refused(&self, token: &Token) {
        let mut state = self.lock();
        if state.current.as_ref().is_some_and(|current| current.number == token.number) {
            state.current = None;
        }
    }

    pub(crate) fn drop_current(&self) {
        self.lock().current = None;
    }

    pub(crate) fn health(&self, now: Instant) -> TokenHealth {
        let state = self.lock();
        TokenHealth {
            expires_in: state
                .current
                .as_ref()
                .map(|token| token.expires_at.saturating_duration_since(now))
                .filter(|left| !left.is_zero()),
            fault: state.fault.as_ref().map(|(fault, _)| fault.clone()),
        }
    }

    async fn renew(&self) {
        // Somebody is at it already.
        let Ok(_alone) = self.flight.try_lock() else { return };
        let now = Instant::now();
        let due = self.cached(now).is_none_or(|token| self.renewal_due(&token, now));
        if due && self.spared(now).is_none() {
            // A failure is kept and logged there; the old token serves on.
            let _ = self.ask().await;
        }
    }

    fn cached(&self, now: Instant) -> Option<Arc<Token>> {
        self.lock().current.clone().filter(|token| now < token.expires_at)
    }

    fn renewal_due(&self, token: &Token, now: Instant) -> bool {
        now >= token.renew_at && self.spared(now).is_none()
    }

    /// The last fault, with what is left of its wait.
    fn spared(&self, now: Instant) -> Option<TokenFault> {
        let state = self.lock();
        let (fault, until) = state.fault.as_ref()?;
        let wait = until.saturating_duration_since(now);
        (!wait.is_zero()).then(|| TokenFault { wait, ..fault.clone() })
    }

    /// Asks for a token. The caller holds the flight.
    async fn ask(&self) -> Result<Arc<Token>, TokenFault> {
        let now = Instant::now();
        let outcome = match self.credential.proof().await {
            Ok(proof) => granted(wire::send(self.request(&proof)).await),
            Err(secret) => Err(TokenFault { secret: Some(secret), ..TokenFault::of(Fault::Credentials) }),
        };
        let mut state = self.lock();
        match outcome {
            Ok(granted) => {
                state.given += 1;
                let token = Arc::new(granted.from(now, state.given));
                state.current = Some(Arc::clone(&token));
                state.failures = 0;
                state.fault = None;
                Ok(token)
            }
            Err(mut fault) => {
                let ours = full_jitter(FIRST_WAIT, state.failures, LONGEST_WAIT, LEAST_WAIT, (self.chance)());
                fault.wait = match fault.fault {
                    Fault::Credentials => REFUSED_WAIT,
                    Fault::Unavailable | Fault::Misled => ours.max(fault.wait),
                };
                state.failures = state.failures.saturating_add(1);
                state.fault = Some((fault.clone(), Instant::now() + fault.wait));
                tracing::warn!(token.wait_ms = fault.wait.as_millis(), error = %fault, "{fault}");
                Err(fault)
            }
        }
    }

    fn request(&self, proof: &[(&'static str, SecretString)]) -> reqwest::RequestBuilder {
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id.as_str()),
            ("scope", self.addresses.scope.as_str()),
        ];
        form.extend(proof.iter().map(|(name, value)| (*name, value.expose_secret())));
        self.client.post(self.addresses.token.clone()).timeout(self.timeout).form(&form)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenFault {
    fn of(fault: Fault) -> Self {
        Self {
            fault,
            wait: Duration::ZERO,
            status: None,
            error: None,
            error_codes: vec![],
            trace_id: None,
            secret: None,
        }
    }
}

/// The token in this answer, or what the answer says instead. The wait is the server's own.
fn granted(exchange: Exchange) -> Result<Granted, TokenFault> {
    let mut fault = TokenFault {
        status: exchange.status(),
        error: exchange.text("/error"),
        trace_id: exchange.text("/trace_id"),
        error_codes: exchange
            .json
            .as_ref()
            .and_then(|json| json.get("error_codes")?.as_array())
            .map(|codes| codes.iter().filter_map(Value::as_i64).take(8).collect())
            .unwrap_or_default(),
        ..TokenFault::of(Fault::Unavailable)
    };
    (fault.fault, fault.wait) = match classify(exchange.happened, fault.error.as_deref()) {
        Ok(()) => match Granted::read(exchange) {
            Some(granted) => return Ok(granted),
            None => (Fault::Misled, Duration::ZERO),
        },
        Err(why) => why,
    };
    Err(fault)
}

/// What a token answer means. A request for a token has no effect, so nothing is ambiguous. By OAuth2's `error`, never by
/// Entra's numbers or texts, as Microsoft asks.
fn classify(happened: Happened, error: Option<&str>) -> Result<(), (Fault, Duration)> {
    match happened {
        Happened::Unreached | Happened::Lost => Err((Fault::Unavailable, Duration::ZERO)),
        Happened::Impostor => Err((Fault::Misled, Duration::ZERO)),
        Happened::Answered { status, body, retry_after } => {
            let later = (Fault::Unavailable, retry_after.unwrap_or_default());
            match (status, body, error) {
                (408 | 425 | 429 | 500..=599, _, _)
                | (_, Body::Partial, _)
                | (400..=499, Body::Json, Some("temporarily_unavailable" | "server_error")) => Err(later),
                (200..=299, Body::Json, None) => Ok(()),
                (400..=499, Body::Json, Some(_)) => Err((Fault::Credentials, Duration::ZERO)),
                (_, _, _) => Err((Fault::Misled, Duration::ZERO)),
            }
        }
    }
}

struct Granted {
    value: SecretString,
    life: Duration,
    renew_in: Duration,
    date: Option<Moment>,
}

impl Granted {
    fn read(mut exchange: Exchange) -> Option<Self> {
        let date = exchange.date();
        let json = exchange.json.as_mut()?;
        let life = seconds(json.get("expires_in")).unwrap_or(UNSAID_LIFE).min(LONGEST_LIFE);
        let renew_in = seconds(json.get("refresh_in")).map_or(life / 2, |said| said.min(life / 2));
        let Value::String(value) = json.get_mut("access_token")?.take() else { return None };
        let sendable = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
        let value = SecretString::from(value);
        sendable.then_some(Self { value, life, renew_in, date })
    }

    /// Counted from before the request was sent, so that it errs to the short side.
    fn from(self, asked: Instant, number: u64) -> Token {
        let expires_at = asked + self.life - MARGIN.min(self.life / 10);
        Token { value: self.value, number, renew_at: asked + self.renew_in, expires_at, date: self.date }
    }
}

/// A number of seconds, which some token endpoints write as a string.
fn seconds(value: Option<&Value>) -> Option<Duration> {
    let value = value?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    (number > 0).then(|| Duration::from_secs(number))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::granted(200, Body::Json, None, None)]
    #[case::wrong_secret(401, Body::Json, Some("invalid_client"), Some(Fault::Credentials))]
    #[case::unknown_app(400, Body::Json, Some("unauthorized_client"), Some(Fault::Credentials))]
    #[case::unknown_tenant(400, Body::Json, Some("invalid_request"), Some(Fault::Credentials))]
    #[case::wrong_resource(400, Body::Json, Some("invalid_resource"), Some(Fault::Credentials))]
    #[case::busy(400, Body::Json, Some("temporarily_unavailable"), Some(Fault::Unavailable))]
    #[case::throttled(429, Body::Empty, None, Some(Fault::Unavailable))]
    #[case::broken(503, Body::Foreign, None, Some(Fault::Unavailable))]
    #[case::cut_short(200, Body::Partial, None, Some(Fault::Unavailable))]
    #[case::sign_in_page(200, Body::Foreign, None, Some(Fault::Misled))]
    #[case::redirect(302, Body::Empty, None, Some(Fault::Misled))]
    #[case::proxy(403, Body::Foreign, None, Some(Fault::Misled))]
    fn a_token_answer_has_one_meaning(
        #[case] status: u16,
        #[case] body: Body,
        #[case] error: Option<&str>,
        #[case] means: Option<Fault>,
    ) {
        let got = classify(Happened::Answered { status, body, retry_after: None }, error);

        assert_eq!(got.err().map(|(fault, _)| fault), means);
    }

    #[rstest]
    #[case(json!(3599), Some(3599))]
    #[case(json!("3599"), Some(3599))]
    #[case(json!(0), None)]
    #[case(json!(-1), None)]
    #[case(json!("soon"), None)]
    #[case(json!(null), None)]
    fn a_life_is_seconds_however_written(#[case] value: Value, #[case] seconds_of_it: Option<u64>) {
        assert_eq!(seconds(Some(&value)), seconds_of_it.map(Duration::from_secs));
    }

    #[test]
    fn a_fault_names_entras_number_for_the_operator() {
        let fault = TokenFault {
            error: Some("invalid_client".to_owned()),
            error_codes: vec![7_000_222],
            ..TokenFault::of(Fault::Credentials)
        };

        assert!(fault.to_string().ends_with("(invalid_client AADSTS7000222)"), "{fault}");
    }
}
