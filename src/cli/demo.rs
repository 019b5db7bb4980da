//! The whole story on one machine: a ward's shift change, against the sandbox.
//!
//! Nothing here is made up for show: the sandbox posts real webhooks over HTTP, Handover serves on real listeners and
//! revokes over HTTPS, and the proof at the end is that the sandbox's token endpoint refuses the previous person's refresh
//! token with AADSTS50173 and takes the next person's.
//!
//! The story has what goes wrong on a ward: iPads handed on without a return, a guest, one person with two iPads, a webhook
//! that never arrives, and a directory that says "not now" for some seconds.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::config::Config;
use crate::cli::serve::{self, Service};
use crate::cli::text::table;
use crate::custody::Standpoint;
use crate::sandbox::{DeviceSpec, Fault, FaultKind, Hook, Lag, Route, Sandbox, Settings, UemUserSpec, UserSpec};
use crate::store::asking;
use crate::store::asking::Paging;
use crate::store::asking::revocations::{Filter, Revocation};

/// How long the story may take before it has failed.
const PATIENCE: Duration = Duration::from_secs(150);

/// The settling time of the story. A site has twenty seconds; nobody wants to watch that.
const SETTLE_SECONDS: u64 = 3;

/// For how long the directory throttles.
const THROTTLE_SECONDS: f64 = 4.0;

/// What a hand-over looks like from outside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Returned to the rack, then taken.
    ThroughTheRack,
    /// Handed on directly.
    HandToHand,
    /// Both, with every webhook lost.
    Unheard,
}

/// One iPad's change of hands.
struct Change {
    serial: &'static str,
    name: &'static str,
    previous: &'static str,
    next: &'static str,
    way: Way,
}

const DOMAIN: &str = "contoso.example";

/// A guest's UPN in the directory, and what the UEM has for it.
const GUEST: &str = "lena.brandt_partner.example#EXT#";

#[rustfmt::skip]
const WARD: [Change; 12] = [
    Change { serial: "DMPX3B0001", name: "iPad Ward 3B 01", previous: "amina.reuter",  next: "jonas.okafor",   way: Way::ThroughTheRack },
    Change { serial: "DMPX3B0002", name: "iPad Ward 3B 02", previous: "ben.lindqvist", next: "carla.mendes",   way: Way::ThroughTheRack },
    Change { serial: "DMPX3B0003", name: "iPad Ward 3B 03", previous: "chidi.obi",     next: "dana.kowalski",  way: Way::ThroughTheRack },
    Change { serial: "DMPX3B0004", name: "iPad Ward 3B 04", previous: "dilara.aydin",  next: "emil.novak",     way: Way::ThroughTheRack },
    Change { serial: "DMPX3B0005", name: "iPad Ward 3B 05", previous: "eva.silva",     next: "farid.haddad",   way: Way::ThroughTheRack },
    Change { serial: "DMPX3B0006", name: "iPad Ward 3B 06", previous: "finn.oreilly",  next: "grace.tanaka",   way: Way::HandToHand },
    Change { serial: "DMPX3B0007", name: "iPad Ward 3B 07", previous: "gina.rossi",    next: "hugo.bernard",   way: Way::HandToHand },
    Change { serial: "DMPX3B0008", name: "iPad Ward 3B 08", previous: "hana.sato",     next: "ines.costa",     way: Way::HandToHand },
    Change { serial: "DMPX3B0009", name: "iPad Ward 3B 09", previous: GUEST,           next: "jan.dvorak",     way: Way::ThroughTheRack },
    Change { serial: "DMPX3B0010", name: "iPad Ward 3B 10", previous: "kofi.mensah",   next: "lucia.marino",   way: Way::ThroughTheRack },
    Change { serial: "DMPX3B0011", name: "iPad Ward 3B 11", previous: "kofi.mensah",   next: "mila.petrova",   way: Way::HandToHand },
    Change { serial: "DMPX3B0012", name: "iPad Ward 3B 12", previous: "nils.berg",     next: "olga.ivanova",   way: Way::Unheard },
];

fn upn(person: &str) -> String {
    format!("{person}@{DOMAIN}")
}

/// Tells the story. Without `exit` the service stays open with the sandbox until it is told to stop.
///
/// # Errors
/// When the story does not end as it should: then something is wrong with Handover, and this says what.
pub async fn demo(exit: bool) -> anyhow::Result<()> {
    let folder = tempfile_folder()?;
    let told = tell(&folder, exit).await;
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        tracing::warn!(error = %error, "the demo's folder {} could not be removed", folder.display());
    }
    told
}

fn tempfile_folder() -> anyhow::Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("handover-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

async fn tell(folder: &Path, exit: bool) -> anyhow::Result<()> {
    let sandbox = Sandbox::start(Settings::default()).await.context("the sandbox cannot start")?;
    people_the_ward(&sandbox);
    let config = configure(&sandbox, folder)?;
    let mut service = Service::start(&config).await?;
    sandbox.uem.set_hook(Some(Hook::to(&format!("http://{}/intake/uem", service.intake), "handover", "demo")));
    println!(
        "A ward with {} iPads, one UEM, one Entra tenant; Handover listens at http://{}.\n",
        WARD.len(),
        service.intake
    );

    let bar = progress(6);
    step(&bar, "the census: the first sweep finds every iPad in the rack");
    wait(&service, "the census", |status| status.devices == WARD.len()).await?;
    step(&bar, "the early shift takes the iPads and signs in to its apps");
    let previous = early_shift(&sandbox).await?;
    wait(&service, "the early shift", |status| status.held == WARD.len()).await?;
    step(&bar, "the late shift takes over; Graph throttles; a webhook is lost");
    let changed_at = service.app.utc();
    let next = late_shift(&sandbox).await?;
    step(&bar, "the sweep (every five minutes on a site) finds the iPad whose webhooks were lost");
    sweep(&service).await?;
    step(&bar, "waiting until every revocation is proven");
    wait(&service, "the revocations", |status| status.owed >= WARD.len() && status.unfinished == 0).await?;
    step(&bar, "trying the tokens of both shifts");
    let proofs = prove(&sandbox, &previous, &next);
    bar.finish_and_clear();

    let owed = owed(&service).await?;
    print_story(&owed, changed_at);
    print_proof(&proofs);
    judge(&sandbox, &owed, &proofs)?;
    if !exit {
        stay(&sandbox, &mut service).await;
    }
    service.stop().await
}

fn people_the_ward(sandbox: &Sandbox) {
    sandbox.entra.change(|options| options.lag = Lag::After(Duration::from_millis(1500)));
    sandbox.uem.add_pool_account("stg-ipad");
    let mut seen = std::collections::BTreeSet::new();
    for person in WARD.iter().flat_map(|change| [change.previous, change.next]) {
        if seen.insert(person) {
            let upn = upn(person);
            let object_id =
                sandbox.entra.add_user(UserSpec { upn: upn.clone(), guest: person == GUEST, ..UserSpec::default() });
            sandbox.uem.add_user(UemUserSpec {
                user_name: person.trim_end_matches("#EXT#").to_owned(),
                email: upn.clone(),
                upn: Some(upn),
                external_id: Some(object_id.to_string()),
                ..UemUserSpec::default()
            });
        }
    }
    for change in &WARD {
        sandbox.uem.add_device(DeviceSpec {
            serial: change.serial.to_owned(),
            name: change.name.to_owned(),
            ..DeviceSpec::default()
        });
    }
}

fn configure(sandbox: &Sandbox, folder: &Path) -> anyhow::Result<Config> {
    std::fs::write(folder.join("sandbox-ca.pem"), sandbox.ca_pem())?;
    let (entra, uem) = (&sandbox.entra, &sandbox.uem);
    let text = format!(
        r#"
[server]
listen = "127.0.0.1:0"
[intake]
listen = "127.0.0.1:0"
[database]
url = "sqlite://handover.db"
[entra]
tenant_id = "{tenant}"
client_id = "{client}"
client_secret = "{secret}"
login_url = "{login}"
graph_url = "{graph}"
ca_file = "sandbox-ca.pem"
[policy]
settle_seconds = {SETTLE_SECONDS}
[[source]]
name = "uem"
kind = "workspace-one-uem"
username = "handover"
passwords = ["demo"]
[source.api]
url = "{uem_url}"
token_url = "{uem_token}"
client_id = "{uem_client}"
client_secret = "{uem_secret}"
tenant_code = "{tenant_code}"
ca_file = "sandbox-ca.pem"
"#,
        tenant = entra.tenant_id(),
        client = entra.client_id(),
        secret = entra.client_secret(),
        login = entra.login_url(),
        graph = entra.graph_url(),
        uem_url = uem.url(),
        uem_token = uem.token_url(),
        uem_client = uem.client_id(),
        uem_secret = uem.client_secret(),
        tenant_code = uem.tenant_code(),
    );
    Ok(Config::read(&text, folder, &BTreeMap::new())?)
}

/// The UEM's name of a person.
fn login(person: &str) -> &str {
    person.trim_end_matches("#EXT#")
}

/// Every iPad is taken, and its person signs in. Returns the refresh token that stays on each.
async fn early_shift(sandbox: &Sandbox) -> anyhow::Result<Vec<String>> {
    let mut tokens = Vec::new();
    for change in &WARD {
        sandbox.uem.check_out(change.serial, login(change.previous)).await?;
        tokens.push(sign_in(sandbox, change.previous)?);
    }
    Ok(tokens)
}

async fn late_shift(sandbox: &Sandbox) -> anyhow::Result<Vec<String>> {
    sandbox.entra.fault(Fault::once(Route::Revoke, FaultKind::Throttle { seconds: THROTTLE_SECONDS }));
    let mut tokens = Vec::new();
    for change in &WARD {
        if change.way == Way::Unheard {
            sandbox.uem.set_quiet(true);
        }
        match change.way {
            Way::HandToHand => drop(sandbox.uem.change_user(change.serial, login(change.next)).await?),
            Way::ThroughTheRack | Way::Unheard => {
                sandbox.uem.check_in(change.serial).await?;
                sandbox.uem.check_out(change.serial, login(change.next)).await?;
            }
        }
        sandbox.uem.set_quiet(false);
        tokens.push(sign_in(sandbox, change.next)?);
    }
    Ok(tokens)
}

fn sign_in(sandbox: &Sandbox, person: &str) -> anyhow::Result<String> {
    let tokens = sandbox.entra.sign_in(&upn(person)).map_err(|error| anyhow::anyhow!("{}", error.description))?;
    tokens.refresh_token.context("the sandbox gave no refresh token")
}

async fn sweep(service: &Service) -> anyhow::Result<()> {
    for source in service.app.sources.values() {
        service.app.sweep(source).await?;
    }
    Ok(())
}

/// What the story waits for.
struct Status {
    devices: usize,
    held: usize,
    owed: usize,
    unfinished: usize,
}

async fn status(service: &Service) -> anyhow::Result<Status> {
    let mut tx = service.app.store.read().await?;
    let devices = asking::devices::list(&mut tx, &asking::devices::Filter::default(), &Paging::largest()).await?.items;
    let tallies = service.app.store.finished().and_unfinished(&mut tx).await?;
    let count = |wanted: fn(Standpoint) -> bool| {
        let counted = tallies.iter().filter(|tally| Standpoint::named(&tally.state).is_some_and(wanted));
        counted.map(|tally| usize::try_from(tally.many).unwrap_or(0)).sum()
    };
    Ok(Status {
        devices: devices.iter().filter(|device| !device.undecided).count(),
        held: devices.iter().filter(|device| device.state == "person").count(),
        owed: count(|_| true),
        unfinished: count(Standpoint::is_unfinished),
    })
}

async fn wait(service: &Service, what: &str, done: impl Fn(&Status) -> bool) -> anyhow::Result<()> {
    let started = tokio::time::Instant::now();
    loop {
        let status = status(service).await?;
        if done(&status) {
            return Ok(());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "{what} did not come to its end within {} seconds: {} devices, {} held, {} revocations owed, {} unfinished",
            PATIENCE.as_secs(),
            status.devices,
            status.held,
            status.owed,
            status.unfinished
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn owed(service: &Service) -> anyhow::Result<Vec<Revocation>> {
    let mut tx = service.app.store.read().await?;
    let mut owed = asking::revocations::list(&mut tx, &Filter::default(), &Paging::largest()).await?.items;
    owed.sort_by(|one, two| one.device.cmp(&two.device));
    Ok(owed)
}

/// What the token endpoint says to the refresh tokens of both shifts.
struct Proof {
    change: &'static Change,
    previous: Result<(), String>,
    next: Result<(), String>,
}

fn prove(sandbox: &Sandbox, previous: &[String], next: &[String]) -> Vec<Proof> {
    let tried = |token: &String| {
        sandbox.entra.refresh(token).map(drop).map_err(|error| format!("{} AADSTS{}", error.error, error.codes[0]))
    };
    let pairs = previous.iter().zip(next);
    WARD.iter()
        .zip(pairs)
        .map(|(change, (old, new))| Proof { change, previous: tried(old), next: tried(new) })
        .collect()
}

fn clock_time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| String::from("—"), |at| at.format("%H:%M:%S").to_string())
}

fn print_story(owed: &[Revocation], changed_at: DateTime<Utc>) {
    println!("The shift change of {} (times in UTC)\n", changed_at.format("%-d %B %Y, %H:%M:%S"));
    let rows = WARD.iter().map(|change| {
        let row = owed.iter().find(|row| row.device == change.serial);
        let exposure = row.and_then(|row| {
            let until = row.exposure.refresh_tokens_until?;
            Some(format!("{:.1} s", (until - row.exposure.from).as_seconds_f64().max(0.0)))
        });
        vec![
            change.name.to_owned(),
            change.previous.to_owned(),
            change.next.to_owned(),
            match change.way {
                Way::ThroughTheRack => String::from("rack"),
                Way::HandToHand => String::from("hand to hand"),
                Way::Unheard => String::from("webhooks lost"),
            },
            row.map_or_else(|| String::from("nothing owed"), |row| row.state.clone()),
            clock_time(row.and_then(|row| row.accepted_at)),
            clock_time(row.and_then(|row| row.verified_at)),
            exposure.unwrap_or_else(|| String::from("—")),
        ]
    });
    println!("{}\n", table(&["device", "previous", "next", "how", "state", "revoked", "verified", "exposure"], rows));
}

fn print_proof(proofs: &[Proof]) {
    println!("The proof: what the token endpoint says to the refresh tokens left on each iPad\n");
    let said = |answer: &Result<(), String>| answer.clone().map_or_else(|refused| refused, |()| String::from("works"));
    let rows = proofs.iter().map(|proof| vec![proof.change.name.to_owned(), said(&proof.previous), said(&proof.next)]);
    println!("{}\n", table(&["device", "previous person's token", "next person's token"], rows));
}

/// Whether the story ended as it should.
fn judge(sandbox: &Sandbox, owed: &[Revocation], proofs: &[Proof]) -> anyhow::Result<()> {
    for proof in proofs {
        let guest = proof.change.previous == GUEST;
        let refused = proof.previous == Err(String::from("invalid_grant AADSTS50173"));
        ensure!(
            refused != guest,
            "{}: the previous person's token was answered {:?}",
            proof.change.name,
            proof.previous
        );
        ensure!(proof.next.is_ok(), "{}: the next person was signed out: {:?}", proof.change.name, proof.next);
    }
    let in_state = |name: &str| owed.iter().filter(|row| row.state == name).count();
    let revoked = sandbox.entra.seen().iter().filter(|seen| seen.effect).count();
    println!(
        "{} hand-overs, {} proven, {} guest who cannot be revoked here, {} revocations sent to Graph.",
        owed.len(),
        in_state("verified") + in_state("covered_by_other"),
        in_state("not_effective"),
        revoked
    );
    println!("The guest signs in through another tenant: Entra cannot revoke that here, and Handover says so.\n");
    Ok(())
}

async fn stay(sandbox: &Sandbox, service: &mut Service) {
    println!("Handover stays open. Ctrl-C ends it.");
    println!("  API       http://{}/api/v1/devices", service.api);
    println!("  intake    http://{}/intake/uem   (user handover, password demo)", service.intake);
    if let Some(token) = &service.first_token {
        println!("  token     {token}");
        println!(
            "  try       curl -H 'Authorization: Bearer {token}' http://{}/api/v1/devices/DMPX3B0006/holder",
            service.api
        );
    }
    println!("  sandbox   Entra {}   UEM {}", sandbox.entra.login_url(), sandbox.uem.url());
    serve::told_to_stop().await;
}

fn progress(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{spinner} [{pos}/{len}] {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn step(bar: &ProgressBar, what: &'static str) {
    bar.inc(1);
    bar.set_message(what);
    if bar.is_hidden() {
        println!("[{}/{}] {what}", bar.position(), bar.length().unwrap_or(0));
    }
}
