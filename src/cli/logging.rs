//! Log lines on standard error, as text or as JSON, one line each.
//!
//! What cannot be written is not logged, and nothing else comes of it: the log may lie on a disk that is full (S2).
//!
//! A line of text has its control characters escaped by the formatter, so that nobody can write a line of their own.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::config::{Log, LogFormat};

/// Begins logging. A second call changes nothing.
pub(crate) fn begin(log: &Log) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would say so on the same standard error, and panic when that cannot be written either.
        .log_internal_errors(false);
    let begun = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    // Whoever began logging before us keeps it.
    drop(begun);
}
