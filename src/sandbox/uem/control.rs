//! The UEM's controls over HTTP. Listed in [`crate::sandbox`].

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Uem, UemOptions};
use crate::sandbox::{held, server::common_control};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deed {
    device: String,
    #[serde(default)]
    user: String,
}

/// Obeys one order.
pub(super) async fn obey(uem: &Uem, verb: &str, order: Value) -> Result<Value, String> {
    if let Some(answer) = common_control(&uem.plant.desk, verb, &order) {
        return answer;
    }
    match verb {
        "state" => Ok(state(uem)),
        "add_user" => Ok(added(uem.add_user(read(order)?))),
        "add_pool_account" => Ok(added(uem.add_pool_account(order["user_name"].as_str().unwrap_or("stg-ipad")))),
        "add_device" => {
            let spec: super::DeviceSpec = read(order)?;
            Ok(added(uem.add_device(spec)))
        }
        "hook" => {
            uem.set_hook(if order.is_null() { None } else { Some(read(order)?) });
            Ok(json!({}))
        }
        "quiet" => {
            uem.set_quiet(order["quiet"].as_bool().unwrap_or(true));
            Ok(json!({}))
        }
        "lose_next" => {
            uem.lose_next(count(&order));
            Ok(json!({}))
        }
        "hold_next" => {
            uem.hold_next(count(&order));
            Ok(json!({}))
        }
        "release" => Ok(json!({"sent": uem.release().await})),
        "sent" => Ok(json!({"sent": uem.sent()})),
        "clear_sent" => {
            uem.clear_sent();
            Ok(json!({}))
        }
        "test_connection" => Ok(json!({"status": uem.test_connection().await})),
        "options" => set_options(uem, order),
        _ => done(uem, verb, order).await,
    }
}

async fn done(uem: &Uem, verb: &str, order: Value) -> Result<Value, String> {
    let Deed { device, user } = read(order).map_err(|error| format!("{verb}: {error}"))?;
    let sent = match verb {
        "check_out" => uem.check_out(&device, &user).await,
        "change_user" => uem.change_user(&device, &user).await,
        "check_in" => uem.check_in(&device).await,
        "wipe" => uem.wipe(&device).await,
        "enterprise_wipe" => uem.enterprise_wipe(&device).await,
        "unenroll" => uem.unenroll(&device).await,
        "delete" => uem.delete(&device).await,
        "re_enrol" => uem.re_enrol(&device).await,
        _ => return Err(format!("there is no order called {verb}")),
    };
    sent.map(|sent| json!({"sent": sent})).map_err(|unknown| unknown.to_string())
}

fn read<T: serde::de::DeserializeOwned>(order: Value) -> Result<T, String> {
    serde_json::from_value(order).map_err(|error| error.to_string())
}

fn added((id, uuid): (i64, uuid::Uuid)) -> Value {
    json!({"id": id, "uuid": uuid})
}

fn count(order: &Value) -> u32 {
    order["count"].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
}

/// Changes the options that the order names.
fn set_options(uem: &Uem, order: Value) -> Result<Value, String> {
    let mut state = uem.state();
    let mut options = json!(state.options);
    let Value::Object(changes) = order else { return Err("options are an object".to_owned()) };
    if let Some(options) = options.as_object_mut() {
        options.extend(changes);
    }
    let options: UemOptions = read(options)?;
    state.options = options;
    Ok(json!(state.options))
}

fn state(uem: &Uem) -> Value {
    let state = uem.state();
    let devices: Vec<_> = state
        .fleet
        .devices
        .values()
        .map(|device| {
            let holding = device.now();
            let user = holding.user.and_then(|id| state.fleet.users.get(&id)).map(|user| &user.spec.user_name);
            json!({
                "id": device.id, "uuid": device.uuid, "serial": device.spec.serial, "udid": device.udid,
                "status": holding.status.name(), "user": user,
            })
        })
        .collect();
    let users: Vec<_> = state
        .fleet
        .users
        .values()
        .map(|user| json!({"id": user.id, "uuid": user.uuid, "user_name": user.spec.user_name, "staging": user.staging()}))
        .collect();
    json!({
        "server": "uem", "url": uem.url(), "token_url": uem.token_url(), "client_id": uem.client_id(),
        "client_secret": uem.client_secret(), "username": uem.username(), "password": uem.password(),
        "tenant_code": uem.tenant_code(), "devices": devices, "users": users, "now": uem.plant.desk.clock.says(),
        "options": state.options, "hook": state.outbox.hook, "seen": held(&uem.plant.desk.journal).arrived(),
    })
}
