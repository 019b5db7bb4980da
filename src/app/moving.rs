//! Moving house: everything is copied into another database, compared row by row, and only then the old one is sealed and
//! the new one opened.
//!
//! There are never two open houses. From the first row to the seal, one transaction on the old database keeps every writer
//! out, and the new one is sealed; stopped anywhere before the seal, the old one serves on as if nothing had been. Stopped
//! between the seal and the opening, both are sealed, and doing it again opens the new one.
//!
//! Done again after a stop, what had been copied is walked in step with the old database and brought in line, since that may
//! have served on in between. The last comparison corrects nothing: what differs then is named.
//!
//! An attempt in flight moves with its lease, which ends with the opening: whoever serves next takes it over as left behind, and reads the
//! stamp before anything is sent (R6).

use std::cmp::Ordering;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

use crate::app::entry_at;
use crate::store::house::{self, HouseRow};
use crate::store::moving::{self, AnyRow, Position, TableDigest};
use crate::store::tables::{self, NOT_COPIED, TABLES, Table};
use crate::store::{Error, Store, Tx, attempts, audit};

/// How many rows are read and written at once; also what is done again at most after a stop.
const BATCH: usize = 512;

/// How many differences are named.
const NAMED: usize = 20;

/// How long ago an instance may have been seen and still count as running: its lease and half as much again.
const ALIVE: TimeDelta = TimeDelta::seconds(45);

/// The part of `copies` under which it is kept where the rows come from.
const ORIGIN: &str = "house";

/// Why a house was not moved. Nothing is open that was not open before.
#[derive(Debug, thiserror::Error)]
pub enum NotMoved {
    /// Instances run on the old one.
    #[error("{0} instance(s) of Handover run on the database that is to be copied; stop them first")]
    InUse(i64),
    /// It has never been served on.
    #[error("the database that is to be copied has never been in use")]
    NeverUsed,
    /// The check after a restore is not done.
    #[error("the database that is to be copied was restored, and the check of that is not done; let it end first")]
    Checking,
    /// It is sealed, and not because of this copy.
    #[error("the database that is to be copied is sealed: {0}")]
    Sealed(String),
    /// The new one has rows of its own.
    #[error("the database to copy into is not empty: {0} has rows; give it an empty one")]
    NotEmpty(&'static str),
    /// The new one holds something else than the beginning of this copy.
    #[error("the database to copy into is in use already, or holds a copy of another one; give it an empty one")]
    AnotherCopy,
    /// The schema and the list of tables differ.
    #[error("this version of Handover does not know how to move {}", .0.join(", "))]
    Unlisted(Vec<String>),
    /// What was copied is not what was there.
    #[error("the copy differs: {}", .0.join("; "))]
    Differs(Vec<String>),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// Whoever watches wants it to end.
    #[error("stopped")]
    Stopped,
}

/// How far a move has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Rows of a table were taken in.
    Copied(&'static str, u64),
    /// Rows that an earlier copy had taken in were compared, and so many of them were not the same any more.
    Corrected(&'static str, u64),
    /// Everything is copied; the comparison begins.
    Comparing,
    /// Rows of a table were compared.
    Compared(&'static str, u64),
    /// Everything is the same; the old one is about to be sealed.
    Sealing,
    /// The old one is sealed; the new one is about to be opened.
    Opening,
}

/// What was moved.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Moved {
    /// The tables, with their rows and the digest that both databases gave.
    pub tables: Vec<MovedTable>,
    /// All rows.
    pub rows: i64,
    /// Whether an earlier copy was gone on with.
    pub resumed: bool,
    /// Attempts that were in flight: whoever serves next reads their stamps.
    pub in_flight: i64,
}

/// A table that was moved.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MovedTable {
    /// Its name.
    pub table: &'static str,
    /// Its rows.
    pub rows: i64,
    /// SHA-256 over all rows in the order of their keys, as both databases gave it.
    pub sha256: String,
}

/// From where to where, as people and the audit history are told.
#[derive(Debug, Clone)]
pub struct Route {
    /// The old one.
    pub from: String,
    /// The new one.
    pub to: String,
    /// Who moves it.
    pub actor: String,
}

/// How many rows there are to copy.
pub async fn rows_to_copy(source: &Store) -> Result<u64, Error> {
    let mut tx = source.read().await?;
    let mut rows = 0;
    for table in TABLES {
        rows += u64::try_from(moving::count(&mut tx, table.name).await?).unwrap_or(0);
    }
    Ok(rows)
}

/// Moves everything from one database into another. `watch` hears of each step, and may end it.
///
/// Both databases are claimed by the caller where they are files.
///
/// # Errors
/// [`NotMoved`] says why; the old database then serves as before, unless it had been sealed already.
pub async fn move_house(
    source: &Store,
    target: &Store,
    route: &Route,
    clock: impl Fn() -> DateTime<Utc>,
    mut watch: impl AsyncFnMut(Step) -> Result<(), NotMoved>,
) -> Result<Moved, NotMoved> {
    let mut old = source.write().await?;
    let all: Vec<_> = TABLES.iter().map(|table| table.name).chain(NOT_COPIED.iter().copied()).collect();
    let Some(house) = house::read(&mut old).await? else { return Err(NotMoved::NeverUsed) };
    let sealed = house.state == "sealed";
    if house.state == "checking" {
        return Err(NotMoved::Checking);
    }
    if !sealed {
        moving::keep_writers_out(&mut old, &all).await?;
        let now = old.clock(clock()).await?;
        let alive = house::instances_since(&mut old, now - ALIVE).await?;
        // A file has one service, and the caller's claim says that it does not run.
        if alive > 0 && !source.is_file() {
            return Err(NotMoved::InUse(alive));
        }
    }
    let mut unlisted = tables::unlisted(&mut old).await?;
    unlisted.extend(tables::unlisted(&mut target.read().await?).await?);
    if !unlisted.is_empty() {
        return Err(NotMoved::Unlisted(unlisted));
    }
    let (epoch, resumed) = begin(&mut old, target, &house, route, clock()).await?;
    if sealed && !house.why.as_deref().is_some_and(|why| why.contains(&epoch.to_string())) {
        return Err(NotMoved::Sealed(house.why.unwrap_or_default()));
    }
    for table in TABLES {
        copy_table(&mut old, target, table, &mut watch).await?;
    }
    watch(Step::Comparing).await?;
    let tables = compare(&mut old, target, clock(), &mut watch).await?;
    watch(Step::Sealing).await?;
    if sealed {
        drop(old);
    } else {
        seal(&mut old, house.clone(), route, epoch, clock()).await?;
        old.commit().await?;
    }
    watch(Step::Opening).await?;
    let in_flight = open(target, &house, route, epoch, clock()).await?;
    let rows = tables.iter().map(|table| table.rows).sum();
    Ok(Moved { tables, rows, resumed, in_flight })
}

/// Makes sure that the new database is empty or holds the beginning of this copy. Gives the new epoch, and whether a copy is gone on with.
async fn begin(
    old: &mut Tx,
    target: &Store,
    house: &HouseRow,
    route: &Route,
    now: DateTime<Utc>,
) -> Result<(Uuid, bool), NotMoved> {
    let mut tx = target.write().await?;
    if let Some(there) = house::lock(&mut tx).await? {
        let origin = moving::reached(&mut tx, ORIGIN).await?.filter(|origin| !origin.finished);
        let same = origin.and_then(|origin| origin.position).is_some_and(|from| from == origin_of(house));
        if there.state != "sealed" || there.installation != house.installation || !same {
            return Err(NotMoved::AnotherCopy);
        }
        return Ok((there.epoch, true));
    }
    for table in TABLES {
        if moving::count(&mut tx, table.name).await? > 0 {
            return Err(NotMoved::NotEmpty(table.name));
        }
    }
    let epoch = Uuid::new_v4();
    let mut former = house.former.0.clone();
    former.push(house.epoch);
    let row = HouseRow {
        epoch,
        server: house::server(&mut tx).await?,
        state: String::from("sealed"),
        why: Some(format!("a copy of {} into it is not complete; run handover database copy again", route.from)),
        changed_at: now,
        former: Json(former),
        ..house.clone()
    };
    house::found(&mut tx, &row).await?;
    moving::reach(&mut tx, ORIGIN, Some(&origin_of(house)), moving::count(old, "house").await?, None).await?;
    tx.commit().await?;
    Ok((epoch, false))
}

/// What tells the copies of one database from those of another, or of an older state of it.
fn origin_of(house: &HouseRow) -> Position {
    Position::of(&[house.installation.to_string(), house.epoch.to_string()])
}

/// Takes in a table. What an earlier copy took in is brought in line first.
async fn copy_table(
    old: &mut Tx,
    target: &Store,
    table: &'static Table,
    watch: &mut impl AsyncFnMut(Step) -> Result<(), NotMoved>,
) -> Result<(), NotMoved> {
    let before = moving::reached(&mut target.read().await?, table.name).await?;
    if before.is_some() {
        return align(old, target, table, watch).await;
    }
    let (mut position, mut rows) = (None, 0);
    loop {
        let batch = moving::rows_after(old, table, position.as_ref(), BATCH).await?;
        let Some(last) = batch.last() else { return Ok(()) };
        position = Some(last.position(table));
        rows += i64::try_from(batch.len()).unwrap_or(0);
        let mut tx = target.write().await?;
        moving::insert(&mut tx, table, &batch).await?;
        moving::reach(&mut tx, table.name, position.as_ref(), rows, None).await?;
        tx.commit().await?;
        watch(Step::Copied(table.name, batch.len() as u64)).await?;
    }
}

/// Walks both databases in step, twice: first what is not the same any more goes, then what is missing comes. In this order
/// no row meets another that stands in its way.
async fn align(
    old: &mut Tx,
    target: &Store,
    table: &'static Table,
    watch: &mut impl AsyncFnMut(Step) -> Result<(), NotMoved>,
) -> Result<(), NotMoved> {
    let mut pairs = Pairs::new(table);
    while !pairs.ended && !pairs.theirs_ended {
        let mut there = target.write().await?;
        let mut gone = 0;
        for difference in pairs.next(old, &mut there).await?.1 {
            match difference {
                Difference::Missing(_) => continue,
                Difference::Surplus(theirs) | Difference::Other { theirs, .. } => {
                    moving::remove(&mut there, table, &theirs).await?;
                }
            }
            gone += 1;
        }
        there.commit().await?;
        watch(Step::Corrected(table.name, gone)).await?;
    }
    let mut rows = 0;
    let mut pairs = Pairs::new(table);
    while !pairs.ended {
        let mut there = target.write().await?;
        let (same, differences) = pairs.next(old, &mut there).await?;
        let missing: Vec<_> = differences
            .into_iter()
            .filter_map(|difference| match difference {
                Difference::Missing(row) => Some(row),
                Difference::Surplus(_) | Difference::Other { .. } => None,
            })
            .collect();
        moving::insert(&mut there, table, &missing).await?;
        rows += i64::try_from(same + missing.len()).unwrap_or(0);
        moving::reach(&mut there, table.name, pairs.after.as_ref(), rows, None).await?;
        there.commit().await?;
        watch(Step::Copied(table.name, (same + missing.len()) as u64)).await?;
    }
    Ok(())
}

/// How two databases differ at one key.
enum Difference {
    /// Only the old one has it.
    Missing(AnyRow),
    /// Only the new one has it.
    Surplus(AnyRow),
    /// Both have it, and not the same.
    Other { ours: AnyRow, theirs: AnyRow },
}

/// Two databases, walked in step.
struct Pairs {
    table: &'static Table,
    after: Option<Position>,
    /// Both are walked to their ends.
    ended: bool,
    /// The new one is.
    theirs_ended: bool,
}

impl Pairs {
    fn new(table: &'static Table) -> Self {
        Self { table, after: None, ended: false, theirs_ended: false }
    }

    /// The next stretch: how many rows are the same, and which differ. Nothing of both: the end.
    async fn next(&mut self, old: &mut Tx, new: &mut Tx) -> Result<(usize, Vec<Difference>), Error> {
        let (mut same, mut differences) = (0, Vec::new());
        if self.ended {
            return Ok((same, differences));
        }
        let ours = moving::rows_after(old, self.table, self.after.as_ref(), BATCH).await?;
        let theirs = moving::rows_after(new, self.table, self.after.as_ref(), BATCH).await?;
        // Both are known up to the smaller of the two last keys; a side that came to its end is known for good.
        let (whole_ours, whole_theirs) = (ours.len() < BATCH, theirs.len() < BATCH);
        let bound = match (ours.last(), theirs.last()) {
            _ if whole_ours && whole_theirs => None,
            (Some(left), Some(right)) => match (whole_ours, whole_theirs) {
                (true, _) => Some(right.clone()),
                (_, true) => Some(left.clone()),
                _ if left.compare(right, self.table).is_lt() => Some(left.clone()),
                _ => Some(right.clone()),
            },
            (left, right) => left.or(right).cloned(),
        };
        let inside = |row: &AnyRow| bound.as_ref().is_none_or(|bound| row.compare(bound, self.table).is_le());
        let theirs_ended = whole_theirs && theirs.last().is_none_or(&inside);
        let mut left = ours.into_iter().filter(&inside).peekable();
        let mut right = theirs.into_iter().filter(&inside).peekable();
        while left.peek().is_some() || right.peek().is_some() {
            let order = match (left.peek(), right.peek()) {
                (Some(ours), Some(theirs)) => ours.compare(theirs, self.table),
                (Some(_), None) => Ordering::Less,
                _ => Ordering::Greater,
            };
            let (ours, theirs) = match order {
                Ordering::Less => (left.next(), None),
                Ordering::Greater => (None, right.next()),
                Ordering::Equal => (left.next(), right.next()),
            };
            let at = ours.as_ref().or(theirs.as_ref()).map(|row| row.position(self.table));
            match (ours, theirs) {
                (Some(ours), Some(theirs)) if ours.is(&theirs) => same += 1,
                (Some(ours), Some(theirs)) => differences.push(Difference::Other { ours, theirs }),
                (Some(ours), None) => differences.push(Difference::Missing(ours)),
                (None, Some(theirs)) => differences.push(Difference::Surplus(theirs)),
                (None, None) => {}
            }
            self.after = at;
        }
        self.ended = bound.is_none();
        self.theirs_ended = theirs_ended;
        if let Some(bound) = bound {
            self.after = Some(bound.position(self.table));
        }
        Ok((same, differences))
    }
}

/// Digests every table on both sides, and names what differs.
async fn compare(
    old: &mut Tx,
    target: &Store,
    now: DateTime<Utc>,
    watch: &mut impl AsyncFnMut(Step) -> Result<(), NotMoved>,
) -> Result<Vec<MovedTable>, NotMoved> {
    let (mut tables, mut differ) = (Vec::new(), Vec::new());
    for table in TABLES {
        let mut there = target.read().await?;
        let (rows, ours) = digest(old, table, watch).await?;
        let (their_rows, theirs) = digest(&mut there, table, &mut async |_| Ok(())).await?;
        drop(there);
        if (rows, &ours) != (their_rows, &theirs) {
            differ.extend(name_differences(old, target, table).await?);
            continue;
        }
        let mut tx = target.write().await?;
        let position = moving::reached(&mut tx, table.name).await?.and_then(|reached| reached.position);
        moving::reach(&mut tx, table.name, position.as_ref(), rows, Some((now, &ours))).await?;
        tx.commit().await?;
        tables.push(MovedTable { table: table.name, rows, sha256: hex::encode(ours) });
    }
    if differ.is_empty() { Ok(tables) } else { Err(NotMoved::Differs(differ)) }
}

/// The rows of a table and their digest, on one side.
async fn digest(
    tx: &mut Tx,
    table: &'static Table,
    watch: &mut impl AsyncFnMut(Step) -> Result<(), NotMoved>,
) -> Result<(i64, Vec<u8>), NotMoved> {
    let mut digest = TableDigest::default();
    let mut position = None;
    loop {
        let rows = moving::rows_after(tx, table, position.as_ref(), BATCH).await?;
        let Some(last) = rows.last() else { return Ok(digest.end()) };
        position = Some(last.position(table));
        digest.take_in(&rows);
        watch(Step::Compared(table.name, rows.len() as u64)).await?;
    }
}

async fn name_differences(old: &mut Tx, target: &Store, table: &'static Table) -> Result<Vec<String>, Error> {
    let mut named = Vec::new();
    let mut pairs = Pairs::new(table);
    let mut there = target.read().await?;
    while !pairs.ended && named.len() < NAMED {
        let (_, differences) = pairs.next(old, &mut there).await?;
        named.extend(differences.iter().map(|difference| match difference {
            Difference::Missing(row) => format!("{} {} is missing in the copy", table.name, row.position(table)),
            Difference::Surplus(row) => format!("{} {} is in the copy alone", table.name, row.position(table)),
            Difference::Other { ours, .. } => format!("{} {} is not the same", table.name, ours.position(table)),
        }));
    }
    named.truncate(NAMED);
    Ok(named)
}

/// Seals the old database for good, in the transaction that kept writers out.
async fn seal(old: &mut Tx, mut house: HouseRow, route: &Route, epoch: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
    let why =
        format!("this database was moved to {} on {} (epoch {epoch})", route.to, now.format("%Y-%m-%d %H:%M UTC"));
    let detail = json!({ "to": route.to, "epoch": house.epoch, "next_epoch": epoch });
    audit::write(old, &[entry_at(now, &route.actor, "house.sealed", detail)]).await?;
    house.state = String::from("sealed");
    house.why = Some(why.clone());
    house.changed_at = now;
    house::save(old, &house).await?;
    moving::seal(old, &why).await
}

/// Opens the new database. Attempts in flight are left behind from now on.
async fn open(target: &Store, house: &HouseRow, route: &Route, epoch: Uuid, now: DateTime<Utc>) -> Result<i64, Error> {
    let mut tx = target.write().await?;
    let Some(mut there) = house::lock(&mut tx).await? else { return Ok(0) };
    there.state = String::from("open");
    there.why = None;
    there.server = house::server(&mut tx).await?;
    there.changed_at = now;
    house::save(&mut tx, &there).await?;
    let leases = tx.clock(now).await?;
    attempts::expire_leases(&mut tx, leases - TimeDelta::milliseconds(1)).await?;
    let in_flight = attempts::in_flight(&mut tx).await?;
    moving::reach(&mut tx, ORIGIN, Some(&origin_of(house)), 1, Some((now, &[]))).await?;
    let detail = json!({ "from": route.from, "epoch": epoch, "last_epoch": house.epoch });
    audit::write(&mut tx, &[entry_at(now, &route.actor, "house.moved", detail)]).await?;
    tx.commit().await?;
    Ok(in_flight)
}
