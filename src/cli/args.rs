//! The command line: every command, its options and an example of each.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};
use uuid::Uuid;

use super::time::Asked;
use crate::custody::{Standpoint, Why};
use crate::store::tokens::Role;

/// Remembers who holds each shared iPad, and revokes the previous holder's Entra ID tokens when it changes hands.
#[derive(Debug, Parser)]
#[command(
    name = "handover",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 found wrong, 2 misused.\n\nExample:\n  handover demo --exit"
)]
pub struct Cli {
    /// The configuration. Default: handover.toml in the current folder, where there is one.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything: intake, API, revocations, sweeps
    #[command(after_help = "Example:\n  handover serve --config /etc/handover/handover.toml")]
    Serve,
    /// Show the whole story on this machine, against a simulated Entra and UEM
    #[cfg(feature = "sandbox")]
    #[command(after_help = "Example:\n  handover demo --exit")]
    Demo(Demo),
    /// Check configuration, database, UEM rule, Entra permissions and clocks, and say what to fix
    #[command(after_help = "Example:\n  handover doctor --config handover.toml")]
    Doctor(Doctor),
    /// Ask a service that runs whether it lives, or is ready; the exit code says so
    #[command(after_help = "Example:\n  handover health --ready --config /etc/handover/handover.toml")]
    Health(Health),
    /// Take in events from JSON lines or CSV; stopped, it goes on where it was; repeated, it changes nothing
    #[command(after_help = "Example:\n  handover import --source uem events-2026-02.jsonl events-2026-03.csv")]
    Import(Import),
    /// Say in one sentence who has a device, or had it at a time
    #[command(after_help = "Example:\n  handover who DMPX7Q2LK1 --at \"2026-03-02 14:00\"")]
    Who(Who),
    /// List who held a device, newest first
    #[command(after_help = "Example:\n  handover history DMPX7Q2LK1 --csv > history.csv")]
    History(History),
    /// List the devices a person held, newest first
    #[command(after_help = "Example:\n  handover person amina.reuter@contoso.example")]
    Person(Person),
    /// List what is owed, held, failed and done; retry, release or waive
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  handover revocations --state held\n  handover revocations retry 6f1c… --reason \"permission granted\""
    )]
    Revocations(Revocations),
    /// Fold everything again from the stored events and compare
    #[command(after_help = "Example:\n  handover replay --check")]
    Replay(Replay),
    /// Write a consistent copy of the database while it is in use, or prove that one can be restored
    #[command(
        args_conflicts_with_subcommands = true,
        arg_required_else_help = true,
        after_help = "Examples:\n  handover backup --to /var/backups/handover\n  handover backup verify /var/backups/handover/handover-2026-03-02T060000Z.db"
    )]
    Backup(Backup),
    /// Put a backup in the place of the database, or declare that the database was restored
    #[command(
        arg_required_else_help = true,
        after_help = "Examples:\n  handover restore handover-2026-03-02T060000Z.db --replace\n  handover restore --declare --reason \"restored to 14:00\""
    )]
    Restore(Restore),
    /// Move everything to another database, or say how this one stands
    #[command(
        after_help = "Example:\n  handover database copy --from sqlite://data/handover.db --to postgres://handover@db/handover"
    )]
    Database(Database),
    /// Make, list and void API tokens
    #[command(after_help = "Example:\n  handover token create --role viewer --name dashboard")]
    Token(Token),
    /// Print the commented sample, or check a configuration
    #[command(after_help = "Example:\n  handover config sample > handover.toml")]
    Config(Configuration),
    /// Run the simulated Entra and UEM alone
    #[cfg(feature = "sandbox")]
    #[command(hide = true, after_help = "Example:\n  handover sandbox --entra-port 9443 --uem-port 9444")]
    Sandbox(Sandbox),
}

/// How the demo runs.
#[cfg(feature = "sandbox")]
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// End when the story is told, instead of leaving the service open
    #[arg(long)]
    pub exit: bool,
}

/// How the sandbox runs.
#[cfg(feature = "sandbox")]
#[derive(Debug, Clone, Args)]
pub struct Sandbox {
    /// The port of the tenant on 127.0.0.1; any free one when 0
    #[arg(long, default_value_t = 0)]
    pub entra_port: u16,
    /// The port of the UEM on 127.0.0.1; any free one when 0
    #[arg(long, default_value_t = 0)]
    pub uem_port: u16,
    /// Decides every die that is thrown
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where the root certificate is written. Default: the temporary folder
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

/// How the doctor looks.
#[derive(Debug, Clone, Args)]
pub struct Doctor {
    /// Look at this machine only; ask neither the UEM nor Entra
    #[arg(long)]
    pub offline: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What is asked, and where.
#[derive(Debug, Clone, Args)]
pub struct Health {
    /// Ask whether its database answers too, not only whether it lives
    #[arg(long)]
    pub ready: bool,
    /// The root address of the API. Default: that of server.listen, on this machine
    #[arg(long, value_name = "URL")]
    pub url: Option<url::Url>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What is imported.
#[derive(Debug, Clone, Args)]
pub struct Import {
    /// Files of JSON lines (.jsonl, .ndjson, .json) or CSV (.csv)
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The configured source that said it
    #[arg(long, value_name = "NAME")]
    pub source: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which device, and when.
#[derive(Debug, Clone, Args)]
pub struct Who {
    /// Serial number, UDID, UEM id or UEM uuid
    pub device: String,
    /// 2026-03-02T14:00:00Z, "2026-03-02 14:00", 14:00 or "yesterday 14:00"; UTC unless an offset is written. Default: now
    #[arg(long, value_name = "TIME")]
    pub at: Option<Asked>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How a list is printed.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("form").multiple(false))]
pub struct Listing {
    /// Print JSON
    #[arg(long, group = "form")]
    pub json: bool,
    /// Print comma-separated values
    #[arg(long, group = "form")]
    pub csv: bool,
    /// Print at most so many, newest first
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// A device's custodies.
#[derive(Debug, Clone, Args)]
pub struct History {
    /// Serial number, UDID, UEM id or UEM uuid
    pub device: String,
    /// Only what overlaps the time from here on; UTC unless an offset is written
    #[arg(long, value_name = "TIME")]
    pub from: Option<Asked>,
    /// Only what began before this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<Asked>,
    /// How it is printed
    #[command(flatten)]
    pub listing: Listing,
}

/// A person's custodies.
#[derive(Debug, Clone, Args)]
pub struct Person {
    /// UPN, also a former one, or Entra object id
    pub upn: String,
    /// Only what overlaps the time from here on; UTC unless an offset is written
    #[arg(long, value_name = "TIME")]
    pub from: Option<Asked>,
    /// Only what began before this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<Asked>,
    /// How it is printed
    #[command(flatten)]
    pub listing: Listing,
}

/// Revocations.
#[derive(Debug, Clone, Args)]
pub struct Revocations {
    /// Only in this state
    #[arg(long, value_parser = standpoint, value_name = "STATE")]
    pub state: Option<Standpoint>,
    /// Only because of this device
    #[arg(long)]
    pub device: Option<String>,
    /// Only of this person
    #[arg(long, value_name = "UPN")]
    pub person: Option<String>,
    /// How it is printed
    #[command(flatten)]
    pub listing: Listing,
    /// What to do with one of them
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// What an operator does with a revocation.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Try again at once
    #[command(after_help = "Example:\n  handover revocations retry 6f1c… --reason \"permission granted\"")]
    Retry(ActionOn),
    /// Send one that is held
    #[command(after_help = "Example:\n  handover revocations release 6f1c… --reason \"the late event was right\"")]
    Release(Release),
    /// Close one without sending it
    #[command(after_help = "Example:\n  handover revocations waive 6f1c… --reason \"test account\"")]
    Waive(ActionOn),
}

/// On which, and why.
#[derive(Debug, Clone, Args)]
pub struct ActionOn {
    /// The revocation
    pub id: Uuid,
    /// Why; kept in the audit history
    #[arg(long, value_parser = reason)]
    pub reason: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which ones are released, and why.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("which").required(true))]
pub struct Release {
    /// The revocation
    #[arg(group = "which")]
    pub id: Option<Uuid>,
    /// Instead of one: all that are held for this reason, of up to 50 people, those first who have waited longest
    #[arg(long, group = "which", value_parser = why)]
    pub why: Option<Why>,
    /// Why; kept in the audit history
    #[arg(long, value_parser = reason)]
    pub reason: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What is backed up, and where to.
#[derive(Debug, Clone, Args)]
pub struct Backup {
    /// A file that is not there yet, or a folder (a name without an ending), which gets a file named by the time
    #[arg(long, value_name = "FILE|FOLDER")]
    pub to: Option<PathBuf>,
    /// For PostgreSQL: let `pg_dump` write it
    #[arg(long)]
    pub pg_dump: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What to do with one that is there
    #[command(subcommand)]
    pub action: Option<BackupAction>,
}

/// What is done with a backup.
#[derive(Debug, Clone, Subcommand)]
pub enum BackupAction {
    /// Restore it to a scratch place and check it there: pages, schema, counts, and a replay of every event
    #[command(after_help = "Example:\n  handover backup verify handover-2026-03-02T060000Z.db")]
    Verify {
        /// The backup
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What is restored, and where to.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command, and clap lets only one of three be given"
)]
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("what").required(true))]
pub struct Restore {
    /// The backup, of SQLite; PostgreSQL has tools of its own
    #[arg(group = "what", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The database to put it in the place of. Default: the configured one
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// Put it in the place of a database that is there; that one is kept beside it
    #[arg(long, requires = "file")]
    pub replace: bool,
    /// Declare that the database was restored by other means: nothing is sent until the stamps have been read
    #[arg(long, group = "what", requires = "reason")]
    pub declare: bool,
    /// Say how far the check after a restore is; exit code 1 while it is not done
    #[arg(long, group = "what")]
    pub check: bool,
    /// End the check before it is done; what is held stays held
    #[arg(long, group = "what", requires = "reason")]
    pub open: bool,
    /// Why; kept in the audit history
    #[arg(long, value_parser = reason)]
    pub reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The database.
#[derive(Debug, Clone, Args)]
pub struct Database {
    /// What to do
    #[command(subcommand)]
    pub action: DatabaseAction,
}

/// What is done with the database.
#[derive(Debug, Clone, Subcommand)]
pub enum DatabaseAction {
    /// Copy everything into an empty database, compare both row by row, seal the old one and open the new one
    #[command(
        after_help = "Stopped, it goes on where it was when it is called again.\n\nExample:\n  handover database copy --from sqlite://data/handover.db --to postgres://handover@db/handover"
    )]
    Copy {
        /// The old one; nothing may run on it
        #[arg(long, value_name = "URL")]
        from: String,
        /// The new one; empty, or the beginning of the same copy
        #[arg(long, value_name = "URL")]
        to: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say whether the configured database is open, checking or sealed, and why
    #[command(after_help = "Example:\n  handover database status --json")]
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Go back to a database that was moved away from; the other one must not be served any more
    #[command(after_help = "Example:\n  handover database unseal --reason \"the new server was given up\"")]
    Unseal {
        /// Why; kept in the audit history
        #[arg(long, value_parser = reason)]
        reason: String,
    },
}

/// How it is replayed.
#[derive(Debug, Clone, Args)]
pub struct Replay {
    /// Compare and change nothing
    #[arg(long, required = true)]
    pub check: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Tokens.
#[derive(Debug, Clone, Args)]
pub struct Token {
    /// What to do
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What is done with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenAction {
    /// Print a new token on standard output, and nothing else there
    #[command(after_help = "Example:\n  handover token create --role operator --name night-desk > token")]
    Create {
        /// What its bearer may do: viewer, operator or admin
        #[arg(long, value_parser = role)]
        role: Role,
        /// What it is called; named in the audit history
        #[arg(long, default_value = "cli")]
        name: String,
    },
    /// List tokens, without their secrets
    #[command(after_help = "Example:\n  handover token list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a token void
    #[command(after_help = "Example:\n  handover token revoke 6f1c…")]
    Revoke {
        /// The token's id, from the list
        id: Uuid,
    },
}

/// The configuration.
#[derive(Debug, Clone, Args)]
pub struct Configuration {
    /// What to do
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What is done with the configuration.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigAction {
    /// Print a commented sample with every key
    #[command(after_help = "Example:\n  handover config sample > handover.toml")]
    Sample,
    /// Say everything that is wrong with the configuration
    #[command(after_help = "Example:\n  handover config check --config handover.toml")]
    Check,
}

fn standpoint(text: &str) -> Result<Standpoint, String> {
    let names = || Standpoint::ALL.map(Standpoint::name).join(", ");
    Standpoint::named(text).ok_or_else(|| format!("the states are {}", names()))
}

fn why(text: &str) -> Result<Why, String> {
    Why::named(text).ok_or_else(|| format!("the reasons are {}", Why::ALL.map(Why::name).join(", ")))
}

fn role(text: &str) -> Result<Role, String> {
    Role::named(text).ok_or_else(|| "the roles are viewer, operator and admin".to_owned())
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 500 {
        return Err("a reason has 1 to 500 letters".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn each(command: &clap::Command, path: &str, seen: &mut Vec<String>) {
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let path = format!("{path} {}", inner.get_name());
            let help = inner.get_after_help().map(ToString::to_string).unwrap_or_default();
            if !inner.has_subcommands() || inner.get_after_help().is_some() {
                assert!(help.contains(&format!("  {path}")) || help.contains("  handover"), "{path} has no example");
            }
            each(inner, &path, seen);
            seen.push(path);
        }
    }

    #[test]
    fn the_command_line_is_sound_and_every_command_has_an_example() {
        let command = Cli::command();
        let mut seen = Vec::new();

        command.clone().debug_assert();
        each(&command, "handover", &mut seen);

        assert!(seen.contains(&"handover revocations waive".to_owned()), "{seen:?}");
    }
}
