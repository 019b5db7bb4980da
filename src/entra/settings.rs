//! How we reach Microsoft, checked before anything is sent.
//!
//! What passes here is safe to use: the hosts are https or this very machine, the addresses carry no user name, query or
//! fragment, and the pace is a number. What does not pass is refused with the name of the key and what to write instead.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::zeroize::Zeroize;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

/// Writes per second when nothing else is configured.
///
/// Three quarters of what Microsoft sustains for one app in one tenant (3,000 per 150 s); the rest is left for an incident.
pub const WRITES_PER_SECOND: f64 = 15.0;

/// The highest pace we accept. Far above any quota of Microsoft's: it only catches a slip of the finger.
const MOST_WRITES_PER_SECOND: f64 = 1000.0;

/// Longest client secret we read from a file, in bytes. Entra's have about 40.
const LONGEST_SECRET: u64 = 4096;

/// Longest federated token we read from a file, in bytes. Those of Kubernetes have about 1,200.
const LONGEST_TOKEN: u64 = 16 * 1024;

/// What an assertion is called in a token request (RFC 7523).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// One of Microsoft's separate clouds. Tokens and app registrations of one are unknown to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cloud {
    /// The worldwide cloud, and GCC, which uses its hosts.
    #[default]
    Global,
    /// US Government L4 (GCC High).
    UsGov,
    /// US Government L5 (Department of Defense).
    Dod,
    /// China, operated by 21Vianet.
    China,
}

impl Cloud {
    /// The cloud with this name in the configuration: `global`, `usgov`, `dod` or `china`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "global" => Some(Self::Global),
            "usgov" => Some(Self::UsGov),
            "dod" => Some(Self::Dod),
            "china" => Some(Self::China),
            _ => None,
        }
    }

    /// Where tokens come from. For China Microsoft's own pages disagree; `login_url` overrides.
    pub fn login_root(self) -> &'static str {
        match self {
            Self::Global => "https://login.microsoftonline.com",
            Self::UsGov | Self::Dod => "https://login.microsoftonline.us",
            Self::China => "https://login.partner.microsoftonline.cn",
        }
    }

    /// Where Graph is, without the version.
    pub fn graph_root(self) -> &'static str {
        match self {
            Self::Global => "https://graph.microsoft.com",
            Self::UsGov => "https://graph.microsoft.us",
            Self::Dod => "https://dod-graph.microsoft.us",
            Self::China => "https://microsoftgraph.chinacloudapi.cn",
        }
    }
}

/// Where a secret is kept.
#[derive(Clone)]
pub enum SecretSource {
    /// Given at the start.
    Fixed(SecretString),
    /// In a file that is read again at every token request, so that a rotation needs no restart. White space around it is
    /// not part of the secret.
    File(PathBuf),
}

impl SecretSource {
    /// The secret as it is now.
    pub(crate) async fn read(&self) -> Result<SecretString, SecretError> {
        match self {
            Self::Fixed(secret) if secret.expose_secret().is_empty() => Err(SecretError::Empty),
            Self::Fixed(secret) => Ok(secret.clone()),
            Self::File(path) => match read_file(path, LONGEST_SECRET).await {
                Ok(secret) => Ok(secret),
                Err(Unreadable::Kind(kind)) => Err(SecretError::Unread(kind)),
                Err(Unreadable::Empty) => Err(SecretError::Empty),
                Err(Unreadable::TooLong) => Err(SecretError::TooLong),
            },
        }
    }
}

/// Why a file gives nothing to prove ourselves with.
enum Unreadable {
    Kind(std::io::ErrorKind),
    Empty,
    TooLong,
}

/// What a file says, without white space around it.
async fn read_file(path: &Path, longest: u64) -> Result<SecretString, Unreadable> {
    let size = tokio::fs::metadata(path).await.map_err(|error| Unreadable::Kind(error.kind()))?.len();
    if size > longest {
        return Err(Unreadable::TooLong);
    }
    let mut text = tokio::fs::read_to_string(path).await.map_err(|error| Unreadable::Kind(error.kind()))?;
    let secret = SecretString::from(text.trim().to_owned());
    text.zeroize();
    if secret.expose_secret().is_empty() { Err(Unreadable::Empty) } else { Ok(secret) }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("Fixed(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Why there is no secret to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read.
    #[error("the client secret's file cannot be read ({0}); check entra.client_secret_file and its permissions")]
    Unread(std::io::ErrorKind),
    /// There is nothing in it.
    #[error("the client secret is empty; check entra.client_secret or entra.client_secret_file")]
    Empty,
    /// This is no client secret.
    #[error("the client secret's file is longer than 4096 bytes; entra.client_secret_file must hold the secret alone")]
    TooLong,
    /// The file of the federated token could not be read.
    #[error("the federated token's file cannot be read ({0}); check entra.federated_token_file and what projects it")]
    NoToken(std::io::ErrorKind),
    /// This is no token.
    #[error("entra.federated_token_file holds no token; it must hold one signed token (JWT) alone")]
    NotAToken,
}

/// How the app proves itself to Entra. Each variant says which fields it adds to the token request.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A client secret.
    Secret(SecretSource),
    /// A token that somebody else has signed and whom the app registration trusts: a federated credential. Whoever projects
    /// the file replaces it long before it expires, so it is read again at every token request and never kept.
    Federated(PathBuf),
}

impl Credential {
    /// The form fields that prove who we are, read afresh.
    pub(crate) async fn proof(&self) -> Result<Vec<(&'static str, SecretString)>, SecretError> {
        match self {
            Self::Secret(source) => Ok(vec![("client_secret", source.read().await?)]),
            Self::Federated(path) => {
                let token = read_file(path, LONGEST_TOKEN).await.map_err(|unreadable| match unreadable {
                    Unreadable::Kind(kind) => SecretError::NoToken(kind),
                    Unreadable::Empty | Unreadable::TooLong => SecretError::NotAToken,
                })?;
                if !is_token(token.expose_secret()) {
                    return Err(SecretError::NotAToken);
                }
                Ok(vec![
                    ("client_assertion_type", SecretString::from(ASSERTION_TYPE.to_owned())),
                    ("client_assertion", token),
                ])
            }
        }
    }
}

/// Three parts of base64url, the form of every signed JWT. Whether it is a good one is for Entra to say.
fn is_token(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.split('.').count() == 3 && text.split('.').all(part)
}

/// How we reach Microsoft.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which cloud; it says the hosts.
    pub cloud: Cloud,
    /// Directory (tenant) id, or one of its verified domains.
    pub tenant_id: String,
    /// Application (client) id.
    pub client_id: String,
    /// How the app proves itself.
    pub credential: Credential,
    /// Instead of the cloud's login host.
    pub login_url: Option<Url>,
    /// Instead of the cloud's Graph host; the root, without `/v1.0`.
    pub graph_url: Option<Url>,
    /// More trust anchors, as PEM, beside those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// The pace of writes. Default: [`WRITES_PER_SECOND`].
    pub writes_per_second: f64,
    /// How long a token request may take. Default: 10 s.
    pub token_timeout: Duration,
    /// How long a connection may take to stand, TLS and all. Default: 3 s.
    pub connect_timeout: Duration,
    /// How long one call to Graph may take, to the last byte of its answer. Default: 15 s.
    pub total_timeout: Duration,
}

impl Settings {
    /// The settings of one app in one tenant, with the defaults for the rest.
    pub fn new(tenant_id: impl Into<String>, client_id: impl Into<String>, credential: Credential) -> Self {
        Self {
            cloud: Cloud::Global,
            tenant_id: tenant_id.into(),
            client_id: client_id.into(),
            credential,
            login_url: None,
            graph_url: None,
            ca_pem: None,
            writes_per_second: WRITES_PER_SECOND,
            token_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            total_timeout: Duration::from_secs(15),
        }
    }

    /// The addresses to use, if everything here is fit for use.
    pub(crate) fn addresses(&self) -> Result<Addresses, SetupError> {
        named(
            "entra.tenant_id",
            &self.tenant_id,
            "the directory (tenant) id from the app registration's overview page",
        )?;
        named(
            "entra.client_id",
            &self.client_id,
            "the application (client) id from the app registration's overview page",
        )?;
        if !(self.writes_per_second.is_finite()
            && self.writes_per_second > 0.0
            && self.writes_per_second <= MOST_WRITES_PER_SECOND)
        {
            return Err(SetupError::Pace(self.writes_per_second));
        }
        let login = root("entra.login_url", self.login_url.as_ref(), self.cloud.login_root())?;
        let graph = root("entra.graph_url", self.graph_url.as_ref(), self.cloud.graph_root())?;
        if graph.ends_with("/v1.0") || graph.ends_with("/beta") {
            return Err(SetupError::Version(graph));
        }
        let token = format!("{login}/{}/oauth2/v2.0/token", self.tenant_id);
        let token = Url::parse(&token).map_err(|source| SetupError::Address { key: "entra.login_url", source })?;
        Ok(Addresses { token, scope: format!("{graph}/.default"), graph })
    }
}

/// Where the calls go.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    /// The token endpoint.
    pub(crate) token: Url,
    /// The one resource that tokens are asked for.
    pub(crate) scope: String,
    /// Graph's root, without version and without a slash at its end.
    pub(crate) graph: String,
}

impl Addresses {
    /// Both hosts speak TLS.
    pub(crate) fn all_https(&self) -> bool {
        self.token.scheme() == "https" && self.graph.starts_with("https:")
    }

    /// One of the hosts is this machine; no proxy has a business with that.
    pub(crate) fn any_loopback(&self) -> bool {
        is_loopback(&self.token) || Url::parse(&self.graph).is_ok_and(|graph| is_loopback(&graph))
    }
}

fn named(key: &'static str, value: &str, fix: &'static str) -> Result<(), SetupError> {
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let dots = value.bytes().all(|byte| byte == b'.');
    if !dots && value.bytes().all(fit) { Ok(()) } else { Err(SetupError::Name { key, fix }) }
}

fn root(key: &'static str, configured: Option<&Url>, ours: &str) -> Result<String, SetupError> {
    let address = match configured {
        Some(url) => url.clone(),
        None => Url::parse(ours).map_err(|source| SetupError::Address { key, source })?,
    };
    match address.scheme() {
        "https" => {}
        "http" if is_loopback(&address) => {}
        _ => return Err(SetupError::Plain { key, host: address.host_str().unwrap_or_default().to_owned() }),
    }
    let extras = address.query().is_some() || address.fragment().is_some();
    if extras || !address.username().is_empty() || address.password().is_some() {
        return Err(SetupError::Extras { key });
    }
    Ok(address.as_str().trim_end_matches('/').to_owned())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Why we would not start. Each names the key and what to write there.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The bearer token or the secret would cross the network in the clear.
    #[error("{key} must be https (host {host}); plain http is accepted for loopback addresses only")]
    Plain {
        /// The configuration key.
        key: &'static str,
        /// The host it names.
        host: String,
    },
    /// The address carries more than scheme, host, port and path.
    #[error("{key} must be a root address such as https://graph.microsoft.com, without user name, query or fragment")]
    Extras {
        /// The configuration key.
        key: &'static str,
    },
    /// The address is not one.
    #[error("{key} is not a usable address; write a root such as https://graph.microsoft.com")]
    Address {
        /// The configuration key.
        key: &'static str,
        /// What the parser said.
        source: url::ParseError,
    },
    /// The version belongs to us.
    #[error("entra.graph_url must be the root without its version; write {} instead", .0.trim_end_matches("/v1.0").trim_end_matches("/beta"))]
    Version(String),
    /// The id is empty or has characters that no id has.
    #[error("{key} is missing or malformed; write {fix}")]
    Name {
        /// The configuration key.
        key: &'static str,
        /// Where to find it.
        fix: &'static str,
    },
    /// Not a pace.
    #[error("policy.writes_per_second must be more than 0 and at most 1000, not {0}; 15 is the default")]
    Pace(f64),
    /// The trust anchors are unreadable.
    #[error("entra.ca_file holds no readable certificate; it must be PEM")]
    TrustAnchor(#[source] reqwest::Error),
    /// There is no TLS or no resolver on this machine.
    #[error("the client for Microsoft cannot be set up; check the system's trust store and entra.ca_file")]
    Client(#[source] reqwest::Error),
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn settings() -> Settings {
        Settings::new(
            "contoso.example",
            "0f0e7c52-0000-4000-8000-000000000001",
            Credential::Secret(SecretSource::Fixed("hush".to_owned().into())),
        )
    }

    #[rstest]
    #[case::own_machine("http://127.0.0.1:9999", true)]
    #[case::own_machine_v6("http://[::1]:9999/", true)]
    #[case::own_machine_by_name("http://localhost:9999", true)]
    #[case::tls("https://graph.contoso.example", true)]
    #[case::plain("http://graph.contoso.example", false)]
    #[case::looks_local("http://127.0.0.1.contoso.example", false)]
    #[case::hidden_host("https://graph.microsoft.com@evil.example", false)]
    #[case::versioned("https://graph.microsoft.com/v1.0", false)]
    #[case::versioned_slash("https://graph.microsoft.com/v1.0/", false)]
    #[case::query("https://graph.microsoft.com/?x=1", false)]
    #[case::another_scheme("ftp://graph.microsoft.com", false)]
    fn an_address_is_https_or_this_machine(#[case] url: &str, #[case] fit: bool) {
        let settings = Settings { graph_url: Some(Url::parse(url).unwrap()), ..settings() };

        assert_eq!(settings.addresses().is_ok(), fit);
    }

    #[rstest]
    #[case(Cloud::Global, "https://login.microsoftonline.com/", "https://graph.microsoft.com/.default")]
    #[case(Cloud::UsGov, "https://login.microsoftonline.us/", "https://graph.microsoft.us/.default")]
    #[case(Cloud::Dod, "https://login.microsoftonline.us/", "https://dod-graph.microsoft.us/.default")]
    #[case(
        Cloud::China,
        "https://login.partner.microsoftonline.cn/",
        "https://microsoftgraph.chinacloudapi.cn/.default"
    )]
    fn each_cloud_has_its_hosts(#[case] cloud: Cloud, #[case] login: &str, #[case] scope: &str) {
        let addresses = Settings { cloud, ..settings() }.addresses().unwrap();

        assert_eq!(addresses.token.as_str(), format!("{login}contoso.example/oauth2/v2.0/token"));
        assert_eq!(addresses.scope, scope);
    }

    #[test]
    fn a_refusal_names_the_key_and_the_fix() {
        let plain = Settings { login_url: Some(Url::parse("http://login.example").unwrap()), ..settings() };
        let versioned = Settings { graph_url: Some(Url::parse("https://g.example/v1.0").unwrap()), ..settings() };
        let nameless = Settings { tenant_id: "../common".to_owned(), ..settings() };
        let racing = Settings { writes_per_second: f64::NAN, ..settings() };

        let said = |settings: Settings| settings.addresses().unwrap_err().to_string();
        assert!(said(plain).starts_with("entra.login_url must be https (host login.example)"));
        assert!(said(versioned).ends_with("write https://g.example instead"));
        assert!(said(nameless).contains("entra.tenant_id"));
        assert!(said(racing).contains("policy.writes_per_second"));
    }

    #[test]
    fn the_secret_is_never_printed() {
        let printed = format!("{:?}", settings());

        assert!(!printed.contains("hush"), "{printed}");
    }
}
