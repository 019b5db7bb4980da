//! What the doctor looks at.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Report;
use crate::cli::config::{Api, Config, Entra as EntraConfig, Problems, Source};
use crate::cli::house;
use crate::cli::time::short;
use crate::entra::{Fault, Permissions, SecretError, TokenFault};
use crate::intake::workspace_one::rest::{Rule, Uem, UemError};
use crate::store::{Kind, Store, asking, instances, sources};

/// A clock that is off by more than this is worth a look, though it is still within the skew bound.
const NOTICEABLE: Duration = Duration::from_secs(30);

/// How long the doctor waits for the UEM to let it go on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Our clock.
pub(crate) type Clock = fn() -> DateTime<Utc>;

/// What a configuration that cannot be used looks like.
pub(crate) fn configuration(problems: &Problems) -> Report {
    let mut report = Report::default();
    for problem in &problems.0 {
        report.wrong("configuration", format!("{}: {}", problem.key, problem.says), "correct this key");
    }
    report
}

/// Looks at everything.
pub(crate) async fn examine(config: &Config, offline: bool, clock: Clock) -> Report {
    let mut report = Report::default();
    match &config.file {
        Some(file) => report.good("configuration", file.display().to_string()),
        None => report.good("configuration", "no file; everything at its default"),
    }
    database(&mut report, config, clock).await;
    listener(&mut report, "server.listen", config.server.listen);
    listener(&mut report, "intake.listen", config.intake.listen);
    if !config.server.listen.ip().is_loopback() {
        report.doubt(
            "server.listen",
            "the API is reachable from other machines, as plain HTTP",
            "put a TLS proxy before them, or listen on 127.0.0.1",
        );
    }
    if config.sources.is_empty() {
        report.doubt("sources", "none is configured, so nothing will be heard", "add a [[source]] section");
    }
    for source in &config.sources {
        check_source(&mut report, config, source, offline, clock).await;
    }
    match &config.entra {
        None => report.doubt("Entra", "shadow mode: nothing is sent", "add an [entra] section to go live"),
        Some(entra) => {
            if config.policy.shadow {
                let fix = "set policy.shadow = false to go live";
                report.doubt("Entra", "shadow mode: policy.shadow is set, nothing is sent", fix);
            }
            if offline {
                report.skipped("Entra", "not asked");
            } else {
                check_entra(&mut report, config, entra, clock).await;
            }
        }
    }
    report
}

async fn database(report: &mut Report, config: &Config, clock: Clock) {
    let about = "database";
    let shown = config.database.shown();
    if let Some(file) = config.database.url.strip_prefix("sqlite://").map(|path| config.base.join(path))
        && !file.exists()
    {
        let folder = standing(&file);
        let locked = std::fs::metadata(&folder).is_ok_and(|found| found.permissions().readonly());
        if locked {
            let says = format!("{} does not exist, and {} is read-only", file.display(), folder.display());
            report.wrong(about, says, "make the folder writable, or set database.url");
        } else {
            report.skipped(about, format!("{} does not exist yet; serve creates it", file.display()));
        }
        return;
    }
    let store = match house::store(config).await {
        Ok(store) => store,
        Err(error) => {
            report.wrong(about, format!("{shown}: {error:#}"), "correct database.url, or what it says");
            return;
        }
    };
    let kind = match store.kind() {
        Kind::Sqlite => "SQLite",
        Kind::Postgres => "PostgreSQL",
    };
    // Dropped without a commit, it never was.
    match store.write().await {
        Ok(_) => report.good(about, format!("{kind}, {shown}: opens, has this version's schema, can be written")),
        Err(error) => {
            let fix = "give Handover's user the right to write there, and look whether something holds it";
            report.wrong(about, format!("{kind}, {shown} cannot be written: {}", chain(&error)), fix);
        }
    }
    running(report, &store, clock()).await;
    if store.kind() == Kind::Postgres {
        server(report, config, &store, clock).await;
    }
    heard(report, config, &store, clock).await;
    store.close().await;
}

/// What the server says of itself. What it must not be, it was refused for when it was opened.
async fn server(report: &mut Report, config: &Config, store: &Store, clock: Clock) {
    let about = "database";
    let asked = async {
        let mut tx = store.read().await?;
        let found = asking::database::read(&mut tx).await?;
        let ours = clock();
        Ok::<_, crate::store::Error>((found, ours, tx.clock(ours).await?))
    };
    let (found, ours, theirs) = match asked.await {
        Ok(answer) => answer,
        Err(error) => return report.wrong(about, chain(&error), "look at the server's log"),
    };
    if found.encrypted == Some(true) {
        report.good(about, format!("PostgreSQL {}: safe settings, takes writes, reached over TLS", found.version));
    } else {
        let says = format!("PostgreSQL {}: safe settings, takes writes; the way to it is not encrypted", found.version);
        report.doubt(about, says, "give the server a certificate, and take sslmode out of database.url");
    }
    if let Some(note) = found.note {
        report.doubt(about, note, "set synchronous_standby_names; docs/operations/failover.md says how");
    }
    let offset = (theirs - ours).num_microseconds().unwrap_or(i64::MAX);
    clock_found(report, about, offset, config.policy.clock_skew_seconds);
}

/// The folder nearest to a file that exists.
fn standing(file: &Path) -> PathBuf {
    let mut folders = file.ancestors().skip(1);
    folders.find(|folder| folder.exists()).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The instances of `serve`, as the database has them.
async fn running(report: &mut Report, store: &Store, ours: DateTime<Utc>) {
    const DEAD_AFTER: i64 = 60;
    let Ok(mut tx) = store.read().await else { return };
    let Ok(now) = tx.clock(ours).await else { return };
    let Ok(known) = instances::all(&mut tx, now).await else { return };
    let versions: BTreeSet<_> = known.iter().map(|one| one.version.as_str()).collect();
    for one in &known {
        let seconds = (now - one.seen_at).num_seconds();
        let leads = if one.leads { ", leads" } else { "" };
        let says = format!("on {}, version {}, seen {seconds} s ago{leads}", one.host, one.version);
        if seconds > DEAD_AFTER {
            let fix = "if it should run, look at its log; it is forgotten an hour after it was last seen";
            report.doubt(&format!("instance {}", one.id), says, fix);
        } else {
            report.good(&format!("instance {}", one.id), says);
        }
    }
    if versions.len() > 1 {
        let versions: Vec<_> = versions.into_iter().collect();
        let says = format!("of different versions: {}", versions.join(", "));
        report.doubt("instances", says, "bring all to the same version once the upgrade is through");
    }
}

/// When the sources were last heard, as the database has it.
async fn heard(report: &mut Report, config: &Config, store: &Store, clock: Clock) {
    let Ok(mut tx) = store.read().await else { return };
    let Ok(known) = sources::all(&mut tx).await else { return };
    for source in &config.sources {
        let about = format!("source {}", source.name);
        let Some(row) = known.iter().find(|row| row.name == source.name) else {
            report.skipped(&about, "never heard so far");
            continue;
        };
        let Some(last) = row.last_heard_at.max(row.last_swept_at) else { continue };
        let minutes = (clock() - last).num_minutes();
        let limit = i64::try_from(source.silence_minutes).unwrap_or(i64::MAX);
        if limit > 0 && minutes > limit {
            let fix = "look at the UEM's rule, at the network between, and whether serve runs";
            report.doubt(&about, format!("last heard {} UTC, {minutes} minutes ago", short(last)), fix);
        } else {
            report.good(&about, format!("last heard {} UTC", short(last)));
        }
        if let Some(offset) = row.offset_us {
            clock_found(report, &about, -offset, config.policy.clock_skew_seconds);
        }
    }
}

fn listener(report: &mut Report, about: &str, address: SocketAddr) {
    match TcpListener::bind(address) {
        Ok(_) => report.good(about, format!("{address} can be used")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let fix = "that is right while Handover runs; otherwise choose another port";
            report.doubt(about, format!("{address} is in use"), fix);
        }
        Err(error) => {
            report.wrong(about, format!("{address} cannot be used: {error}"), format!("correct {about}"));
        }
    }
}

async fn check_source(report: &mut Report, config: &Config, source: &Source, offline: bool, clock: Clock) {
    let about = format!("source {}", source.name);
    match &source.passwords {
        None => report.doubt(&about, "has no credentials, so its webhook is closed", "set username and passwords_file"),
        Some(passwords) => match passwords.reveal() {
            Ok(passwords) => {
                let count = passwords.len();
                let words = if count == 1 { "one password" } else { "several passwords" };
                report.good(&about, format!("the webhook opens to {words}"));
            }
            Err(error) => {
                let fix = "correct the path or the file's rights";
                report.wrong(&about, format!("the webhook's passwords cannot be read: {error}"), fix);
            }
        },
    }
    let Some(api) = &source.api else {
        if source.upn_from.is_none() {
            report.wrong(
                &about,
                "nobody can be recognised: there is neither API access nor upn_from",
                "add [source.api], or set upn_from and pool_accounts",
            );
        } else if source.pool_accounts.is_empty() {
            let fix = "add [source.api], or set pool_accounts to the staging accounts";
            report.doubt(
                &about,
                "without API access or pool_accounts a returned device looks like one with a person",
                fix,
            );
        } else {
            report.doubt(&about, "no API access: a lost event will not be noticed", "add [source.api]");
        }
        return;
    };
    if offline {
        report.skipped(&about, "its API was not asked");
        return;
    }
    check_api(report, config, source, api, clock).await;
}

async fn check_api(report: &mut Report, config: &Config, source: &Source, api: &Api, clock: Clock) {
    let about = format!("source {} API", source.name);
    let uem = match house::uem(&source.name, api) {
        Ok(uem) => uem,
        Err(error) => {
            report.wrong(&about, format!("{error:#}"), "correct [source.api]");
            return;
        }
    };
    let asked = clock();
    let info = match in_time(uem.info()).await {
        Ok(info) => info,
        Err(error) => {
            refused(report, &about, &error);
            return;
        }
    };
    let product = info.value.product.as_deref().unwrap_or("the UEM");
    let version = info.value.version.as_deref().unwrap_or("of unknown version");
    report.good(&about, format!("{product} {version} answers at {}", api.url));
    if let Some(at) = info.at {
        // The header has whole seconds, cut off.
        let offset = at.0 + 500_000 - asked.timestamp_micros();
        clock_found(report, &about, offset, config.policy.clock_skew_seconds);
    }
    check_rule(report, source, &uem).await;
}

/// The client waits by itself where the UEM asks for it; the doctor does not wait for ever.
async fn in_time<T>(call: impl Future<Output = Result<T, UemError>>) -> Result<T, UemError> {
    tokio::time::timeout(PATIENCE, call).await.unwrap_or(Err(UemError::Busy { retry_after: None }))
}

fn refused(report: &mut Report, about: &str, error: &UemError) {
    let fix = match error {
        UemError::Unreachable(_) => {
            "check source.api.url, the network, and ca_file where the UEM has a private certificate"
        }
        UemError::Busy { .. } => "ask again in some minutes",
        UemError::Refused { status: 403, .. } => {
            "give the API account a role that reads devices, users and event notifications"
        }
        UemError::Refused { .. } => {
            "check token_url, client_id and client_secret, or username and password; and tenant_code"
        }
        UemError::Unreadable { .. } => "check that source.api.url is the API's address (asNNNN…), not the console's",
    };
    report.wrong(about, chain(error), fix);
}

async fn check_rule(report: &mut Report, source: &Source, uem: &Uem) {
    let about = format!("source {} rule", source.name);
    let Some(target) = &source.target_url else {
        report.skipped(&about, "not read back, since source.target_url is not set");
        return;
    };
    match in_time(uem.rule(target)).await {
        Err(error) => refused(report, &about, &error),
        Ok(found) => rule_found(report, &about, target.as_str(), found.value.as_ref()),
    }
}

/// Where the rule is found in the UEM's console.
const PLACE: &str = "Groups & Settings > All Settings > System > Advanced > API > Event Notifications";

pub(super) fn rule_found(report: &mut Report, about: &str, target: &str, rule: Option<&Rule>) {
    let Some(rule) = rule else {
        report.wrong(about, format!("no rule posts to {target}"), format!("add one at {PLACE}"));
        return;
    };
    let before = report.wrongs();
    if !rule.active {
        report.wrong(about, "the rule is inactive, so nothing is posted", format!("activate it at {PLACE}"));
    }
    if !rule.check_out_check_in {
        report.wrong(about, "Check-in/Check-out is not among its events", format!("tick it at {PLACE}"));
    }
    if !rule.json {
        report.doubt(about, "it posts XML, which is read too", format!("choose JSON at {PLACE}"));
    }
    let wanted = [
        ("Enrollment", "Device Enrollment"),
        ("UnenrolledEnterpriseWipe", "Device Unenrolled Enterprise Wipe"),
        ("Wipe", "Device Wipe"),
        ("Delete", "Device Delete"),
    ];
    let has = |name: &str| rule.events.iter().any(|event| event.eq_ignore_ascii_case(name));
    let lacking: Vec<_> = wanted.into_iter().filter(|(name, _)| !has(name)).map(|(_, label)| label).collect();
    if !lacking.is_empty() {
        let says = format!("it does not post {}", lacking.join(", "));
        report.doubt(about, says, format!("tick them at {PLACE}; until then only sweeps find such departures"));
    }
    if report.wrongs() == before {
        report.good(about, format!("active, posts Check-in/Check-out to {target}"));
    }
}

/// `offset` is the other clock minus ours, in microseconds.
pub(super) fn clock_found(report: &mut Report, about: &str, offset: i64, skew_seconds: u64) {
    let off = Duration::from_micros(offset.unsigned_abs());
    let way = if offset < 0 { "behind" } else { "ahead of" };
    let says = format!("its clock is {} s {way} ours", off.as_secs());
    if off > Duration::from_secs(skew_seconds) {
        let fix = format!("synchronise both clocks; policy.clock_skew_seconds allows {skew_seconds} s");
        report.wrong(about, says, fix);
    } else if off > NOTICEABLE {
        report.doubt(about, says, "synchronise both clocks");
    } else {
        report.good(about, "its clock agrees with ours");
    }
}

async fn check_entra(report: &mut Report, config: &Config, entra: &EntraConfig, clock: Clock) {
    let about = "Entra";
    let client = match house::directory(config, entra) {
        Ok(client) => client,
        Err(error) => {
            report.wrong(about, format!("{error:#}"), "correct [entra]");
            return;
        }
    };
    let asked = clock();
    match client.token_facts().await {
        Err(fault) => report.wrong(about, fault.to_string(), token_fix(&fault)),
        Ok(facts) => {
            report.good(about, format!("gives a token for tenant {}", entra.tenant_id));
            permissions_found(report, &facts.permissions);
            if let Some(at) = facts.server_clock {
                let offset = at.0 + 500_000 - asked.timestamp_micros();
                clock_found(report, about, offset, config.policy.clock_skew_seconds);
            }
        }
    }
}

/// What to do about each of the numbers that Entra gives its refusals.
fn token_fix(fault: &TokenFault) -> &'static str {
    let has = |codes: &[i64]| fault.error_codes.iter().any(|code| codes.contains(code));
    match fault.fault {
        _ if matches!(fault.secret, Some(SecretError::NoToken(_) | SecretError::NotAToken)) => {
            "correct entra.federated_token_file, or the volume that projects the token there"
        }
        _ if fault.secret.is_some() => "correct entra.client_secret or entra.client_secret_file",
        _ if has(&[7_000_215]) => {
            "the client secret is wrong: copy the secret's value, not its id, from Certificates & secrets"
        }
        _ if has(&[7_000_222]) => "the client secret has expired: make a new one under Certificates & secrets",
        _ if has(&[700_016]) => "the app is not in this directory: compare entra.client_id and entra.tenant_id",
        _ if has(&[7_000_112]) => "the app is disabled: enable it under Enterprise applications",
        _ if has(&[70_021, 700_211, 700_212, 700_213]) => {
            "no federated credential of the app fits the token: compare issuer, subject and audience under Certificates & secrets"
        }
        _ if has(&[90_002]) => "the tenant is not found: compare entra.tenant_id, and entra.cloud",
        _ if has(&[900_382, 900_432, 90_038]) => "the tenant is in another cloud: correct entra.cloud",
        _ if has(&[500_011]) => "Graph is not known there: correct entra.cloud or entra.graph_url",
        Fault::Unavailable => "check the network to the login host, and ask again",
        Fault::Misled => "look for a proxy or portal in between, and check entra.login_url and entra.ca_file",
        Fault::Credentials => {
            "compare tenant_id, client_id and the client secret or federated credential with the app registration"
        }
    }
}

pub(super) fn permissions_found(report: &mut Report, permissions: &Permissions) {
    let about = "Entra";
    let Permissions::Read { roles, missing, surplus } = permissions else {
        report.skipped(about, "the token cannot be looked into, so the permissions are not known");
        return;
    };
    for name in missing {
        let fix = format!("add the application permission {name} under API permissions and grant admin consent");
        report.wrong(about, format!("the app lacks {name}"), fix);
    }
    if !surplus.is_empty() {
        let says = format!("the app may do more than it needs: {}", surplus.join(", "));
        report.doubt(about, says, "remove them; User.RevokeSessions.All and User.Read.All are enough");
    }
    let broad: Vec<_> = ["User.ReadWrite.All", "Directory.ReadWrite.All"]
        .into_iter()
        .filter(|name| roles.iter().any(|role| role == name) && !surplus.iter().any(|over| over == name))
        .collect();
    if !broad.is_empty() {
        let says = format!("the app works through {}, which allows far more", broad.join(", "));
        report.doubt(about, says, "use User.RevokeSessions.All and User.Read.All instead, where the cloud has them");
    }
    if missing.is_empty() && surplus.is_empty() && broad.is_empty() {
        report.good(about, "the app has the permissions it needs, and no more");
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule {
            name: Some("Handover".into()),
            url: "https://handover.contoso.example/intake/uem".into(),
            active: true,
            json: true,
            check_out_check_in: true,
            events: ["Enrollment", "UnenrolledEnterpriseWipe", "Wipe", "Delete"].map(String::from).into(),
        }
    }

    fn found(rule: Option<&Rule>) -> String {
        let mut report = Report::default();
        rule_found(&mut report, "rule", "https://handover.contoso.example/intake/uem", rule);
        report.told()
    }

    #[test]
    fn a_rule_that_would_hear_no_hand_over_is_wrong() {
        insta::assert_snapshot!(found(Some(&rule())), @r#"
        ✓ rule  active, posts Check-in/Check-out to https://handover.contoso.example/intake/uem
        nothing to fix
        "#);
        insta::assert_snapshot!(found(None), @r#"
        ✗ rule  no rule posts to https://handover.contoso.example/intake/uem
                → add one at Groups & Settings > All Settings > System > Advanced > API > Event Notifications
        1 to fix; 0 to look at
        "#);
        insta::assert_snapshot!(
            found(Some(&Rule { active: false, check_out_check_in: false, json: false, events: vec![], ..rule() })), @r#"
        ✗ rule  the rule is inactive, so nothing is posted
                → activate it at Groups & Settings > All Settings > System > Advanced > API > Event Notifications
        ✗ rule  Check-in/Check-out is not among its events
                → tick it at Groups & Settings > All Settings > System > Advanced > API > Event Notifications
        ! rule  it posts XML, which is read too
                → choose JSON at Groups & Settings > All Settings > System > Advanced > API > Event Notifications
        ! rule  it does not post Device Enrollment, Device Unenrolled Enterprise Wipe, Device Wipe, Device Delete
                → tick them at Groups & Settings > All Settings > System > Advanced > API > Event Notifications; until then only sweeps find such departures
        2 to fix; 2 to look at
        "#);
    }

    #[test]
    fn a_clock_is_wrong_beyond_the_bound_and_doubtful_before_it() {
        let mut report = Report::default();
        for offset in [0, -45_000_000, 301_000_000] {
            clock_found(&mut report, "clock", offset, 300);
        }

        insta::assert_snapshot!(report.told(), @r#"
        ✓ clock  its clock agrees with ours
        ! clock  its clock is 45 s behind ours
                 → synchronise both clocks
        ✗ clock  its clock is 301 s ahead of ours
                 → synchronise both clocks; policy.clock_skew_seconds allows 300 s
        1 to fix; 1 to look at
        "#);
    }

    #[test]
    fn permissions_are_missing_surplus_or_broad() {
        let mut report = Report::default();
        let roles = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        permissions_found(
            &mut report,
            &Permissions::Read {
                roles: vec![],
                missing: vec!["User.RevokeSessions.All"],
                surplus: roles(&["Mail.Read"]),
            },
        );
        let broad = roles(&["User.ReadWrite.All"]);
        permissions_found(&mut report, &Permissions::Read { roles: broad, missing: vec![], surplus: vec![] });
        permissions_found(&mut report, &Permissions::Read { roles: vec![], missing: vec![], surplus: vec![] });
        permissions_found(&mut report, &Permissions::Opaque);

        insta::assert_snapshot!(report.told(), @r#"
        ✗ Entra  the app lacks User.RevokeSessions.All
                 → add the application permission User.RevokeSessions.All under API permissions and grant admin consent
        ! Entra  the app may do more than it needs: Mail.Read
                 → remove them; User.RevokeSessions.All and User.Read.All are enough
        ! Entra  the app works through User.ReadWrite.All, which allows far more
                 → use User.RevokeSessions.All and User.Read.All instead, where the cloud has them
        ✓ Entra  the app has the permissions it needs, and no more
        – Entra  the token cannot be looked into, so the permissions are not known
        1 to fix; 2 to look at
        "#);
    }
}
