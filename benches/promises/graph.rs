//! From an event to the call to Graph: the first byte of the webhook leaves, and the directory has read the revocation.
//!
//! Events come slower than the pace to Graph, so that no call waits for it. People are known to the directory by the second
//! round; the first, in which each is looked up by UPN, is not counted.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use handover::sandbox::{Route, Sandbox, Settings};

use crate::client::Client;
use crate::fleet::{handed_over, service};
use crate::ground::Ground;
use crate::report::{Report, Spread};
use crate::{Size, bare};

/// Slower than the twenty a second that the pace allows.
const PAUSE: Duration = Duration::from_millis(60);

/// How many people hand one device on in a circle.
const PEOPLE: u64 = 50;

/// # Errors
/// When the sandbox or the service cannot be started, or a revocation does not arrive.
pub(crate) async fn measure(size: Size, ground: &Ground, report: &mut Report) -> anyhow::Result<()> {
    let rounds = if size == Size::Quick { 3 } else { 7 };
    let plot = ground.plot().await?;
    let sandbox = Sandbox::start(Settings { plain_http: true, ..Settings::default() }).await?;
    sandbox.entra.set_quota(None);
    let people: Vec<_> = (0..PEOPLE)
        .map(|person| sandbox.entra.add_user(format!("person{person:06}@contoso.example").as_str()))
        .collect();
    let entra = format!(
        "[entra]\ntenant_id = \"{}\"\nclient_id = \"{}\"\nclient_secret = \"{}\"\nlogin_url = \"{}\"\ngraph_url = \"{}\"",
        sandbox.entra.tenant_id(),
        sandbox.entra.client_id(),
        sandbox.entra.client_secret(),
        sandbox.entra.login_url(),
        sandbox.entra.graph_url(),
    );
    let service = service(&plot, &entra).await?;
    let mut client = Client::connect(service.intake, "/intake/uem").await?;

    let mut sent: HashMap<_, Vec<DateTime<Utc>>> = HashMap::new();
    for turn in 0..=rounds * PEOPLE {
        let now = service.app.utc();
        let body = handed_over(1, turn % PEOPLE, now);
        if turn > 0 {
            let leaves = people[usize::try_from((turn - 1) % PEOPLE)?];
            sent.entry(leaves).or_default().push(service.app.utc());
        }
        client.post(&body).await?;
        tokio::time::sleep(PAUSE).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;

    let mut arrived: HashMap<_, Vec<DateTime<Utc>>> = HashMap::new();
    for seen in sandbox.entra.seen().into_iter().filter(|seen| seen.route == Route::Revoke) {
        if let Some(user) = seen.user {
            arrived.entry(user).or_default().push(seen.at);
        }
    }
    let mut took = Vec::new();
    for (person, sent) in sent {
        let arrived = arrived.remove(&person).unwrap_or_default();
        anyhow::ensure!(sent.len() == arrived.len(), "{} revocations of {} arrived", arrived.len(), sent.len());
        for (sent, arrived) in sent.into_iter().zip(arrived).skip(1) {
            took.push((arrived - sent).to_std()?);
        }
    }
    service.stop().await?;

    let body = handed_over(1, 1, DateTime::default());
    let took = Spread::of(took);
    let trips = bare::round_trips(&body, 300, PAUSE / 6).await?;
    let commits = bare::commits(plot.folder(), &body, 300, PAUSE / 6).await?;
    let ratio = |mine: Duration, bare: Duration| Some(mine.as_secs_f64() / bare.as_secs_f64());
    report.line(
        &format!("{}: event to Graph call, in round trips", ground.name()),
        &took.to_string(),
        &format!("{trips} a round trip"),
        ratio(took.percentile(99), trips.percentile(99)),
        "≤ 5 (p99)",
    );
    report.line(
        &format!("{}: event to Graph call, in bare commits", ground.name()),
        &took.to_string(),
        &format!("{commits} a commit of SQLite"),
        ratio(took.percentile(99), commits.percentile(99)),
        "—",
    );
    plot.clear().await
}
