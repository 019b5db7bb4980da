//! Memory does not grow with history: the resident set after so many events, all of them kept. The same run says how much of
//! the disk a hand-over takes, indexes and audit entries included.

use crate::Size;
use crate::fleet::{DEVICES, Fleet, service, tell};
use crate::ground::Ground;
use crate::report::Report;

/// # Errors
/// When the service cannot be started or does not take the events.
pub(crate) async fn measure(size: Size, ground: &Ground, report: &mut Report) -> anyhow::Result<()> {
    let marks = match size {
        Size::Quick => [5_000, 20_000],
        Size::Full | Size::Large => [100_000, 1_000_000],
    };
    let plot = ground.plot().await?;
    let service = service(&plot, "").await?;
    let fleet = Fleet::new();
    let mut resident = Vec::new();
    let mut told = 0;
    'all: for round in 0.. {
        let devices: Vec<_> = (0..DEVICES).collect();
        for some in devices.chunks(250) {
            tell(&service, some.iter().map(|device| fleet.event(*device, round)).collect()).await?;
            told += some.len();
            if marks.get(resident.len()).is_some_and(|mark| told >= *mark) {
                resident.push(mebibytes()?);
            }
            if resident.len() == marks.len() {
                break 'all;
            }
        }
    }
    service.stop().await?;
    let bytes = plot.bytes().await? / u64::try_from(told)?;
    plot.clear().await?;
    report.line(
        &format!("{}: disk after {told} events", ground.name()),
        &format!("{bytes} bytes a hand-over"),
        "—",
        None,
        "—",
    );
    report.line(
        &format!("{}: memory after {} events", ground.name(), marks[1]),
        &format!("{:.0} MiB", resident[1]),
        &format!("{:.0} MiB after {} events", resident[0], marks[0]),
        Some(resident[1] / resident[0]),
        "≤ 1.1",
    );
    Ok(())
}

/// The resident set of this process.
fn mebibytes() -> anyhow::Result<f64> {
    let pages: u32 = std::fs::read_to_string("/proc/self/statm")?
        .split_ascii_whitespace()
        .nth(1)
        .ok_or_else(|| anyhow::anyhow!("/proc/self/statm has no resident set"))?
        .parse()?;
    Ok(f64::from(pages) * 4096.0 / 1_048_576.0)
}
