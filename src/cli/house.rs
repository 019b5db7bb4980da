//! From a configuration to a service that is put together and does not run yet.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use uuid::Uuid;

use crate::app::{App, Clock, Rulebook, Source};
use crate::cli::config::{self, ApiLogin, Config, Proof};
use crate::custody::{Moment, RevokeOn};
use crate::entra::{self, Credential, Entra, SecretSource};
use crate::intake::workspace_one::rest::{self, Login, Uem};
use crate::intake::{Door, EventTable, People, Rules};
use crate::store::Store;

/// The clock of the machine.
pub fn clock() -> Clock {
    Arc::new(|| {
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let now = chrono::Utc::now();
        Moment(now.timestamp_micros())
    })
}

/// Opens the configured database.
///
/// # Errors
/// When it cannot be reached, is not safe to use, or the file of its password cannot be read.
pub async fn store(config: &Config) -> anyhow::Result<Store> {
    let settings = config.database.settings().context("database.password_file cannot be read")?;
    Ok(Store::open_with(&settings, &config.base).await?)
}

/// Puts the service together over a database that is open.
///
/// # Errors
/// When a secret or a trust anchor cannot be read, or an address cannot be used.
pub fn app(config: &Config, store: Store) -> anyhow::Result<App> {
    let sources = config.sources.iter().map(source).collect::<anyhow::Result<Vec<_>>>()?;
    let entra = config.entra.as_ref().map(|section| directory(config, section)).transpose()?;
    let owner = format!("{}-{}", std::process::id(), Uuid::new_v4());
    Ok(App::new(store, rulebook(config), sources, entra, clock(), owner))
}

/// What this machine, or container, is called; for people to tell instances apart.
pub fn host() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = named.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let named = named.trim();
    if named.is_empty() { String::from("unknown") } else { named.to_owned() }
}

/// What the site decided.
pub fn rulebook(config: &Config) -> Rulebook {
    let policy = &config.policy;
    Rulebook {
        revoke_on: match policy.revoke_on {
            config::RevokeOn::NextUser => RevokeOn::NextUser,
            config::RevokeOn::Return => RevokeOn::Return,
        },
        shadow: config.is_shadow(),
        settle: Duration::from_secs(policy.settle_seconds),
        wait_for_account: Duration::from_secs(policy.wait_for_account_seconds),
        act_within: Duration::from_secs(policy.act_within_hours * 3600),
        clock_skew: Duration::from_secs(policy.clock_skew_seconds),
        snapshot_age: Duration::from_secs(policy.snapshot_days * 24 * 3600),
        keep_months: u32::try_from(config.retention.months).ok().and_then(NonZeroU32::new),
        ..Rulebook::default()
    }
}

/// The way to Microsoft.
///
/// # Errors
/// When a trust anchor cannot be read or an address cannot be used.
pub fn directory(config: &Config, section: &config::Entra) -> anyhow::Result<Entra> {
    let credential = match &section.proof {
        Proof::Secret(config::Secret::Given(secret)) => Credential::Secret(SecretSource::Fixed(secret.clone())),
        Proof::Secret(config::Secret::File(path)) => Credential::Secret(SecretSource::File(path.clone())),
        Proof::FederatedToken(path) => Credential::Federated(path.clone()),
    };
    let mut settings = entra::Settings::new(&section.tenant_id, &section.client_id, credential);
    settings.cloud = entra::Cloud::from_name(section.cloud.name()).context("entra.cloud is not one we know")?;
    settings.login_url.clone_from(&section.login_url);
    settings.graph_url.clone_from(&section.graph_url);
    settings.ca_pem = section.ca_file.as_deref().map(|path| anchor("entra.ca_file", path)).transpose()?;
    settings.writes_per_second = config.policy.writes_per_second;
    Ok(Entra::new(&settings, clock(), Arc::new(rand::random::<f64>))?)
}

fn source(section: &config::Source) -> anyhow::Result<Source> {
    let named = |key: &str| format!("source {}: {key}", section.name);
    let door = match (&section.username, &section.passwords) {
        (Some(username), Some(passwords)) => {
            let passwords = passwords.reveal().with_context(|| named("passwords_file cannot be read"))?;
            Door::new(username, &passwords)
        }
        _ => Door::dummy(),
    };
    let mut rules = Rules::new(section.name.clone());
    rules.table = EventTable::default().with_first(section.events.iter().cloned());
    rules.assumed_zone = section.time_zone;
    Ok(Source {
        name: section.name.clone(),
        door,
        rules,
        people: People { upn_from: section.upn_from.clone(), pool_accounts: section.pool_accounts.clone() },
        api: section.api.as_ref().map(|api| uem(&section.name, api)).transpose()?,
        sweep_every: Duration::from_secs(section.api.as_ref().map_or(300, |api| api.sweep_seconds)),
        silence: match section.silence_minutes {
            0 => Duration::MAX,
            minutes => Duration::from_secs(minutes * 60),
        },
    })
}

/// The way to a UEM's API.
///
/// # Errors
/// When a secret or a trust anchor cannot be read or an address cannot be used.
pub fn uem(name: &str, api: &config::Api) -> anyhow::Result<Uem> {
    let secret = |key: &str, secret: &config::Secret| {
        secret.reveal().with_context(|| format!("source {name}: the file of {key} cannot be read"))
    };
    let login = match &api.login {
        ApiLogin::OAuth { token_url, client_id, client_secret } => Login::OAuth2 {
            token_url: token_url.clone(),
            client_id: client_id.clone(),
            client_secret: secret("api.client_secret", client_secret)?,
        },
        ApiLogin::Basic { username, password } => {
            Login::Basic { user_name: username.clone(), password: secret("api.password", password)? }
        }
    };
    let mut settings = rest::Settings::new(api.url.clone(), login);
    settings.tenant_code = api.tenant_code.as_ref().map(|code| secret("api.tenant_code", code)).transpose()?;
    settings.extra_anchor = api.ca_file.as_deref().map(|path| anchor("api.ca_file", path)).transpose()?;
    Uem::new(settings).with_context(|| format!("source {name}: its API cannot be used"))
}

fn anchor(key: &str, path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{key}: {} cannot be read", path.display()))
}
