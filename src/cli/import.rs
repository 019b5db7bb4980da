//! `handover import`: files of events, taken in by batches.
//!
//! How far a file has come is written down after each batch, under the digest of its content and its source. A stop between
//! a batch and that note repeats the batch, which is harmless: the same event twice is one event.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use csv::ByteRecord;
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
pub(crate) struct Line {
    /// Its number, from 1; in CSV that of the record after the header.
    pub(crate) number: u64,
    /// The event as the vendor would post it in JSON. What cannot be brought into that form is here as it was, and will be
    /// refused.
    pub(crate) body: Vec<u8>,
}

/// What became of the lines of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// New events.
    pub(crate) recorded: u64,
    /// Events that were known.
    pub(crate) duplicates: u64,
    /// The numbers of lines that could not be read; they are in quarantine.
    pub(crate) refused: Vec<u64>,
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
    mut take_in: impl AsyncFnMut(Vec<Line>) -> anyhow::Result<Counts>,
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
        let counts = take_in(batch).await?;
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
    Csv { reader: csv::Reader<File>, header: Vec<String>, number: u64 },
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
                let header = reader.headers().with_context(|| format!("{} has no header", path.display()))?;
                let header = header.iter().map(|name| name.trim().trim_start_matches('\u{feff}').to_owned()).collect();
                Ok(Self::Csv { reader, header, number: 0 })
            }
            _ => bail!("{} is neither .jsonl, .ndjson, .json nor .csv", path.display()),
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
            if line.number > skip && !line.body.is_empty() {
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
                }
                Ok(Some(Line { number: *number, body: text.trim_ascii().to_vec() }))
            }
            Self::Csv { reader, header, number } => {
                let mut record = ByteRecord::new();
                *number += 1;
                let more = reader.read_byte_record(&mut record)?;
                Ok(more.then(|| Line { number: *number, body: posted(header, &record) }))
            }
        }
    }
}

/// A record as the vendor would post it: an object of texts. One that is not text, or longer than its header, stays what
/// it is.
fn posted(header: &[String], record: &ByteRecord) -> Vec<u8> {
    let texts: Option<Vec<&str>> = record.iter().map(|value| std::str::from_utf8(value).ok()).collect();
    match texts {
        Some(texts) if texts.len() <= header.len() => {
            let names = header.iter().zip(texts).filter(|(name, _)| !name.is_empty());
            let object: serde_json::Map<_, _> = names.map(|(name, text)| (name.clone(), text.into())).collect();
            serde_json::Value::from(object).to_string().into_bytes()
        }
        _ => record.iter().collect::<Vec<_>>().join(&b','),
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
        let text = "{}\n\n".repeat(1201);
        std::fs::write(&path, text).unwrap();

        let mut calls = 0;
        let stopped = file(&store, "uem", &path, now, async |batch| {
            calls += 1;
            if calls == 2 {
                bail!("stopped");
            }
            Ok(Counts { recorded: batch.len() as u64, ..Counts::default() })
        });
        assert!(stopped.await.is_err());
        let mut seen = Vec::new();
        let resumed = file(&store, "uem", &path, now, async |batch| {
            seen.extend(batch.iter().map(|line| line.number));
            Ok(Counts { recorded: 1, refused: vec![batch[0].number], ..Counts::default() })
        });
        let resumed = resumed.await.unwrap();
        let again = file(&store, "uem", &path, now, async |_| panic!("there is nothing left")).await.unwrap();

        assert_eq!((resumed.before, seen.first(), seen.len()), (999, Some(&1001), 701));
        insta::assert_snapshot!(told(&[resumed, again]), @r#"
        events.jsonl: 2401 lines (went on after line 999); 2 recorded, 0 known, 2 refused
          refused and in quarantine: lines 1001, 2001
        events.jsonl: 2401 lines (went on after line 2401); 0 recorded, 0 known, 0 refused
        "#);
    }

    #[tokio::test]
    async fn a_csv_becomes_what_the_vendor_would_post_and_a_line_without_end_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("sqlite://handover.db", folder.path()).await.unwrap();
        let (csv, json) = (folder.path().join("a.csv"), folder.path().join("b.ndjson"));
        let lines = b"\xef\xbb\xbfSerialNumber,EventType\nDMPX7Q2LK1,\"Check,Out\"\nA\na,b,c\n\xff,x\n";
        std::fs::write(&csv, lines).unwrap();
        std::fs::write(&json, format!("{}\n{{}}\n", "x".repeat(600 * 1024))).unwrap();

        let mut seen = Vec::new();
        let mut note = async |batch: Vec<Line>| {
            seen.extend(batch.into_iter().map(|line| line.body));
            Ok(Counts::default())
        };
        file(&store, "uem", &csv, now, &mut note).await.unwrap();
        file(&store, "uem", &json, now, &mut note).await.unwrap();

        let told: Vec<_> = seen.iter().map(|body| String::from_utf8_lossy(&body[..body.len().min(60)])).collect();
        assert_eq!(
            told[..4],
            [
                r#"{"EventType":"Check,Out","SerialNumber":"DMPX7Q2LK1"}"#,
                r#"{"SerialNumber":"A"}"#,
                "a,b,c",
                "\u{fffd},x"
            ]
        );
        assert_eq!((seen[4].len(), seen[5].as_slice()), (512 * 1024, &b"{}"[..]));
    }
}
