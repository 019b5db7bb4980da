//! The promises that are measured, each against a baseline taken in the same run on the same disk.
//!
//! `cargo bench --bench promises` measures all of them, on SQLite and on PostgreSQL; `-- intake graph memory history instances`
//! and `sqlite postgres` select, `-- --quick` makes them small, and `-- --large` asks the history of ten million custodies.
//! `docs/benchmarks.md` tells what limits each figure.
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
#[path = "promises/ground.rs"]
mod ground;
#[path = "promises/history.rs"]
mod history;
#[path = "promises/instances.rs"]
mod instances;
#[path = "promises/intake.rs"]
mod intake;
#[path = "promises/memory.rs"]
mod memory;
#[path = "promises/report.rs"]
mod report;

use ground::{Ground, Server};
use report::Report;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Quick,
    Full,
    Large,
}

const PARTS: [&str; 5] = ["memory", "intake", "graph", "history", "instances"];
const GROUNDS: [&str; 2] = ["sqlite", "postgres"];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let known = |argument: &str| {
        PARTS.contains(&argument)
            || GROUNDS.contains(&argument)
            || ["--quick", "--large", "--bench"].contains(&argument)
    };
    if let Some(unknown) = arguments.iter().find(|argument| !known(argument)) {
        anyhow::bail!("{unknown} is none of {}, {}, --quick, --large", PARTS.join(", "), GROUNDS.join(", "));
    }
    let size = match (has("--quick"), has("--large")) {
        (true, _) => Size::Quick,
        (false, true) => Size::Large,
        (false, false) => Size::Full,
    };
    let chosen = |of: &[&str], one: &str| has(one) || !of.iter().any(|part| has(part));
    let mut grounds = Vec::new();
    if chosen(&GROUNDS, "sqlite") {
        grounds.push(Ground::Sqlite);
    }
    if chosen(&GROUNDS, "postgres") {
        grounds.extend(Server::start()?.map(Ground::Postgres));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::default();
    // Memory goes first, so that what the others leave behind is not counted.
    for part in PARTS.into_iter().filter(|part| chosen(&PARTS, part)) {
        for ground in &grounds {
            runtime.block_on(async {
                match part {
                    "memory" => memory::measure(size, ground, &mut report).await,
                    "intake" => intake::measure(size, ground, &mut report).await,
                    "graph" => graph::measure(size, ground, &mut report).await,
                    "history" => history::measure(size, ground, &mut report).await,
                    _ => instances::measure(size, ground, &mut report).await,
                }
            })?;
        }
    }
    println!("{report}");
    Ok(())
}
