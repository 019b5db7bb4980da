//! Where the UEM is and how we log in.

use std::time::Duration;

use reqwest::{Certificate, Client, redirect};
use secrecy::SecretString;
use url::{Host, Url};

/// What it takes to reach one UEM.
#[derive(Debug)]
pub struct Settings {
    /// Its address, `https://as1234.awmdm.com`.
    pub url: Url,
    /// How we log in.
    pub login: Login,
    /// The tenant's API key. Sent with every call when it is there.
    pub tenant_code: Option<SecretString>,
    /// A further certificate authority to trust, in PEM.
    pub extra_anchor: Option<Vec<u8>>,
    /// How long connecting may take. Default: 3 s.
    pub connect_timeout: Duration,
    /// How long one call may take. Default: 15 s.
    pub timeout: Duration,
    /// The longest we wait inside a call for the UEM's leave to go on; beyond it the call is `Busy`. Default: 60 s.
    pub patience: Duration,
    /// The wait before the first repeat; each further one doubles it, and chance takes off up to half. Default: 1 s.
    pub back_off: Duration,
}

impl Settings {
    /// Settings with the usual times.
    pub fn new(url: Url, login: Login) -> Self {
        Self {
            url,
            login,
            tenant_code: None,
            extra_anchor: None,
            connect_timeout: Duration::from_secs(3),
            timeout: Duration::from_secs(15),
            patience: Duration::from_mins(1),
            back_off: Duration::from_secs(1),
        }
    }

    /// The address that `/api/…` is put after. One that ends in `/api` already is understood.
    pub(super) fn base(&self) -> Result<Url, BadSettings> {
        safe(&self.url)?;
        let mut url = self.url.clone();
        let path = url.path().trim_end_matches('/');
        let end = path.len() - path.len().min(4);
        let is_api = path.get(end..).is_some_and(|end| end.eq_ignore_ascii_case("/api"));
        let path = if is_api { path[..end].to_owned() } else { path.to_owned() };
        url.set_path(&path);
        url.set_query(None);
        url.set_fragment(None);
        Ok(url)
    }

    pub(super) fn client(&self) -> Result<Client, BadSettings> {
        safe(&self.url)?;
        let mut client = Client::builder()
            .user_agent(concat!("handover/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.connect_timeout)
            .timeout(self.timeout)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never());
        let mut anywhere_else = !is_loopback(&self.url);
        if let Login::OAuth2 { token_url, .. } = &self.login {
            safe(token_url)?;
            anywhere_else |= !is_loopback(token_url);
        }
        if !anywhere_else {
            client = client.no_proxy();
        }
        if let Some(pem) = &self.extra_anchor {
            let anchors = Certificate::from_pem_bundle(pem).map_err(BadSettings::Anchor)?;
            client = client.tls_certs_merge(anchors);
        }
        client.build().map_err(BadSettings::Client)
    }
}

/// How we log in.
#[derive(Debug)]
pub enum Login {
    /// OAuth2 client credentials.
    OAuth2 {
        /// The token endpoint. There are too many to choose from, so it is free text.
        token_url: Url,
        /// The client's id.
        client_id: String,
        /// The client's secret.
        client_secret: SecretString,
    },
    /// An administrator of type *Basic* with an API role.
    Basic {
        /// The user name.
        user_name: String,
        /// The password.
        password: SecretString,
    },
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    /// The address would send the login in the clear, or holds one itself.
    #[error("{0} is not an https address (http is for loopback only), or holds a login")]
    Address(String),
    /// The extra trust anchor is no certificate.
    #[error("the extra trust anchor is not a certificate in PEM")]
    Anchor(#[source] reqwest::Error),
    /// The TLS library refuses.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

fn safe(url: &Url) -> Result<(), BadSettings> {
    let login = !url.username().is_empty() || url.password().is_some();
    let private = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
    if private && url.has_host() && !login {
        return Ok(());
    }
    Err(BadSettings::Address(format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default())))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(url: &str) -> Settings {
        let login = Login::Basic { user_name: "svc".into(), password: "secret".into() };
        Settings::new(url.parse().unwrap(), login)
    }

    #[rstest]
    #[case("https://as1234.awmdm.com", "https://as1234.awmdm.com/")]
    #[case("https://as1234.awmdm.com/API/", "https://as1234.awmdm.com/")]
    #[case("https://proxy.example/uem/api", "https://proxy.example/uem")]
    #[case("https://proxy.example/uem/", "https://proxy.example/uem")]
    #[case("http://127.0.0.1:9000", "http://127.0.0.1:9000/")]
    fn an_address_is_understood_with_and_without_api(#[case] given: &str, #[case] base: &str) {
        assert_eq!(at(given).base().unwrap().as_str(), base);
    }

    #[rstest]
    #[case("http://as1234.awmdm.com")]
    #[case("http://localhost.example.com")]
    #[case("ftp://127.0.0.1")]
    #[case("https://svc:secret@as1234.awmdm.com")]
    fn a_login_never_goes_in_the_clear(#[case] given: &str) {
        assert!(matches!(at(given).client(), Err(BadSettings::Address(_))));
    }

    #[test]
    fn the_token_endpoint_is_held_to_the_same() {
        let login = Login::OAuth2 {
            token_url: "http://login.example/token".parse().unwrap(),
            client_id: "id".into(),
            client_secret: "secret".into(),
        };
        let settings = Settings::new("https://as1234.awmdm.com".parse().unwrap(), login);

        assert!(matches!(settings.client(), Err(BadSettings::Address(_))));
    }

    #[test]
    fn a_trust_anchor_that_is_none_is_refused() {
        let mut settings = at("https://as1234.awmdm.com");
        settings.extra_anchor =
            Some(b"-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n".to_vec());

        assert!(settings.client().is_err());
    }

    #[test]
    fn settings_do_not_print_their_secrets() {
        assert!(!format!("{:?}", at("https://as1234.awmdm.com")).contains("\"secret\""));
    }
}
