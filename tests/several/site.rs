//! Instances over one database, with a directory where one is needed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use handover::app::{App, Rulebook, Source};
use handover::cli::house::clock;
use handover::entra::{Credential, Entra, SecretSource, Settings};
use handover::intake::{Door, People, Rules};
use handover::sandbox::Sandbox;
use handover::store::{Kind, Store, times};
use secrecy::SecretString;

use crate::support::{Aside, TestStore, empty};

/// A source whose payload alone decides.
fn source() -> Source {
    Source {
        name: String::from("uem"),
        door: Door::dummy(),
        rules: Rules::new("uem"),
        people: People {
            upn_from: Some("{user_name}@contoso.example".parse().unwrap()),
            pool_accounts: vec![String::from("stg-ipad")],
        },
        api: None,
        sweep_every: Duration::from_secs(300),
        silence: Duration::MAX,
    }
}

/// So many instances over one empty database. `None` where there is no PostgreSQL and none is required.
pub(crate) async fn instances(
    kind: Kind,
    names: &[&str],
    rules: Rulebook,
    sandbox: Option<&Sandbox>,
) -> Option<(TestStore, Vec<App>)> {
    let home = empty(kind).await?;
    let mut apps = Vec::new();
    for name in names {
        let store = Store::open(&home.url, Path::new("/")).await.unwrap();
        let entra = sandbox.map(directory);
        apps.push(App::new(store, rules, vec![source()], entra, clock(), (*name).to_owned()));
    }
    Some((home, apps))
}

/// The way to the sandbox's directory.
pub(crate) fn directory(sandbox: &Sandbox) -> Entra {
    let entra = &sandbox.entra;
    let secret = Credential::Secret(SecretSource::Fixed(SecretString::from(entra.client_secret())));
    let mut settings = Settings::new(entra.tenant_id().to_string(), entra.client_id(), secret);
    settings.login_url = Some(entra.login_url().parse().unwrap());
    settings.graph_url = Some(entra.graph_url().parse().unwrap());
    settings.ca_pem = Some(sandbox.ca_pem().into());
    Entra::new(&settings, clock(), Arc::new(|| 0.5)).unwrap()
}

/// A hand-over as the UEM posts it.
pub(crate) fn body(serial: &str, user: &str, at: chrono::DateTime<chrono::Utc>) -> bytes::Bytes {
    let time = at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    format!(
        r#"{{"EventId":9001,"EventType":"Check Out","SerialNumber":"{serial}","EventTime":"{time}","EnrollmentUserName":"{user}","EnrollmentStatus":"Enrolled"}}"#
    )
    .into()
}

/// Runs a statement past the store.
pub(crate) async fn aside(home: &TestStore, text: &'static str) {
    match home.aside().await {
        Aside::Sqlite(mut aside) => drop(sqlx::query(text).execute(&mut aside).await.unwrap()),
        Aside::Postgres(mut aside) => drop(sqlx::query(text).execute(&mut aside).await.unwrap()),
    }
}

/// The time.
pub(crate) fn now() -> chrono::DateTime<chrono::Utc> {
    times::utc(clock()())
}
