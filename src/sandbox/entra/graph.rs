//! The part of Microsoft Graph that concerns users' sessions.
//!
//! As unkind as the real one: the stamp is returned only when selected, a UPN that starts with `$` is refused in the slash
//! form, a throttled call is not free, and a guest's revocation says yes and does nothing.

use http::{Method, StatusCode, Version};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    State, Tenant,
    directory::{Effect, User},
    quota::{Bucket, Metered},
};
use crate::sandbox::{
    clock::to_the_second,
    fault::{FaultKind, Route},
    server::Orders,
    wire::{Call, Reply},
};

/// A request to Graph.
pub(super) enum Asked<'a> {
    Revoke {
        user: Key<'a>,
    },
    User {
        user: Key<'a>,
    },
    Users,
    Me,
    Organization,
    ServicePrincipals,
    /// On Graph's ground, but nothing we know.
    Other,
}

/// How a path names a user.
pub(super) struct Key<'a> {
    name: std::borrow::Cow<'a, str>,
    /// `/users/name` rather than `/users('name')`.
    slash: bool,
}

impl<'a> Asked<'a> {
    /// Reads the path; `None` when it isn't Graph's.
    pub(super) fn of(call: &'a Call) -> Option<Self> {
        let path = call.path();
        let ["v1.0" | "beta", rest @ ..] = path.as_slice() else { return None };
        let asked = match (&call.method, rest) {
            (&Method::POST, ["users", name, action]) if is_revoke(action) => {
                Self::Revoke { user: Key { name: (*name).into(), slash: true } }
            }
            (&Method::POST, [users, action]) if is_revoke(action) => {
                quoted_key(users).map_or(Self::Other, |user| Self::Revoke { user })
            }
            (&Method::GET, ["users"]) => Self::Users,
            (&Method::GET, ["users", name]) => Self::User { user: Key { name: (*name).into(), slash: true } },
            (&Method::GET, ["me"]) => Self::Me,
            (&Method::GET, ["organization"]) => Self::Organization,
            (&Method::GET, ["servicePrincipals"]) => Self::ServicePrincipals,
            (&Method::GET, [users]) => quoted_key(users).map_or(Self::Other, |user| Self::User { user }),
            _ => Self::Other,
        };
        Some(asked)
    }

    pub(super) fn route(&self) -> Route {
        match self {
            Self::Revoke { .. } => Route::Revoke,
            Self::User { .. } | Self::Users => Route::ReadUser,
            Self::Me | Self::Organization | Self::ServicePrincipals | Self::Other => Route::Any,
        }
    }

    pub(super) fn user_key(&self) -> Option<&str> {
        match self {
            Self::Revoke { user } | Self::User { user } => Some(&user.name),
            Self::Users | Self::Me | Self::Organization | Self::ServicePrincipals | Self::Other => None,
        }
    }
}

fn is_revoke(action: &str) -> bool {
    let action = action.strip_prefix("microsoft.graph.").unwrap_or(action);
    action.eq_ignore_ascii_case("revokeSignInSessions")
}

/// The name in `users('name')`, its doubled apostrophes undone.
fn quoted_key(segment: &str) -> Option<Key<'_>> {
    let name = segment.strip_prefix("users('")?.strip_suffix("')")?;
    Some(Key { name: name.replace("''", "'").into(), slash: false })
}

/// Roles that read a user's full profile, and so the stamp.
const READ_FULL: [&str; 4] = ["User.Read.All", "User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"];
const READ_BASIC: [&str; 1] = ["User.ReadBasic.All"];
const REVOKE: [&str; 3] = ["User.RevokeSessions.All", "User.ReadWrite.All", "Directory.ReadWrite.All"];
const READ_ORGANIZATION: [&str; 3] = ["Organization.Read.All", "Directory.Read.All", "Directory.ReadWrite.All"];
const READ_APPS: [&str; 3] = ["Application.Read.All", "Directory.Read.All", "Directory.ReadWrite.All"];

/// A bearer that was accepted.
struct Bearer {
    app: String,
    roles: Vec<String>,
    user: Option<Uuid>,
}

impl Bearer {
    fn has(&self, any_of: &[&str]) -> bool {
        self.roles.iter().any(|role| any_of.contains(&role.as_str()))
    }
}

impl Tenant {
    /// Serves a request to Graph.
    pub(super) fn graph(&self, call: &Call, asked: &Asked<'_>, orders: &mut Orders) -> Reply {
        let bearer = match self.bearer(call) {
            Ok(bearer) => bearer,
            Err(message) => {
                let reply =
                    self.graph_error(call, orders, StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", message);
                return reply.with("www-authenticate", r#"Bearer realm="", authorization_uri="", client_id="""#);
            }
        };
        let reply = match asked {
            Asked::Revoke { user } => self.revoke(call, user, &bearer, orders),
            Asked::User { user } => self.read_user(call, user, &bearer, orders),
            Asked::Users => self.filter_users(call, &bearer, orders),
            Asked::Me => match bearer.user.and_then(|id| self.state().directory.get(id).cloned()) {
                Some(user) => Reply::json(StatusCode::OK, &profile(&user)),
                None => self.refused(call, orders),
            },
            Asked::Organization if bearer.has(&READ_ORGANIZATION) => self.organization(),
            Asked::ServicePrincipals if bearer.has(&READ_APPS) => self.service_principals(call),
            Asked::Organization | Asked::ServicePrincipals => self.refused(call, orders),
            Asked::Other => {
                let message = "Resource not found for the segment.";
                self.graph_error(call, orders, StatusCode::BAD_REQUEST, "BadRequest", message)
            }
        };
        reply.with("x-ms-resource-unit", if matches!(asked, Asked::Users) { "2" } else { "1" })
    }

    fn bearer(&self, call: &Call) -> Result<Bearer, &'static str> {
        let token = call.bearer().ok_or("Access token is empty.")?;
        let claims = self.mint.read(token).ok_or("Access token validation failure. Invalid signature.")?;
        if claims["aud"] != json!(self.url) {
            return Err("Access token validation failure. Invalid audience.");
        }
        if claims["exp"].as_i64().is_none_or(|expires| expires <= self.desk.clock.says().timestamp()) {
            return Err("Lifetime validation failed, the token is expired.");
        }
        let roles = claims["roles"].as_array().cloned().unwrap_or_default();
        Ok(Bearer {
            app: claims["appid"].as_str().unwrap_or_default().to_owned(),
            roles: roles.iter().filter_map(|role| role.as_str().map(str::to_owned)).collect(),
            user: super::grants::uuid_in(&claims, "oid"),
        })
    }

    fn revoke(&self, call: &Call, key: &Key<'_>, bearer: &Bearer, orders: &mut Orders) -> Reply {
        if lacks_length(call) {
            return Reply::html(StatusCode::LENGTH_REQUIRED, "<h2>Length Required</h2>");
        }
        let mut state = self.state();
        let state = &mut *state;
        let metered = self.meter(state, bearer);
        if let Some(reply) = self.throttled(call, state, bearer, metered.as_ref(), orders) {
            return reply;
        }
        let mut reply = self.revoke_unmetered(call, key, bearer, state, orders);
        if let Some(used) = metered.map(|metered| metered.used).filter(|used| *used > 0.8) {
            reply.set("x-ms-throttle-limit-percentage", format!("{:.2}", used.min(1.8)));
        }
        reply
    }

    fn revoke_unmetered(
        &self,
        call: &Call,
        key: &Key<'_>,
        bearer: &Bearer,
        state: &mut State,
        orders: &mut Orders,
    ) -> Reply {
        if !bearer.has(&REVOKE) {
            return self.refused(call, orders);
        }
        let id = match self.named(call, key, state, orders) {
            Ok(user) => user.id,
            Err(reply) => return *reply,
        };
        let options = state.options.clone();
        let issued = state.tokens_issued;
        let Some(user) = state.directory.get_mut(id) else { return self.nobody(call, &key.name, orders) };
        if user.admin && options.admin_protected {
            let message = "Access to invalidate refresh tokens operation is denied.";
            return self.graph_error(call, orders, StatusCode::FORBIDDEN, "Authorization_RequestDenied", message);
        }
        if !user.guest {
            user.effects.push(Effect {
                at: self.desk.clock.real(),
                stamp: to_the_second(self.desk.clock.says()),
                client_request_id: call.header("client-request-id").map(str::to_owned),
                request_id: orders.request_id,
                after_token: issued,
            });
            orders.effect = true;
        }
        let reply = if options.revoke_status == 204 {
            Reply::empty(StatusCode::NO_CONTENT)
        } else {
            let context = format!("{}/v1.0/$metadata#Edm.Boolean", self.url);
            Reply::json(StatusCode::OK, &json!({"@odata.context": context, "value": true}))
        };
        if options.revoke_location { reply.with("location", &self.url) } else { reply }
    }

    fn meter(&self, state: &mut State, bearer: &Bearer) -> Option<Metered> {
        let quota = state.options.quota?;
        let now = self.desk.clock.real();
        let bucket = state.buckets.entry(bearer.app.clone()).or_insert_with(|| Bucket::full(&quota, now));
        Some(bucket.take(&quota, now))
    }

    fn throttled(
        &self,
        call: &Call,
        state: &State,
        bearer: &Bearer,
        metered: Option<&Metered>,
        orders: &Orders,
    ) -> Option<Reply> {
        let metered = metered?;
        let wait = metered.refused_for?;
        let message = "Too Many Requests";
        let mut reply = self.graph_error(call, orders, StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        let form = state.options.quota.unwrap_or_default().retry_after;
        if let Some(retry_after) = form.written(wait) {
            reply.set("retry-after", retry_after);
        }
        let (app, tenant) = (&bearer.app, self.id);
        reply.set("x-ms-throttle-limit-percentage", format!("{:.2}", metered.used.min(1.8)));
        reply.set("x-ms-throttle-scope", format!("Tenant_Application/Write/{app}/{tenant}"));
        reply.set("x-ms-throttle-information", "WriteLimitExceeded");
        Some(reply)
    }

    fn read_user(&self, call: &Call, key: &Key<'_>, bearer: &Bearer, orders: &Orders) -> Reply {
        let state = self.state();
        match self.named(call, key, &state, orders) {
            Ok(user) if bearer.has(&READ_FULL) || bearer.has(&READ_BASIC) => self
                .shown(call, user, &state, bearer, orders)
                .map_or_else(|reply| *reply, |shown| Reply::json(StatusCode::OK, &shown)),
            Ok(_) => self.refused(call, orders),
            Err(reply) => *reply,
        }
    }

    fn filter_users(&self, call: &Call, bearer: &Bearer, orders: &Orders) -> Reply {
        if !bearer.has(&READ_FULL) && !bearer.has(&READ_BASIC) {
            return self.refused(call, orders);
        }
        let state = self.state();
        let Some((property, wanted)) = call.query("$filter").and_then(equality) else {
            let message = "Unsupported or invalid query filter clause specified.";
            return self.graph_error(call, orders, StatusCode::BAD_REQUEST, "Request_UnsupportedQuery", message);
        };
        let fits = |user: &&User| match property {
            "id" => Uuid::try_parse(&wanted) == Ok(user.id),
            "userPrincipalName" => user.upn.eq_ignore_ascii_case(&wanted),
            "mail" => user.mail.eq_ignore_ascii_case(&wanted),
            "onPremisesImmutableId" => user.immutable_id.as_deref() == Some(&wanted),
            _ => false,
        };
        let found: Result<Vec<_>, _> =
            state.directory.iter().filter(fits).map(|user| self.shown(call, user, &state, bearer, orders)).collect();
        let context = format!("{}/v1.0/$metadata#users", self.url);
        found.map_or_else(
            |reply| *reply,
            |found| Reply::json(StatusCode::OK, &json!({"@odata.context": context, "value": found})),
        )
    }

    /// The properties of `user` that the call may and wants to see.
    fn shown(
        &self,
        call: &Call,
        user: &User,
        state: &State,
        bearer: &Bearer,
        orders: &Orders,
    ) -> Result<Value, Box<Reply>> {
        let Some(select) = call.query("$select") else { return Ok(profile(user)) };
        let mut shown = Map::new();
        for name in select.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let Some(value) = self.property(user, name, state, orders) else {
                let message = format!("Could not find a property named '{name}' on type 'microsoft.graph.user'.");
                return Err(Box::new(self.graph_error(call, orders, StatusCode::BAD_REQUEST, "BadRequest", &message)));
            };
            let basic = profile(user).get(name).is_some();
            let withheld =
                name == "signInSessionsValidFromDateTime" && matches!(orders.bend, Some(FaultKind::StampMissing));
            if (basic || bearer.has(&READ_FULL)) && !withheld {
                shown.insert(name.to_owned(), value);
            }
        }
        Ok(Value::Object(shown))
    }

    /// One property, whoever asks; `None` when users have no such thing.
    fn property(&self, user: &User, name: &str, state: &State, orders: &Orders) -> Option<Value> {
        let outdated = matches!(orders.bend, Some(FaultKind::StaleStamp));
        let value = match name {
            "signInSessionsValidFromDateTime" | "refreshTokensValidFromDateTime" => {
                json!(user.stamp(self.desk.clock.real(), state.options.lag, outdated))
            }
            "userType" => json!(if user.guest { "Guest" } else { "Member" }),
            "accountEnabled" => json!(user.enabled),
            "createdDateTime" => json!(to_the_second(user.created_at)),
            "onPremisesImmutableId" => json!(user.immutable_id),
            "onPremisesSamAccountName" => json!(user.sam_account_name),
            "onPremisesSyncEnabled" => json!(user.sam_account_name.as_ref().map(|_| true)),
            "mailNickname" => json!(user.upn.split('@').next()),
            "department" | "companyName" | "employeeId" => Value::Null,
            basic => profile(user).get(basic)?.clone(),
        };
        Some(value)
    }

    fn named<'s>(&self, call: &Call, key: &Key<'_>, state: &'s State, orders: &Orders) -> Result<&'s User, Box<Reply>> {
        if key.slash && key.name.starts_with('$') {
            let message = format!("Resource not found for the segment '{}'.", key.name);
            return Err(Box::new(self.graph_error(call, orders, StatusCode::BAD_REQUEST, "BadRequest", &message)));
        }
        state.directory.find(&key.name).ok_or_else(|| Box::new(self.nobody(call, &key.name, orders)))
    }

    fn nobody(&self, call: &Call, name: &str, orders: &Orders) -> Reply {
        let message = format!(
            "Resource '{name}' does not exist or one of its queried reference-property objects are not present."
        );
        self.graph_error(call, orders, StatusCode::NOT_FOUND, "Request_ResourceNotFound", &message)
    }

    fn refused(&self, call: &Call, orders: &Orders) -> Reply {
        let status = StatusCode::FORBIDDEN;
        self.graph_error(call, orders, status, ordinary_code(status), ordinary_message(status))
    }

    fn organization(&self) -> Reply {
        let domains = json!([{"name": "contoso.example", "isDefault": true, "isInitial": true, "type": "Managed"}]);
        let organization = json!({"id": self.id, "displayName": "Contoso Clinics", "verifiedDomains": domains});
        Reply::json(StatusCode::OK, &json!({"value": [organization]}))
    }

    fn service_principals(&self, call: &Call) -> Reply {
        let ours =
            call.query("$filter").and_then(equality).is_some_and(|(name, id)| name == "appId" && id == self.client_id);
        let found = if ours {
            json!([{"id": self.id, "appId": self.client_id, "displayName": "Handover", "accountEnabled": true}])
        } else {
            json!([])
        };
        Reply::json(StatusCode::OK, &json!({"value": found}))
    }

    pub(super) fn graph_error(
        &self,
        call: &Call,
        orders: &Orders,
        status: StatusCode,
        code: &str,
        message: &str,
    ) -> Reply {
        let request_id = orders.request_id.to_string();
        let inner = json!({
            "date": self.desk.clock.says().format("%Y-%m-%dT%H:%M:%S").to_string(),
            "request-id": request_id,
            "client-request-id": call.header("client-request-id").unwrap_or(&request_id),
        });
        Reply::json(status, &json!({"error": {"code": code, "message": message, "innerError": inner}}))
    }
}

/// What is shown of a user when nothing is selected. The stamp is not among it.
fn profile(user: &User) -> Value {
    json!({
        "id": user.id, "userPrincipalName": user.upn, "displayName": user.display_name, "mail": user.mail,
        "givenName": null, "surname": null, "jobTitle": null, "mobilePhone": null, "officeLocation": null,
        "preferredLanguage": null, "businessPhones": [],
    })
}

/// Takes `property eq 'literal'` apart.
fn equality(filter: &str) -> Option<(&str, String)> {
    let (property, literal) = filter.trim().split_once(" eq ")?;
    let inner = literal.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    let undoubled = inner.replace("''", "\u{0}");
    (!undoubled.contains('\'')).then(|| (property.trim(), undoubled.replace('\u{0}', "'")))
}

/// An HTTP/1.1 POST must say how long it is, even when that is 0.
fn lacks_length(call: &Call) -> bool {
    call.version < Version::HTTP_2
        && call.header("content-length").is_none()
        && call.header("transfer-encoding").is_none()
}

pub(super) fn ordinary_code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "BadRequest",
        401 => "InvalidAuthenticationToken",
        403 => "Authorization_RequestDenied",
        404 => "Request_ResourceNotFound",
        429 => "TooManyRequests",
        503 => "serviceNotAvailable",
        504 => "gatewayTimeout",
        _ => "generalException",
    }
}

pub(super) fn ordinary_message(status: StatusCode) -> &'static str {
    match status.as_u16() {
        403 => "Insufficient privileges to complete the operation.",
        404 => "Resource does not exist or one of its queried reference-property objects are not present.",
        429 => "Too Many Requests",
        _ => "An error has occurred.",
    }
}
