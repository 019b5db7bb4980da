//! `handover import`: files of events, taken in by batches.
//!
//! How far a file has come is written down after each batch, under the digest of its content and its source. A stop between
//! a batch and that note repeats the batch, which is harmless: the same event twice is one event.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use csv::StringRecord;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::store::{Store, sources};

/// How many lines are taken in by one call, and are repeated at most after a stop.
const BATCH: usize = 500;

/// The longest line, in bytes: a little more than the longest event that is read.
const LONGEST_LINE: u64 = 512 * 1024;

/// How many numbers of refused lines are told.
const TOLD: usize = 100;

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1; in CSV that of the record after the header.
    pub number: u64,
    /// What it says.
    pub content: Content,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// One event in JSON.
    Json(Vec<u8>),
    /// One record of CSV; the header is that of the [`Batch`].
    Record(StringRecord),
    /// Longer than any event, or not readable as a line; to be refused.
    Unreadable(String),
}

/// Lines of one file, to be taken in together.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The header of a CSV file.
    pub header: Option<&'a StringRecord>,
    /// The lines.
    pub lines: &'a [Line],
}

/// What became of the lines of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// New events.
    pub recorded: u64,
    /// Events that were known.
    pub duplicates: u64,
    /// The numbers of lines that could not be read; they are in quarantine.
    pub refused: Vec<u64>,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Imported {
    /// The file.
    pub(crate) file: String,
    /// How many lines had been taken in before.
    pub(crate) before: u64,
    /// How many are now.
    pub(crate) lines: u64,
    /// New events.
    pub(crate) recorded: u64,
    /// Events that were known.
    pub(crate) duplicates: u64,
    /// How many lines could not be read.
    pub(crate) refused: u64,
    /// The numbers of the first of them.
    pub(crate) refused_lines: Vec<u64>,
}

/// Takes in one file from where it stopped.
///
/// # Errors
/// When the file or the database cannot be read, or a batch cannot be taken in.
pub(crate) async fn file(
    store: &Store,
    source: &str,
    path: &Path,
    clock: impl Fn() -> DateTime<Utc>,
    mut take_in: impl AsyncFnMut(Batch<'_>) -> anyhow::Result<Counts>,
) -> anyhow::Result<Imported> {
    let (digest, length) = digest(path, source)?;
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let before = match sources::import(&mut store.read().await?, &digest).await? {
        Some((lines, _)) => u64::try_from(lines).unwrap_or(0),
        None => 0,
    };
    let mut done = Imported {
        file: name.clone(),
        before,
        lines: before,
        recorded: 0,
        duplicates: 0,
        refused: 0,
        refused_lines: Vec::new(),
    };
    let bar = progress(length, &name);
    let mut lines = Lines::open(path)?;
    loop {
        let batch = lines.batch(before)?;
        bar.set_position(lines.position());
        let Some(last) = batch.last().map(|line| line.number) else { break };
        let counts = take_in(Batch { header: lines.header(), lines: &batch }).await?;
        done.lines = last;
        done.recorded += counts.recorded;
        done.duplicates += counts.duplicates;
        done.refused += u64::try_from(counts.refused.len()).unwrap_or(u64::MAX);
        let room = TOLD.saturating_sub(done.refused_lines.len());
        done.refused_lines.extend(counts.refused.into_iter().take(room));
        reached(store, &digest, &name, done.lines, None).await?;
    }
    reached(store, &digest, &name, done.lines, Some(clock())).await?;
    bar.finish_and_clear();
    Ok(done)
}

async fn reached(
    store: &Store,
    digest: &[u8],
    name: &str,
    lines: u64,
    finished_at: Option<DateTime<Utc>>,
) -> anyhow::Result<()> {
    let mut tx = store.write().await?;
    let lines = i64::try_from(lines).unwrap_or(i64::MAX);
    sources::import_reached(&mut tx, digest, name, lines, finished_at).await?;
    Ok(tx.commit().await?)
}

/// SHA-256 of the source's name and the file's content, and the file's length.
fn digest(path: &Path, source: &str) -> anyhow::Result<(Vec<u8>, u64)> {
    let mut file = open(path)?;
    let mut hash = Sha256::new();
    hash.update(source.as_bytes());
    hash.update([0]);
    let mut buffer = vec![0; 64 * 1024];
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("{} cannot be read", path.display()))?;
        if read == 0 {
            return Ok((hash.finalize().to_vec(), length));
        }
        hash.update(&buffer[..read]);
        length += u64::try_from(read).unwrap_or(0);
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// A bar on standard error; it hides itself where that is no terminal.
fn progress(length: u64, name: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(super::text::plain(name).into_owned());
    bar
}

/// The lines of a file, by its kind.
enum Lines {
    Json { reader: BufReader<File>, number: u64, position: u64 },
    Csv { reader: csv::Reader<File>, header: StringRecord, number: u64 },
}

impl Lines {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let kind = path.extension().and_then(|kind| kind.to_str()).map(str::to_ascii_lowercase);
        match kind.as_deref() {
            Some("jsonl" | "ndjson" | "json") => {
                Ok(Self::Json { reader: BufReader::new(open(path)?), number: 0, position: 0 })
            }
            Some("csv") => {
                let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(open(path)?);
                let header = reader.headers().with_context(|| format!("{} has no header", path.display()))?.clone();
                Ok(Self::Csv { reader, header, number: 0 })
            }
            _ => bail!("{} is neither .jsonl, .ndjson, .json nor .csv", path.display()),
        }
    }

    fn header(&self) -> Option<&StringRecord> {
        match self {
            Self::Json { .. } => None,
            Self::Csv { header, .. } => Some(header),
        }
    }

    fn position(&self) -> u64 {
        match self {
            Self::Json { position, .. } => *position,
            Self::Csv { reader, .. } => reader.position().byte(),
        }
    }

    /// The next lines after the first `skip` of the file; none at its end. Empty lines are passed over, but counted.
    fn batch(&mut self, skip: u64) -> anyhow::Result<Vec<Line>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            let Some(line) = self.next()? else { break };
            let empty = matches!(&line.content, Content::Json(text) if text.trim_ascii().is_empty());
            if line.number > skip && !empty {
                batch.push(line);
            }
        }
        Ok(batch)
    }

    fn next(&mut self) -> anyhow::Result<Option<Line>> {
        match self {
            Self::Json { reader, number, position } => {
                let mut text = Vec::new();
                let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text)?;
                if read == 0 {
                    return Ok(None);
                }
                *number += 1;
                *position += u64::try_from(read).unwrap_or(0);
                if u64::try_from(read).unwrap_or(0) == LONGEST_LINE && !text.ends_with(b"\n") {
                    *position += u64::try_from(reader.skip_until(b'\n')?).unwrap_or(0);
                    let content = Content::Unreadable("the line is longer than any event".to_owned());
                    return Ok(Some(Line { number: *number, content }));
                }
                let end = text.trim_ascii_end().len();
                text.truncate(end);
                Ok(Some(Line { number: *number, content: Content::Json(text) }))
            }
            Self::Csv { reader, number, .. } => {
                let mut record = StringRecord::new();
                *number += 1;
                match reader.read_record(&mut record) {
                    Ok(true) => Ok(Some(Line { number: *number, content: Content::Record(record) })),
                    Ok(false) => Ok(None),
                    Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
                        Ok(Some(Line { number: *number, content: Content::Unreadable(error.to_string()) }))
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

/// What became of all files, for people.
pub(crate) fn told(files: &[Imported]) -> String {
    let mut text = String::new();
    for file in files {
        let went_on = if file.before > 0 { format!(" (went on after line {})", file.before) } else { String::new() };
        text.push_str(&format!(
            "{}: {} lines{went_on}; {} recorded, {} known, {} refused\n",
            super::text::plain(&file.file),
            file.lines,
            file.recorded,
            file.duplicates,
            file.refused
        ));
        if !file.refused_lines.is_empty() {
            let numbers: Vec<_> = file.refused_lines.iter().map(u64::to_string).collect();
            let rest = if file.refused > TOLD as u64 { ", …" } else { "" };
            text.push_str(&format!("  refused and in quarantine: lines {}{rest}\n", numbers.join(", ")));
        }
    }
    text
}

/// The files that are not there.
pub(crate) fn missing(files: &[PathBuf]) -> Vec<String> {
    files.iter().filter(|file| !file.is_file()).map(|file| file.display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-03-02T15:00:00Z".parse().unwrap()
    }

    #[tokio::test]
    async fn an_import_that_was_stopped_goes_on_and_a_repeated_one_takes_in_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("sqlite://handover.db", folder.path()).await.unwrap();
        let path = folder.path().join("events.jsonl");
        let text: String = (1..=1201).map(|number| format!("{{\"n\":{number}}}\n\n")).collect();
        std::fs::write(&path, text).unwrap();

        let mut calls = 0;
        let stopped = file(&store, "uem", &path, now, async |batch| {
            calls += 1;
            if calls == 2 {
                bail!("stopped");
            }
            Ok(Counts { recorded: batch.lines.len() as u64, ..Counts::default() })
        });
        assert!(stopped.await.is_err());
        let mut seen = Vec::new();
        let resumed = file(&store, "uem", &path, now, async |batch| {
            seen.extend(batch.lines.iter().map(|line| line.number));
            Ok(Counts { recorded: 1, refused: vec![batch.lines[0].number], ..Counts::default() })
        });
        let resumed = resumed.await.unwrap();
        let again = file(&store, "uem", &path, now, async |_| panic!("there is nothing left")).await.unwrap();

        assert_eq!((resumed.before, seen.first(), seen.len()), (999, Some(&1001), 701));
        insta::assert_snapshot!(told(&[resumed, again]), @"");
    }

    #[tokio::test]
    async fn a_csv_comes_with_its_header_and_a_line_without_end_is_refused_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("sqlite://handover.db", folder.path()).await.unwrap();
        let (csv, json) = (folder.path().join("a.csv"), folder.path().join("b.ndjson"));
        std::fs::write(&csv, "SerialNumber,EventType\nDMPX7Q2LK1,\"Check,Out\"\n").unwrap();
        std::fs::write(&json, format!("{}\n{{}}\n", "x".repeat(600 * 1024))).unwrap();

        let mut seen = Vec::new();
        let mut note = async |batch: Batch<'_>| {
            seen.push(batch.header.map(|header| header.len()));
            seen.extend(batch.lines.iter().map(|line| match &line.content {
                Content::Record(record) => record.get(1).map(str::len),
                Content::Json(text) => Some(text.len()),
                Content::Unreadable(_) => None,
            }));
            Ok(Counts::default())
        };
        file(&store, "uem", &csv, now, &mut note).await.unwrap();
        file(&store, "uem", &json, now, &mut note).await.unwrap();

        assert_eq!(seen, [Some(2), Some(9), None, None, Some(2)]);
    }
}
