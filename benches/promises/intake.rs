//! Durable intake over HTTP: single-event posts, each answered after everything that it causes was committed.
//!
//! Each level runs on a fresh database in which every device has a holder and everybody is known. The baseline writes one row
//! of the same size per event and does nothing else. On SQLite it commits as many rows at once as the commit groups had; their
//! sizes stand in the revocations, which carry the moment of their group. On PostgreSQL it is `pgbench` with as many clients
//! as there were connections, each row a transaction of its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use handover::store::Store;

use crate::client::Client;
use crate::fleet::{DEVICES, Fleet, assemble, service};
use crate::ground::Ground;
use crate::report::{Report, Spread, rate};
use crate::{Size, bare};

/// # Errors
/// When the service cannot be started or does not answer as it should.
pub(crate) async fn measure(size: Size, ground: &Ground, report: &mut Report) -> anyhow::Result<()> {
    let span = Duration::from_secs(if size == Size::Quick { 3 } else { 15 });
    for connections in [1, 16, 64] {
        level(connections, span, ground, report).await?;
    }
    Ok(())
}

async fn level(connections: u64, span: Duration, ground: &Ground, report: &mut Report) -> anyhow::Result<()> {
    let plot = ground.plot().await?;
    let service = service(&plot, "").await?;
    let fleet = Fleet::new();
    assemble(&service, fleet).await?;
    let began = service.app.utc();

    let started = Instant::now();
    let answered = post(&[service.intake], fleet, connections, started + span).await?;
    let (count, took) = (answered.len(), started.elapsed());
    let groups = plot.groups(began).await?;
    written(&service.app.store, count).await?;
    service.stop().await?;

    let body: Bytes = fleet.event(0, 0);
    let bare = match ground {
        Ground::Sqlite => bare::rows_per_second(plot.folder(), &body, &groups, span / 3).await?,
        Ground::Postgres(server) => server.rows_per_second(&body, connections, span / 3).await?,
    };
    plot.clear().await?;
    let measured = rate(count, took);
    report.line(
        &format!("{}: durable intake, {connections} connections", ground.name()),
        &format!("{measured:.0} events/s, {}, {:.1} events a commit", Spread::of(answered), mean(&groups)),
        &format!("{bare:.0} rows/s"),
        Some(measured / bare),
        "≥ 0.4",
    );
    Ok(())
}

/// Posts over so many connections, spread evenly over the instances, until the time is over. Says how long each answer took.
pub(crate) async fn post(
    to: &[SocketAddr],
    fleet: Fleet,
    connections: u64,
    until: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let senders: Vec<_> = (0..connections)
        .zip(to.iter().cycle())
        .map(|(first, to)| tokio::spawn(send(*to, fleet, (first, connections), until)))
        .collect();
    let mut answered = Vec::new();
    for sender in senders {
        answered.append(&mut sender.await??);
    }
    Ok(answered)
}

/// Hands on the devices of one connection, one after the other, until the time is over.
async fn send(
    to: SocketAddr,
    fleet: Fleet,
    (first, step): (u64, u64),
    until: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut client = Client::connect(to, "/intake/uem").await?;
    let mut answered = Vec::new();
    for round in 2.. {
        for device in (first..DEVICES).step_by(usize::try_from(step)?) {
            let body = fleet.event(device, round);
            let sent = Instant::now();
            client.post(&body).await?;
            answered.push(sent.elapsed());
            if Instant::now() > until {
                return Ok(answered);
            }
        }
    }
    Ok(answered)
}

/// Holds the service to it: as many revocations are owed as events were answered, and as many as devices before.
pub(crate) async fn written(store: &Store, answered: usize) -> anyhow::Result<()> {
    let tallies = store.finished().and_unfinished(&mut store.read().await?).await?;
    let owed: i64 = tallies.iter().map(|tally| tally.many).sum();
    let expected = answered + usize::try_from(DEVICES)?;
    anyhow::ensure!(usize::try_from(owed)? == expected, "{owed} revocations are owed, not {expected}");
    Ok(())
}

/// How many events a commit had.
fn mean(groups: &[usize]) -> f64 {
    rate(groups.iter().sum(), Duration::from_secs(u64::try_from(groups.len().max(1)).unwrap_or(u64::MAX)))
}
