//! The promises that are measured, each against a baseline taken in the same run on the same disk.
//!
//! `cargo bench --bench promises` measures all of them; `-- intake graph memory history` select, `-- --quick` makes them small,
//! and `-- --large` asks the history of ten million custodies. `docs/benchmarks.md` tells what limits each figure.
//!
//! What would surprise: the load generator, the service and the sandbox share the process and its two cores, so that the
//! figures are what is left to the service, not what it could do alone. Everything is measured in the temporary folder: set
//! `TMPDIR` to measure another disk.

#[path = "promises/bare.rs"]
mod bare;
#[path = "promises/client.rs"]
mod client;
#[path = "promises/fleet.rs"]
mod fleet;
#[path = "promises/graph.rs"]
mod graph;
#[path = "promises/history.rs"]
mod history;
#[path = "promises/intake.rs"]
mod intake;
#[path = "promises/memory.rs"]
mod memory;
#[path = "promises/report.rs"]
mod report;

use report::Report;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Quick,
    Full,
    Large,
}

const PARTS: [&str; 4] = ["intake", "graph", "memory", "history"];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if let Some(unknown) = arguments.iter().find(|argument| {
        !PARTS.contains(&argument.as_str()) && !["--quick", "--large", "--bench"].contains(&argument.as_str())
    }) {
        anyhow::bail!("{unknown} is none of {}, --quick, --large", PARTS.join(", "));
    }
    let size = match (has("--quick"), has("--large")) {
        (true, _) => Size::Quick,
        (false, true) => Size::Large,
        (false, false) => Size::Full,
    };
    let all = !PARTS.iter().any(|part| has(part));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::default();
    runtime.block_on(async {
        // Memory goes first, so that what the others leave behind is not counted.
        if all || has("memory") {
            memory::measure(size, &mut report).await?;
        }
        if all || has("intake") {
            intake::measure(size, &mut report).await?;
        }
        if all || has("graph") {
            graph::measure(size, &mut report).await?;
        }
        if all || has("history") {
            history::measure(size, &mut report).await?;
        }
        anyhow::Ok(())
    })?;
    println!("{report}");
    Ok(())
}
