//! The UEM's REST API.
//!
//! The version comes from `Accept`. A list without results may be an empty body; a page larger than the maximum is cut
//! without a word; every answer says what is left of the quota.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{EmptyList, State, Uem, shapes};
use crate::sandbox::{
    clock::http_date,
    fault::Route,
    server::Orders,
    wire::{Call, Reply, decoded},
};

/// What a failed look-up comes to.
type Answered = Result<Value, Problem>;

/// An error in the making.
struct Problem {
    status: StatusCode,
    code: i64,
    message: String,
}

fn problem(status: StatusCode, message: impl Into<String>) -> Problem {
    Problem { status, code: i64::from(status.as_u16()), message: message.into() }
}

/// The path below `/api`, in lower case where it is a fixed word.
pub(super) fn below_api(call: &Call) -> Option<Vec<&str>> {
    let path = call.path();
    let (first, rest) = path.split_first()?;
    first.eq_ignore_ascii_case("api").then(|| rest.to_vec())
}

/// What a request is for, and which account it reads.
pub(super) fn route(call: &Call) -> Route {
    match below_api(call).as_deref() {
        Some(["mdm", "devices", "search" | "extensivesearch"]) => Route::ListDevices,
        Some(["mdm", "devices"] | ["mdm", "devices", ..]) => Route::ReadDevice,
        Some(["system", "users", ..]) => Route::ReadUser,
        Some(["system", "eventnotifications", ..]) => Route::ReadRule,
        None if is_token(call) => Route::Token,
        Some(_) | None => Route::Any,
    }
}

pub(super) fn is_token(call: &Call) -> bool {
    matches!(call.path()[..], ["connect" | "oauth", "token"])
}

/// N of `Accept: application/json;version=N`; 1 when it isn't said.
fn version(call: &Call) -> u8 {
    let accept = call.header("accept").unwrap_or_default();
    let said = accept.split(';').map(str::trim).find_map(|part| part.strip_prefix("version="));
    said.and_then(|said| said.trim().parse().ok()).unwrap_or(1)
}

impl Uem {
    /// Serves the token endpoint.
    pub(super) fn token(&self, call: &Call) -> Reply {
        let form = call.form();
        let given = |name: &str| form.get(name).cloned().unwrap_or_default();
        let (id, secret) = match call.basic() {
            Some((id, secret)) => (decoded(&id), decoded(&secret)),
            None => (given("client_id"), given("client_secret")),
        };
        let plant = &self.plant;
        if call.method != Method::POST || given("grant_type") != "client_credentials" {
            return Reply::json(StatusCode::BAD_REQUEST, &json!({"error": "unsupported_grant_type"}));
        }
        if (id.as_str(), secret.as_str()) != (&*plant.client_id, &*plant.client_secret) {
            return Reply::json(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_client"}));
        }
        let options = self.state().options.clone();
        let lifetime = options.token_seconds;
        let expires = plant.desk.clock.says().timestamp() + i64::from(lifetime);
        let token = plant.mint.make(&json!({"client_id": id, "exp": expires, "jti": Uuid::new_v4()}));
        let expires_in = if options.expires_in_text { json!(lifetime.to_string()) } else { json!(lifetime) };
        let answer = json!({"access_token": token, "token_type": "Bearer", "expires_in": expires_in});
        Reply::json(StatusCode::OK, &answer)
    }

    /// Serves everything below `/api`.
    pub(super) fn rest(&self, call: &Call, path: &[&str], orders: &Orders) -> Reply {
        if let Err(problem) = self.admitted(call) {
            return self.error(problem.status, problem.code, &problem.message, orders);
        }
        let mut state = self.state();
        let state = &mut *state;
        let answered = if self.spend(state) {
            self.looked_up(call, path, state)
        } else {
            Err(problem(StatusCode::TOO_MANY_REQUESTS, "API calls quota exceeded"))
        };
        let mut reply = match answered {
            Ok(Value::Null) => match state.options.empty_list {
                EmptyList::NoContent => Reply::empty(StatusCode::NO_CONTENT),
                EmptyList::EmptyBody | EmptyList::EmptyArray => Reply::empty(StatusCode::OK),
            },
            Ok(value) if call.header("accept").is_some_and(|accept| accept.contains("json")) => {
                Reply::json(StatusCode::OK, &value)
            }
            Ok(_) => Reply::new(StatusCode::OK, "application/xml", "<?xml version=\"1.0\"?><Answer>XML</Answer>"),
            Err(Problem { status, code, message }) => error_body(status, code, &message, orders, state),
        };
        if let Some(limit) = state.options.requests_per_minute {
            reply.set("x-ratelimit-limit", limit.to_string());
            reply.set("x-ratelimit-remaining", limit.saturating_sub(state.spent).to_string());
            let reset = self.plant.desk.clock.says().timestamp() + 60 - state.window_age(self.plant.desk.clock.real());
            reply.set("x-ratelimit-reset", reset.to_string());
        }
        reply
    }

    /// Whether the caller may call at all.
    fn admitted(&self, call: &Call) -> Result<(), Problem> {
        let plant = &self.plant;
        let refused = |name: &str| Problem {
            status: StatusCode::UNAUTHORIZED,
            code: 1005,
            message: format!("user not found or credentials rejected: {name}"),
        };
        if let Some(token) = call.bearer() {
            let now = plant.desk.clock.says().timestamp();
            let claims = plant.mint.read(token).filter(|claims| claims["exp"].as_i64().is_some_and(|exp| exp > now));
            return claims.map(|_| ()).ok_or_else(|| refused("bearer"));
        }
        let (name, password) = call.basic().ok_or_else(|| refused(""))?;
        if (name.as_str(), password.as_str()) != (&*plant.username, &*plant.password) {
            return Err(refused(&name));
        }
        if call.header("aw-tenant-code") != Some(&plant.tenant_code) {
            return Err(problem(StatusCode::FORBIDDEN, "aw-tenant-code is missing or unknown"));
        }
        Ok(())
    }

    /// Takes one request out of this minute's quota. Says whether there was one.
    fn spend(&self, state: &mut State) -> bool {
        let now = self.plant.desk.clock.real();
        if state.window_age(now) >= 60 {
            state.window_began = now;
            state.spent = 0;
        }
        let limit = state.options.requests_per_minute;
        let allowed = limit.is_none_or(|limit| state.spent < limit);
        state.spent = state.spent.saturating_add(1);
        allowed
    }

    fn looked_up(&self, call: &Call, path: &[&str], state: &State) -> Answered {
        if call.method != Method::GET {
            return Err(problem(StatusCode::METHOD_NOT_ALLOWED, "the method is not allowed"));
        }
        match (path, version(call)) {
            (["system", "info"], _) => Ok(json!({
                "ProductName": "AirWatch Platform Service", "ProductVersion": "26.2.0.0", "Resources": {},
            })),
            (["mdm", "devices", "search" | "extensivesearch"], _) => Ok(self.list_devices(call, state)),
            (["mdm", "devices"], _) => self.searched_device(call, state),
            (["mdm", "devices", id], 1) if id.parse::<i64>().is_ok() => self.device(id, state, 1),
            (["mdm", "devices", uuid], 2..) if Uuid::try_parse(uuid).is_ok() => self.device(uuid, state, 2),
            (["mdm", "devices", _], _) => Err(problem(StatusCode::BAD_REQUEST, "Invalid device id for this version")),
            (["system", "users", "search"], _) => Ok(list_users(call, state)),
            (["system", "users", id], 1) if id.parse::<i64>().is_ok() => {
                let user = id.parse().ok().and_then(|id: i64| state.fleet.users.get(&id));
                user.map(shapes::user_v1).ok_or_else(|| problem(StatusCode::NOT_FOUND, "User not found"))
            }
            (["system", "users", uuid], 2..) if Uuid::try_parse(uuid).is_ok() => {
                let user = state.fleet.user(uuid).map_err(|_| problem(StatusCode::NOT_FOUND, "User not found"))?;
                Ok(shapes::user_v2(user))
            }
            (["system", "users", _], _) => Err(problem(StatusCode::BAD_REQUEST, "Invalid user id for this version")),
            (["system", "eventnotifications", "search"], 2..) => Ok(rules(state)),
            _ => Err(problem(StatusCode::NOT_FOUND, "No such resource")),
        }
    }

    fn device(&self, key: &str, state: &State, version: u8) -> Answered {
        let gone = || problem(StatusCode::NOT_FOUND, format!("Device not found for the given id: {key}"));
        let device = state.fleet.device(key).map_err(|_| gone())?;
        let lag = Duration::from_millis(state.options.rest_lag_ms);
        let holding = device.shown(self.plant.desk.clock.real(), lag).ok_or_else(gone)?;
        let shape = if version == 1 { shapes::device_v1 } else { shapes::device_v2 };
        Ok(shape(device, holding, &state.fleet))
    }

    fn searched_device(&self, call: &Call, state: &State) -> Answered {
        let by = call.query("searchby").unwrap_or_default();
        let id = call.query("id").unwrap_or_default();
        if !["serialnumber", "udid", "deviceid"].contains(&by.to_ascii_lowercase().as_str()) || id.is_empty() {
            return Err(problem(StatusCode::BAD_REQUEST, "searchby and id are required"));
        }
        self.device(id, state, 1)
    }

    fn list_devices(&self, call: &Call, state: &State) -> Value {
        let now = self.plant.desk.clock.real();
        let lag = Duration::from_millis(state.options.list_lag_ms);
        let wanted = |name: &str| call.query(name).filter(|_| !state.options.filters_ignored);
        let (user, platform) = (wanted("user"), wanted("platform"));
        let since = wanted("seensince").or(wanted("lastseen")).and_then(|since| since.parse().ok());
        let shown = state.fleet.devices.values().filter_map(|device| Some((device, device.shown(now, lag)?)));
        let fits: Vec<_> = shown
            .filter(|(_, holding)| {
                let name = holding.user.and_then(|id| state.fleet.users.get(&id)).map(|user| &user.spec.user_name);
                user.is_none_or(|wanted| name.is_some_and(|name| name.eq_ignore_ascii_case(wanted)))
                    && platform.is_none_or(|wanted| wanted.eq_ignore_ascii_case("Apple"))
                    && since.is_none_or(|since: chrono::DateTime<chrono::Utc>| holding.said >= since)
            })
            .collect();
        let page = paged(call, state, fits.len());
        let rows =
            fits[page.range.clone()].iter().map(|(device, holding)| shapes::device_v1(device, *holding, &state.fleet));
        page.answer("Devices", &rows.collect::<Vec<_>>(), state)
    }

    pub(super) fn error(&self, status: StatusCode, code: i64, message: &str, orders: &Orders) -> Reply {
        error_body(status, code, message, orders, &self.state())
    }

    pub(super) fn dressed(&self, reply: &mut Reply) {
        reply.set("date", http_date(self.plant.desk.clock.says()));
    }
}

fn list_users(call: &Call, state: &State) -> Value {
    let wanted = |name: &str| call.query(name).filter(|_| !state.options.filters_ignored);
    let (name, email) = (wanted("username"), wanted("email"));
    let contains = |text: &str, part: &str| text.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
    let users = state.fleet.users.values();
    let fits: Vec<_> = users
        .filter(|user| name.is_none_or(|name| contains(&user.spec.user_name, name)))
        .filter(|user| email.is_none_or(|email| contains(&user.spec.email, email)))
        .collect();
    let page = paged(call, state, fits.len());
    let rows = fits[page.range.clone()].iter().map(|user| shapes::user_v1(user)).collect::<Vec<_>>();
    page.answer("Users", &rows, state)
}

fn error_body(status: StatusCode, code: i64, message: &str, orders: &Orders, state: &State) -> Reply {
    let code = if state.options.error_code_text { json!(code.to_string()) } else { json!(code) };
    Reply::json(status, &json!({"errorCode": code, "message": message, "activityId": orders.request_id}))
}

/// One page of a list.
struct Page {
    number: usize,
    size: usize,
    total: usize,
    range: std::ops::Range<usize>,
}

/// Pages count from 0 and are never larger than the maximum.
fn paged(call: &Call, state: &State, total: usize) -> Page {
    let most = state.options.largest_page.max(1);
    let asked = |name: &str| call.query(name).and_then(|value| value.parse::<usize>().ok());
    let number = asked("page").unwrap_or(0);
    let size = asked("pagesize").filter(|size| *size > 0).unwrap_or(most).min(most);
    let start = number.saturating_mul(size).min(total);
    Page { number, size, total, range: start..start.saturating_add(size).min(total) }
}

impl Page {
    fn answer(&self, name: &str, rows: &[Value], state: &State) -> Value {
        if rows.is_empty() && state.options.empty_list != EmptyList::EmptyArray {
            return Value::Null;
        }
        json!({name: rows, "Page": self.number, "PageSize": self.size, "Total": self.total})
    }
}

fn rules(state: &State) -> Value {
    let rules: Vec<_> = state
        .outbox
        .hook
        .iter()
        .map(|hook| shapes::rule(&state.options.rule.clone().unwrap_or_else(|| super::Rule::of(hook)), hook))
        .collect();
    json!({"EventNotifications": rules, "AdditionalInfo": {"Links": []}, "TotalResults": rules.len()})
}
