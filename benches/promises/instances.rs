//! Two instances over one PostgreSQL: what they take together beside what one takes, and how long an answer takes while the
//! one that leads is killed.
//!
//! The instances are processes of their own, as in production, and the one that is killed gets no chance to say goodbye. A
//! sender whose connection breaks sends the same event again to the other instance, as a load balancer would; its clock runs
//! from the first try. At the end every acknowledged event must be there.
//!
//! What would surprise: all of it shares the cores of one machine, the database and the load included, so that the second
//! instance brings little here.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};

use crate::Size;
use crate::client::Client;
use crate::fleet::{DEVICES, Fleet, assemble, serial, service, text};
use crate::ground::{Ground, Plot};
use crate::intake::post;
use crate::report::{Report, Spread, rate};

/// How many senders there are.
const CONNECTIONS: u64 = 16;

/// How long an instance may take to answer, or to lead: longer than the lease of one that is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// # Errors
/// When an instance cannot be started or does not answer, or an acknowledged event is not there.
pub(crate) async fn measure(size: Size, ground: &Ground, report: &mut Report) -> anyhow::Result<()> {
    if let Ground::Sqlite = ground {
        return Ok(());
    }
    let span = Duration::from_secs(if size == Size::Quick { 4 } else { 15 });
    let mut rates = Vec::new();
    for many in [1, 2] {
        let (plot, fleet) = assembled(ground).await?;
        let instances = Instance::some(many, &plot).await?;
        let to: Vec<_> = instances.iter().map(|instance| instance.intake).collect();
        let started = Instant::now();
        let answered = post(&to, fleet, CONNECTIONS, started + span).await?;
        rates.push((rate(answered.len(), started.elapsed()), Spread::of(answered)));
        drop(instances);
        plot.clear().await?;
    }
    let [(one, of_one), (two, of_two)] = rates.as_slice() else { return Ok(()) };
    report.line(
        &format!("PostgreSQL: two instances, {CONNECTIONS} connections"),
        &format!("{two:.0} events/s, {of_two}"),
        &format!("{one:.0} events/s, {of_one}, of one instance"),
        Some(two / one),
        "≥ 1",
    );
    leader_killed(ground, span, report).await
}

/// Kills the instance that leads in the middle of the load.
async fn leader_killed(ground: &Ground, span: Duration, report: &mut Report) -> anyhow::Result<()> {
    let (plot, fleet) = assembled(ground).await?;
    let mut instances = Instance::some(2, &plot).await?;
    let to: Vec<_> = instances.iter().map(|instance| instance.intake).collect();
    // The instance that assembled may have led; whoever follows has to have begun.
    leader(&plot, &instances).await?;
    let killed = Arc::new(Mutex::new(None));
    let started = Instant::now();
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|first| tokio::spawn(send(to.clone(), fleet, first, Arc::clone(&killed), started + span)))
        .collect();
    tokio::time::sleep(span / 2).await;
    let leader = leader(&plot, &instances).await?;
    *killed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    drop(instances.swap_remove(leader));
    let (mut before, mut after, mut ids) = (Vec::new(), Vec::new(), HashSet::new());
    for sender in senders {
        let sent = sender.await??;
        before.extend(sent.before);
        after.extend(sent.after);
        ids.extend(sent.acknowledged);
    }
    drop(instances);
    let (acknowledged, there) = (ids.len(), there(&plot, fleet, &ids).await?);
    anyhow::ensure!(there == acknowledged, "of {acknowledged} acknowledged hand-overs {there} are there");
    plot.clear().await?;
    let (before, after) = (Spread::of(before), Spread::of(after));
    report.line(
        &format!("PostgreSQL: answer while the leader of two is killed, {acknowledged} acknowledged, 0 lost"),
        &after.to_string(),
        &format!("{before} before"),
        Some(after.percentile(99).as_secs_f64() / before.percentile(99).as_secs_f64()),
        "—",
    );
    Ok(())
}

/// A database in which every device has a holder.
async fn assembled(ground: &Ground) -> anyhow::Result<(Plot, Fleet)> {
    let plot = ground.plot().await?;
    let fleet = Fleet::new();
    let service = service(&plot, "").await?;
    assemble(&service, fleet).await?;
    service.stop().await?;
    Ok((plot, fleet))
}

/// A running instance. Dropped, it is killed.
struct Instance {
    process: Child,
    intake: SocketAddr,
}

impl Instance {
    async fn some(many: usize, plot: &Plot) -> anyhow::Result<Vec<Self>> {
        let instances: Vec<_> = (0..many).map(|nth| Self::start(plot, nth)).collect::<Result<_, _>>()?;
        for instance in &instances {
            let began = Instant::now();
            // It listens when its schema and its claim are in order.
            while Client::connect(instance.intake, "/intake/uem").await.is_err() {
                anyhow::ensure!(began.elapsed() < PATIENCE, "an instance does not answer");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(instances)
    }

    fn start(plot: &Plot, nth: usize) -> anyhow::Result<Self> {
        let ports = (free_port()?, free_port()?);
        let config = plot.folder().join(format!("instance-{nth}.toml"));
        std::fs::write(&config, text(&plot.url, ports, ""))?;
        let log = std::fs::File::create(plot.folder().join(format!("instance-{nth}.log")))?;
        let process = Command::new(Path::new(env!("CARGO_BIN_EXE_handover")))
            .args(["serve", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("the program cannot be started")?;
        Ok(Self { process, intake: SocketAddr::from(([127, 0, 0, 1], ports.1)) })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Which of the instances leads. Leases name an instance by its process first.
async fn leader(plot: &Plot, instances: &[Instance]) -> anyhow::Result<usize> {
    const HOLDER: &str = "SELECT holder FROM leases WHERE name = 'lead' AND until > clock_timestamp()";
    let mut connection = PgConnection::connect(&plot.url).await?;
    let began = Instant::now();
    loop {
        let holder: Option<String> = sqlx::query_scalar(HOLDER).fetch_optional(&mut connection).await?;
        let leads = |instance: &Instance| {
            holder.as_ref().is_some_and(|holder| holder.starts_with(&format!("{}-", instance.process.id())))
        };
        if let Some(leader) = instances.iter().position(leads) {
            return Ok(leader);
        }
        anyhow::ensure!(began.elapsed() < PATIENCE, "none of the instances leads, but {holder:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What one sender saw.
#[derive(Default)]
struct Sent {
    before: Vec<Duration>,
    after: Vec<Duration>,
    acknowledged: Vec<(u64, u64)>,
}

/// Hands on the devices of one connection; where an instance is gone, over the next.
async fn send(
    to: Vec<SocketAddr>,
    fleet: Fleet,
    first: u64,
    killed: Arc<Mutex<Option<Instant>>>,
    until: Instant,
) -> anyhow::Result<Sent> {
    let mut sent = Sent::default();
    let mut next = to.iter().cycle().skip(usize::try_from(first)?);
    let mut client = None;
    for round in 2.. {
        for device in (first..DEVICES).step_by(usize::try_from(CONNECTIONS)?) {
            let body = fleet.event(device, round);
            let began = Instant::now();
            loop {
                anyhow::ensure!(began.elapsed() < PATIENCE, "no instance answers");
                let mut connection = match client.take() {
                    Some(connection) => connection,
                    None => match Client::connect(*next.next().context("no instance")?, "/intake/uem").await {
                        Ok(connection) => connection,
                        Err(_) => continue,
                    },
                };
                if connection.post(&body).await.is_ok() {
                    client = Some(connection);
                    break;
                }
            }
            let killed = *killed.lock().unwrap_or_else(PoisonError::into_inner);
            // What was under way at that moment belongs to what is measured.
            if killed.is_some() { &mut sent.after } else { &mut sent.before }.push(began.elapsed());
            sent.acknowledged.push((device, round));
            if Instant::now() > until {
                return Ok(sent);
            }
        }
    }
    Ok(sent)
}

/// How many of the hand-overs are written down.
async fn there(plot: &Plot, fleet: Fleet, sent: &HashSet<(u64, u64)>) -> anyhow::Result<usize> {
    const TOLD: &str = "SELECT d.serial, e.at FROM events e JOIN devices d ON d.id = e.device_id";
    let mut connection = PgConnection::connect(&plot.url).await?;
    let told: Vec<(String, DateTime<Utc>)> = sqlx::query_as(TOLD).fetch_all(&mut connection).await?;
    let told: HashSet<_> = told.into_iter().collect();
    let is_there = |(device, round): &&(u64, u64)| told.contains(&(serial(*device), fleet.at(*device, *round)));
    Ok(sent.iter().filter(is_there).count())
}
