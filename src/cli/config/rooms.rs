//! The configuration as the other rooms want it: secrets read, files read, types of their own.

use anyhow::Context as _;
use secrecy::SecretString;

use super::{Api, ApiLogin, Cloud, Entra, Policy, Secret, Source};
use crate::entra::{Cloud as EntraCloud, Credential, SecretSource, Settings as EntraSettings};
use crate::intake::workspace_one::rest::{Login, Settings as UemSettings, Uem};
use crate::intake::{Door, EventTable, People, Rules};

impl Entra {
    /// The settings of the room that talks to Microsoft.
    ///
    /// # Errors
    /// When the trust anchor's file cannot be read.
    pub fn settings(&self, policy: &Policy) -> anyhow::Result<EntraSettings> {
        let secret = match &self.client_secret {
            Secret::Given(secret) => SecretSource::Fixed(secret.clone()),
            Secret::File(path) => SecretSource::File(path.clone()),
        };
        let mut settings = EntraSettings::new(&self.tenant_id, &self.client_id, Credential::Secret(secret));
        settings.cloud = match self.cloud {
            Cloud::Global => EntraCloud::Global,
            Cloud::UsGov => EntraCloud::UsGov,
            Cloud::Dod => EntraCloud::Dod,
            Cloud::China => EntraCloud::China,
        };
        settings.login_url.clone_from(&self.login_url);
        settings.graph_url.clone_from(&self.graph_url);
        settings.ca_pem = anchor(self.ca_file.as_deref(), "entra.ca_file")?;
        settings.writes_per_second = policy.writes_per_second;
        Ok(settings)
    }
}

impl Source {
    /// The door of its webhook; without credentials one that never opens.
    ///
    /// # Errors
    /// When the file with the passwords cannot be read.
    pub fn door(&self) -> anyhow::Result<Door> {
        let (Some(username), Some(passwords)) = (&self.username, &self.passwords) else { return Ok(Door::dummy()) };
        let passwords =
            passwords.reveal().with_context(|| format!("the passwords of source {} cannot be read", self.name))?;
        Ok(Door::new(username, &passwords))
    }

    /// How its events are read.
    pub fn rules(&self) -> Rules {
        Rules {
            table: EventTable::default().with_first(self.events.iter().cloned()),
            assumed_zone: self.time_zone,
            ..Rules::new(&self.name)
        }
    }

    /// How its accounts are understood without asking it.
    pub fn people(&self) -> People {
        People { upn_from: self.upn_from.clone(), pool_accounts: self.pool_accounts.clone() }
    }
}

impl Api {
    /// The client of its REST API. Nothing is sent yet.
    ///
    /// # Errors
    /// When a secret or the trust anchor cannot be read, or the client cannot be made.
    pub fn client(&self) -> anyhow::Result<Uem> {
        let login = match &self.login {
            ApiLogin::OAuth { token_url, client_id, client_secret } => Login::OAuth2 {
                token_url: token_url.clone(),
                client_id: client_id.clone(),
                client_secret: reveal(client_secret, "client_secret_file")?,
            },
            ApiLogin::Basic { username, password } => {
                Login::Basic { user_name: username.clone(), password: reveal(password, "password_file")? }
            }
        };
        let mut settings = UemSettings::new(self.url.clone(), login);
        settings.tenant_code = self.tenant_code.as_ref().map(|code| reveal(code, "tenant_code_file")).transpose()?;
        settings.extra_anchor = anchor(self.ca_file.as_deref(), "source.api.ca_file")?;
        Ok(Uem::new(settings)?)
    }
}

fn reveal(secret: &Secret, key: &'static str) -> anyhow::Result<SecretString> {
    secret.reveal().with_context(|| format!("{key} of source.api cannot be read"))
}

fn anchor(file: Option<&std::path::Path>, key: &'static str) -> anyhow::Result<Option<Vec<u8>>> {
    file.map(|file| std::fs::read(file).with_context(|| format!("{key} ({}) cannot be read", file.display())))
        .transpose()
}
