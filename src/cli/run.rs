//! From the arguments to the exit code.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use indicatif::ProgressBar;
use serde::Serialize;
use uuid::Uuid;

use super::args::{
    Action, ActionOn, Cli, Command, ConfigAction, Doctor, Health, History, Import, Listing, Person, Release, Replay,
    Revocations, Token, TokenAction, Who,
};
use super::config::{self, Config, LogFormat};
use super::{backup, doctor, health, house, import, lists, logging, moving, restore, serve, who};
#[cfg(feature = "sandbox")]
use super::{demo, sandbox};
use crate::app::App;
use crate::app::operate::{self, NotDone};
use crate::app::receive::Received;
use crate::app::record::Refused;
use crate::custody::Why;
use crate::store::asking::{self, Page, Paging, Span, custodies, devices, people, revocations};
use crate::store::tokens;
use crate::store::{Store, times};

/// How long an import waits when too much waits to be written.
const BUSY: Duration = Duration::from_millis(200);

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Done.
    Done,
    /// Found wrong: no such device, a problem, a line that was refused.
    Wrong,
}

/// The command was misused: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misused(pub(crate) String);

/// The time.
pub(super) fn now() -> DateTime<Utc> {
    times::utc(house::clock()())
}

/// Runs a command to its end.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<End> {
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("HANDOVER_"))
        .collect();
    let file = cli.config.as_deref();
    match cli.command {
        #[cfg(feature = "sandbox")]
        Command::Demo(options) => return demo::demo(options.exit).await.map(|()| End::Done),
        #[cfg(feature = "sandbox")]
        Command::Sandbox(options) => return sandbox::sandbox(options).await.map(|()| End::Done),
        Command::Config(options) => return configuration(options.action, file, &variables),
        Command::Doctor(options) => return examine(&options, file, &variables).await,
        Command::Health(options) => return well(&options, file, &variables).await,
        Command::Serve
        | Command::Import(_)
        | Command::Who(_)
        | Command::History(_)
        | Command::Person(_)
        | Command::Revocations(_)
        | Command::Replay(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Database(_)
        | Command::Token(_) => {}
    }
    let config = Config::load(file, &variables).map_err(|problems| Misused(problems.to_string()))?;
    if let Command::Serve = cli.command {
        logging::begin(&config.log);
        return serve::serve(&config).await.map(|()| End::Done);
    }
    quiet(&config);
    match cli.command {
        Command::Import(options) => take_in(&config, &options).await,
        Command::Who(options) => answer(&config, &options).await,
        Command::History(options) => history(&config, &options).await,
        Command::Person(options) => person(&config, &options).await,
        Command::Revocations(options) => owed(&config, options).await,
        Command::Replay(options) => replay(&config, &options).await,
        Command::Backup(options) => backup::backup(&config, &options).await,
        Command::Restore(options) => restore::restore(&config, &options).await,
        Command::Database(options) => moving::database(&config, &options.action).await,
        Command::Token(options) => token(&config, options).await,
        Command::Serve | Command::Config(_) | Command::Doctor(_) | Command::Health(_) => Ok(End::Done),
        #[cfg(feature = "sandbox")]
        Command::Demo(_) | Command::Sandbox(_) => Ok(End::Done),
    }
}

/// A command that answers and ends logs warnings only, unless somebody asked for more.
fn quiet(config: &Config) {
    let level = if config.log.level == "info" { "warn".to_owned() } else { config.log.level.clone() };
    logging::begin(&config::Log { level, ..config.log.clone() });
}

fn configuration(
    action: ConfigAction,
    file: Option<&Path>,
    variables: &BTreeMap<String, String>,
) -> anyhow::Result<End> {
    match action {
        ConfigAction::Sample => {
            print(config::sample())?;
            Ok(End::Done)
        }
        ConfigAction::Check => match Config::load(file, variables) {
            Ok(config) => {
                let from = config.file.as_ref().map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
                let mode = if config.is_shadow() { "shadow mode" } else { "live" };
                print(&format!(
                    "{from}: good; {mode}, {} source(s), {}\n",
                    config.sources.len(),
                    config.database.shown()
                ))?;
                Ok(End::Done)
            }
            Err(problems) => {
                print(&format!("{problems}\n"))?;
                Ok(End::Wrong)
            }
        },
    }
}

async fn examine(options: &Doctor, file: Option<&Path>, variables: &BTreeMap<String, String>) -> anyhow::Result<End> {
    let report = match Config::load(file, variables) {
        Err(problems) => doctor::configuration(&problems),
        Ok(config) => {
            logging::begin(&config::Log { level: "error".to_owned(), format: LogFormat::Text });
            doctor::examine(&config, options.offline, now).await
        }
    };
    if options.json {
        json(&report)?;
    } else {
        print(&report.told())?;
    }
    Ok(if report.wrongs() == 0 { End::Done } else { End::Wrong })
}

async fn well(options: &Health, file: Option<&Path>, variables: &BTreeMap<String, String>) -> anyhow::Result<End> {
    let root = if let Some(url) = &options.url {
        url.clone()
    } else {
        let config = Config::load(file, variables).map_err(|problems| Misused(problems.to_string()))?;
        health::address(config.server.listen)?
    };
    let question = if options.ready { health::Question::Ready } else { health::Question::Live };
    let health = health::ask(question, &root).await?;
    if options.json {
        json(&health)?;
    } else {
        print(&health.told())?;
    }
    Ok(if health.good { End::Done } else { End::Wrong })
}

/// Opens the database of a command that only makes sense with what `serve` has written.
async fn open(config: &Config) -> anyhow::Result<Store> {
    if let Some(path) = config.database.url.strip_prefix("sqlite://") {
        let file = config.base.join(path);
        anyhow::ensure!(
            file.exists(),
            "there is no database at {}; start handover serve first, or name its configuration with --config",
            file.display()
        );
    }
    let shown = config.database.shown();
    let (store, sealed) =
        moving::open(config, &config.database.url).await.with_context(|| format!("the database {shown}"))?;
    if let Some(why) = sealed {
        eprintln!("{}; what follows is from before that", super::text::plain(&why));
    }
    Ok(store)
}

/// Opens the database, and makes it where there is none.
async fn create(config: &Config) -> anyhow::Result<Store> {
    let shown = config.database.shown();
    house::store(config).await.with_context(|| format!("the database {shown}"))
}

async fn take_in(config: &Config, options: &Import) -> anyhow::Result<End> {
    let Some(source) = config.source(&options.source) else {
        let known: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
        let known = if known.is_empty() { "none is".to_owned() } else { format!("these are: {}", known.join(", ")) };
        return Err(Misused(format!("no source called {} is configured; {known}", options.source)).into());
    };
    let missing = import::missing(&options.files);
    if !missing.is_empty() {
        return Err(Misused(format!("not a file: {}", missing.join(", "))).into());
    }
    let store = create(config).await?;
    let app = house::app(config, store.clone())?;
    let mut done = Vec::new();
    for path in &options.files {
        let take_in = async |lines: Vec<import::Line>| post(&app, &source.name, lines).await;
        done.push(import::file(&store, &source.name, path, now, take_in).await?);
    }
    store.close().await;
    if options.json {
        json(&done)?;
    } else {
        print(&import::told(&done))?;
    }
    Ok(if done.iter().all(|file| file.refused == 0) { End::Done } else { End::Wrong })
}

/// Takes in lines as if the source had posted them.
async fn post(app: &App, source: &str, lines: Vec<import::Line>) -> anyhow::Result<import::Counts> {
    let (numbers, bodies): (Vec<_>, Vec<Bytes>) = lines.into_iter().map(|line| (line.number, line.body.into())).unzip();
    let received = loop {
        match app.receive_many(source, Some("application/json".to_owned()), bodies.clone()).await {
            Err(Refused::Busy) => tokio::time::sleep(BUSY).await,
            done => break done?,
        }
    };
    let mut counts = import::Counts::default();
    for (number, received) in numbers.into_iter().zip(received) {
        match received {
            Received::Recorded(_) => counts.recorded += 1,
            Received::Duplicate(_) => counts.duplicates += 1,
            Received::Quarantined(_) | Received::Malformed(_) => counts.refused.push(number),
        }
    }
    Ok(counts)
}

async fn answer(config: &Config, options: &Who) -> anyhow::Result<End> {
    let store = open(config).await?;
    let mut tx = store.read().await?;
    let Some((id, device)) = find_device(&mut tx, &options.device).await? else {
        return Ok(no_device(&options.device));
    };
    let now = now();
    let at = options.at.map_or(now, |asked| asked.instant(now));
    if at > now {
        return Err(Misused("--at lies in the future".to_owned()).into());
    }
    let held = custodies::at(&mut tx, id, at).await?;
    let about = held.revocation.as_ref().or_else(|| held.previous.as_ref().and_then(|last| last.revocation.as_ref()));
    let revocation = match about.map(|short| short.id) {
        Some(id) => revocations::one(&mut tx, id).await?,
        None => None,
    };
    let answer = who::Answer { device, held, revocation, past: options.at.is_some() };
    if options.json {
        json(&answer.json())?;
    } else {
        print(&format!("{}\n\n{}", answer.sentence(), answer.evidence()))?;
    }
    Ok(End::Done)
}

async fn find_device(tx: &mut crate::store::Tx, name: &str) -> anyhow::Result<Option<(Uuid, devices::Device)>> {
    let Some(id) = named(devices::identify(tx, name).await)? else { return Ok(None) };
    Ok(devices::one(tx, id).await?.map(|device| (id, device)))
}

/// A name that fits several things is a misuse; it says which.
fn named<T>(found: Result<T, asking::Error>) -> anyhow::Result<T> {
    found.map_err(|error| match error {
        asking::Error::Ambiguous { .. } => Misused(error.to_string()).into(),
        asking::Error::Cursor | asking::Error::Store(_) => error.into(),
    })
}

fn no_device(name: &str) -> End {
    complain(&format!("no device is called {name}"))
}

pub(super) fn complain(text: &str) -> End {
    eprintln!("{}", super::text::plain(text));
    End::Wrong
}

fn span(from: Option<super::time::Asked>, to: Option<super::time::Asked>) -> Span {
    let now = now();
    Span { from: from.map(|at| at.instant(now)), to: to.map(|at| at.instant(now)) }
}

/// Reads pages until there is enough; says whether there is more.
async fn collect<T>(
    limit: u32,
    mut page: impl AsyncFnMut(&Paging) -> Result<Page<T>, asking::Error>,
) -> anyhow::Result<(Vec<T>, bool)> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut items = Vec::new();
    let mut paging = Paging::largest();
    loop {
        let read = page(&paging).await?;
        items.extend(read.items);
        match read.next {
            Some(cursor) if items.len() < limit => paging = paging.after(cursor),
            next => {
                let more = next.is_some() || items.len() > limit;
                items.truncate(limit);
                return Ok((items, more));
            }
        }
    }
}

#[derive(Serialize)]
struct Items<'a, T> {
    items: &'a [T],
    more: bool,
}

fn list<T: Serialize>(
    listing: &Listing,
    (items, more): &(Vec<T>, bool),
    csv: impl Fn(&[T]) -> anyhow::Result<String>,
    table: impl Fn(&[T], bool) -> String,
) -> anyhow::Result<()> {
    if listing.json {
        json(&Items { items, more: *more })
    } else if listing.csv {
        print(&csv(items)?)
    } else {
        print(&table(items, *more))
    }
}

async fn history(config: &Config, options: &History) -> anyhow::Result<End> {
    let store = open(config).await?;
    let mut tx = store.read().await?;
    let Some((id, device)) = find_device(&mut tx, &options.device).await? else {
        return Ok(no_device(&options.device));
    };
    let span = span(options.from, options.to);
    let found =
        collect(options.listing.limit, async |paging| custodies::of_device(&mut tx, id, span, paging).await).await?;
    list(&options.listing, &found, lists::custodies_csv, |items, more| lists::history(&device, items, more))?;
    Ok(End::Done)
}

async fn person(config: &Config, options: &Person) -> anyhow::Result<End> {
    let store = open(config).await?;
    let mut tx = store.read().await?;
    let found = match named(people::identify(&mut tx, &options.upn).await)? {
        Some(id) => people::one(&mut tx, id).await?.map(|person| (id, person)),
        None => None,
    };
    let Some((id, person)) = found else { return Ok(complain(&format!("nobody is called {}", options.upn))) };
    let span = span(options.from, options.to);
    let found =
        collect(options.listing.limit, async |paging| custodies::of_person(&mut tx, id, span, paging).await).await?;
    list(&options.listing, &found, lists::custodies_csv, |items, more| lists::person(&person, items, more))?;
    Ok(End::Done)
}

async fn owed(config: &Config, options: Revocations) -> anyhow::Result<End> {
    let store = open(config).await?;
    if let Some(action) = options.action {
        let (deed, on) = match action {
            Action::Retry(on) => (operate::Action::Retry, on),
            Action::Release(Release { why: Some(why), reason, json, .. }) => {
                return release_many(config, &store, why, &reason, json).await;
            }
            Action::Release(Release { id, reason, json, .. }) => {
                let id = id.context("the revocation is missing")?;
                (operate::Action::Release, ActionOn { id, reason, json })
            }
            Action::Waive(on) => (operate::Action::Waive, on),
        };
        return act(config, &store, deed, &on).await;
    }
    let mut tx = store.read().await?;
    let mut filter = revocations::Filter { state: options.state, ..revocations::Filter::default() };
    if let Some(name) = &options.device {
        let Some(id) = named(devices::identify(&mut tx, name).await)? else { return Ok(no_device(name)) };
        filter.device = Some(id);
    }
    if let Some(name) = &options.person {
        let Some(id) = named(people::identify(&mut tx, name).await)? else {
            return Ok(complain(&format!("nobody is called {name}")));
        };
        filter.person = Some(id);
    }
    let found =
        collect(options.listing.limit, async |paging| revocations::list(&mut tx, &filter, paging).await).await?;
    list(&options.listing, &found, lists::revocations_csv, lists::revocations)?;
    Ok(End::Done)
}

async fn act(config: &Config, store: &Store, deed: operate::Action, on: &ActionOn) -> anyhow::Result<End> {
    let app = house::app(config, store.clone())?;
    match app.operate(deed, on.id, &actor(), &on.reason).await {
        Ok(()) => {}
        Err(refusal @ (NotDone::Unknown(_) | NotDone::Unfit { .. })) => return Ok(complain(&refusal.to_string())),
        Err(NotDone::Store(error)) => return Err(error.into()),
    }
    let Some(now) = revocations::one(&mut store.read().await?, on.id).await? else { return Ok(End::Wrong) };
    if on.json {
        json(&now)?;
    } else {
        print(&format!("{} is {}: {}\n", now.id, now.state, super::text::plain(&now.explanation)))?;
    }
    Ok(End::Done)
}

async fn release_many(config: &Config, store: &Store, why: Why, reason: &str, as_json: bool) -> anyhow::Result<End> {
    let app = house::app(config, store.clone())?;
    let released = match app.release_many(why, &actor(), reason).await {
        Err(refusal @ (NotDone::Unknown(_) | NotDone::Unfit { .. })) => return Ok(complain(&refusal.to_string())),
        done => done?,
    };
    if as_json {
        json(&released)?;
    } else {
        print(&format!(
            "released {} revocation(s) of {} people; {} people still have some that are held for the same reason\n",
            released.revocations, released.people, released.people_left
        ))?;
    }
    Ok(End::Done)
}

/// Who types, for the audit history.
pub(super) fn actor() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    user.filter(|user| !user.is_empty()).map_or_else(|| "cli".to_owned(), |user| format!("cli:{user}"))
}

async fn replay(config: &Config, options: &Replay) -> anyhow::Result<End> {
    let store = open(config).await?;
    let app = house::app(config, store.clone())?;
    let bar = ProgressBar::new_spinner();
    let found = app.replay(|devices| bar.set_message(format!("{devices} devices"))).await?;
    bar.finish_and_clear();
    if options.json {
        json(&serde_json::json!({
            "devices": found.devices, "events": found.events, "custodies": found.custodies,
            "differ": found.differ, "differences": found.differences,
        }))?;
    } else {
        let mut text = format!("{} devices folded again from {} events: ", found.devices, found.events);
        match found.differ {
            0 => text.push_str("all as stored\n"),
            many => text.push_str(&format!("{many} different\n")),
        }
        for difference in &found.differences {
            text.push_str(&format!("  {}\n", super::text::plain(difference)));
        }
        print(&text)?;
    }
    Ok(if found.differ == 0 { End::Done } else { End::Wrong })
}

async fn token(config: &Config, options: Token) -> anyhow::Result<End> {
    match options.action {
        TokenAction::Create { role, name } => {
            let store = create(config).await?;
            let (_, token) = house::app(config, store.clone())?.create_token(&name, role, &actor()).await?;
            store.close().await;
            print(&format!("{token}\n"))?;
            eprintln!("keep it: it cannot be shown again");
            Ok(End::Done)
        }
        TokenAction::List { json: as_json } => {
            let store = open(config).await?;
            let items = tokens::list(&mut store.read().await?).await?;
            if as_json {
                json(&lists::tokens_json(&items))?;
            } else {
                print(&lists::tokens(&items))?;
            }
            Ok(End::Done)
        }
        TokenAction::Revoke { id } => {
            let store = open(config).await?;
            if !house::app(config, store)?.void_token(id, &actor()).await? {
                return Ok(complain(&format!("there is no valid token {id}")));
            }
            print(&format!("{id} is void\n"))?;
            Ok(End::Done)
        }
    }
}

pub(super) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Prints to standard output. A reader that went away early has had enough.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}
