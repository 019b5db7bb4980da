//! `handover database`: moving to another database, and how this one stands.

use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::DatabaseAction;
use super::config::{Config, shown};
use super::run::{End, Misused, actor, complain, json, now, print};
use crate::app::house;
use crate::app::moving::{self, NotMoved, Route, Step};
use crate::store::{Store, house as rows};

/// Does what is asked with the database.
///
/// # Errors
/// When a database cannot be opened, or the copy fails.
pub(super) async fn database(config: &Config, action: &DatabaseAction) -> anyhow::Result<End> {
    match action {
        DatabaseAction::Copy { from, to, json } => copy(config, from, to, *json).await,
        DatabaseAction::Status { json } => status(config, *json).await,
        DatabaseAction::Unseal { reason } => unseal(config, reason).await,
    }
}

async fn copy(config: &Config, from: &str, to: &str, as_json: bool) -> anyhow::Result<End> {
    if let Some(path) = from.strip_prefix("sqlite://")
        && !config.base.join(path).exists()
    {
        return Err(Misused(format!("there is no database at {}", config.base.join(path).display())).into());
    }
    if from == to {
        return Err(Misused("--from and --to are the same database".to_owned()).into());
    }
    let route = Route { from: shown(from), to: shown(to), actor: actor() };
    let (source, _) = open(config, from).await.with_context(|| format!("the database {}", route.from))?;
    let _left = source.claim()?;
    let target = Store::open_with(&config.database.settings_for(to)?, &config.base)
        .await
        .with_context(|| format!("the database {}", route.to))?;
    let _entered = target.claim()?;
    let rows = moving::rows_to_copy(&source).await?;
    let bar = progress(rows);
    let moved = moving::move_house(&source, &target, &route, now, async |step| {
        tell(&bar, rows, step);
        Ok(())
    })
    .await;
    bar.finish_and_clear();
    source.close().await;
    target.close().await;
    let moved = match moved {
        Ok(moved) => moved,
        Err(error @ NotMoved::Store(_)) => return Err(error.into()),
        Err(refusal) => return Ok(complain(&refusal.to_string())),
    };
    if as_json {
        json(&moved)?;
        return Ok(End::Done);
    }
    let mut text = String::new();
    for table in &moved.tables {
        text.push_str(&format!("{:<20} {:>10} rows  sha256 {}\n", table.table, table.rows, table.sha256));
    }
    text.push_str(&format!(
        "{} rows are in {} and the same, row by row; {} is sealed\n",
        moved.rows, route.to, route.from
    ));
    if moved.in_flight > 0 {
        text.push_str(&format!(
            "{} attempt(s) were in flight: their stamps are read before anything is sent again\n",
            moved.in_flight
        ));
    }
    text.push_str("now write the new address into database.url, and start handover serve\n");
    print(&text)?;
    Ok(End::Done)
}

/// Opens a database that may be sealed. A sealed one takes no change, and so no migration: it is opened as it is.
///
/// # Errors
/// When it cannot be opened.
pub(super) async fn open(config: &Config, url: &str) -> anyhow::Result<(Store, Option<String>)> {
    let settings = config.database.settings_for(url)?;
    let store = Store::attach(&settings, &config.base).await?;
    let house = match store.read().await {
        // It may have no schema yet.
        Ok(mut tx) => rows::read(&mut tx).await.ok().flatten(),
        Err(_) => None,
    };
    if let Some(sealed) = house.filter(|house| house.state == "sealed") {
        return Ok((store, Some(sealed.why.unwrap_or_default())));
    }
    store.close().await;
    Ok((Store::open_with(&settings, &config.base).await?, None))
}

fn progress(rows: u64) -> ProgressBar {
    let bar = ProgressBar::new(rows.max(1));
    let style = ProgressStyle::with_template("{msg:24} {bar:32} {percent:>3}% {pos}/{len} rows, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn tell(bar: &ProgressBar, rows: u64, step: Step) {
    match step {
        Step::Copied(table, many) => {
            bar.set_message(format!("copying {table}"));
            bar.inc(many);
        }
        Step::Corrected(table, _) => bar.set_message(format!("bringing {table} in line")),
        Step::Comparing => {
            bar.set_length(rows.max(1));
            bar.set_position(0);
        }
        Step::Compared(table, many) => {
            bar.set_message(format!("comparing {table}"));
            bar.inc(many);
        }
        Step::Sealing => bar.set_message("sealing the old one"),
        Step::Opening => bar.set_message("opening the new one"),
    }
}

async fn status(config: &Config, as_json: bool) -> anyhow::Result<End> {
    let store = Store::attach(&config.database.settings()?, &config.base).await?;
    let Some(house) = rows::read(&mut store.read().await?).await? else {
        return Ok(complain("nothing was ever served from this database"));
    };
    if as_json {
        json(&json!({
            "installation": house.installation, "epoch": house.epoch, "beat": house.beat, "state": house.state,
            "why": house.why, "restored_at": house.restored_at, "changed_at": house.changed_at, "server": house.server,
        }))?;
    } else {
        let why = house.why.as_deref().map(|why| format!(": {}", super::text::plain(why))).unwrap_or_default();
        print(&format!(
            "{} is {}{why}\ninstallation {}, epoch {}, beat {}\n",
            config.database.shown(),
            house.state,
            house.installation,
            house.epoch,
            house.beat
        ))?;
    }
    Ok(if house.state == "open" { End::Done } else { End::Wrong })
}

async fn unseal(config: &Config, reason: &str) -> anyhow::Result<End> {
    let store = Store::attach(&config.database.settings()?, &config.base).await?;
    let _claim = store.claim()?;
    if !house::unseal(&store, reason, &actor(), now()).await? {
        return Ok(complain("the database is not sealed"));
    }
    store.close().await;
    print("the database takes changes again; nothing is sent until the stamps have been read\n")?;
    Ok(End::Done)
}
