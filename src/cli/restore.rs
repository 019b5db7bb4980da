//! `handover restore`: a backup takes the place of the database, and what it cannot know is checked before anything is sent.
//!
//! The backup is copied, brought up to date and marked as restored beside the database; only then it takes its place, in one step. Whatever
//! was there is kept beside it. Stopped before that step, the old database is as it was.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::args::Restore;
use super::backup::{Checked, beside, spinner, sync_folder};
use super::config::Config;
use super::run::{End, Misused, actor, complain, json, now, print};
use crate::app::house;
use crate::custody::Why;
use crate::store::{Store, claim_file, hold, house as rows};

/// Restores, declares that something was restored, or says how far the check is.
///
/// # Errors
/// When something cannot be read or written.
pub(super) async fn restore(config: &Config, options: &Restore) -> anyhow::Result<End> {
    let url = options.to.as_deref().unwrap_or(&config.database.url);
    if options.check {
        return check(config, url, options.json).await;
    }
    let reason = options.reason.as_deref().unwrap_or_default();
    if options.declare {
        let store = Store::open_with(&config.database.settings_for(url)?, &config.base).await?;
        house::hold_house(&store, &format!("declared: {reason}"), None, None, &actor(), now()).await?;
        store.close().await;
        print("nothing is sent until the stamps have been read\n")?;
        return Ok(End::Done);
    }
    if options.open {
        let store = Store::open_with(&config.database.settings_for(url)?, &config.base).await?;
        if !house::open_house_early(&store, reason, &actor(), now()).await? {
            return Ok(complain("there is no check after a restore to end"));
        }
        store.close().await;
        print("the house is open; what is held stays held\n")?;
        return Ok(End::Done);
    }
    let Some(file) = &options.file else { return Err(Misused("name the backup".to_owned()).into()) };
    let Some(path) = url.strip_prefix("sqlite://") else {
        return Err(Misused(
            "PostgreSQL is restored by pg_restore, or to a point in time by its own recovery; \
             docs/operations/backup.md tells how. Afterwards `handover restore --declare` holds everything until the \
             stamps have been read; handover serve notices by itself as well"
                .to_owned(),
        )
        .into());
    };
    from_file(file, &config.base.join(path), options).await
}

async fn from_file(file: &Path, database: &Path, options: &Restore) -> anyhow::Result<End> {
    let bar = spinner("reading");
    Checked::file(file)?;
    if let Some(folder) = database.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let _claim = claim_file(database)?;
    if database.exists() && !options.replace {
        return Ok(complain(&format!(
            "{} is there already; --replace puts the backup in its place and keeps it beside",
            database.display()
        )));
    }
    let coming = beside(database, "restoring");
    sweep_up(&coming);
    std::fs::copy(file, &coming).with_context(|| format!("{} cannot be written", coming.display()))?;
    bar.set_message("checking");
    let url = format!("sqlite://{}", std::path::absolute(&coming)?.display());
    let store = Store::open(&url, Path::new("/")).await?;
    let damage = store.damage().await?;
    ensure!(damage.is_empty(), "{} is damaged: {}", file.display(), damage.join("; "));
    let sealed = rows::read(&mut store.read().await?).await?.filter(|house| house.state == "sealed");
    if let Some(sealed) = sealed {
        return Ok(complain(&format!("this is a backup of a sealed database: {}", sealed.why.unwrap_or_default())));
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    house::hold_house(&store, &format!("restored from {name}"), None, None, &actor(), now()).await?;
    let held = hold::held(&mut store.read().await?, Why::Restored.name()).await?;
    store.close().await;
    let log = beside_log(&coming);
    let left = std::fs::metadata(&log).map_or(0, |log| log.len());
    ensure!(left == 0, "{left} bytes of {} were not written back; nothing was replaced", log.display());
    File::open(&coming)?.sync_all()?;
    let kept = take_the_place(&coming, database)?;
    sweep_up(&coming);
    bar.finish_and_clear();
    if options.json {
        json(&json!({
            "database": database, "kept": kept, "held_revocations": held.revocations, "held_people": held.people,
        }))?;
        return Ok(End::Done);
    }
    let kept = kept.map(|kept| format!("what was there is kept as {}\n", kept.display())).unwrap_or_default();
    print(&format!(
        "{} is restored\n{kept}{} unfinished revocation(s) of {} people are held; handover serve reads the stamps, compares \
         the sources, and then sends what is new\n",
        database.display(),
        held.revocations,
        held.people
    ))?;
    Ok(End::Done)
}

/// SQLite's log of a database.
fn beside_log(database: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", database.display()))
}

/// Takes away a database that nobody needs, and what lies beside it.
fn sweep_up(database: &Path) {
    for ending in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(format!("{}{ending}", database.display())));
    }
}

/// Puts a file in the place of a database, whose own log must not be applied to it. Says under which name the old one is kept.
fn take_the_place(coming: &Path, database: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mut kept = None;
    if database.exists() {
        let aside = beside(database, &format!("before-{}", now().format("%Y-%m-%dT%H%M%S%.3fZ")));
        std::fs::hard_link(database, &aside)
            .or_else(|_| std::fs::copy(database, &aside).map(drop))
            .with_context(|| format!("{} cannot be kept as {}", database.display(), aside.display()))?;
        let log = beside_log(database);
        if log.exists() {
            std::fs::rename(&log, format!("{}-wal", aside.display()))?;
        }
        kept = Some(aside);
    }
    drop(std::fs::remove_file(format!("{}-shm", database.display())));
    drop(std::fs::remove_file(format!("{}-wal", database.display())));
    std::fs::rename(coming, database)?;
    sync_folder(database)?;
    Ok(kept)
}

async fn check(config: &Config, url: &str, as_json: bool) -> anyhow::Result<End> {
    let store = Store::attach(&config.database.settings_for(url)?, &config.base).await?;
    let mut tx = store.read().await?;
    let Some(house) = rows::read(&mut tx).await? else {
        return Ok(complain("nothing was ever served from this database"));
    };
    let held = hold::held(&mut tx, Why::Restored.name()).await?;
    if as_json {
        json(&json!({
            "state": house.state, "why": house.why, "restored_at": house.restored_at,
            "held_revocations": held.revocations, "held_people": held.people,
        }))?;
    } else {
        let state = match (house.state.as_str(), house.restored_at) {
            ("checking", _) => format!("checking: {}", super::text::plain(&house.why.unwrap_or_default())),
            (state, Some(at)) => format!("{state}; restored at {}, and checked", at.format("%Y-%m-%d %H:%M UTC")),
            (state, None) => format!("{state}; never restored"),
        };
        print(&format!(
            "{state}\n{} revocation(s) of {} people are held because of it\n",
            held.revocations, held.people
        ))?;
    }
    Ok(if house.state == "open" { End::Done } else { End::Wrong })
}
