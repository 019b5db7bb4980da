//! The sections that exist once: server, intake, database, entra, policy, log.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

use super::Secret;
use super::tree::Section;
use crate::store::Settings;
use crate::web::proxies::ProxyHeader;

/// `[server]`: the API.
#[derive(Debug, Clone)]
pub struct Server {
    /// Address and port of the API and the console. Default: `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// The networks whose proxies are believed when they say whom they speak for, on both listeners. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they say it: `x-forwarded-for` or `forwarded`. Default: `x-forwarded-for`.
    pub proxy_header: ProxyHeader,
}

impl Server {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let listen = section.listen("listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
        let trusted_proxies = proxies(&mut section);
        let headers = [("x-forwarded-for", ProxyHeader::XForwardedFor), ("forwarded", ProxyHeader::Forwarded)];
        let proxy_header = section.choice("proxy_header", &headers, ProxyHeader::XForwardedFor);
        section.done();
        Self { listen, trusted_proxies, proxy_header }
    }
}

fn proxies(section: &mut Section<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in section.texts("trusted_proxies") {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match network {
            Ok(network) if network.prefix_len() == 0 => {
                let says =
                    "trusts the whole world, so that anybody could pretend to be anybody; name the proxies' networks";
                section.problem("trusted_proxies", says);
            }
            Ok(network) => networks.push(network),
            Err(_) => {
                let says = "has an entry that is no network; write one such as \"10.0.0.0/8\" or \"192.0.2.7\"";
                section.problem("trusted_proxies", says);
            }
        }
    }
    networks
}

/// `[intake]`: the only listener that the UEM must reach.
#[derive(Debug, Clone)]
pub struct Intake {
    /// Address and port of the webhook. Default: `127.0.0.1:8081`.
    pub listen: SocketAddr,
}

impl Intake {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let listen = section.listen("listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)));
        section.done();
        Self { listen }
    }
}

/// `[database]`: where everything is kept.
#[derive(Clone)]
pub struct Database {
    /// `sqlite://path` or `postgres://…`. Default: `sqlite://data/handover.db`.
    pub url: String,
    /// PostgreSQL's password, where the URL has none. Default: none.
    pub password: Option<Secret>,
    /// How many connections one instance takes from PostgreSQL, 4 to 500. Default: 16.
    pub max_connections: u32,
    /// Seconds that PostgreSQL may work on one statement, 1 to 3,600. Default: 30.
    pub statement_timeout_seconds: u64,
    /// The file outside of the database by which a restore is noticed. Default: beside a SQLite file; none for PostgreSQL.
    pub witness_file: Option<PathBuf>,
}

/// A PostgreSQL address may hold a password.
impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("url", &self.shown()).finish()
    }
}

impl Database {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let url = section.text("url").unwrap_or_else(|| "sqlite://data/handover.db".to_owned());
        let password = section.secret("password", "password_file");
        let known = ["sqlite://", "postgres://", "postgresql://"];
        let given = password.as_ref().map(|_| SecretString::from("given"));
        if !known.iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty())) {
            section.problem("url", "is not a database; write \"sqlite://path\" or \"postgres://user@host/name\"");
        } else if let Err(error) = (Settings { password: given, ..Settings::new(&url) }).check() {
            section.problem("url", error.to_string());
        }
        let max_connections = section.whole("max_connections", 16, 4..=500, "connections");
        let statement_timeout_seconds = section.whole("statement_timeout_seconds", 30, 1..=3600, "seconds");
        let witness_file = section.place("witness_file");
        section.done();
        let max_connections = u32::try_from(max_connections).unwrap_or(16);
        Self { url, password, max_connections, statement_timeout_seconds, witness_file }
    }

    /// The SQLite file; absent for PostgreSQL. Relative paths count from `base`.
    pub fn file(&self, base: &Path) -> Option<PathBuf> {
        self.url.strip_prefix("sqlite://").map(|path| base.join(path))
    }

    /// Where the witness is kept.
    pub fn witness(&self, base: &Path) -> Option<PathBuf> {
        let beside = || self.file(base).map(|file| PathBuf::from(format!("{}.witness", file.display())));
        self.witness_file.clone().or_else(beside)
    }

    /// How the store reaches it.
    ///
    /// # Errors
    /// When the file of the password cannot be read.
    pub fn settings(&self) -> std::io::Result<Settings> {
        self.settings_for(&self.url)
    }

    /// How the store reaches another database. The password is this one's, where the address has none.
    ///
    /// # Errors
    /// When the file of the password cannot be read.
    pub fn settings_for(&self, url: &str) -> std::io::Result<Settings> {
        let bare = Settings::new(url);
        let password = self.password.as_ref().filter(|_| url == self.url || !url.starts_with("sqlite://"));
        Ok(Settings {
            password: password.map(Secret::reveal).transpose()?,
            max_connections: self.max_connections,
            statement_timeout: Duration::from_secs(self.statement_timeout_seconds),
            ..bare
        })
    }

    /// The address without its password.
    pub fn shown(&self) -> String {
        shown(&self.url)
    }
}

/// A database's address without its password.
pub fn shown(address: &str) -> String {
    if address.starts_with("sqlite://") {
        return address.to_owned();
    }
    let plain = address.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else { return "postgres://…".to_owned() };
    match rest.rsplit_once('@') {
        Some((user, place)) => {
            let user = user.split_once(':').map_or_else(|| user.to_owned(), |(user, _)| format!("{user}:…"));
            format!("{scheme}://{user}@{place}")
        }
        None => plain.to_owned(),
    }
}

/// One of Microsoft's separate clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// The worldwide cloud, and GCC.
    Global,
    /// US Government L4 (GCC High).
    UsGov,
    /// US Government L5 (Department of Defense).
    Dod,
    /// China, operated by 21Vianet.
    China,
}

impl Cloud {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::UsGov => "usgov",
            Self::Dod => "dod",
            Self::China => "china",
        }
    }
}

/// How the application proves itself to Entra.
#[derive(Debug, Clone)]
pub enum Proof {
    /// By its secret.
    Secret(Secret),
    /// By a token in a file, signed by somebody whom the app registration trusts. The file is read whenever a token is asked
    /// for, since whoever projects it replaces it.
    FederatedToken(PathBuf),
}

/// `[entra]`: how Microsoft Entra ID and Graph are reached.
#[derive(Debug, Clone)]
pub struct Entra {
    /// Which cloud: `global`, `usgov`, `dod` or `china`. Default: `global`.
    pub cloud: Cloud,
    /// Directory (tenant) id.
    pub tenant_id: String,
    /// Application (client) id.
    pub client_id: String,
    /// How the application proves itself.
    pub proof: Proof,
    /// Instead of the cloud's login host. Default: the cloud's.
    pub login_url: Option<Url>,
    /// Instead of the cloud's Graph host; the root without `/v1.0`. Default: the cloud's.
    pub graph_url: Option<Url>,
    /// A further trust anchor, in PEM. Default: none.
    pub ca_file: Option<PathBuf>,
}

impl Entra {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let clouds = [Cloud::Global, Cloud::UsGov, Cloud::Dod, Cloud::China].map(|cloud| (cloud.name(), cloud));
        let cloud = section.choice("cloud", &clouds, Cloud::Global);
        let tenant_id = id(&mut section, "tenant_id", "the directory (tenant) id");
        let client_id = id(&mut section, "client_id", "the application (client) id");
        let proof = proof(&mut section);
        let login_url = section.url("login_url");
        let graph_url = section.url("graph_url");
        for url in graph_url.iter().filter(|url| !matches!(url.path(), "" | "/")) {
            if ["/v1.0", "/beta"].iter().any(|version| url.path().trim_end_matches('/').ends_with(version)) {
                section.problem("graph_url", "ends in a version; write the root without it");
            }
        }
        let ca_file = section.anchor("ca_file");
        section.done();
        Self { cloud, tenant_id, client_id, proof, login_url, graph_url, ca_file }
    }
}

/// The secret or the federated token, exactly one of them.
fn proof(section: &mut Section<'_>) -> Proof {
    let by_secret = section.has("client_secret") || section.has("client_secret_file");
    let by_token = section.has("federated_token_file");
    if by_secret && by_token {
        let says = "is given beside the client secret; keep one way to prove who the app is";
        section.problem("federated_token_file", says);
    }
    if !by_secret && !by_token {
        let says = "is missing; give it here, as client_secret_file, or as HANDOVER_ENTRA__CLIENT_SECRET; \
                    or give federated_token_file";
        section.problem("client_secret", says);
    }
    let secret = section.secret("client_secret", "client_secret_file");
    match (section.secret_file("federated_token_file"), secret) {
        (Some(path), _) => Proof::FederatedToken(path),
        (None, Some(secret)) => Proof::Secret(secret),
        (None, None) => Proof::Secret(Secret::Given(String::new().into())),
    }
}

/// An id of Entra's: no placeholder, no blanks, nothing that changes an address.
fn id(section: &mut Section<'_>, key: &'static str, what: &str) -> String {
    let id = section.needed(key, &format!("write {what} from the app registration's overview page"));
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if !id.bytes().all(fit) || id.contains("..") {
        section.problem(key, format!("is not an id; write {what} from the app registration's overview page"));
    }
    id
}

/// When a revocation is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevokeOn {
    /// When somebody else follows on the device.
    NextUser,
    /// At every departure.
    Return,
}

/// What happens when the person holds another shared device at the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenHoldingAnother {
    /// The tokens are revoked all the same; what that ends is kept as collateral.
    Revoke,
}

/// `[policy]`: what is revoked, when, and how fast.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `next_user` or `return`. Default: `next_user`.
    pub revoke_on: RevokeOn,
    /// `revoke`. Default: `revoke`.
    pub when_holding_another: WhenHoldingAnother,
    /// Writes to Graph per second, more than 0 and at most 20. Default: 15.
    pub writes_per_second: f64,
    /// Shadow mode: everything but the calls to Graph. Default: `false`.
    pub shadow: bool,
    /// Seconds until a difference or an event is looked at a second time, 2 to 600. Default: 20.
    pub settle_seconds: u64,
    /// Seconds until an account that cannot be resolved counts as `unknown`, 1 to 86,400. Default: 300.
    pub wait_for_account_seconds: u64,
    /// Hours that an event may be late and still act by itself, 1 to 8,760. Default: 24.
    pub act_within_hours: u64,
    /// Seconds that two clocks may differ, 1 to 3,600. Default: 300.
    pub clock_skew_seconds: u64,
    /// Days that late events still find their place, 1 to 365. Default: 7.
    pub snapshot_days: u64,
}

impl Policy {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let revoke_on = [("next_user", RevokeOn::NextUser), ("return", RevokeOn::Return)];
        let revoke_on = section.choice("revoke_on", &revoke_on, RevokeOn::NextUser);
        match section.text("when_holding_another").as_deref() {
            None | Some("revoke") => {}
            Some(later @ ("hold" | "ask")) => {
                let says = format!("\"{later}\" comes in a later version; write \"revoke\" for now");
                section.problem("when_holding_another", says);
            }
            Some(_) => section.problem("when_holding_another", "is not known; write \"revoke\""),
        }
        let policy = Self {
            revoke_on,
            when_holding_another: WhenHoldingAnother::Revoke,
            writes_per_second: section.rate("writes_per_second", 15.0, 20, "writes a second"),
            shadow: section.flag("shadow", false),
            settle_seconds: section.whole("settle_seconds", 20, 2..=600, "seconds"),
            wait_for_account_seconds: section.whole("wait_for_account_seconds", 300, 1..=86_400, "seconds"),
            act_within_hours: section.whole("act_within_hours", 24, 1..=8760, "hours"),
            clock_skew_seconds: section.whole("clock_skew_seconds", 300, 1..=3600, "seconds"),
            snapshot_days: section.whole("snapshot_days", 7, 1..=365, "days"),
        };
        section.done();
        policy
    }
}

/// `[retention]`: for how long history is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Months that events, custodies, closed revocations and the audit history are kept; 0: for good. Default: 72.
    pub months: u64,
}

impl Retention {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let months = section.whole("months", 72, 0..=1200, "months");
        section.done();
        Self { months }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`: what Handover says while it works, on standard error.
#[derive(Debug, Clone)]
pub struct Log {
    /// `text` or `json`. Default: `text`.
    pub format: LogFormat,
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or levels by part: `info,handover::intake=debug`. Default: `info`.
    pub level: String,
}

impl Log {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let format = section.choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)], LogFormat::Text);
        let level = section.text("level").unwrap_or_else(|| "info".to_owned());
        if tracing_subscriber::EnvFilter::try_new(&level).is_err() || !names_a_level(&level) {
            section.problem("level", "is not a level; write error, warn, info, debug or trace");
        }
        section.done();
        Self { format, level }
    }
}

/// A bare word that is no level would be taken for the name of a part, and silence everything else.
fn names_a_level(text: &str) -> bool {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    text.split(',').all(|part| {
        let level = part.rsplit('=').next().unwrap_or(part).trim();
        levels.iter().any(|known| known.eq_ignore_ascii_case(level))
    })
}
