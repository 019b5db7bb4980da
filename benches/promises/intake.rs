//! Durable intake over HTTP: single-event posts, each answered after everything that it causes was committed.
//!
//! Each level runs on a fresh database in which every device has a holder and everybody is known. The baseline commits as many
//! rows at once as the commit groups had; their sizes stand in the revocations, which carry the moment of their group.

use std::time::{Duration, Instant};

use bytes::Bytes;
use handover::store::Tx;
use sqlx::{Connection as _, SqliteConnection};

use crate::client::Client;
use crate::fleet::{DEVICES, Fleet, assemble, service};
use crate::report::{Report, Spread, rate};
use crate::{Size, bare};

/// # Errors
/// When the service cannot be started or does not answer as it should.
pub(crate) async fn measure(size: Size, report: &mut Report) -> anyhow::Result<()> {
    let span = Duration::from_secs(if size == Size::Quick { 3 } else { 15 });
    for connections in [1, 16, 64] {
        level(connections, span, report).await?;
    }
    Ok(())
}

async fn level(connections: u64, span: Duration, report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let service = service(folder.path(), "").await?;
    let fleet = Fleet::new();
    assemble(&service, fleet).await?;
    let began = service.app.utc();

    let started = Instant::now();
    let senders: Vec<_> = (0..connections)
        .map(|first| tokio::spawn(send(service.intake, fleet, (first, connections), started + span)))
        .collect();
    let mut answered = Vec::new();
    for sender in senders {
        answered.append(&mut sender.await??);
    }
    let (count, took) = (answered.len(), started.elapsed());
    let groups = groups(folder.path(), began).await?;
    written(&mut service.app.store.read().await?, count).await?;
    service.stop().await?;

    let body: Bytes = fleet.event(0, 0);
    let bare = bare::rows_per_second(folder.path(), &body, &groups, span / 3).await?;
    let measured = rate(count, took);
    report.line(
        &format!("durable intake, {connections} connections"),
        &format!("{measured:.0} events/s, {}, {:.1} events a commit", Spread::of(answered), mean(&groups)),
        &format!("{bare:.0} rows/s"),
        Some(measured / bare),
        "≥ 0.4",
    );
    Ok(())
}

/// Hands on the devices of one connection, one after the other, until the time is over.
async fn send(
    to: std::net::SocketAddr,
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

/// How many events each commit had, in order.
async fn groups(folder: &std::path::Path, began: chrono::DateTime<chrono::Utc>) -> anyhow::Result<Vec<usize>> {
    const GROUPS: &str = "SELECT COUNT(*) FROM revocations WHERE owed_at > $1 GROUP BY owed_at ORDER BY owed_at";
    let url = format!("sqlite://{}", folder.join("handover.db").display());
    let mut connection = SqliteConnection::connect(&url).await?;
    let sizes: Vec<i64> = sqlx::query_scalar(GROUPS).bind(began).fetch_all(&mut connection).await?;
    sizes.into_iter().map(|size| Ok(usize::try_from(size)?)).collect()
}

/// Holds the service to it: as many revocations are owed as events were answered, and as many as devices before.
async fn written(tx: &mut Tx, answered: usize) -> anyhow::Result<()> {
    let counts = handover::store::revocations::counts(tx).await?;
    let owed: i64 = counts.iter().map(|(_, count)| count).sum();
    let expected = answered + usize::try_from(DEVICES)?;
    anyhow::ensure!(usize::try_from(owed)? == expected, "{owed} revocations are owed, not {expected}");
    Ok(())
}

fn mean(groups: &[usize]) -> f64 {
    rate(groups.iter().sum(), Duration::from_secs(u64::try_from(groups.len().max(1)).unwrap_or(u64::MAX)))
}
