//! The sandbox alone, for whoever wants to point something else at it.

use super::args::Sandbox;
use crate::sandbox::{self, Settings};

/// Runs the sandbox until the process is stopped.
pub(crate) async fn sandbox(options: Sandbox) -> anyhow::Result<()> {
    let settings = Settings {
        entra_port: options.entra_port,
        uem_port: options.uem_port,
        seed: options.seed,
        folder: options.folder,
        ..Settings::default()
    };
    sandbox::run(settings).await?;
    Ok(())
}
