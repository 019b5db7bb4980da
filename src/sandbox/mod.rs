//! A simulated Microsoft Entra tenant and a simulated Workspace ONE UEM, over real HTTP and TLS.
//!
//! For `handover demo`, tests and benchmarks. The two servers know nothing of the rest of the crate, only the wire shapes
//! that both vendors publish, and they are meant to be as unkind as the real ones: replicas lag, answers get lost after the
//! deed, quotas punish whoever keeps knocking, webhooks are lost, doubled and out of order, lists are stale and empty lists
//! are empty bodies. Public clients (MSAL) work against the tenant unchanged.
//!
//! What is true is known here, and only here: [`Entra::effects`] lists the revocations that really happened, whatever anybody
//! was told about them.
//!
//! # Controls over HTTP
//!
//! Everything below is a method of [`Entra`] or [`Uem`] too. `POST /_sandbox/{verb}` with a JSON object; 200 with a JSON object,
//! or 400 with `{"error": "…"}`. `GET /_sandbox/state` shows the server's addresses, ids and contents. Controls see no faults and
//! are not in the log.
//!
//! Both servers:
//!
//! | verb | order |
//! | --- | --- |
//! | `fault` | `{"route": "any"\|"token"\|"revoke"\|"read_user"\|"read_device"\|"list_devices"\|"read_rule", "user": uuid?, "times": n?, "probability": 0–1?, "kind": …}`, where kind is `"reset_before"`, `"reset_after"`, `"half_answer"`, `"html200"`, `"html503"`, `"unauthorized"`, `"forbidden"`, `"not_found"`, `"wrong_body"`, `"huge_body"`, `"stale_stamp"`, `"stamp_missing"`, `{"status": {"code": n, "retry_after": "…"?}}`, `{"throttle": {"seconds": n}}`, `{"delay": {"ms": n}}`, `{"delay_after": {"ms": n}}` or `{"redirect": {"to": "…"}}` |
//! | `clear_faults` | |
//! | `clock` | `{"offset_ms": n}`: how far ahead of true time the server believes it is |
//! | `advance` | `{"ms": n}`: lets time pass at once |
//! | `down` | `{"down": bool}`: connections are dropped |
//! | `seen`, `clear_seen` | the log |
//!
//! Entra (`user` is an object id or a UPN):
//!
//! | verb | order |
//! | --- | --- |
//! | `add_user` | [`UserSpec`]: `{"upn": "…", …}` → `{"object_id"}` |
//! | `rename_user`, `delete_user`, `enable_user` | `{"user", "upn"?, "enabled"?}` |
//! | `sign_in` | `{"upn", "client_id"?, "scope"?}` → the token answer |
//! | `approve` | `{"user_code", "upn"}`: lets a device code through |
//! | `effects`, `stamp` | `{"user"}` |
//! | `lag` | `{"ms": n or null, "user"?}`: when new stamps can be read; null is never |
//! | `quota` | `{"writes", "per_seconds", "retry_after": "integer"\|"fraction"\|"absent"}`; `{"writes": null}` takes it away |
//! | `options` | `{"refusal_delay_ms"?, "admin_protected"?, "revoke_status"?, "revoke_location"?, "access_token_seconds"?, "roles"?}` |
//! | `secret` | `{"secret"?, "expired"?}` |
//!
//! UEM (`device` is a serial number, UDID, id or uuid; `user` a user name, id or uuid):
//!
//! | verb | order |
//! | --- | --- |
//! | `add_user` | [`UemUserSpec`] → `{"id", "uuid"}`; changes the account of the same user name |
//! | `add_pool_account` | `{"user_name"}` → `{"id", "uuid"}` |
//! | `add_device` | [`DeviceSpec`] → `{"id", "uuid"}` |
//! | `check_out`, `change_user` | `{"device", "user"}` → `{"sent": […]}` |
//! | `check_in`, `wipe`, `unenroll`, `enterprise_wipe`, `delete`, `re_enrol` | `{"device"}` → `{"sent": […]}` |
//! | `hook` | [`Hook`]: where and how webhooks are sent; `null` for nowhere |
//! | `quiet` | `{"quiet": bool}`: changes happen, webhooks don't |
//! | `lose_next`, `hold_next` | `{"count": n}`: of the webhooks that follow |
//! | `release` | sends the held webhooks, newest first |
//! | `sent`, `clear_sent` | what was sent and how it was answered |
//! | `test_connection` | the console's button: a GET to the target |
//! | `options` | [`UemOptions`], those that change |

mod certificate;
mod clock;
mod entra;
mod fault;
mod journal;
mod server;
mod token;
mod uem;
mod wire;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{certificate::Certificates, server::listen};
pub use self::{
    entra::{Effect, Entra, EntraOptions, Lag, OAuthError, Quota, RetryAfter, Tokens, UserSpec},
    fault::{Fault, FaultKind, Route},
    journal::{Counts, Seen},
    uem::{
        CheckInCarries, CheckOutCarries, DeviceSpec, EmptyList, EventName, EventNames, Fate, Format, Hook, Rule, Sent,
        TimeForm, Uem, UemOptions, UemUserSpec, Unknown,
    },
};

/// How a sandbox starts.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The port of the tenant on 127.0.0.1; any free one when 0.
    pub entra_port: u16,
    /// The port of the UEM on 127.0.0.1; any free one when 0.
    pub uem_port: u16,
    /// Plain HTTP, for benchmarks. MSAL insists on HTTPS.
    pub plain_http: bool,
    /// Decides every die that is thrown.
    pub seed: u64,
    /// The confidential client's secret; a fresh one when absent.
    pub client_secret: Option<String>,
    /// Where [`run`] writes the root certificate. The temporary folder when absent.
    pub folder: Option<PathBuf>,
}

/// Both servers, listening until this is dropped.
pub struct Sandbox {
    /// The tenant.
    pub entra: Entra,
    /// The device management.
    pub uem: Uem,
    ca_pem: String,
    _stop: DropGuard,
}

impl Sandbox {
    /// Starts both servers. They accept connections when this returns.
    ///
    /// # Errors
    /// When a port is taken or the certificates can't be made.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        let certificates = Certificates::fresh()?;
        let tls = (!settings.plain_http).then(|| Arc::clone(&certificates.tls));
        let scheme = if settings.plain_http { "http" } else { "https" };
        let stop = CancellationToken::new();

        let listener = TcpListener::bind(("127.0.0.1", settings.entra_port)).await?;
        let url = format!("{scheme}://localhost:{}", listener.local_addr()?.port());
        let entra = Entra::new(url, settings.seed, settings.client_secret);
        tokio::spawn(listen(entra.site(), listener, tls.clone(), stop.clone()));

        let listener = TcpListener::bind(("127.0.0.1", settings.uem_port)).await?;
        let url = format!("{scheme}://localhost:{}", listener.local_addr()?.port());
        let uem = Uem::new(url, settings.seed, &certificates.ca_pem)?;
        tokio::spawn(listen(uem.site(), listener, tls, stop.clone()));

        Ok(Self { entra, uem, ca_pem: certificates.ca_pem, _stop: stop.drop_guard() })
    }

    /// The root that clients must trust, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }
}

/// Runs a sandbox until Ctrl-C. Prints one line of JSON with everything a client needs, once both servers listen.
///
/// # Errors
/// When the sandbox can't start or the certificate can't be written.
pub async fn run(settings: Settings) -> io::Result<()> {
    let folder = settings.folder.clone().unwrap_or_else(std::env::temp_dir);
    let sandbox = Sandbox::start(settings).await?;
    tokio::fs::create_dir_all(&folder).await?;
    let ca_file = folder.join("sandbox-ca.pem");
    tokio::fs::write(&ca_file, sandbox.ca_pem()).await?;
    let (entra, uem) = (&sandbox.entra, &sandbox.uem);
    let line = json!({
        "ca_file": ca_file,
        "entra": {
            "login_url": entra.login_url(), "graph_url": entra.graph_url(), "tenant_id": entra.tenant_id(),
            "client_id": entra.client_id(), "client_secret": entra.client_secret(),
            "public_client_id": entra.public_client_id(),
        },
        "uem": {
            "url": uem.url(), "token_url": uem.token_url(), "client_id": uem.client_id(),
            "client_secret": uem.client_secret(), "username": uem.username(), "password": uem.password(),
            "tenant_code": uem.tenant_code(),
        },
    });
    println!("{line}");
    tokio::signal::ctrl_c().await
}

/// Locks; what a panicking test left behind is still the server's state.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
