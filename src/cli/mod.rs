//! The commands: what they are called, what they print, and how they end.
//!
//! They promise one thing to scripts: exit code 0 is done, 1 is found wrong, 2 is misused; results go to standard output,
//! everything else to standard error.

#![expect(clippy::format_push_string, reason = "what a command prints, it prints once; an allocation more is nothing")]

pub mod args;
mod backup;
pub mod config;
#[cfg(feature = "sandbox")]
pub mod demo;
mod doctor;
mod health;
pub mod house;
mod import;
mod lists;
mod logging;
mod moving;
mod restore;
mod run;
#[cfg(test)]
mod samples;
#[cfg(feature = "sandbox")]
mod sandbox;
pub mod serve;
mod text;
pub mod time;
mod who;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use clap::Parser as _;

use run::{End, Misused};

/// The exit code of a command that was used wrongly; clap's own is the same.
const MISUSED: u8 = 2;

/// Runs the program: reads the arguments, does what they say, and says how it ended.
///
/// A panic is a fault of ours; it has been printed by then, and ends with 1 like whatever else went wrong.
pub fn main() -> ExitCode {
    let cli = args::Cli::parse();
    // Whoever set a provider before us keeps it; there is one in the build.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(run::run(cli))
    }));
    match done {
        Ok(Ok(End::Done)) => ExitCode::SUCCESS,
        Ok(Ok(End::Wrong)) => ExitCode::FAILURE,
        Ok(Err(error)) => {
            eprintln!("{}", told(&error));
            if error.is::<Misused>() { ExitCode::from(MISUSED) } else { ExitCode::FAILURE }
        }
        Err(_) => {
            eprintln!("this is a fault of Handover, not yours; please report it with the lines above");
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, each line fit for a terminal.
fn told(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().map(text::plain).collect::<Vec<_>>().join("\n")
}
