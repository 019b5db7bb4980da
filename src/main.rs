//! The `handover` program.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = handover::cli::config::Config::load(None, &std::env::vars().collect())?;
    handover::cli::serve::serve(&config).await
}
