//! `handover backup`: a consistent copy of a SQLite database while it is in use, and the proof that it can be restored.
//!
//! A backup appears under its name only when it is whole, checked and on the disk; a stop before that leaves a file that ends in
//! `.partial`. Beside it lies a manifest: counts, and the digest of the file.
//!
//! PostgreSQL brings its own tools. We say which, with the right parameters, or run `pg_dump`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use indicatif::ProgressBar;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::args::{Backup, BackupAction};
use super::config::Config;
use super::run::{End, Misused, complain, json, now, print};
use super::{house, text};
use crate::store::{Settings, Store, house as rows, moving, tables};

/// What lies beside a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The version that wrote it.
    version: String,
    /// The newest migration in it.
    schema: i64,
    /// When it was begun.
    taken_at: DateTime<Utc>,
    /// Whose it is, since which restore or move, and how far along.
    installation: Option<Uuid>,
    epoch: Option<Uuid>,
    beat: Option<i64>,
    /// How many rows each table has.
    rows: BTreeMap<String, i64>,
    /// The size of the file.
    bytes: u64,
    /// Of the file.
    sha256: String,
}

/// Writes a backup, or verifies one.
///
/// # Errors
/// When it cannot be written or read.
pub(super) async fn backup(config: &Config, options: &Backup) -> anyhow::Result<End> {
    if let Some(BackupAction::Verify { file, json }) = &options.action {
        return verify(config, file, *json).await;
    }
    let Some(to) = &options.to else { return Err(Misused("say with --to where the backup goes".to_owned()).into()) };
    let at = now();
    let Some(database) = config.database.file(&config.base) else {
        return dump(config, &named(to, at, "dump")?, options.pg_dump).await;
    };
    if options.pg_dump {
        return Err(Misused("--pg-dump is for PostgreSQL; this is a SQLite database".to_owned()).into());
    }
    ensure!(database.exists(), "there is no database at {}", database.display());
    let to = named(to, at, "db")?;
    ensure!(!to.exists(), "{} is there already; a backup never replaces another", to.display());
    let bar = spinner("copying");
    let partial = beside(&to, "partial");
    drop(std::fs::remove_file(&partial));
    let store = Store::attach(&config.database.settings()?, &config.base).await?;
    store.write_copy(&partial).await.with_context(|| format!("{} cannot be written", partial.display()))?;
    store.close().await;
    bar.set_message("checking");
    let manifest = sealed_manifest(&partial, at).await?;
    let text = format!("{}\n", serde_json::to_string_pretty(&manifest)?);
    write_whole(&beside(&to, "json"), text.as_bytes())?;
    std::fs::rename(&partial, &to)?;
    sync_folder(&to)?;
    bar.finish_and_clear();
    if options.json {
        json(&serde_json::json!({ "file": to, "manifest": manifest }))?;
    } else {
        print(&format!(
            "{}: {} bytes, {} events, sha256 {}\n",
            to.display(),
            manifest.bytes,
            manifest.rows.get("events").copied().unwrap_or(0),
            manifest.sha256
        ))?;
    }
    Ok(End::Done)
}

/// Checks a copy that nobody else has open, brings it onto the disk, and describes it.
async fn sealed_manifest(file: &Path, taken_at: DateTime<Utc>) -> anyhow::Result<Manifest> {
    let mut manifest = described(file, taken_at).await?;
    // Only now: what opens a database may change its header.
    (manifest.bytes, manifest.sha256) = digest(file)?;
    File::open(file)?.sync_all()?;
    Ok(manifest)
}

async fn described(file: &Path, taken_at: DateTime<Utc>) -> anyhow::Result<Manifest> {
    let store = attach(file).await?;
    let damage = store.damage().await?;
    ensure!(damage.is_empty(), "{} is damaged: {}", file.display(), damage.join("; "));
    let schema = store.schema().await?;
    let counts = counts(&store).await?;
    // A first schema has no house.
    let house = if schema > 1 { rows::read(&mut store.read().await?).await? } else { None };
    store.close().await;
    Ok(Manifest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema,
        taken_at,
        installation: house.as_ref().map(|house| house.installation),
        epoch: house.as_ref().map(|house| house.epoch),
        beat: house.as_ref().map(|house| house.beat),
        rows: counts,
        bytes: 0,
        sha256: String::new(),
    })
}

async fn attach(file: &Path) -> anyhow::Result<Store> {
    let url = format!("sqlite://{}", std::path::absolute(file)?.display());
    Store::attach(&Settings::new(&url), Path::new("/"))
        .await
        .with_context(|| format!("{} cannot be opened", file.display()))
}

/// How many rows each table has that is there.
async fn counts(store: &Store) -> anyhow::Result<BTreeMap<String, i64>> {
    let mut tx = store.read().await?;
    let columns = tables::in_schema(&mut tx).await?;
    let names: std::collections::BTreeSet<_> =
        columns.iter().filter_map(|column| column.split('.').next()).map(str::to_owned).collect();
    let mut counts = BTreeMap::new();
    for name in names {
        let many = moving::count(&mut tx, &name).await?;
        counts.insert(name, many);
    }
    Ok(counts)
}

/// Checks a backup as [`super::restore`] would use it.
pub(super) struct Checked {
    pub(super) manifest: Option<Manifest>,
}

impl Checked {
    /// That the file is as its manifest says, where there is one.
    ///
    /// # Errors
    /// When it is not, or cannot be read.
    pub(super) fn file(file: &Path) -> anyhow::Result<Self> {
        ensure!(file.is_file(), "there is no backup at {}", file.display());
        let manifest = match std::fs::read(beside(file, "json")) {
            Ok(text) => Some(
                serde_json::from_slice::<Manifest>(&text)
                    .with_context(|| format!("{} is not a manifest", beside(file, "json").display()))?,
            ),
            Err(_) => None,
        };
        if let Some(manifest) = &manifest {
            let (bytes, sha256) = digest(file)?;
            ensure!(
                (bytes, &sha256) == (manifest.bytes, &manifest.sha256),
                "{} is not the file that its manifest describes: {bytes} bytes with sha256 {sha256}, not {} with {}",
                file.display(),
                manifest.bytes,
                manifest.sha256
            );
        }
        Ok(Self { manifest })
    }
}

async fn verify(config: &Config, file: &Path, as_json: bool) -> anyhow::Result<End> {
    let bar = spinner("reading");
    let checked = Checked::file(file)?;
    let scratch = std::env::temp_dir().join(format!("handover-verify-{}", Uuid::new_v4()));
    std::fs::create_dir(&scratch)?;
    let verified = verify_in(config, file, &scratch, checked.manifest.as_ref(), &bar).await;
    drop(std::fs::remove_dir_all(&scratch));
    bar.finish_and_clear();
    let found = match verified {
        Ok(found) => found,
        Err(error) => return Ok(complain(&format!("{} is not good: {error:#}", file.display()))),
    };
    let rows = &found.described.rows;
    if as_json {
        json(&serde_json::json!({
            "file": file, "manifest": checked.manifest.is_some(), "schema": found.described.schema, "rows": rows,
            "replayed": { "devices": found.devices, "events": found.events, "differ": found.differ },
        }))?;
    } else {
        print(&format!(
            "{}: sound, schema {}, {} events; {} devices folded again from {} events: {}\n{}",
            file.display(),
            found.described.schema,
            rows.get("events").copied().unwrap_or(0),
            found.devices,
            found.events,
            if found.differ == 0 { "all as stored".to_owned() } else { format!("{} different", found.differ) },
            if checked.manifest.is_none() {
                "there is no manifest beside it, so its digest was not compared\n"
            } else {
                ""
            }
        ))?;
    }
    Ok(if found.differ == 0 { End::Done } else { End::Wrong })
}

struct Found {
    described: Manifest,
    devices: u64,
    events: u64,
    differ: u64,
}

async fn verify_in(
    config: &Config,
    file: &Path,
    scratch: &Path,
    manifest: Option<&Manifest>,
    bar: &ProgressBar,
) -> anyhow::Result<Found> {
    let copy = scratch.join("handover.db");
    std::fs::copy(file, &copy)?;
    bar.set_message("checking pages");
    let described = described(&copy, now()).await?;
    if let Some(manifest) = manifest {
        ensure!(described.rows == manifest.rows, "its counts are not those of its manifest");
        ensure!(described.schema == manifest.schema, "its schema is not that of its manifest");
    }
    bar.set_message("bringing its schema up to date");
    let store = Store::open(&format!("sqlite://{}", copy.display()), Path::new("/")).await?;
    let app = house::app(config, store.clone())?;
    let replayed = app.replay(|devices| bar.set_message(format!("folding again: {devices} devices"))).await?;
    drop(app);
    store.close().await;
    for difference in &replayed.differences {
        eprintln!("{}", text::plain(difference));
    }
    Ok(Found { described, devices: replayed.devices, events: replayed.events, differ: replayed.differ })
}

/// Lets `pg_dump` write, or says how.
async fn dump(config: &Config, to: &Path, run: bool) -> anyhow::Result<End> {
    let (address, password) = without_password(&config.database.url);
    let says = format!(
        "PostgreSQL is backed up by its own tools:\n\n\
         \x20 pg_dump --format=custom --file={file} '{address}'\n\n\
         writes one consistent state, while everything runs; `pg_restore --dbname=… {file}` reads it into an empty database.\n\
         To be able to go back to any moment, archive the write-ahead log and take base backups:\n\n\
         \x20 pg_basebackup --pgdata=/var/backups/handover-base --wal-method=stream --checkpoint=fast --dbname='{address}'\n\n\
         with archive_mode = on and an archive_command. docs/operations/backup.md tells it step by step, and what Handover\n\
         checks after a restore. `handover backup --pg-dump --to {file}` runs the first one.\n",
        file = to.display(),
    );
    if !run {
        return Err(Misused(says).into());
    }
    ensure!(!to.exists(), "{} is there already; a backup never replaces another", to.display());
    let partial = beside(to, "partial");
    let bar = spinner("pg_dump");
    let mut command = tokio::process::Command::new("pg_dump");
    command.arg("--format=custom").arg("--no-password").arg("--file").arg(&partial).arg(&address).stdin(Stdio::null());
    let configured = config.database.settings()?.password;
    if let Some(password) = password.or_else(|| configured.map(|secret| secret.expose_secret().to_owned())) {
        command.env("PGPASSWORD", password);
    }
    if !address.contains("sslmode=") {
        // As Handover itself does, and unlike the tool's own default.
        command.env("PGSSLMODE", "verify-full");
    }
    let ended = match command.status().await {
        Ok(ended) => ended,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Misused(format!("pg_dump is not installed here.\n\n{says}")).into());
        }
        Err(error) => return Err(error).context("pg_dump cannot be run"),
    };
    bar.finish_and_clear();
    if !ended.success() {
        drop(std::fs::remove_file(&partial));
        return Ok(complain(&format!("pg_dump ended with {ended}; nothing was written")));
    }
    File::open(&partial)?.sync_all()?;
    std::fs::rename(&partial, to)?;
    sync_folder(to)?;
    let (bytes, sha256) = digest(to)?;
    print(&format!("{}: {bytes} bytes, sha256 {sha256}\n", to.display()))?;
    Ok(End::Done)
}

/// A PostgreSQL address without its password, which must not stand on a command line, and the password.
fn without_password(url: &str) -> (String, Option<String>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let Some((user, hosts)) = authority.rsplit_once('@') else { return (url.to_owned(), None) };
    match user.split_once(':') {
        Some((user, password)) => (format!("{scheme}://{user}@{hosts}{path}"), Some(percent_decoded(password))),
        None => (url.to_owned(), None),
    }
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let decoded = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        out.push(decoded.unwrap_or(bytes[at]));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The file of a backup: as asked for, or in the folder that was asked for, by its time. What has no ending is a folder; one
/// that is not there yet is made.
fn named(to: &Path, at: DateTime<Utc>, ending: &str) -> anyhow::Result<PathBuf> {
    let is_folder = to.is_dir() || (to.extension().is_none() && !to.exists());
    let name = format!("handover-{}.{ending}", at.format("%Y-%m-%dT%H%M%SZ"));
    let file = if is_folder { to.join(name) } else { to.to_path_buf() };
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    }
    Ok(file)
}

/// The file beside another, with a further ending.
pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}.{ending}", file.display()))
}

/// A file's size and SHA-256.
pub(super) fn digest(file: &Path) -> anyhow::Result<(u64, String)> {
    let mut open = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1024 * 1024];
    let mut bytes = 0;
    loop {
        let read = open.read(&mut buffer).with_context(|| format!("{} cannot be read", file.display()))?;
        if read == 0 {
            return Ok((bytes, hex::encode(hash.finalize())));
        }
        hash.update(&buffer[..read]);
        bytes += u64::try_from(read).unwrap_or(0);
    }
}

fn write_whole(file: &Path, text: &[u8]) -> anyhow::Result<()> {
    let new = beside(file, "new");
    std::fs::write(&new, text)?;
    File::open(&new)?.sync_all()?;
    Ok(std::fs::rename(&new, file)?)
}

/// Brings a file's name onto the disk.
pub(super) fn sync_folder(file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(File::open(folder)?.sync_all()?)
}

/// Something that turns while one waits.
pub(super) fn spinner(doing: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_message(doing);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_taken_out_of_the_address_and_decoded() {
        let (address, password) =
            without_password("postgres://handover:p%40ss%2Fword@one:5432,two/handover?sslmode=require");

        assert_eq!(address, "postgres://handover@one:5432,two/handover?sslmode=require");
        assert_eq!(password.as_deref(), Some("p@ss/word"));
    }
}
