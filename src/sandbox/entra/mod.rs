//! A simulated Microsoft Entra tenant: its login host and its Microsoft Graph, on one address.
//!
//! [`Entra`] is a handle; clones share the tenant. What can be done over HTTP with `POST /_sandbox/{verb}` is listed in
//! [`crate::sandbox`].

mod control;
mod directory;
mod grants;
mod graph;
mod login;
mod oauth;
mod quota;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, atomic::Ordering},
    time::Duration,
};

use chrono::{DateTime, Utc};
use http::{Method, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use self::{
    directory::{Directory, User},
    login::Sign,
    quota::Bucket,
};
pub use self::{
    directory::{Effect, Lag, UserSpec},
    oauth::{OAuthError, Tokens},
    quota::{Quota, RetryAfter},
};
use crate::sandbox::{
    clock::http_date,
    fault::{Fault, Route},
    held,
    journal::{Counts, Seen},
    server::{Desk, Orders, Site, Subject},
    token::Mint,
    wire::{Call, Reply},
};

/// The simulated tenant.
#[derive(Clone)]
pub struct Entra {
    tenant: Arc<Tenant>,
}

/// How the tenant behaves.
#[derive(Clone, Debug)]
pub struct EntraOptions {
    /// When a new stamp can be read, for users without a lag of their own.
    pub lag: Lag,
    /// How long after a revocation old refresh tokens are still taken.
    pub refusal_delay: Duration,
    /// Whether administrators can't be revoked.
    pub admin_protected: bool,
    /// The status of a successful revocation: 200 (with a body) or 204.
    pub revoke_status: u16,
    /// Whether a successful revocation carries a `Location` header.
    pub revoke_location: bool,
    /// How long an access token is good for.
    pub access_token_seconds: u32,
    /// The write quota per application; none when absent.
    pub quota: Option<Quota>,
}

impl Default for EntraOptions {
    fn default() -> Self {
        Self {
            lag: Lag::After(Duration::ZERO),
            refusal_delay: Duration::ZERO,
            admin_protected: false,
            revoke_status: 200,
            revoke_location: false,
            access_token_seconds: 3599,
            quota: Some(Quota::default()),
        }
    }
}

pub(super) struct Tenant {
    desk: Desk,
    id: Uuid,
    url: String,
    client_id: String,
    public_client_id: String,
    mint: Mint,
    state: Mutex<State>,
}

struct State {
    options: EntraOptions,
    directory: Directory,
    app: App,
    signs: HashMap<String, Sign>,
    buckets: HashMap<String, Bucket>,
    tokens_issued: u64,
}

/// The confidential client: Handover's own app registration.
struct App {
    secret: String,
    secret_expired: bool,
    federated: Option<Federated>,
    roles: BTreeSet<String>,
}

/// Whose tokens the application may prove itself with: a federated credential.
#[derive(Clone, Debug)]
pub(super) struct Federated {
    issuer: String,
    subject: String,
}

impl Entra {
    pub(super) fn new(url: String, seed: u64, secret: Option<String>) -> Self {
        let app = App {
            secret: secret.unwrap_or_else(|| format!("sandbox~{}", Uuid::new_v4().simple())),
            secret_expired: false,
            federated: None,
            roles: ["User.RevokeSessions.All", "User.Read.All"].map(str::to_owned).into(),
        };
        let state = State {
            options: EntraOptions::default(),
            directory: Directory::default(),
            app,
            signs: HashMap::new(),
            buckets: HashMap::new(),
            tokens_issued: 0,
        };
        let tenant = Tenant {
            desk: Desk::new("entra", seed),
            id: Uuid::new_v4(),
            url,
            client_id: Uuid::new_v4().to_string(),
            public_client_id: Uuid::new_v4().to_string(),
            mint: Mint::new("sandbox-entra"),
            state: Mutex::new(state),
        };
        Self { tenant: Arc::new(tenant) }
    }

    pub(super) fn site(&self) -> Arc<Tenant> {
        Arc::clone(&self.tenant)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.tenant.state()
    }

    /// The directory (tenant) id.
    pub fn tenant_id(&self) -> Uuid {
        self.tenant.id
    }

    /// The root of the login host, without the tenant.
    pub fn login_url(&self) -> &str {
        &self.tenant.url
    }

    /// The root of Graph, without `/v1.0`.
    pub fn graph_url(&self) -> &str {
        &self.tenant.url
    }

    /// The application id of the confidential client.
    pub fn client_id(&self) -> &str {
        &self.tenant.client_id
    }

    /// An application id for user sign-ins. Any other GUID does as well.
    pub fn public_client_id(&self) -> &str {
        &self.tenant.public_client_id
    }

    /// The confidential client's secret.
    pub fn client_secret(&self) -> String {
        self.state().app.secret.clone()
    }

    /// Replaces the secret; the old one is wrong from now on.
    pub fn set_client_secret(&self, secret: &str) {
        let app = &mut self.state().app;
        secret.clone_into(&mut app.secret);
        app.secret_expired = false;
    }

    /// The secret has expired, until it is replaced.
    pub fn expire_secret(&self) {
        self.state().app.secret_expired = true;
    }

    /// Gives the application a federated credential: from now on a token of this issuer about this subject proves it too.
    /// Nobody can be asked for the issuer's keys here, so what the token says is believed.
    pub fn trust(&self, issuer: &str, subject: &str) {
        let federated = Federated { issuer: issuer.to_owned(), subject: subject.to_owned() };
        self.state().app.federated = Some(federated);
    }

    /// The application permissions that new tokens carry.
    pub fn set_roles<'a>(&self, roles: impl IntoIterator<Item = &'a str>) {
        self.state().app.roles = roles.into_iter().map(str::to_owned).collect();
    }

    /// Changes how the tenant behaves.
    pub fn change(&self, change: impl FnOnce(&mut EntraOptions)) {
        change(&mut self.state().options);
    }

    /// Sets the write quota and refills it; `None` takes it away.
    pub fn set_quota(&self, quota: Option<Quota>) {
        let mut state = self.state();
        state.options.quota = quota;
        state.buckets.clear();
    }

    /// Sets when new stamps can be read: for one user, or for all without a setting of their own.
    pub fn set_lag(&self, user: Option<Uuid>, lag: Lag) {
        let mut state = self.state();
        match user {
            None => state.options.lag = lag,
            Some(id) => {
                if let Some(user) = state.directory.get_mut(id) {
                    user.lag = Some(lag);
                }
            }
        }
    }

    /// Adds a user and says its object id.
    pub fn add_user(&self, spec: impl Into<UserSpec>) -> Uuid {
        let now = self.tenant.desk.clock.says();
        self.state().directory.add(spec.into(), now)
    }

    /// Gives a user another UPN. Says whether there is such a user.
    pub fn rename_user(&self, user: Uuid, upn: &str) -> bool {
        self.state().directory.rename(user, upn)
    }

    /// Deletes a user. Says whether there was one.
    pub fn delete_user(&self, user: Uuid) -> bool {
        self.state().directory.delete(user)
    }

    /// Enables or disables a user. Says whether there is one.
    pub fn set_enabled(&self, user: Uuid, enabled: bool) -> bool {
        self.state().directory.get_mut(user).map(|user| user.enabled = enabled).is_some()
    }

    /// Signs a user in, as an app does after its sign-in page.
    ///
    /// # Errors
    /// When there is no such user, or it is disabled.
    pub fn sign_in(&self, upn: &str) -> Result<Tokens, OAuthError> {
        let client = &self.tenant.public_client_id;
        self.tenant.sign_in(&mut self.state(), upn, client, grants::ORDINARY_SCOPES)
    }

    /// Redeems a refresh token, as the token endpoint does.
    ///
    /// # Errors
    /// When the token was revoked, is not ours, or its user is gone.
    pub fn refresh(&self, refresh_token: &str) -> Result<Tokens, OAuthError> {
        self.tenant.redeem(&mut self.state(), refresh_token, None, grants::ORDINARY_SCOPES)
    }

    /// Approves a device code for a user. Says whether the code was waiting.
    pub fn approve(&self, user_code: &str, upn: &str) -> bool {
        login::approve(&mut self.state(), user_code, upn)
    }

    /// The stamp as a read would show it now.
    pub fn stamp(&self, user: Uuid) -> Option<String> {
        let state = self.state();
        let now = self.tenant.desk.clock.real();
        state.directory.get(user).map(|user| user.stamp(now, state.options.lag, false))
    }

    /// The revocations of this user that really took effect, oldest first.
    pub fn effects(&self, user: Uuid) -> Vec<Effect> {
        self.state().directory.get(user).map(|user| user.effects.clone()).unwrap_or_default()
    }

    /// Orders a fault.
    pub fn fault(&self, fault: Fault) {
        held(&self.tenant.desk.faults).add(fault);
    }

    /// Takes all ordered faults back.
    pub fn clear_faults(&self) {
        held(&self.tenant.desk.faults).clear();
    }

    /// Takes the server off the net, or puts it back. The control routes stay.
    pub fn set_down(&self, down: bool) {
        self.tenant.desk.down.store(down, Ordering::Relaxed);
    }

    /// Sets how far ahead of true time the server believes it is.
    pub fn set_clock_offset_ms(&self, offset_ms: i64) {
        self.tenant.desk.clock.set_offset_ms(offset_ms);
    }

    /// Lets time pass at once.
    pub fn advance(&self, by: Duration) {
        self.tenant.desk.clock.advance(by);
    }

    /// The server's own time.
    pub fn now(&self) -> DateTime<Utc> {
        self.tenant.desk.clock.says()
    }

    /// The requests seen and still kept, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        held(&self.tenant.desk.journal).entries()
    }

    /// How many requests there have been since the start, kept or not.
    pub fn seen_total(&self) -> u64 {
        held(&self.tenant.desk.journal).arrived()
    }

    /// How often each route was answered with each status since the start.
    pub fn seen_counts(&self) -> Counts {
        held(&self.tenant.desk.journal).counts()
    }

    /// Forgets the kept requests.
    pub fn clear_seen(&self) {
        held(&self.tenant.desk.journal).clear();
    }
}

impl Tenant {
    fn state(&self) -> MutexGuard<'_, State> {
        held(&self.state)
    }
}

impl Site for Tenant {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    fn recognise(&self, call: &Call) -> Subject {
        let caller = call.bearer().and_then(|token| self.mint.read(token));
        let caller = caller.and_then(|claims| claims["appid"].as_str().map(str::to_owned));
        if let Some(asked) = graph::Asked::of(call) {
            let user = asked.user_key().and_then(|key| self.state().directory.find(key).map(|user| user.id));
            return Subject { route: asked.route(), user, caller };
        }
        match call.path()[..] {
            [_, "oauth2", "v2.0", "token"] => {
                let (user, caller) = self.token_subject(call);
                Subject { route: Route::Token, user, caller }
            }
            _ => Subject { caller, ..Subject::default() },
        }
    }

    fn answer(&self, call: &Call, orders: &mut Orders) -> Reply {
        if let Some(asked) = graph::Asked::of(call) {
            return self.graph(call, &asked, orders);
        }
        match (&call.method, &call.path()[..]) {
            (&Method::POST, [tenant, "oauth2", "v2.0", "token"]) => self.token(call, tenant),
            (&Method::POST, [tenant, "oauth2", "v2.0", "devicecode"]) => self.device_code(call, tenant),
            (&Method::GET, [_, "oauth2", "v2.0", "authorize"]) => self.authorize(call),
            (&Method::GET, [tenant, "v2.0", ".well-known", "openid-configuration"]) => self.discovery(tenant),
            (&Method::GET, ["common", "discovery", "instance"]) => self.instance(),
            (&Method::GET, [_, "discovery", "v2.0", "keys"]) => {
                Reply::json(StatusCode::OK, &serde_json::json!({"keys": []}))
            }
            (&Method::GET, ["common", "userrealm", upn]) => self.user_realm(upn),
            _ => self.refusal(call, orders, StatusCode::NOT_FOUND),
        }
    }

    fn refusal(&self, call: &Call, orders: &Orders, status: StatusCode) -> Reply {
        if call.path().contains(&"oauth2") {
            return OAuthError::ordered(status, self.desk.clock.says()).reply();
        }
        self.graph_error(call, orders, status, graph::ordinary_code(status), graph::ordinary_message(status))
    }

    fn dress(&self, call: &Call, orders: &Orders, reply: &mut Reply) {
        reply.set("date", http_date(self.desk.clock.says()));
        reply.set("cache-control", "no-cache, no-store");
        let request_id = orders.request_id.to_string();
        if graph::Asked::of(call).is_none() {
            return reply.set("x-ms-request-id", request_id);
        }
        reply.set("request-id", &request_id);
        reply.set("client-request-id", call.header("client-request-id").unwrap_or(&request_id));
        reply.set(
            "x-ms-ags-diagnostic",
            r#"{"ServerInfo":{"DataCenter":"Sandbox","Slice":"E","Ring":"5","ScaleUnit":"000","RoleInstance":"SB0"}}"#,
        );
    }

    async fn control(&self, verb: &str, order: Value) -> Result<Value, String> {
        control::obey(self, verb, order)
    }
}

/// A user as the controls show it.
fn user_row(user: &User, state: &State, now: DateTime<Utc>) -> Value {
    serde_json::json!({
        "object_id": user.id, "upn": user.upn, "guest": user.guest, "admin": user.admin, "enabled": user.enabled,
        "stamp": user.stamp(now, state.options.lag, false), "effects": user.effects.len(),
    })
}
