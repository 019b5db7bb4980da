//! The login host apart from the token endpoint: discovery, and sign-ins under way.
//!
//! There is no human here. `authorize` signs in whoever `login_hint` names; a device code is approved through the controls.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use http::StatusCode;
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

use super::{State, Tenant, grants::ORDINARY_SCOPES};
use crate::sandbox::wire::{Call, Reply};

/// A sign-in that has begun.
pub(super) enum Sign {
    /// An authorisation code, to be redeemed.
    Code(Code),
    /// A device code, to be approved and redeemed.
    Device { user_code: String, scopes: String, user: Option<Uuid> },
}

/// What was asked for when an authorisation code was given out.
pub(super) struct Code {
    pub(super) user: Uuid,
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) scopes: String,
    pub(super) nonce: Option<String>,
    challenge: Option<String>,
    plain: bool,
}

impl Code {
    /// Whether `verifier` answers the challenge (RFC 7636).
    pub(super) fn verified_by(&self, verifier: &str) -> bool {
        match &self.challenge {
            None => true,
            Some(challenge) if self.plain => challenge == verifier,
            Some(challenge) => *challenge == BASE64URL.encode(Sha256::digest(verifier.as_bytes())),
        }
    }
}

/// Lets the device code with this user code through. Says whether it was waiting.
pub(super) fn approve(state: &mut State, wanted: &str, upn: &str) -> bool {
    let Some(id) = state.directory.find(upn).map(|user| user.id) else { return false };
    let mut approved = false;
    for sign in state.signs.values_mut() {
        if let Sign::Device { user_code, user: user @ None, .. } = sign
            && user_code == wanted
        {
            *user = Some(id);
            approved = true;
        }
    }
    approved
}

impl Tenant {
    pub(super) fn discovery(&self, tenant: &str) -> Reply {
        if let Err(error) = self.known_tenant(tenant) {
            return error.reply();
        }
        let (root, id) = (&self.url, self.id);
        let document = json!({
            "issuer": format!("{root}/{id}/v2.0"),
            "authorization_endpoint": format!("{root}/{tenant}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{root}/{tenant}/oauth2/v2.0/token"),
            "device_authorization_endpoint": format!("{root}/{tenant}/oauth2/v2.0/devicecode"),
            "end_session_endpoint": format!("{root}/{tenant}/oauth2/v2.0/logout"),
            "jwks_uri": format!("{root}/{tenant}/discovery/v2.0/keys"),
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic", "private_key_jwt"],
            "response_modes_supported": ["query", "fragment", "form_post"],
            "response_types_supported": ["code", "id_token", "code id_token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "tid", "oid", "preferred_username", "name"],
            "msgraph_host": self.host(),
        });
        Reply::json(StatusCode::OK, &document)
    }

    fn host(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, host)| host)
    }

    pub(super) fn instance(&self) -> Reply {
        let host = self.host();
        let document = json!({
            "tenant_discovery_endpoint": format!("{}/{}/v2.0/.well-known/openid-configuration", self.url, self.id),
            "api-version": "1.1",
            "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
        });
        Reply::json(StatusCode::OK, &document)
    }

    pub(super) fn user_realm(&self, upn: &str) -> Reply {
        let domain = upn.split('@').next_back().unwrap_or_default();
        let realm = json!({
            "ver": "1.0", "account_type": "Managed", "domain_name": domain, "cloud_instance_name": self.host(),
            "cloud_audience_urn": "urn:federation:MicrosoftOnline",
        });
        Reply::json(StatusCode::OK, &realm)
    }

    pub(super) fn authorize(&self, call: &Call) -> Reply {
        let asked = |name: &str| call.query(name).unwrap_or_default().to_owned();
        let Ok(mut back) = Url::parse(&asked("redirect_uri")) else {
            return Reply::html(StatusCode::BAD_REQUEST, "AADSTS900971: No reply address provided.");
        };
        if Uuid::try_parse(&asked("client_id")).is_err() {
            return Reply::html(
                StatusCode::BAD_REQUEST,
                "AADSTS700016: The application was not found in the directory.",
            );
        }
        let mut state = self.state();
        let user = state.directory.find(&asked("login_hint")).filter(|user| user.enabled).map(|user| user.id);
        let Some(user) = user else {
            return Reply::html(
                StatusCode::OK,
                "AADSTS50034: Name an existing user in login_hint; nobody can type here.",
            );
        };
        let code = Code {
            user,
            client_id: asked("client_id"),
            redirect_uri: asked("redirect_uri"),
            scopes: call.query("scope").unwrap_or(ORDINARY_SCOPES).to_owned(),
            nonce: call.query("nonce").map(str::to_owned),
            challenge: call.query("code_challenge").map(str::to_owned),
            plain: call.query("code_challenge_method").is_none_or(|method| method.eq_ignore_ascii_case("plain")),
        };
        let name = format!("1.{}", Uuid::new_v4().simple());
        state.signs.insert(name.clone(), Sign::Code(code));
        let answer = [("code", name), ("state", asked("state")), ("session_state", Uuid::new_v4().to_string())];
        let mut written = url::form_urlencoded::Serializer::new(String::new());
        written.extend_pairs(answer);
        let written = written.finish();
        if call.query("response_mode") == Some("fragment") {
            back.set_fragment(Some(&written));
        } else {
            let query = back.query().map(|query| format!("{query}&{written}"));
            back.set_query(Some(query.as_ref().unwrap_or(&written)));
        }
        Reply::empty(StatusCode::FOUND).with("location", back)
    }

    pub(super) fn device_code(&self, call: &Call, tenant: &str) -> Reply {
        if let Err(error) = self.known_tenant(tenant) {
            return error.reply();
        }
        let form = call.form();
        let device_code = Uuid::new_v4().simple().to_string();
        let user_code = Uuid::new_v4().simple().to_string()[..9].to_ascii_uppercase();
        let scopes = form.get("scope").map_or(ORDINARY_SCOPES, String::as_str).to_owned();
        let sign = Sign::Device { user_code: user_code.clone(), scopes, user: None };
        self.state().signs.insert(device_code.clone(), sign);
        let page = format!("{}/common/oauth2/deviceauth", self.url);
        let message = format!("To sign in, open the page {page} and enter the code {user_code} to authenticate.");
        let answer = json!({
            "device_code": device_code, "user_code": user_code, "verification_uri": page, "expires_in": 900,
            "interval": 1, "message": message,
        });
        Reply::json(StatusCode::OK, &answer)
    }
}
