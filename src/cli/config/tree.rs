//! Reading a tree of keys so that every mistake is found in one go.
//!
//! A section hands out its values one by one and remembers which keys were asked for. What was never asked for is unknown,
//! and refused with the nearest known key. A value that does not fit is written down as a [`Problem`] and its default is used,
//! so that reading goes on; a configuration with a problem is never used.
//!
//! What would surprise: a value from the environment is text and may stand for a number, a truth or a list; one from the file
//! must be of its own type.

#![expect(clippy::wildcard_enum_match_arm, reason = "a value of any other type is refused alike")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use config::{Value, ValueKind};
use secrecy::SecretString;
use url::{Host, Url};

use super::Secret;

/// Every key there is, as [`Section`] names them; `[]` stands for the position in a list.
pub(super) const KEYS: &[&str] = &[
    "retention.months",
    "server.listen",
    "server.trusted_proxies",
    "server.proxy_header",
    "intake.listen",
    "database.url",
    "database.witness_file",
    "database.password",
    "database.password_file",
    "database.max_connections",
    "database.statement_timeout_seconds",
    "entra.cloud",
    "entra.tenant_id",
    "entra.client_id",
    "entra.client_secret",
    "entra.client_secret_file",
    "entra.federated_token_file",
    "entra.login_url",
    "entra.graph_url",
    "entra.ca_file",
    "policy.revoke_on",
    "policy.when_holding_another",
    "policy.writes_per_second",
    "policy.shadow",
    "policy.settle_seconds",
    "policy.wait_for_account_seconds",
    "policy.act_within_hours",
    "policy.clock_skew_seconds",
    "policy.snapshot_days",
    "source[].name",
    "source[].kind",
    "source[].username",
    "source[].password",
    "source[].passwords",
    "source[].passwords_file",
    "source[].target_url",
    "source[].upn_from",
    "source[].pool_accounts",
    "source[].time_zone",
    "source[].silence_minutes",
    "source[].events[].id",
    "source[].events[].text",
    "source[].events[].class",
    "source[].api.url",
    "source[].api.token_url",
    "source[].api.client_id",
    "source[].api.client_secret",
    "source[].api.client_secret_file",
    "source[].api.username",
    "source[].api.password",
    "source[].api.password_file",
    "source[].api.tenant_code",
    "source[].api.tenant_code_file",
    "source[].api.ca_file",
    "source[].api.sweep_seconds",
    "log.format",
    "log.level",
];

/// The longest secret or list of passwords that is read from a file, in bytes.
const LONGEST_SECRET: u64 = 16 * 1024;

/// Something that must be put right before Handover starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which key, or where in the file.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub says: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.says)
    }
}

/// Collects what is wrong.
pub(super) struct Reader<'a> {
    base: &'a Path,
    problems: RefCell<Vec<Problem>>,
    asked: RefCell<Vec<String>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(base: &'a Path) -> Self {
        Self { base, problems: RefCell::default(), asked: RefCell::default() }
    }

    pub(super) fn root(&self, values: BTreeMap<String, Value>) -> Section<'_> {
        Section { reader: self, path: String::new(), values, asked: Vec::new() }
    }

    pub(super) fn problem(&self, key: impl Into<String>, says: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { key: key.into(), says: says.into() });
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Every key that was asked for, with positions left out.
    #[cfg(test)]
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.borrow().clone()
    }
}

/// One table of the configuration.
pub(super) struct Section<'r> {
    reader: &'r Reader<'r>,
    path: String,
    values: BTreeMap<String, Value>,
    asked: Vec<&'static str>,
}

impl<'r> Section<'r> {
    /// The full name of one of its keys.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A problem with the section as a whole.
    pub(super) fn whole_problem(&self, says: impl Into<String>) {
        self.reader.problem(self.path.clone(), says);
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    pub(super) fn problem(&self, key: &str, says: impl Into<String>) {
        self.reader.problem(self.key(key), says);
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.reader.asked.borrow_mut().push(without_positions(&self.key(key)));
        self.values.remove(key)
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.take(key)?;
        self.as_text(key, value)
    }

    fn as_text(&self, key: &str, value: Value) -> Option<String> {
        match value.kind {
            ValueKind::String(text) if !text.trim().is_empty() => return Some(text),
            ValueKind::String(_) => self.problem(key, "is empty; give it a value, or leave it out"),
            other => self.problem(key, format!("is {}; write text, in quotes", kind_of(&other))),
        }
        None
    }

    /// A text that is needed; `fix` says where to find it.
    pub(super) fn needed(&mut self, key: &'static str, fix: &str) -> String {
        let given = self.has(key);
        let text = self.text(key);
        if !given {
            self.problem(key, format!("is missing; {fix}"));
        }
        text.unwrap_or_default()
    }

    /// One of a few names.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)], default: T) -> T {
        let Some(text) = self.text(key) else { return default };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return *choice;
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.problem(key, format!("is \"{}\"; write {}", shown(&text), names.join(" or ")));
        default
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.take(key) else { return default };
        match (&value.kind, value.origin().is_some()) {
            (ValueKind::Boolean(flag), _) => return *flag,
            (ValueKind::String(text), true) if text == "true" => return true,
            (ValueKind::String(text), true) if text == "false" => return false,
            (other, _) => self.problem(key, format!("is {}; write true or false, without quotes", kind_of(other))),
        }
        default
    }

    /// A whole number of `unit`.
    pub(super) fn whole(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>, unit: &str) -> u64 {
        let Some(value) = self.take(key) else { return default };
        let (least, most) = (range.start(), range.end());
        let number = match (&value.kind, value.origin().is_some()) {
            (ValueKind::I64(number), _) => u64::try_from(*number).ok(),
            (ValueKind::String(text), true) => text.trim().parse().ok(),
            (other, _) => {
                let kind = kind_of(other);
                self.problem(key, format!("is {kind}; write a whole number of {unit} from {least} to {most}"));
                return default;
            }
        };
        number.filter(|number| range.contains(number)).unwrap_or_else(|| {
            self.problem(key, format!("is out of range; write a whole number of {unit} from {least} to {most}"));
            default
        })
    }

    /// A number of `unit`, more than 0 and at most `most`.
    pub(super) fn rate(&mut self, key: &'static str, default: f64, most: u32, unit: &str) -> f64 {
        let Some(value) = self.take(key) else { return default };
        let number = match (&value.kind, value.origin().is_some()) {
            (ValueKind::I64(number), _) => i32::try_from(*number).ok().map(f64::from),
            (ValueKind::Float(number), _) => Some(*number),
            (ValueKind::String(text), true) => text.trim().parse().ok(),
            (other, _) => {
                let kind = kind_of(other);
                self.problem(key, format!("is {kind}; write a number of {unit}, more than 0 and at most {most}"));
                return default;
            }
        };
        number.filter(|number| *number > 0.0 && *number <= f64::from(most)).unwrap_or_else(|| {
            let says = format!("is out of range; write a number of {unit}, more than 0 and at most {most}");
            self.problem(key, says);
            default
        })
    }

    /// A list of texts. From the environment: one text, or a list in brackets.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<String> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let from_environment = value.origin().is_some();
        match value.kind {
            ValueKind::Array(values) => values.into_iter().filter_map(|value| self.as_text(key, value)).collect(),
            ValueKind::String(text) if from_environment => vec![text],
            other => {
                self.problem(key, format!("is {}; write a list of texts: [\"…\", \"…\"]", kind_of(&other)));
                Vec::new()
            }
        }
    }

    /// An address and port to listen on.
    pub(super) fn listen(&mut self, key: &'static str, default: SocketAddr) -> SocketAddr {
        let Some(text) = self.text(key) else { return default };
        text.parse().unwrap_or_else(|_| {
            let says = "is not an address and a port; write for example \"127.0.0.1:8080\" or \"[::]:8080\"";
            self.problem(key, says);
            default
        })
    }

    /// An https address; http for loopback only.
    pub(super) fn url(&mut self, key: &'static str) -> Option<Url> {
        let text = self.text(key)?;
        let Some(url) = Url::parse(&text).ok().filter(Url::has_host) else {
            self.problem(key, "is not an address; write one such as \"https://host.example\"");
            return None;
        };
        let trouble = match url.scheme() {
            _ if !url.username().is_empty() || url.password().is_some() => {
                "holds a login; write the address without it, and the login in its own keys"
            }
            _ if url.query().is_some() || url.fragment().is_some() => {
                "has a part after ? or #; write the address without it"
            }
            "https" => return Some(url),
            "http" if is_loopback(&url) => return Some(url),
            "http" => "would send secrets in the clear; write https:// (plain http is for loopback addresses only)",
            _ => "is neither https nor http; write an https:// address",
        };
        self.problem(key, trouble);
        None
    }

    /// A file that will be written. Relative paths count from the configuration's folder.
    pub(super) fn place(&mut self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(|text| self.reader.base.join(text))
    }

    /// A file that can be read now. Relative paths count from the configuration's folder.
    pub(super) fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        let path = self.reader.base.join(text);
        match std::fs::File::open(&path).and_then(|file| file.metadata()) {
            Ok(found) if found.is_file() => Some(path),
            Ok(_) => {
                self.problem(key, format!("{} is not a file; name the file itself", path.display()));
                None
            }
            Err(error) => {
                let why = error.kind();
                self.problem(key, format!("{} cannot be read ({why}); correct the path or its rights", path.display()));
                None
            }
        }
    }

    /// A certificate file: its path and its text.
    pub(super) fn anchor(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = self.file(key)?;
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if text.contains("-----BEGIN CERTIFICATE-----") {
            return Some(path);
        }
        let says = "holds no certificate; it must be PEM, beginning with -----BEGIN CERTIFICATE-----";
        self.problem(key, format!("{} {says}", path.display()));
        None
    }

    /// A secret, given itself or as a file.
    pub(super) fn secret(&mut self, key: &'static str, file_key: &'static str) -> Option<Secret> {
        if self.has(key) && self.has(file_key) {
            self.problem(key, format!("is given twice, also as {file_key}; keep one of the two"));
            self.take(key);
            self.take(file_key);
            return None;
        }
        let given = self.text(key).map(|text| Secret::Given(SecretString::from(text)));
        let file = self.secret_file(file_key).map(Secret::File);
        given.or(file)
    }

    /// A file with something in it that is no longer than a secret may be.
    pub(super) fn secret_file(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = self.file(key)?;
        let shown = path.display();
        if std::fs::metadata(&path).is_ok_and(|found| found.len() > LONGEST_SECRET) {
            self.problem(key, format!("{shown} is longer than 16 KiB; it must hold the secret alone"));
            return None;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => self.problem(key, format!("{shown} is empty; put the secret in it")),
            Ok(_) => return Some(path),
            Err(_) => self.problem(key, format!("{shown} is not text; it must hold the secret alone")),
        }
        None
    }

    /// A table inside, if there is one.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'r>> {
        self.asked.push(key);
        let value = self.values.remove(key)?;
        match value.kind {
            ValueKind::Table(table) => Some(self.inner(key, table.into_iter().collect())),
            other => {
                self.problem(key, format!("is {}; write it as a section: [{}]", kind_of(&other), self.key(key)));
                None
            }
        }
    }

    /// A table inside; an empty one if there is none.
    pub(super) fn section_or_empty(&mut self, key: &'static str) -> Section<'r> {
        match self.section(key) {
            Some(section) => section,
            None => self.inner(key, BTreeMap::new()),
        }
    }

    /// A list of tables.
    pub(super) fn sections(&mut self, key: &'static str, example: &str) -> Vec<Section<'r>> {
        self.asked.push(key);
        let Some(value) = self.values.remove(key) else { return Vec::new() };
        let ValueKind::Array(values) = value.kind else {
            self.problem(key, format!("is {}; write {example}", kind_of(&value.kind)));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (position, value) in values.into_iter().enumerate() {
            let place = format!("{key}[{position}]");
            match value.kind {
                ValueKind::Table(table) => sections.push(self.inner(&place, table.into_iter().collect())),
                other => self.problem(&place, format!("is {}; write {example}", kind_of(&other))),
            }
        }
        sections
    }

    fn inner(&self, key: &str, values: BTreeMap<String, Value>) -> Section<'r> {
        Section { reader: self.reader, path: self.key(key), values, asked: Vec::new() }
    }

    /// Refuses what nobody asked for.
    pub(super) fn done(self) {
        for name in self.values.keys() {
            let key = self.key(name);
            let says = match nearest(name, &self.asked, &without_positions(&key)) {
                Some(near) => format!("is not a known key; did you mean {near}?"),
                None => format!("is not a known key; known here: {}", self.asked.join(", ")),
            };
            self.reader.problem(shown(&key), says);
        }
    }
}

/// The known key that was probably meant: one of the same section, or one of the same name elsewhere.
fn nearest(name: &str, here: &[&'static str], full: &str) -> Option<String> {
    let reach = (name.chars().count() / 3).max(1);
    let close = here.iter().map(|known| (distance(name, known), *known)).min();
    if let Some((_, known)) = close.filter(|(steps, _)| *steps <= reach) {
        return Some(known.to_owned());
    }
    let last = full.rsplit('.').next().unwrap_or(full);
    let elsewhere = KEYS.iter().find(|known| known.rsplit('.').next() == Some(last))?;
    Some((*elsewhere).to_owned())
}

/// How many letters have to be added, dropped or changed.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.chars().take(100).enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, b) in two.iter().enumerate() {
            let changed = before + usize::from(a != *b);
            before = row[j + 1];
            row[j + 1] = changed.min(before + 1).min(row[j] + 1);
        }
    }
    row[two.len()]
}

/// `source[0].name` → `source[].name`.
pub(super) fn without_positions(key: &str) -> String {
    let mut plain = String::new();
    for part in key.split_inclusive('[') {
        plain.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    plain
}

/// A text of somebody else's, fit for one line.
fn shown(text: &str) -> String {
    crate::cli::text::plain(text).chars().take(80).collect()
}

fn kind_of(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "a truth value",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) | ValueKind::Float(_) => {
            "a number"
        }
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a section",
        ValueKind::Array(_) => "a list",
    }
}

/// Whether it is this very machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_counted_in_letters() {
        assert_eq!(distance("tennant_id", "tenant_id"), 1);
        assert_eq!(distance("listen", "listen"), 0);
        assert_eq!(distance("", "url"), 3);
    }

    #[test]
    fn positions_are_left_out_of_a_key() {
        assert_eq!(without_positions("source[12].events[0].id"), "source[].events[].id");
        assert_eq!(without_positions("entra.client_id"), "entra.client_id");
    }
}
