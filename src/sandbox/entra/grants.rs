//! The token endpoint: one function per grant.
//!
//! A redeemed refresh token stays good beside the new one, as in Entra; only a revocation, a deleted or disabled user, or
//! ninety days end it.

use std::collections::HashMap;

use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    State, Tenant,
    directory::User,
    login::Sign,
    oauth::{OAuthError, Tokens},
};
use crate::sandbox::{
    clock::to_the_second,
    token::{base64url, read_unverified},
    wire::{Call, Reply, decoded},
};

/// What an app asks for when it has no wishes.
pub(super) const ORDINARY_SCOPES: &str = "openid profile offline_access User.Read";

/// The audience of the tokens that a federated credential takes.
const TOKEN_EXCHANGE: &str = "api://AzureADTokenExchange";

/// How long a refresh token lasts unused, in seconds: Entra's ninety days.
const REFRESH_TOKEN_SECONDS: i64 = 90 * 86_400;

/// The posted form, with the client's credentials taken from Basic where they are there.
struct Request {
    form: HashMap<String, String>,
    client_id: String,
    secret: Option<String>,
}

impl Request {
    fn of(call: &Call) -> Self {
        let form = call.form();
        let (client_id, secret) = match call.basic() {
            Some((id, secret)) => (decoded(&id), Some(decoded(&secret))),
            None => (form.get("client_id").cloned().unwrap_or_default(), form.get("client_secret").cloned()),
        };
        Self { form, client_id, secret }
    }

    fn get(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }

    fn scopes(&self) -> &str {
        self.form.get("scope").map_or(ORDINARY_SCOPES, String::as_str)
    }
}

impl Tenant {
    /// Serves `POST /{tenant}/oauth2/v2.0/token`.
    pub(super) fn token(&self, call: &Call, tenant: &str) -> Reply {
        let request = Request::of(call);
        match self.grant(&request, tenant) {
            Ok(tokens) => Reply::json(StatusCode::OK, &json!(tokens)),
            Err(error) => error.correlated(call.header("client-request-id")).reply(),
        }
    }

    /// Whom a token request is about, and which application sent it.
    pub(super) fn token_subject(&self, call: &Call) -> (Option<Uuid>, Option<String>) {
        let request = Request::of(call);
        let claims = self.mint.read(request.get("refresh_token"));
        let user = claims.and_then(|claims| uuid_in(&claims, "oid"));
        (user, Some(request.client_id).filter(|id| !id.is_empty()))
    }

    fn grant(&self, request: &Request, tenant: &str) -> Result<Tokens, OAuthError> {
        self.known_tenant(tenant)?;
        if request.client_id.is_empty() {
            let text = "The request body must contain the following parameter: 'client_id'.";
            return Err(self.error(400, "invalid_request", 900_144, text));
        }
        let mut state = self.state();
        let state = &mut *state;
        match request.get("grant_type") {
            "client_credentials" => self.client_credentials(state, request),
            "refresh_token" => {
                self.known_client(state, request)?;
                self.redeem(state, request.get("refresh_token"), Some(&request.client_id), request.scopes())
            }
            "authorization_code" => self.authorization_code(state, request),
            "password" => self.password(state, request),
            "urn:ietf:params:oauth:grant-type:device_code" | "device_code" => self.polled(state, request),
            other => {
                let text = format!("The provided value '{other}' for the input parameter 'grant_type' is not valid.");
                Err(self.error(400, "unsupported_grant_type", 70_003, &text))
            }
        }
    }

    pub(super) fn error(&self, status: u16, error: &'static str, code: u32, text: &str) -> OAuthError {
        OAuthError::new(status, error, code, text, self.desk.clock.says())
    }

    pub(super) fn known_tenant(&self, tenant: &str) -> Result<(), OAuthError> {
        let known = Uuid::try_parse(tenant) == Ok(self.id) || ["common", "organizations"].contains(&tenant);
        let text = format!("Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID.");
        known.then_some(()).ok_or_else(|| self.error(400, "invalid_request", 90_002, &text))
    }

    /// The client may ask for users' tokens: any public one, or the confidential one with its secret.
    fn known_client(&self, state: &State, request: &Request) -> Result<(), OAuthError> {
        let (client, secret) = (request.client_id.as_str(), request.secret.as_deref());
        if client == self.client_id {
            return self.authenticated(state, request);
        }
        if Uuid::try_parse(client).is_err() {
            return Err(self.unknown_app(client));
        }
        if secret.is_some() {
            let text = format!(
                "Client is public so neither 'client_assertion' nor 'client_secret' should be presented. {client}"
            );
            return Err(self.error(401, "invalid_client", 700_025, &text));
        }
        Ok(())
    }

    fn unknown_app(&self, client: &str) -> OAuthError {
        let text = format!("Application with identifier '{client}' was not found in the directory '{}'.", self.id);
        self.error(400, "unauthorized_client", 700_016, &text)
    }

    fn authenticated(&self, state: &State, request: &Request) -> Result<(), OAuthError> {
        if request.form.contains_key("client_assertion") {
            return self.vouched_for(state, request);
        }
        let Some(secret) = request.secret.as_deref() else {
            let text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
            return Err(self.error(401, "invalid_client", 7_000_218, text));
        };
        if secret != state.app.secret {
            let text = format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, \
                 not the client secret ID, for a secret added to app '{}'.",
                self.client_id
            );
            return Err(self.error(401, "invalid_client", 7_000_215, &text));
        }
        if state.app.secret_expired {
            let text = format!("The provided client secret keys for app '{}' are expired.", self.client_id);
            return Err(self.error(401, "invalid_client", 7_000_222, &text));
        }
        Ok(())
    }

    /// Somebody else's token vouches for the application. Its signature is not looked at, all else is.
    fn vouched_for(&self, state: &State, request: &Request) -> Result<(), OAuthError> {
        let refused = |code, text: &str| Err(self.error(401, "invalid_client", code, text));
        if request.get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
            return refused(70_002, "The value of 'client_assertion_type' is not supported.");
        }
        let Some(claims) = read_unverified(request.get("client_assertion")) else {
            return refused(50_027, "JWT token is invalid or malformed.");
        };
        let Some(federated) = &state.app.federated else {
            return refused(70_021, "No matching federated identity record found for presented assertion.");
        };
        if claims["iss"] != federated.issuer.as_str() {
            return refused(700_211, "No matching federated identity record found for presented assertion issuer.");
        }
        if claims["aud"] != TOKEN_EXCHANGE && claims["aud"] != json!([TOKEN_EXCHANGE]) {
            return refused(700_212, "No matching federated identity record found for presented assertion audience.");
        }
        if claims["sub"] != federated.subject.as_str() {
            return refused(700_213, "No matching federated identity record found for presented assertion subject.");
        }
        if claims["exp"].as_i64().is_none_or(|exp| exp <= self.desk.clock.says().timestamp()) {
            return refused(700_024, "Client assertion is not within its valid time range.");
        }
        Ok(())
    }

    fn client_credentials(&self, state: &State, request: &Request) -> Result<Tokens, OAuthError> {
        if request.client_id != self.client_id {
            return Err(self.unknown_app(&request.client_id));
        }
        self.authenticated(state, request)?;
        let scope = request.get("scope");
        let Some(resource) = scope.strip_suffix("/.default") else {
            let text = format!(
                "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."
            );
            return Err(self.error(400, "invalid_scope", 1_002_012, &text));
        };
        if resource != self.url {
            let text =
                format!("The resource principal named {resource} was not found in the tenant named {}.", self.id);
            return Err(self.error(400, "invalid_resource", 500_011, &text));
        }
        let lifetime = state.options.access_token_seconds;
        let mut claims = self.claims(&self.url, lifetime);
        claims["appid"] = json!(self.client_id);
        claims["idtyp"] = json!("app");
        claims["roles"] = json!(state.app.roles);
        Ok(Tokens {
            token_type: "Bearer".to_owned(),
            scope: None,
            expires_in: lifetime,
            ext_expires_in: lifetime,
            access_token: self.mint.make(&claims),
            refresh_token: None,
            id_token: None,
            client_info: None,
        })
    }

    fn authorization_code(&self, state: &mut State, request: &Request) -> Result<Tokens, OAuthError> {
        self.known_client(state, request)?;
        let Some(Sign::Code(code)) = state.signs.remove(request.get("code")) else {
            let text = "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.";
            return Err(self.error(400, "invalid_grant", 54_005, text));
        };
        if code.client_id != request.client_id || code.redirect_uri != request.get("redirect_uri") {
            let text =
                "The reply address does not match the reply address provided when requesting the authorization code.";
            return Err(self.error(400, "invalid_grant", 500_112, text));
        }
        if !code.verified_by(request.get("code_verifier")) {
            let text = "The Code_Verifier does not match the code_challenge supplied in the authorization request.";
            return Err(self.error(400, "invalid_grant", 501_481, text));
        }
        let scopes = request.form.get("scope").unwrap_or(&code.scopes);
        self.issue(state, code.user, &request.client_id, scopes, code.nonce.as_deref())
    }

    fn password(&self, state: &mut State, request: &Request) -> Result<Tokens, OAuthError> {
        self.known_client(state, request)?;
        let user = state.directory.find(request.get("username"));
        let Some(id) = user.filter(|user| user.password == request.get("password")).map(|user| user.id) else {
            let text = "Error validating credentials due to invalid username or password.";
            return Err(self.error(400, "invalid_grant", 50_126, text));
        };
        self.issue(state, id, &request.client_id, request.scopes(), None)
    }

    fn polled(&self, state: &mut State, request: &Request) -> Result<Tokens, OAuthError> {
        self.known_client(state, request)?;
        let code = request.get("device_code");
        match state.signs.get(code) {
            Some(Sign::Device { user: None, .. }) => {
                let text = "OAuth 2.0 device flow error. Authorization is pending. Continue polling.";
                Err(self.error(400, "authorization_pending", 70_016, text))
            }
            Some(Sign::Device { user: Some(user), scopes, .. }) => {
                let (user, scopes) = (*user, scopes.clone());
                state.signs.remove(code);
                self.issue(state, user, &request.client_id, &scopes, None)
            }
            Some(Sign::Code(_)) | None => {
                let text = "The provided value for the input parameter 'device_code' is not valid.";
                Err(self.error(400, "bad_verification_code", 70_019, text))
            }
        }
    }

    /// Redeems a refresh token; `client` must be the one it was given to.
    pub(super) fn redeem(
        &self,
        state: &mut State,
        refresh_token: &str,
        client: Option<&str>,
        scopes: &str,
    ) -> Result<Tokens, OAuthError> {
        let now = self.desk.clock.real();
        let claims = self.mint.read(refresh_token).filter(|claims| claims["use"] == "refresh");
        let Some((claims, user_id)) = claims.and_then(|claims| uuid_in(&claims, "oid").map(|id| (claims, id))) else {
            let text = "The refresh token has expired or is malformed or invalid.";
            return Err(self.error(400, "invalid_grant", 9_002_313, text));
        };
        let issued_to = claims["appid"].as_str().unwrap_or_default();
        if client.is_some_and(|client| client != issued_to) {
            let text = "The refresh token was issued to another client.";
            return Err(self.error(400, "invalid_grant", 700_005, text));
        }
        let user = self.able(state, user_id)?;
        let number = claims["n"].as_u64().unwrap_or_default();
        if user.refuses(number, now, state.options.refusal_delay) {
            return Err(self.revoked(state, user, &claims));
        }
        if now.timestamp() - claims["real_iat"].as_i64().unwrap_or_default() > REFRESH_TOKEN_SECONDS {
            let text = "The refresh token has expired due to inactivity.";
            return Err(self.error(400, "invalid_grant", 700_082, text).with_suberror("bad_token"));
        }
        let client = issued_to.to_owned();
        self.issue(state, user_id, &client, scopes, None)
    }

    fn revoked(&self, state: &State, user: &User, claims: &Value) -> OAuthError {
        let stamp = user.stamp(self.desk.clock.real(), state.options.lag, false);
        let issued = claims["iat"].as_i64().and_then(|at| chrono::DateTime::from_timestamp(at, 0));
        let issued = issued.map(to_the_second).unwrap_or_default();
        let text = format!(
            "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed \
             or reset their password. The grant was issued on '{issued}' and the TokensValidFrom date (before which tokens are \
             not valid) for this user is '{stamp}'."
        );
        self.error(400, "invalid_grant", 50_173, &text).with_suberror("bad_token")
    }

    /// The user, if they may have tokens at all.
    fn able<'a>(&self, state: &'a State, user: Uuid) -> Result<&'a User, OAuthError> {
        let Some(user) = state.directory.get(user) else {
            let text = "The user account has been deleted from the directory. To sign into this application, the account must be added to the directory.";
            return Err(self.error(400, "invalid_grant", 500_341, text));
        };
        let text = "The user account is disabled.";
        user.enabled.then_some(user).ok_or_else(|| self.error(400, "invalid_grant", 50_057, text))
    }

    /// Signs a user in without any proof of who they are.
    pub(super) fn sign_in(
        &self,
        state: &mut State,
        upn: &str,
        client: &str,
        scopes: &str,
    ) -> Result<Tokens, OAuthError> {
        let text = format!("The user account {upn} does not exist in the {} directory.", self.id);
        let user = state.directory.find(upn).map(|user| user.id);
        let user = user.ok_or_else(|| self.error(400, "invalid_grant", 50_034, &text))?;
        self.issue(state, user, client, scopes, None)
    }

    /// A full set of tokens for a user.
    fn issue(
        &self,
        state: &mut State,
        user: Uuid,
        client: &str,
        scopes: &str,
        nonce: Option<&str>,
    ) -> Result<Tokens, OAuthError> {
        let user = self.able(state, user)?;
        let lifetime = state.options.access_token_seconds;
        let mut claims = self.claims(&self.url, lifetime);
        claims["appid"] = json!(client);
        claims["oid"] = json!(user.id);
        claims["sub"] = json!(user.id);
        claims["upn"] = json!(user.upn);
        claims["scp"] = json!(scopes);
        let access_token = self.mint.make(&claims);
        let mut identity = self.claims(client, lifetime.max(300));
        identity["oid"] = json!(user.id);
        identity["sub"] = json!(user.id);
        identity["name"] = json!(user.display_name);
        identity["preferred_username"] = json!(user.upn);
        if let Some(nonce) = nonce {
            identity["nonce"] = json!(nonce);
        }
        let client_info = base64url(json!({"uid": user.id, "utid": self.id}).to_string());
        let number = state.tokens_issued + 1;
        let refresh = json!({
            "use": "refresh", "n": number, "oid": user.id, "appid": client,
            "iat": self.desk.clock.says().timestamp(), "real_iat": self.desk.clock.real().timestamp(),
        });
        state.tokens_issued = number;
        Ok(Tokens {
            token_type: "Bearer".to_owned(),
            scope: Some(scopes.to_owned()),
            expires_in: lifetime,
            ext_expires_in: lifetime,
            access_token,
            refresh_token: Some(self.mint.make(&refresh)),
            id_token: Some(self.mint.make(&identity)),
            client_info: Some(client_info),
        })
    }

    fn claims(&self, audience: &str, lifetime: u32) -> Value {
        let now = self.desk.clock.says().timestamp();
        json!({
            "aud": audience, "iss": format!("{}/{}/v2.0", self.url, self.id), "tid": self.id, "ver": "2.0",
            "iat": now, "nbf": now, "exp": now + i64::from(lifetime), "uti": Uuid::new_v4(),
        })
    }
}

/// A GUID among claims.
pub(super) fn uuid_in(claims: &Value, name: &str) -> Option<Uuid> {
    claims[name].as_str().and_then(|text| Uuid::try_parse(text).ok())
}
