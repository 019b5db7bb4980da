//! The one table that a run prints, and the order statistics in it.

use std::fmt;
use std::time::Duration;

/// What was measured so far.
#[derive(Default)]
pub(crate) struct Report(Vec<[String; 5]>);

impl Report {
    /// Adds a line, and says it at once on standard error, because a run takes minutes.
    pub(crate) fn line(&mut self, promise: &str, measured: &str, baseline: &str, ratio: Option<f64>, aim: &str) {
        let ratio = ratio.map_or_else(|| String::from("—"), |ratio| format!("{ratio:.2}"));
        eprintln!("{promise}: {measured} (baseline {baseline}, ratio {ratio}, aim {aim})");
        self.0.push([promise.into(), measured.into(), baseline.into(), ratio, aim.into()]);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["promise", "measured", "baseline", "ratio", "aim"].map(String::from);
        let rule = std::array::from_fn(|_| String::from("---"));
        for line in [&head, &rule].into_iter().chain(&self.0) {
            writeln!(f, "| {} |", line.join(" | "))?;
        }
        Ok(())
    }
}

/// Durations in order.
pub(crate) struct Spread(Vec<Duration>);

impl Spread {
    /// Of these samples.
    pub(crate) fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    /// The value that so many of a hundred samples do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let place = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(place).copied().unwrap_or_default()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {}, p99 {}", millis(self.percentile(50)), millis(self.percentile(99)))
    }
}

/// A duration in milliseconds, with as many digits as say something.
pub(crate) fn millis(span: Duration) -> String {
    let millis = span.as_secs_f64() * 1000.0;
    if millis < 10.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}

/// How many a second.
pub(crate) fn rate(count: usize, span: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / span.as_secs_f64()
}
