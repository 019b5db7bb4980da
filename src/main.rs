//! The `handover` program.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = handover::cli::config::Config::load(None, &std::env::vars().collect())?;
    if std::env::args().nth(1).as_deref() == Some("demo") {
        return handover::cli::demo::demo(std::env::args().nth(2).is_some()).await;
    }
    handover::cli::serve::serve(&config).await
}
