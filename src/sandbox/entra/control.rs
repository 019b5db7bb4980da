//! The tenant's controls over HTTP. Listed in [`crate::sandbox`].

use std::{sync::atomic::Ordering, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Lag, Quota, Tenant, UserSpec, grants::ORDINARY_SCOPES, login, user_row};
use crate::sandbox::{held, server::common_control};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    user: String,
    #[serde(default)]
    upn: Option<String>,
    #[serde(default)]
    enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    upn: String,
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    scope: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approve {
    user_code: String,
    upn: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetLag {
    ms: Option<u64>,
    #[serde(default)]
    user: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    refusal_delay_ms: Option<u64>,
    admin_protected: Option<bool>,
    revoke_status: Option<u16>,
    revoke_location: Option<bool>,
    access_token_seconds: Option<u32>,
    roles: Option<Vec<String>>,
}

/// Obeys one order.
pub(super) fn obey(tenant: &Tenant, verb: &str, order: Value) -> Result<Value, String> {
    if let Some(answer) = common_control(&tenant.desk, verb, &order) {
        return answer;
    }
    match verb {
        "state" => Ok(state(tenant)),
        "add_user" => {
            let spec: UserSpec = read(order)?;
            let id = tenant.state().directory.add(spec, tenant.desk.clock.says());
            Ok(json!({"object_id": id}))
        }
        "rename_user" | "delete_user" | "enable_user" | "effects" | "stamp" => of_user(tenant, verb, read(order)?),
        "sign_in" => {
            let order: SignIn = read(order)?;
            let client = order.client_id.as_deref().unwrap_or(&tenant.public_client_id);
            let scope = order.scope.as_deref().unwrap_or(ORDINARY_SCOPES);
            let tokens = tenant.sign_in(&mut tenant.state(), &order.upn, client, scope);
            tokens.map(|tokens| json!(tokens)).map_err(|error| error.to_string())
        }
        "approve" => {
            let order: Approve = read(order)?;
            Ok(json!({"approved": login::approve(&mut tenant.state(), &order.user_code, &order.upn)}))
        }
        "lag" => set_lag(tenant, read(order)?),
        "quota" => {
            let quota: Option<Quota> = if order["writes"].is_null() { None } else { Some(read(order)?) };
            let mut state = tenant.state();
            state.options.quota = quota;
            state.buckets.clear();
            Ok(json!({}))
        }
        "options" => {
            set_options(tenant, read(order)?);
            Ok(json!({}))
        }
        "secret" => {
            let mut state = tenant.state();
            if let Some(secret) = order["secret"].as_str() {
                secret.clone_into(&mut state.app.secret);
            }
            state.app.secret_expired = order["expired"].as_bool().unwrap_or(false);
            Ok(json!({"secret": state.app.secret, "expired": state.app.secret_expired}))
        }
        _ => Err(format!("there is no order called {verb}")),
    }
}

fn read<T: serde::de::DeserializeOwned>(order: Value) -> Result<T, String> {
    serde_json::from_value(order).map_err(|error| error.to_string())
}

fn state(tenant: &Tenant) -> Value {
    let state = tenant.state();
    let now = tenant.desk.clock.real();
    let users: Vec<_> = state.directory.iter().map(|user| user_row(user, &state, now)).collect();
    json!({
        "server": "entra", "tenant_id": tenant.id, "login_url": tenant.url, "graph_url": tenant.url,
        "client_id": tenant.client_id, "client_secret": state.app.secret, "public_client_id": tenant.public_client_id,
        "roles": state.app.roles, "users": users, "now": tenant.desk.clock.says(),
        "seen": held(&tenant.desk.journal).arrived(), "down": tenant.desk.down.load(Ordering::Relaxed),
    })
}

fn of_user(tenant: &Tenant, verb: &str, order: Named) -> Result<Value, String> {
    let mut state = tenant.state();
    let state = &mut *state;
    let id = find(state, &order.user)?;
    match verb {
        "rename_user" => {
            let upn = order.upn.ok_or("upn is missing")?;
            Ok(json!({"done": state.directory.rename(id, &upn)}))
        }
        "delete_user" => Ok(json!({"done": state.directory.delete(id)})),
        "enable_user" => {
            let user = state.directory.get_mut(id).ok_or("the user is gone")?;
            user.enabled = order.enabled.unwrap_or(true);
            Ok(json!({"done": true}))
        }
        "effects" => Ok(json!({"effects": state.directory.get(id).map(|user| &user.effects)})),
        _ => {
            let now = tenant.desk.clock.real();
            Ok(json!({"stamp": state.directory.get(id).map(|user| user.stamp(now, state.options.lag, false))}))
        }
    }
}

fn find(state: &super::State, name: &str) -> Result<Uuid, String> {
    state.directory.find(name).map(|user| user.id).ok_or_else(|| format!("no user is called {name}"))
}

fn set_lag(tenant: &Tenant, order: SetLag) -> Result<Value, String> {
    let lag = order.ms.map_or(Lag::Never, |ms| Lag::After(Duration::from_millis(ms)));
    let mut state = tenant.state();
    match order.user {
        None => state.options.lag = lag,
        Some(name) => {
            let id = find(&state, &name)?;
            state.directory.get_mut(id).ok_or("the user is gone")?.lag = Some(lag);
        }
    }
    Ok(json!({}))
}

fn set_options(tenant: &Tenant, order: Options) {
    let mut state = tenant.state();
    if let Some(roles) = order.roles {
        state.app.roles = roles.into_iter().collect();
    }
    let options = &mut state.options;
    if let Some(ms) = order.refusal_delay_ms {
        options.refusal_delay = Duration::from_millis(ms);
    }
    options.admin_protected = order.admin_protected.unwrap_or(options.admin_protected);
    options.revoke_status = order.revoke_status.unwrap_or(options.revoke_status);
    options.revoke_location = order.revoke_location.unwrap_or(options.revoke_location);
    options.access_token_seconds = order.access_token_seconds.unwrap_or(options.access_token_seconds);
}
