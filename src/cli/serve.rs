//! The service: everything put together, running until it is told to stop.
//!
//! What would surprise: stopping needs no grace. Whatever is in flight when the process ends is found in the database by the
//! next one; the ten seconds given here only spare it the work.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::run::Ended;
use crate::cli::config::Config;
use crate::cli::house;
use crate::store::asking::database;
use crate::store::{Claim, Store};
use crate::web::{self, Site, proxies::Proxies, serve::Limits};

/// How long everything has to come to its end (S20).
const GRACE: Duration = Duration::from_secs(10);

/// How often histograms are tidied; without it they grow while nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// A service that runs.
pub struct Service {
    /// Its deeds, for whoever runs in the same process.
    pub app: App,
    /// Where the API is.
    pub api: SocketAddr,
    /// Where the UEM posts to.
    pub intake: SocketAddr,
    /// An admin token, if there had been none.
    pub first_token: Option<String>,
    store: Store,
    stop: CancellationToken,
    loops: JoinHandle<Result<Ended, crate::store::Error>>,
    listeners: [JoinHandle<()>; 2],
    _claim: Claim,
}

impl Service {
    /// Opens the database, binds the listeners, and sets everything going.
    ///
    /// # Errors
    /// When the database cannot be opened or is taken, an address is in use, or a secret cannot be read.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let store = house::store(config).await?;
        let claim = store.claim()?;
        store.recover().await?;
        if let Some(note) = database::read(&mut store.read().await?).await?.note {
            tracing::warn!("{note}");
        }
        let app = house::app(config, store.clone())?;
        if let Some(witness) = config.database.witness(&config.base) {
            app.house.keep_witness(witness);
        }
        app.enter_house().await?;
        let first_token = app.first_token().await?;
        let api = bind("server.listen", config.server.listen).await?;
        let intake = bind("intake.listen", config.intake.listen).await?;
        let (api_address, intake_address) = (api.local_addr()?, intake.local_addr()?);
        let site = Arc::new(Site {
            store: store.clone(),
            deeds: Arc::new(app.clone()),
            metrics: recorder(),
            clock: house::clock(),
            writes_per_second: config.policy.writes_per_second,
            shadow: config.is_shadow(),
        });
        let stop = CancellationToken::new();
        let proxies = Proxies::new(&config.server.trusted_proxies, config.server.proxy_header);
        let open = |listener, router| {
            tokio::spawn(web::serve::serve(listener, router, Limits::default(), proxies.clone(), stop.clone()))
        };
        let listeners = [open(intake, web::intake(Arc::clone(&site))), open(api, web::api(site))];
        let loops = tokio::spawn({
            let (app, stop) = (app.clone(), stop.clone());
            async move { app.run(&house::host(), stop).await }
        });
        Ok(Self {
            app,
            api: api_address,
            intake: intake_address,
            first_token,
            store,
            stop,
            loops,
            listeners,
            _claim: claim,
        })
    }

    /// Stops accepting, lets what is under way come to its end for up to ten seconds, and closes the database.
    ///
    /// # Errors
    /// When the loops had ended by themselves before.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let loops = self.loops;
        let ended = tokio::time::timeout(GRACE, async {
            for listener in self.listeners {
                listener.await.context("a listener panicked")?;
            }
            loops.await.context("the loops panicked")?.context("the loops could not run")
        })
        .await;
        if let Err(error) = self.app.leave_house().await {
            tracing::warn!(error = %error, "could not write down how far the database had come");
        }
        tokio::time::timeout(GRACE, self.store.close()).await.ok();
        match ended {
            Ok(Ok(Ended::Stopped)) => Ok(()),
            Ok(Ok(Ended::Broken)) => anyhow::bail!("the loops panicked too often; the log says where"),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                tracing::warn!("not everything came to its end within {} seconds", GRACE.as_secs());
                Ok(())
            }
        }
    }

    /// Waits until the loops end by themselves, which they should not, or somebody tells the process to stop.
    pub async fn until_told(&mut self) {
        tokio::select! {
            () = told_to_stop() => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// As [`Service::start`] and [`Service::stop`].
pub async fn serve(config: &Config) -> anyhow::Result<()> {
    let mut service = Service::start(config).await?;
    tracing::info!(
        api.address = %service.api,
        intake.address = %service.intake,
        shadow = config.is_shadow(),
        "Handover answers at http://{} and takes events at http://{}",
        service.api,
        service.intake
    );
    announce(config, &service);
    service.until_told().await;
    tracing::info!("stopping");
    service.stop().await
}

/// What somebody at a terminal has to know. Nothing comes of it when it cannot be written.
fn announce(config: &Config, service: &Service) {
    let mut lines = vec![
        "Handover is running.".to_owned(),
        format!("  API       http://{}/api/v1/status", service.api),
        format!("  intake    http://{}/intake/{{source}}", service.intake),
        format!("  database  {}", config.database.shown()),
    ];
    if config.is_shadow() {
        lines.push("  mode      shadow: what would be revoked is written down, and nothing is sent".to_owned());
    }
    if config.sources.is_empty() {
        lines.push("  sources   none yet: `handover config sample > handover.toml` shows how to add one".to_owned());
    }
    if let Some(token) = &service.first_token {
        lines.push(format!("  token     {token}"));
        lines.push("            an admin token, shown this once; `handover token create` makes others".to_owned());
    }
    drop(writeln!(std::io::stderr(), "{}", lines.join("\n")));
}

async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{key}: cannot listen on {address}"))
}

/// The numbers of this process. There is one recorder for all services in it.
fn recorder() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            // Somebody else in this process may have set one; then these numbers stay empty, and nothing else breaks.
            drop(metrics::set_global_recorder(recorder));
            let upkeep = handle.clone();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(UPKEEP).await;
                    upkeep.run_upkeep();
                }
            });
            handle
        })
        .clone()
}

/// Returns when the process is told to stop.
pub async fn told_to_stop() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    drop(interrupted.await);
}
