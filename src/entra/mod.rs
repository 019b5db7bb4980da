//! The only room that talks to Microsoft: tokens, Graph, what its answers mean, and how fast we ask.
//!
//! Its promises: a call has exactly one [`Verdict`]; the bearer token goes to the configured host and nowhere else; nobody
//! is called while the server asked us to wait or our credentials stand refused; and what is logged holds no token, secret
//! or name: a person is their object id.
//!
//! A revoke is sent at most twice by one call, the second time only after a 401, which had no effect. Everything else that
//! is to be tried again is the caller's decision. A call that is cancelled (its future dropped) may have been sent.

mod backoff;
mod circuit;
mod pace;
mod pacer;
mod permissions;
mod person;
mod retry_after;
mod settings;
mod token;
mod verdict;
mod wire;

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Client, Method};
use secrecy::ExposeSecret;
use tokio::time::Instant;
use uuid::Uuid;

pub use circuit::{CircuitState, Fault};
pub use pace::{Lane, Pace, Turn};
pub use permissions::Permissions;
pub use person::{Finding, Found, PersonName, Stamp};
pub use settings::{Cloud, Credential, SecretError, SecretSource, Settings, SetupError, WRITES_PER_SECOND};
pub use token::{TokenFault, TokenHealth};

use crate::custody::{Moment, Verdict};
use circuit::Circuit;
use pacer::{Pacer, TooFar};
use token::Tokens;
use verdict::verdict;
use wire::Exchange;

/// Our own clock, handed in.
pub type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

/// Evenly drawn numbers from 0 up to 1, handed in. They spread our waits.
pub type Chance = Arc<dyn Fn() -> f64 + Send + Sync>;

/// Reads per second: far under the smallest tenant's quota (350), and enough to read back every write we may make.
const READS_PER_SECOND: f64 = 50.0;

/// Microsoft counts writes by windows of 150 s. With the burst that a rest saves up, the pace between is a little slower, so
/// that no such window ever sees more than its configured share: 3,000 at 20 a second.
const WRITES_GIVE_WAY: f64 = 150.0 / 151.0;

/// After a wait longer than this for a turn that was reserved, it is asked whether the lane has been closed meanwhile.
const MAY_HAVE_CLOSED: Duration = Duration::from_millis(5);

/// How long a call waits at a door that the server closed, before it answers "throttled" unsent.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long [`Entra::ready`] sleeps at most before it looks again, as a door may open early.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The way to Microsoft. Cheap to clone; all clones share token, pace and circuit.
#[derive(Clone)]
pub struct Entra {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    graph: String,
    total_timeout: Duration,
    tokens: Arc<Tokens>,
    circuit: Circuit,
    writes: Pacer,
    reads: Pacer,
    shared: OnceLock<Arc<dyn Pace>>,
    clock: Clock,
    offset: OnceLock<AtomicI64>,
    forbidden_in_a_row: AtomicU32,
}

/// What became of one call to Graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What it means.
    pub verdict: Verdict,
    /// The HTTP status, if one came.
    pub status: Option<u16>,
    /// Graph's `error.code`.
    pub error_code: Option<String>,
    /// Graph's own id of the request, for the receipt and for support cases.
    pub request_id: Option<String>,
    /// The id we sent along.
    pub client_request_id: Uuid,
    /// When Graph says it answered, to the second (its `Date` header).
    pub graph_date: Option<Moment>,
    /// Graph's `x-ms-ags-diagnostic`: which data centre and instance answered.
    pub diagnostic: Option<String>,
    /// How long it took, with waiting for a token and for our turn.
    pub took: Duration,
    /// How much of the quota is used up, reported from 0.8 upwards; 1.0 is the limit.
    pub pressure: Option<f64>,
    /// A request can have reached Graph. When false, nothing was sent.
    pub sent: bool,
}

impl Answer {
    /// What is left of a call whose outcome nobody wrote down: it may have had its effect.
    pub fn lost(client_request_id: Uuid) -> Self {
        Self {
            verdict: Verdict::Ambiguous,
            status: None,
            error_code: None,
            request_id: None,
            client_request_id,
            graph_date: None,
            diagnostic: None,
            took: Duration::ZERO,
            pressure: None,
            sent: true,
        }
    }
}

/// What reading a stamp yields, and how the call went.
#[derive(Debug, Clone, PartialEq)]
pub struct StampAnswer {
    /// What was read.
    pub stamp: Stamp,
    /// The call itself; its `graph_date` is the clock to compare the stamp with.
    pub answer: Answer,
}

/// What the app's token says, for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFacts {
    /// The app's permissions; missing and surplus ones.
    pub permissions: Permissions,
    /// How long the token still serves.
    pub expires_in: Duration,
    /// The token endpoint's clock when it gave the token, to the second.
    pub server_clock: Option<Moment>,
}

/// Asked just before a request is sent.
pub type Leave<'a> = dyn Fn() -> BoxFuture<'a, bool> + Send + Sync + 'a;

impl Entra {
    /// The way to Microsoft with these settings. Nothing is sent yet.
    ///
    /// A proxy named by the environment (`HTTPS_PROXY`) is used as a tunnel; with a loopback address there is none.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when the settings cannot be used; it names the key and the fix.
    pub fn new(settings: &Settings, clock: Clock, chance: Chance) -> Result<Self, SetupError> {
        let addresses = settings.addresses()?;
        let client = wire::client(settings, &addresses)?;
        let now = Instant::now();
        let inner = Inner {
            graph: addresses.graph.clone(),
            total_timeout: settings.total_timeout,
            tokens: Arc::new(Tokens::new(client.clone(), addresses, settings, Arc::clone(&chance))),
            circuit: Circuit::new(Arc::clone(&clock), Arc::clone(&chance)),
            writes: Pacer::new(settings.writes_per_second * WRITES_GIVE_WAY, now, Arc::clone(&chance)),
            reads: Pacer::new(READS_PER_SECOND, now, chance),
            shared: OnceLock::new(),
            client,
            clock,
            offset: OnceLock::new(),
            forbidden_in_a_row: AtomicU32::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Keeps, beside its own, a pace that is shared with other processes. The first one that is given stays.
    pub fn share_pace(&self, pace: Arc<dyn Pace>) {
        drop(self.inner.shared.set(pace));
    }

    /// Makes every refresh token and session of this person invalid, on all their devices.
    ///
    /// Waits for a turn first; see [`Self::ready`]. The id must be fresh for each call.
    pub async fn revoke(&self, object_id: Uuid, client_request_id: Uuid) -> Answer {
        self.revoke_while(object_id, client_request_id, &|| Box::pin(std::future::ready(true))).await
    }

    /// The same, asking at the last moment, after all waiting, whether it may still be sent. If not, nothing is, and the
    /// answer says "not now".
    pub async fn revoke_while(&self, object_id: Uuid, client_request_id: Uuid, may: &Leave<'_>) -> Answer {
        let path = format!("/v1.0/users/{object_id}/revokeSignInSessions");
        let (answer, _) = self.inner.call(Lane::Write, Method::POST, &path, client_request_id, may).await;
        match answer.verdict {
            Verdict::Forbidden => {
                self.inner.forbidden_in_a_row.fetch_add(1, Ordering::Relaxed);
            }
            Verdict::Accepted => self.inner.forbidden_in_a_row.store(0, Ordering::Relaxed),
            Verdict::Throttled(_)
            | Verdict::Unavailable(_)
            | Verdict::Ambiguous
            | Verdict::Misled
            | Verdict::Credentials
            | Verdict::Unfound
            | Verdict::Refused => {}
        }
        tracing::debug!(
            person.id = %object_id,
            request.id = %client_request_id,
            request.status = answer.status,
            took_ms = answer.took.as_millis(),
            "revoking the sessions of {object_id}: {:?}",
            answer.verdict
        );
        answer
    }

    /// Reads since when this person's sessions are valid.
    pub async fn stamp(&self, object_id: Uuid) -> StampAnswer {
        let (answer, exchange) = self.inner.read(&person::stamp_question(object_id)).await;
        let stamp = match answer.verdict {
            Verdict::Accepted => person::stamp(object_id, exchange.and_then(|exchange| exchange.json).as_ref()),
            Verdict::Forbidden => Stamp::Unreadable,
            Verdict::Unfound => Stamp::Gone,
            Verdict::Throttled(_)
            | Verdict::Unavailable(_)
            | Verdict::Ambiguous
            | Verdict::Misled
            | Verdict::Credentials
            | Verdict::Refused => Stamp::NotNow(answer.verdict),
        };
        StampAnswer { stamp, answer }
    }

    /// Looks for the one person who bears this name.
    pub async fn find(&self, name: &PersonName) -> Finding {
        let Some(path) = person::question(name) else { return Finding::Unusable };
        let (answer, exchange) = self.inner.read(&path).await;
        match answer.verdict {
            Verdict::Accepted => person::finding(name, exchange.and_then(|exchange| exchange.json).as_ref()),
            Verdict::Forbidden => Finding::Unreadable,
            Verdict::Unfound => Finding::Nobody,
            Verdict::Throttled(_)
            | Verdict::Unavailable(_)
            | Verdict::Ambiguous
            | Verdict::Misled
            | Verdict::Credentials
            | Verdict::Refused => Finding::NotNow(answer.verdict),
        }
    }

    /// What the app's token says: permissions, expiry, the server's clock. Asks for a token if there is none.
    ///
    /// # Errors
    ///
    /// [`TokenFault`] when there is no token to be had; it says why and how long we wait.
    pub async fn token_facts(&self) -> Result<TokenFacts, TokenFault> {
        let token = self.inner.tokens.get().await.map_err(|none| none.fault)?;
        Ok(TokenFacts {
            permissions: permissions::permissions(token.value().expose_secret()),
            expires_in: token.expires_at.saturating_duration_since(Instant::now()),
            server_clock: token.date,
        })
    }

    /// Forgets the token, so that the next call asks for one: what has been consented to since shows only there.
    pub fn drop_token(&self) {
        self.inner.tokens.drop_current();
    }

    /// How the token stands, without asking anybody: for alarms before it runs out.
    pub fn token_health(&self) -> TokenHealth {
        self.inner.tokens.health(Instant::now())
    }

    /// Graph's clock minus ours in microseconds, as the last answer showed it; good to about a second, as Graph's `Date`
    /// has no fraction. `None` before the first answer.
    pub fn clock_offset(&self) -> Option<i64> {
        self.inner.offset.get().map(|micros| micros.load(Ordering::Relaxed))
    }

    /// Whether calls go out just now.
    pub fn circuit(&self) -> CircuitState {
        self.inner.circuit.state(Instant::now())
    }

    /// How many revokes in a row were forbidden (403). One says something of a person; many say something of the app.
    pub fn forbidden_in_a_row(&self) -> u32 {
        self.inner.forbidden_in_a_row.load(Ordering::Relaxed)
    }

    /// How long until a revoke could leave; zero when one can now. Looks only; takes no turn.
    pub fn next_free(&self) -> Duration {
        let now = Instant::now();
        self.inner.circuit.wait(now).max(self.inner.writes.wait(now))
    }

    /// Waits until a revoke could leave. Takes no turn: a worker waits here before it claims work, so that the lease is not
    /// spent on waiting.
    pub async fn ready(&self) {
        loop {
            let mut wait = self.next_free();
            if wait.is_zero()
                && let Some(shared) = self.inner.shared.get()
            {
                wait = shared.free_in(Lane::Write, self.inner.writes.gap()).await;
            }
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
        }
    }
}

impl fmt::Debug for Entra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entra").field("graph", &self.inner.graph).finish_non_exhaustive()
    }
}

impl Inner {
    /// A read has no effect, so one without an answer is not ambiguous.
    async fn read(&self, path: &str) -> (Answer, Option<Exchange>) {
        let (mut answer, exchange) =
            self.call(Lane::Read, Method::GET, path, Uuid::new_v4(), &|| Box::pin(std::future::ready(true))).await;
        if answer.verdict == Verdict::Ambiguous {
            answer.verdict = Verdict::Unavailable(None);
        }
        (answer, exchange)
    }

    async fn call(
        &self,
        lane: Lane,
        method: Method,
        path: &str,
        id: Uuid,
        may: &Leave<'_>,
    ) -> (Answer, Option<Exchange>) {
        let began = Instant::now();
        let mut last: Option<Exchange> = None;
        let permit = match self.circuit.enter(began) {
            Ok(permit) => permit,
            Err(verdict) => return (answer(verdict, None, id, began), None),
        };
        loop {
            let token = match self.tokens.get().await {
                Ok(token) => token,
                Err(none) => {
                    let verdict = none.fault.verdict();
                    // An endpoint that is being spared is not one more failure.
                    if none.asked || permit.is_probe() {
                        permit.settle(verdict, Instant::now());
                    }
                    return (answer(verdict, last.as_ref(), id, began), last);
                }
            };
            if let Err(TooFar(wait)) = self.turn(lane).await {
                return (answer(Verdict::Throttled(Some(wait)), last.as_ref(), id, began), last);
            }
            if !may().await {
                return (answer(Verdict::Unavailable(None), last.as_ref(), id, began), last);
            }
            let exchange = self.exchange(&method, path, id, &token).await;
            let means = verdict(exchange.happened);
            self.hear(lane, means, &exchange).await;
            if means == Verdict::Credentials {
                self.tokens.refused(&token);
                if last.is_none() {
                    last = Some(exchange);
                    continue;
                }
            }
            permit.settle(means, Instant::now());
            return (answer(means, Some(&exchange), id, began), Some(exchange));
        }
    }

    /// Waits for a turn: our own, and then that of all who share the pace.
    async fn turn(&self, lane: Lane) -> Result<(), TooFar> {
        let pacer = self.pacer(lane);
        pacer.turn(PATIENCE).await?;
        let Some(shared) = self.shared.get() else { return Ok(()) };
        loop {
            match shared.take(lane, pacer.gap(), PATIENCE).await {
                Turn::TooFar(wait) => return Err(TooFar(wait)),
                Turn::In(wait) => {
                    tokio::time::sleep(wait).await;
                    // Somebody else may have been told meanwhile that nobody may leave.
                    if wait <= MAY_HAVE_CLOSED || shared.closed_for(lane).await.is_zero() {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn exchange(&self, method: &Method, path: &str, id: Uuid, token: &token::Token) -> Exchange {
        let mut request = self
            .client
            .request(method.clone(), format!("{}{path}", self.graph))
            .timeout(self.total_timeout)
            .header("accept", "application/json")
            .header("client-request-id", id.to_string());
        if let Some((name, value)) = token.header() {
            request = request.header(name, value);
        }
        if *method == Method::POST {
            request = request.header("content-length", "0");
        }
        wire::send(request).await
    }

    /// Takes from an answer what concerns the calls after it.
    async fn hear(&self, lane: Lane, means: Verdict, exchange: &Exchange) {
        let now = Instant::now();
        if let Verdict::Throttled(asked) = means {
            self.close(lane, asked, now).await;
            let both = exchange.header("x-ms-throttle-scope").is_some_and(|scope| scope.contains("/ReadWrite/"));
            if both {
                self.close(lane.other(), asked, now).await;
            }
        } else if exchange.status().is_some() {
            self.pacer(lane).answered(pressure(exchange));
            if let Some(shared) = self.shared.get() {
                shared.answered(lane, pressure(exchange)).await;
            }
        }
        if means != Verdict::Misled
            && let Some(date) = exchange.date()
        {
            // The date was cut to the second, and written about half-way between our sending and reading it.
            let graph = date.plus(Duration::from_millis(500));
            let age = now.duration_since(exchange.headed) + exchange.headed.duration_since(exchange.began) / 2;
            let offset = graph.0.saturating_sub((self.clock)().less(age).0);
            self.offset.get_or_init(|| AtomicI64::new(offset)).store(offset, Ordering::Relaxed);
        }
    }

    /// A 429: nobody leaves by this lane before the wait is over, here or elsewhere.
    async fn close(&self, lane: Lane, asked: Option<Duration>, now: Instant) {
        let pacer = self.pacer(lane);
        let wait = pacer.throttled(asked, now);
        if let Some(shared) = self.shared.get() {
            shared.close(lane, pacer.gap(), wait).await;
        }
    }

    fn pacer(&self, lane: Lane) -> &Pacer {
        match lane {
            Lane::Write => &self.writes,
            Lane::Read => &self.reads,
        }
    }
}

fn answer(verdict: Verdict, exchange: Option<&Exchange>, id: Uuid, began: Instant) -> Answer {
    let header = |name| exchange.and_then(|exchange| exchange.header(name));
    let text = |pointer| exchange.and_then(|exchange| exchange.text(pointer));
    Answer {
        verdict,
        status: exchange.and_then(Exchange::status),
        error_code: text("/error/code"),
        request_id: header("request-id")
            .or_else(|| text("/error/innerError/request-id"))
            .or_else(|| text("/error/innererror/request-id")),
        client_request_id: id,
        graph_date: exchange.and_then(Exchange::date),
        diagnostic: header("x-ms-ags-diagnostic"),
        took: began.elapsed(),
        pressure: exchange.and_then(pressure),
        sent: exchange.is_some_and(Exchange::sent),
    }
}

fn pressure(exchange: &Exchange) -> Option<f64> {
    exchange.header("x-ms-throttle-limit-percentage")?.trim().parse().ok().filter(|share: &f64| share.is_finite())
}
