//! The configuration: one TOML file, over it the environment, read once at the start.
//!
//! It promises that a configuration is either wholly good or refused with everything that is wrong with it, each problem
//! naming its key and the fix. An unknown key is a problem: a typo must not become a default.
//!
//! What would surprise: with no file at all everything has a default, and without `[entra]` Handover is in shadow mode.

mod environment;
mod sections;
mod source;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use config::{FileFormat, Format as _};
use secrecy::{ExposeSecret as _, SecretString};

pub use sections::{
    Cloud, Database, Entra, Intake, Log, LogFormat, Policy, Proof, Retention, RevokeOn, Server, WhenHoldingAnother,
    shown,
};
pub use source::{Api, ApiLogin, Passwords, Source, SourceKind};
pub use tree::Problem;

use tree::Reader;

/// The file that is read when none is named.
pub const USUAL_FILE: &str = "handover.toml";

/// The commented sample that `handover config sample` prints.
pub fn sample() -> &'static str {
    include_str!("sample.toml")
}

/// Everything that is configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder that relative paths count from: that of the file, or the current one.
    pub base: PathBuf,
    /// The file it was read from, if there was one.
    pub file: Option<PathBuf>,
    /// The API.
    pub server: Server,
    /// What the UEM reaches.
    pub intake: Intake,
    /// Where everything is kept.
    pub database: Database,
    /// How Microsoft is reached. Without it: shadow mode.
    pub entra: Option<Entra>,
    /// What is revoked, when, and how fast.
    pub policy: Policy,
    /// For how long history is kept.
    pub retention: Retention,
    /// The feeds of events.
    pub sources: Vec<Source>,
    /// How Handover logs.
    pub log: Log,
}

impl Config {
    /// Reads a file and the environment. `file` named must exist; not named, [`USUAL_FILE`] is read where it exists.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(file: Option<&Path>, variables: &BTreeMap<String, String>) -> Result<Self, Problems> {
        let found = match file {
            Some(file) => Some(file.to_path_buf()),
            None => Some(PathBuf::from(USUAL_FILE)).filter(|usual| usual.exists()),
        };
        let base = found.as_deref().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
        let base = base.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
        let text = match &found {
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                let says = format!("cannot be read ({}); name another with --config", error.kind());
                Problems(vec![Problem { key: path.display().to_string(), says }])
            })?,
            None => String::new(),
        };
        let mut read = Self::read(&text, &base, variables)?;
        read.file = found;
        Ok(read)
    }

    /// Reads a text as if it stood in a file in the folder `base`.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn read(text: &str, base: &Path, variables: &BTreeMap<String, String>) -> Result<Self, Problems> {
        let parsed = FileFormat::Toml.parse(None, text).map_err(|error| {
            let says = format!("is not TOML: {}", error.to_string().trim_end());
            Problems(vec![Problem { key: "the file".to_owned(), says }])
        })?;
        let mut table = parsed.into_iter().collect();
        let reader = Reader::new(base);
        environment::overlay(&mut table, variables, &reader);
        let config = Self::sections(&reader, table, base);
        let problems = reader.into_problems();
        if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
    }

    fn sections(reader: &Reader<'_>, table: BTreeMap<String, config::Value>, base: &Path) -> Self {
        let mut root = reader.root(table);
        let config = Self {
            base: base.to_path_buf(),
            file: None,
            server: Server::read(root.section_or_empty("server")),
            intake: Intake::read(root.section_or_empty("intake")),
            database: Database::read(root.section_or_empty("database")),
            entra: root.section("entra").map(Entra::read),
            policy: Policy::read(root.section_or_empty("policy")),
            retention: Retention::read(root.section_or_empty("retention")),
            sources: source::read_all(root.sections("source", "each one as a section: [[source]]")),
            log: Log::read(root.section_or_empty("log")),
        };
        if config.server.listen == config.intake.listen && config.server.listen.port() != 0 {
            reader.problem("intake.listen", "is the same as server.listen; give each a port of its own");
        }
        root.done();
        config
    }

    /// Whether nothing is sent to Entra: shadow mode is set, or no Entra is configured.
    pub fn is_shadow(&self) -> bool {
        self.policy.shadow || self.entra.is_none()
    }

    /// The source of this name.
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == name)
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        writeln!(f, "the configuration has {count} problem{}:", if count == 1 { "" } else { "s" })?;
        for problem in &self.0 {
            writeln!(f, "  {problem}")?;
        }
        write!(f, "every key is explained by: handover config sample")
    }
}

impl std::error::Error for Problems {}

/// A secret: itself, or the file it is in. It never prints.
#[derive(Clone)]
pub enum Secret {
    /// Given in the configuration or the environment.
    Given(SecretString),
    /// In a file, which is read whenever the secret is needed, so that it can be changed without a restart.
    File(PathBuf),
}

impl Secret {
    /// The secret as it is now, without white space around it.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn reveal(&self) -> io::Result<SecretString> {
        match self {
            Self::Given(secret) => Ok(SecretString::from(secret.expose_secret().trim().to_owned())),
            Self::File(path) => Ok(SecretString::from(std::fs::read_to_string(path)?.trim().to_owned())),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

#[cfg(test)]
mod tests;
