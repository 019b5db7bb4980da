//! A simulated Workspace ONE UEM: its fleet, its REST API and its webhook sender.
//!
//! [`Uem`] is a handle; clones share the fleet. A deed changes the fleet first and tells the target afterwards, so that a
//! receiver that looks at once sees the new state, unless a lag was set.

mod control;
mod deeds;
mod event;
mod fleet;
mod rest;
mod sender;
mod shapes;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, atomic::Ordering},
    time::Duration,
};

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

pub use self::{
    event::{EventName, EventNames, Format, TimeForm},
    fleet::{DeviceSpec, UemUserSpec, Unknown},
    sender::{CheckInCarries, CheckOutCarries, Fate, Hook, Sent},
};
use self::{fleet::Fleet, sender::Outbox};
use crate::sandbox::{
    fault::Fault,
    held,
    journal::{Counts, Seen},
    server::{Desk, Orders, Site, Subject},
    token::Mint,
    wire::{Call, Reply},
};

/// The simulated device management.
#[derive(Clone)]
pub struct Uem {
    plant: Arc<Plant>,
}

struct Plant {
    desk: Desk,
    url: String,
    client_id: String,
    client_secret: String,
    username: String,
    password: String,
    tenant_code: String,
    mint: Mint,
    client: reqwest::Client,
    state: Mutex<State>,
}

struct State {
    options: UemOptions,
    fleet: Fleet,
    outbox: Outbox,
    window_began: DateTime<Utc>,
    spent: u32,
}

impl State {
    /// How many seconds the current quota window has lasted.
    fn window_age(&self, now: DateTime<Utc>) -> i64 {
        (now - self.window_began).num_seconds()
    }
}

/// What a list without results looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyList {
    /// 200 and no body at all.
    #[default]
    EmptyBody,
    /// 200 and an empty array.
    EmptyArray,
    /// 204.
    NoContent,
}

/// The event notification rule as read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `TargetUrl`.
    pub url: String,
    /// `IsActive`.
    pub active: bool,
    /// `Format`.
    pub format: Format,
    /// `DeviceEvents.CheckOutCheckIn`.
    pub check_out_check_in: bool,
}

impl Rule {
    /// The rule that a hook was made by.
    pub fn of(hook: &Hook) -> Self {
        Self { url: hook.url.clone(), active: true, format: hook.format, check_out_check_in: true }
    }
}

/// How the UEM behaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UemOptions {
    /// The largest page of a list; larger ones are cut silently. Default: 500.
    pub largest_page: usize,
    /// What a list without results looks like.
    pub empty_list: EmptyList,
    /// Whether list filters are ignored.
    pub filters_ignored: bool,
    /// Requests a minute; unlimited when absent. Default: 1,000.
    pub requests_per_minute: Option<u32>,
    /// Whether `errorCode` is text.
    pub error_code_text: bool,
    /// Whether `expires_in` is text.
    pub expires_in_text: bool,
    /// How long a bearer token is good for. Default: 3,600.
    pub token_seconds: u32,
    /// How far reads of one device are behind.
    pub rest_lag_ms: u64,
    /// How far device lists are behind.
    pub list_lag_ms: u64,
    /// The rule to be read back, when it is not the true one.
    pub rule: Option<Rule>,
}

impl Default for UemOptions {
    fn default() -> Self {
        Self {
            largest_page: 500,
            empty_list: EmptyList::EmptyBody,
            filters_ignored: false,
            requests_per_minute: Some(1_000),
            error_code_text: false,
            expires_in_text: false,
            token_seconds: 3_600,
            rest_lag_ms: 0,
            list_lag_ms: 0,
            rule: None,
        }
    }
}

impl Uem {
    pub(super) fn new(url: String, seed: u64, ca_pem: &str) -> io::Result<Self> {
        let desk = Desk::new("uem", seed);
        let root = reqwest::Certificate::from_pem(ca_pem.as_bytes()).map_err(io::Error::other)?;
        let client = reqwest::Client::builder()
            .tls_certs_only([root])
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_mins(1))
            .build()
            .map_err(io::Error::other)?;
        let state = State {
            options: UemOptions::default(),
            fleet: Fleet::default(),
            outbox: Outbox::new(seed),
            window_began: desk.clock.real(),
            spent: 0,
        };
        let plant = Plant {
            desk,
            url,
            client_id: Uuid::new_v4().simple().to_string(),
            client_secret: Uuid::new_v4().simple().to_string(),
            username: "svc-handover".to_owned(),
            password: Uuid::new_v4().simple().to_string(),
            tenant_code: Uuid::new_v4().simple().to_string(),
            mint: Mint::new("sandbox-uem"),
            client,
            state: Mutex::new(state),
        };
        Ok(Self { plant: Arc::new(plant) })
    }

    pub(super) fn site(&self) -> Arc<Self> {
        Arc::new(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        held(&self.plant.state)
    }

    /// The root of the REST API, without `/api`.
    pub fn url(&self) -> &str {
        &self.plant.url
    }

    /// The OAuth2 token URL.
    pub fn token_url(&self) -> String {
        format!("{}/connect/token", self.plant.url)
    }

    /// The OAuth2 client id.
    pub fn client_id(&self) -> &str {
        &self.plant.client_id
    }

    /// The OAuth2 client secret.
    pub fn client_secret(&self) -> &str {
        &self.plant.client_secret
    }

    /// The administrator for HTTP Basic.
    pub fn username(&self) -> &str {
        &self.plant.username
    }

    /// The administrator's password.
    pub fn password(&self) -> &str {
        &self.plant.password
    }

    /// The `aw-tenant-code` that Basic callers must send.
    pub fn tenant_code(&self) -> &str {
        &self.plant.tenant_code
    }

    /// Changes how the UEM behaves.
    pub fn change(&self, change: impl FnOnce(&mut UemOptions)) {
        change(&mut self.state().options);
    }

    /// Sets where and how webhooks are sent; `None` sends none.
    pub fn set_hook(&self, hook: Option<Hook>) {
        self.state().outbox.hook = hook;
    }

    /// While quiet, the fleet changes and nobody is told.
    pub fn set_quiet(&self, quiet: bool) {
        self.state().outbox.quiet = quiet;
    }

    /// The next webhooks are lost.
    pub fn lose_next(&self, count: u32) {
        self.state().outbox.lose_next = count;
    }

    /// The next webhooks are kept back until [`Uem::release`].
    pub fn hold_next(&self, count: u32) {
        self.state().outbox.hold_next = count;
    }

    /// The webhooks so far, oldest first.
    pub fn sent(&self) -> Vec<Sent> {
        self.state().outbox.sent.iter().cloned().collect()
    }

    /// Forgets the webhooks so far; those under way are forgotten too.
    pub fn clear_sent(&self) {
        self.state().outbox.sent.clear();
    }

    /// Orders a fault.
    pub fn fault(&self, fault: Fault) {
        held(&self.plant.desk.faults).add(fault);
    }

    /// Takes all ordered faults back.
    pub fn clear_faults(&self) {
        held(&self.plant.desk.faults).clear();
    }

    /// Takes the server off the net, or puts it back. The control routes stay.
    pub fn set_down(&self, down: bool) {
        self.plant.desk.down.store(down, Ordering::Relaxed);
    }

    /// Sets how far ahead of true time the UEM believes it is.
    pub fn set_clock_offset_ms(&self, offset_ms: i64) {
        self.plant.desk.clock.set_offset_ms(offset_ms);
    }

    /// Lets time pass at once.
    pub fn advance(&self, by: Duration) {
        self.plant.desk.clock.advance(by);
    }

    /// The UEM's own time.
    pub fn now(&self) -> DateTime<Utc> {
        self.plant.desk.clock.says()
    }

    /// The requests seen and still kept, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        held(&self.plant.desk.journal).entries()
    }

    /// How many requests there have been since the start, kept or not.
    pub fn seen_total(&self) -> u64 {
        held(&self.plant.desk.journal).arrived()
    }

    /// How often each route was answered with each status since the start.
    pub fn seen_counts(&self) -> Counts {
        held(&self.plant.desk.journal).counts()
    }

    /// Forgets the kept requests.
    pub fn clear_seen(&self) {
        held(&self.plant.desk.journal).clear();
    }
}

impl Site for Uem {
    fn desk(&self) -> &Desk {
        &self.plant.desk
    }

    fn recognise(&self, call: &Call) -> Subject {
        let claims = call.bearer().and_then(|token| self.plant.mint.read(token));
        let caller = claims.and_then(|claims| claims["client_id"].as_str().map(str::to_owned));
        let user = match rest::below_api(call).as_deref() {
            Some(["system", "users", key]) => self.state().fleet.user(key).ok().map(|user| user.uuid),
            Some(_) | None => None,
        };
        Subject { route: rest::route(call), user, caller: caller.or_else(|| call.basic().map(|(name, _)| name)) }
    }

    fn answer(&self, call: &Call, orders: &mut Orders) -> Reply {
        if rest::is_token(call) {
            return self.token(call);
        }
        match rest::below_api(call) {
            Some(path) => self.rest(call, &path, orders),
            None => self.refusal(call, orders, StatusCode::NOT_FOUND),
        }
    }

    fn refusal(&self, _call: &Call, orders: &Orders, status: StatusCode) -> Reply {
        let code = if status == StatusCode::UNAUTHORIZED { 1005 } else { i64::from(status.as_u16()) };
        self.error(status, code, status.canonical_reason().unwrap_or("error"), orders)
    }

    fn dress(&self, _call: &Call, _orders: &Orders, reply: &mut Reply) {
        self.dressed(reply);
    }

    async fn control(&self, verb: &str, order: Value) -> Result<Value, String> {
        control::obey(self, verb, order).await
    }
}
