//! `[[source]]`: a feed of events, and `[source.api]`: how it is read again.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;

use chrono::FixedOffset;
use secrecy::SecretString;
use url::Url;

use super::Secret;
use super::tree::Section;
use crate::intake::{Class, Entry, UpnFrom};

/// What sort of source it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// Workspace ONE UEM, by Omnissa.
    WorkspaceOneUem,
}

/// One feed of events.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name; part of the webhook's address, `/intake/{name}`.
    pub name: String,
    /// `workspace-one-uem`.
    pub kind: SourceKind,
    /// The user name that its webhook sends. Without it the webhook is closed.
    pub username: Option<String>,
    /// The passwords that open its webhook, all valid at once. Without them the webhook is closed.
    pub passwords: Option<Passwords>,
    /// The address that the UEM's rule posts to, as the UEM sees it. Default: none, and `doctor` cannot read the rule back.
    pub target_url: Option<Url>,
    /// How a UPN is made where there is no API to ask. Default: none.
    pub upn_from: Option<UpnFrom>,
    /// The accounts of the pool where there is no API to ask. Default: none.
    pub pool_accounts: Vec<String>,
    /// The zone of times that name none. Default: `+00:00`.
    pub time_zone: FixedOffset,
    /// Names of events that are asked before the default table. Default: none.
    pub events: Vec<Entry>,
    /// Minutes without any word from the source before an alarm, 0 (never) to 10,080. Default: 60.
    pub silence_minutes: u64,
    /// How it is read again. Without it the payload alone decides.
    pub api: Option<Api>,
}

/// Where the passwords of a webhook are.
#[derive(Clone)]
pub enum Passwords {
    /// Given.
    Given(Vec<SecretString>),
    /// In a file, one a line.
    File(PathBuf),
}

impl Passwords {
    /// The passwords as they are now; empty lines count for nothing.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn reveal(&self) -> io::Result<Vec<SecretString>> {
        match self {
            Self::Given(passwords) => Ok(passwords.clone()),
            Self::File(path) => {
                let text = std::fs::read_to_string(path)?;
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                Ok(lines.map(|line| SecretString::from(line.to_owned())).collect())
            }
        }
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(passwords) => write!(f, "Given({} …)", passwords.len()),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// `[source.api]`: the REST API of the source.
#[derive(Debug, Clone)]
pub struct Api {
    /// Its address, `https://as1234.awmdm.com`.
    pub url: Url,
    /// How we log in.
    pub login: ApiLogin,
    /// The tenant's API key. Default: none.
    pub tenant_code: Option<Secret>,
    /// A further trust anchor, in PEM. Default: none.
    pub ca_file: Option<PathBuf>,
    /// Seconds from one sweep to the next, 30 to 86,400. Default: 300.
    pub sweep_seconds: u64,
}

/// How we log in to the API.
#[derive(Debug, Clone)]
pub enum ApiLogin {
    /// OAuth client credentials.
    OAuth {
        /// The token endpoint.
        token_url: Url,
        /// The client's id.
        client_id: String,
        /// The client's secret.
        client_secret: Secret,
    },
    /// An administrator of type *Basic*.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
}

/// Reads all sources; no two have one name.
pub(super) fn read_all(sections: Vec<Section<'_>>) -> Vec<Source> {
    let mut names = BTreeSet::new();
    let mut sources = Vec::new();
    for section in sections {
        sources.push(Source::read(section, &mut names));
    }
    sources
}

impl Source {
    fn read(mut section: Section<'_>, names: &mut BTreeSet<String>) -> Self {
        let name = section.needed("name", "write a short name, which becomes part of the webhook's address");
        if !is_name(&name) {
            section.problem("name", "is not usable in an address; write 1 to 40 of a-z, 0-9 and -");
        } else if !name.is_empty() && !names.insert(name.clone()) {
            section.problem("name", format!("\"{name}\" is taken by another source; give each its own"));
        }
        if !section.has("kind") {
            section.problem("kind", "is missing; write \"workspace-one-uem\"");
        }
        let kinds = [("workspace-one-uem", SourceKind::WorkspaceOneUem)];
        let kind = section.choice("kind", &kinds, SourceKind::WorkspaceOneUem);
        let (username, passwords) = credentials(&mut section);
        let target_url = section.url("target_url");
        let upn_from = upn_from(&mut section);
        let pool_accounts = section.texts("pool_accounts");
        let time_zone = time_zone(&mut section);
        let events = section.sections("events", "events = [{ id = 148, class = \"enrolled\" }]");
        let source = Self {
            name,
            kind,
            username,
            passwords,
            target_url,
            upn_from,
            pool_accounts,
            time_zone,
            events: events.into_iter().map(entry).collect(),
            silence_minutes: section.whole("silence_minutes", 60, 0..=10_080, "minutes"),
            api: section.section("api").and_then(Api::read),
        };
        section.done();
        source
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn credentials(section: &mut Section<'_>) -> (Option<String>, Option<Passwords>) {
    let username = section.text("username");
    if username.as_deref().is_some_and(|name| name.contains(':')) {
        section.problem("username", "has a colon, which HTTP Basic cannot carry; choose a user name without one");
    }
    let keys: Vec<_> = ["password", "passwords", "passwords_file"].into_iter().filter(|key| section.has(key)).collect();
    let one = section.text("password");
    let several = section.texts("passwords");
    let file = section.secret_file("passwords_file");
    if let [first, others @ ..] = keys.as_slice()
        && !others.is_empty()
    {
        section.problem(first, format!("is given twice, also as {}; keep one of them", others.join(" and ")));
    }
    if keys.is_empty() && username.is_some() {
        section.problem("passwords", "is missing beside username; give password, passwords or passwords_file");
    }
    if !keys.is_empty() && username.is_none() {
        section.problem("username", "is missing beside the password; write the user name of the UEM's rule");
    }
    let given: Vec<_> = one.into_iter().chain(several).map(SecretString::from).collect();
    let passwords = if given.is_empty() { file.map(Passwords::File) } else { Some(Passwords::Given(given)) };
    (username, passwords)
}

fn time_zone(section: &mut Section<'_>) -> FixedOffset {
    let utc = FixedOffset::east_opt(0).expect("zero is in range");
    let Some(text) = section.text("time_zone") else { return utc };
    let strict = text.len() == 6 && text.starts_with(['+', '-']) && text.as_bytes()[3] == b':';
    text.parse().ok().filter(|_| strict).unwrap_or_else(|| {
        section.problem("time_zone", "is not an offset from UTC; write one such as \"+01:00\"");
        utc
    })
}

fn upn_from(section: &mut Section<'_>) -> Option<UpnFrom> {
    let from = section.text("upn_from")?.parse().ok();
    if from.is_none() {
        let forms = "\"email\", \"user_name\" or a template such as \"{user_name}@contoso.example\"";
        section.problem("upn_from", format!("is not understood; write {forms}"));
    }
    from
}

fn entry(mut section: Section<'_>) -> Entry {
    let has_id = section.has("id");
    let event_id = section.whole("id", 0, 0..=u64::from(u32::MAX), "the event's kind");
    let event_type = section.text("text");
    let classes = [
        ("handover", Class::Handover),
        ("enrolled", Class::Enrolled),
        ("unenrolled", Class::Unenrolled),
        ("wiped", Class::Wiped),
        ("wipe_requested", Class::WipeRequested),
        ("deleted", Class::Deleted),
        ("attribute", Class::Attribute),
        ("unknown", Class::Unknown),
    ];
    if !has_id && event_type.is_none() {
        section.problem("id", "is missing, and text too; give at least one of them");
    }
    if !section.has("class") {
        section.problem("class", "is missing; write what the event is, for example \"handover\"");
    }
    let class = section.choice("class", &classes, Class::Unknown);
    section.done();
    Entry { event_id: has_id.then_some(event_id).and_then(|id| i64::try_from(id).ok()), event_type, class }
}

impl Api {
    fn read(mut section: Section<'_>) -> Option<Self> {
        if !section.has("url") {
            section.problem("url", "is missing; write the API's address, such as \"https://as1234.awmdm.com\"");
        }
        let url = section.url("url");
        let oauth = ["token_url", "client_id", "client_secret", "client_secret_file"];
        let basic = ["username", "password", "password_file"];
        let wants_oauth = oauth.iter().any(|key| section.has(key));
        let wants_basic = basic.iter().any(|key| section.has(key));
        let given: Vec<_> = oauth.iter().chain(&basic).copied().filter(|key| section.has(key)).collect();
        let token_url = section.url("token_url");
        let client_id = section.text("client_id");
        let client_secret = section.secret("client_secret", "client_secret_file");
        let username = section.text("username");
        let password = section.secret("password", "password_file");
        let missing = |key: &'static str, other: Option<&str>| {
            if !given.contains(&key) && !other.is_some_and(|other| given.contains(&other)) {
                section.problem(key, "is missing; the login needs it");
            }
        };
        match (wants_oauth, wants_basic) {
            (true, false) => {
                missing("token_url", None);
                missing("client_id", None);
                missing("client_secret", Some("client_secret_file"));
            }
            (false, true) => {
                missing("username", None);
                missing("password", Some("password_file"));
            }
            (true, true) => {
                let says = "is given beside client credentials; keep one way to log in";
                let key = if given.contains(&"username") { "username" } else { "password" };
                section.problem(key, says);
            }
            (false, false) => {
                let says = "has no login; give token_url, client_id and client_secret, or username and password";
                section.whole_problem(says);
            }
        }
        let tenant_code = section.secret("tenant_code", "tenant_code_file");
        let ca_file = section.anchor("ca_file");
        let sweep_seconds = section.whole("sweep_seconds", 300, 30..=86_400, "seconds");
        section.done();
        let login = match (token_url, client_id, client_secret, username, password) {
            (Some(token_url), Some(client_id), Some(client_secret), ..) => {
                ApiLogin::OAuth { token_url, client_id, client_secret }
            }
            (.., Some(username), Some(password)) => ApiLogin::Basic { username, password },
            _ => return None,
        };
        Some(Self { url: url?, login, tenant_code, ca_file, sweep_seconds })
    }
}
