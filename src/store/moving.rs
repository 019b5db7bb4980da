//! Any table, row by row in the order of its key: read, written, digested, and compared between two databases.
//!
//! A row's digest is over one encoding that both engines give: JSON with its keys sorted, times as microseconds, and the length
//! before each value. Keys are ordered by bytes on both, so two databases can be walked in step.
//!
//! Here too: sealing. After it every table refuses each change by a trigger of its own, so that not even an older release, or
//! a person with a SQL shell, can write to a database that others believe to have moved.

use std::cmp::Ordering;
use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use sha2::{Digest as _, Sha256};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, QueryBuilder, SqlSafeStr as _};
use uuid::Uuid;

use super::engine::{on, sheets};
use super::tables::{Of, Table};
use super::{Error, Tx};

/// One value.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Text(Option<String>),
    Uuid(Option<Uuid>),
    Time(Option<DateTime<Utc>>),
    Int(Option<i64>),
    Flag(Option<bool>),
    Json(Option<Json<serde_json::Value>>),
    Bytes(Option<Vec<u8>>),
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct AnyRow(Vec<Cell>);

/// Where a row lies in the order of its table: its key, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position(Vec<String>);

impl Position {
    /// Of these parts.
    pub fn of(parts: &[String]) -> Self {
        Self(parts.to_vec())
    }

    /// As it is written down.
    pub fn text(&self) -> String {
        serde_json::Value::from(self.0.clone()).to_string()
    }

    /// As it was written down.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(" / "))
    }
}

impl Cell {
    fn in_key(&self) -> String {
        match self {
            Self::Text(value) => value.clone().unwrap_or_default(),
            Self::Uuid(value) => value.map(|id| id.to_string()).unwrap_or_default(),
            Self::Time(value) => value.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true)).unwrap_or_default(),
            Self::Int(value) => value.map(|number| number.to_string()).unwrap_or_default(),
            Self::Flag(value) => value.map(|flag| flag.to_string()).unwrap_or_default(),
            Self::Json(value) => value.as_ref().map(|json| json.0.to_string()).unwrap_or_default(),
            Self::Bytes(value) => value.as_deref().map(hex::encode).unwrap_or_default(),
        }
    }

    fn from_key(of: Of, text: &str) -> Option<Self> {
        Some(match of {
            Of::Text => Self::Text(Some(text.to_owned())),
            Of::Uuid => Self::Uuid(Some(text.parse().ok()?)),
            Of::Time => Self::Time(Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc())),
            Of::Int => Self::Int(Some(text.parse().ok()?)),
            Of::Flag => Self::Flag(Some(text.parse().ok()?)),
            Of::Json => Self::Json(Some(Json(serde_json::from_str(text).ok()?))),
            Of::Bytes => Self::Bytes(Some(hex::decode(text).ok()?)),
        })
    }

    /// Adds its encoding: 0 for nothing, else 1, the length, and the value.
    fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |bytes: Option<&[u8]>| match bytes {
            None => out.push(0),
            Some(bytes) => {
                out.push(1);
                out.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
                out.extend_from_slice(bytes);
            }
        };
        match self {
            Self::Text(value) => put(value.as_deref().map(str::as_bytes)),
            Self::Uuid(value) => put(value.as_ref().map(|id| id.as_bytes().as_slice())),
            Self::Time(value) => {
                put(value.map(|at| at.timestamp_micros().to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice));
            }
            Self::Int(value) => put(value.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice)),
            Self::Flag(value) => put(value.map(|flag| [u8::from(flag)]).as_ref().map(<[u8; 1]>::as_slice)),
            Self::Json(value) => put(value.as_ref().map(|json| canonical(&json.0)).as_deref().map(str::as_bytes)),
            Self::Bytes(value) => put(value.as_deref()),
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            (Self::Uuid(left), Self::Uuid(right)) => left.cmp(right),
            (Self::Time(left), Self::Time(right)) => left.cmp(right),
            (Self::Int(left), Self::Int(right)) => left.cmp(right),
            (Self::Bytes(left), Self::Bytes(right)) => left.cmp(right),
            _ => self.in_key().cmp(&other.in_key()),
        }
    }
}

/// JSON with its keys sorted. PostgreSQL keeps a number's value, not its spelling, so a whole number has no point.
fn canonical(json: &serde_json::Value) -> String {
    use serde_json::Value;
    match json {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            let members: Vec<_> = members
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Number(number) => match number.as_f64() {
            Some(value) if !number.is_i64() && !number.is_u64() && value.fract() == 0.0 => format!("{value:.0}"),
            _ => number.to_string(),
        },
        Value::Null | Value::Bool(_) | Value::String(_) => json.to_string(),
    }
}

impl AnyRow {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for cell in &self.0 {
            cell.encode(&mut out);
        }
        out
    }

    /// Whether two rows are to be told apart.
    pub fn is(&self, other: &Self) -> bool {
        self.encode() == other.encode()
    }

    /// Where it lies.
    pub fn position(&self, table: &Table) -> Position {
        Position(key_cells(table).filter_map(|(at, _)| self.0.get(at)).map(Cell::in_key).collect())
    }

    /// Which of two rows comes first.
    pub fn compare(&self, other: &Self, table: &Table) -> Ordering {
        key_cells(table)
            .filter_map(|(at, _)| Some(self.0.get(at)?.compare(other.0.get(at)?)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

/// The places of a table's key among its columns, and what they hold.
fn key_cells(table: &Table) -> impl Iterator<Item = (usize, Of)> + use<'_> {
    table.key.iter().filter_map(|key| {
        let at = table.columns.iter().position(|(column, _)| column == key)?;
        Some((at, table.columns[at].1))
    })
}

/// The digest of a table, as far as it has been walked.
#[derive(Default)]
pub struct TableDigest {
    hash: Sha256,
    rows: i64,
}

impl TableDigest {
    /// Takes in rows, which come in the order of their keys.
    pub fn take_in(&mut self, rows: &[AnyRow]) {
        for row in rows {
            let encoded = row.encode();
            self.hash.update(u64::try_from(encoded.len()).unwrap_or(u64::MAX).to_be_bytes());
            self.hash.update(&encoded);
            self.rows += 1;
        }
    }

    /// How many rows there were, and their digest.
    pub fn end(self) -> (i64, Vec<u8>) {
        (self.rows, self.hash.finalize().to_vec())
    }
}

/// The text that keeps an order by bytes on this engine.
fn by_bytes(tx: &Tx) -> &'static str {
    tx.either("", " COLLATE \"C\"")
}

/// The key's columns for an order or a comparison.
fn key_list(tx: &Tx, table: &Table) -> String {
    let list: Vec<_> = key_cells(table)
        .map(|(at, of)| {
            let bytes = if of == Of::Text { by_bytes(tx) } else { "" };
            format!("{}{bytes}", table.columns[at].0)
        })
        .collect();
    list.join(", ")
}

fn column_list(table: &Table) -> String {
    table.columns.iter().map(|(column, _)| *column).collect::<Vec<_>>().join(", ")
}

fn read_row<'r, R: sqlx::Row>(row: &'r R, table: &Table) -> Result<AnyRow, sqlx::Error>
where
    usize: sqlx::ColumnIndex<R>,
    Option<String>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Option<Uuid>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Option<DateTime<Utc>>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Option<i64>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Option<bool>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Option<Json<serde_json::Value>>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    Option<Vec<u8>>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    let cells = table.columns.iter().enumerate().map(|(at, (_, of))| {
        Ok(match of {
            Of::Text => Cell::Text(row.try_get(at)?),
            Of::Uuid => Cell::Uuid(row.try_get(at)?),
            Of::Time => Cell::Time(row.try_get(at)?),
            Of::Int => Cell::Int(row.try_get(at)?),
            Of::Flag => Cell::Flag(row.try_get(at)?),
            Of::Json => Cell::Json(row.try_get(at)?),
            Of::Bytes => Cell::Bytes(row.try_get(at)?),
        })
    });
    cells.collect::<Result<_, _>>().map(AnyRow)
}

/// The next rows of a table after a position, in the order of their keys.
pub async fn rows_after(
    tx: &mut Tx,
    table: &Table,
    after: Option<&Position>,
    limit: usize,
) -> Result<Vec<AnyRow>, Error> {
    let keys = key_list(tx, table);
    let columns = column_list(table);
    let unreadable = || Error::Unreadable {
        table: "copies",
        column: "position",
        id: table.name.to_owned(),
        found: after.map(Position::text).unwrap_or_default(),
    };
    let cells = match after {
        None => Vec::new(),
        Some(Position(texts)) => {
            let cells = key_cells(table).zip(texts).map(|((_, of), text)| Cell::from_key(of, text));
            cells.collect::<Option<Vec<_>>>().filter(|cells| cells.len() == table.key.len()).ok_or_else(unreadable)?
        }
    };
    on!(tx, |c| {
        let mut query = QueryBuilder::new(format!("SELECT {columns} FROM {}", table.name));
        if !cells.is_empty() {
            query.push(format!(" WHERE ({keys}) > ("));
            for (nth, cell) in cells.iter().enumerate() {
                if nth > 0 {
                    query.push(", ");
                }
                match cell {
                    Cell::Text(value) => query.push_bind(value.clone()),
                    Cell::Uuid(value) => query.push_bind(*value),
                    Cell::Time(value) => query.push_bind(*value),
                    Cell::Int(value) => query.push_bind(*value),
                    Cell::Flag(value) => query.push_bind(*value),
                    Cell::Json(value) => query.push_bind(value.clone()),
                    Cell::Bytes(value) => query.push_bind(value.clone()),
                };
            }
            query.push(")");
        }
        query.push(format!(" ORDER BY {keys} LIMIT {limit}"));
        let found = query.build().fetch_all(c).await?;
        found.iter().map(|row| read_row(row, table)).collect::<Result<Vec<_>, sqlx::Error>>()
    })
    .map_err(Error::Database)
}

/// Writes rows that are not there yet.
pub async fn insert(tx: &mut Tx, table: &Table, rows: &[AnyRow]) -> Result<(), Error> {
    let columns = column_list(table);
    for sheet in sheets(rows) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(format!("INSERT INTO {} ({columns}) ", table.name));
            sheet.put(&mut query, |mut tuple, row| {
                for cell in &row.0 {
                    match cell {
                        Cell::Text(value) => tuple.push_bind(value.clone()),
                        Cell::Uuid(value) => tuple.push_bind(*value),
                        Cell::Time(value) => tuple.push_bind(*value),
                        Cell::Int(value) => tuple.push_bind(*value),
                        Cell::Flag(value) => tuple.push_bind(*value),
                        Cell::Json(value) => tuple.push_bind(value.clone()),
                        Cell::Bytes(value) => tuple.push_bind(value.clone()),
                    };
                }
            });
            query.build().execute(c).await.map(drop)
        })?;
    }
    Ok(())
}

/// Takes a row away.
pub async fn remove(tx: &mut Tx, table: &Table, row: &AnyRow) -> Result<(), Error> {
    on!(tx, |c| {
        let mut query = QueryBuilder::new(format!("DELETE FROM {} WHERE ", table.name));
        for (nth, (at, _)) in key_cells(table).enumerate() {
            query.push(if nth > 0 { " AND " } else { "" }).push(table.columns[at].0).push(" = ");
            match &row.0[at] {
                Cell::Text(value) => query.push_bind(value.clone()),
                Cell::Uuid(value) => query.push_bind(*value),
                Cell::Time(value) => query.push_bind(*value),
                Cell::Int(value) => query.push_bind(*value),
                Cell::Flag(value) => query.push_bind(*value),
                Cell::Json(value) => query.push_bind(value.clone()),
                Cell::Bytes(value) => query.push_bind(value.clone()),
            };
        }
        query.build().execute(c).await.map(drop)
    })?;
    Ok(())
}

/// How many rows a table has.
pub async fn count(tx: &mut Tx, table: &str) -> Result<i64, Error> {
    let text = format!("SELECT COUNT(*) FROM {table}");
    Ok(on!(tx, |c| sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(c).await)?)
}

/// Keeps everybody else from writing until this transaction ends. SQLite has done so since it began; PostgreSQL locks each
/// table against writers and other copies, not against readers.
pub async fn keep_writers_out(tx: &mut Tx, tables: &[&str]) -> Result<(), Error> {
    const PATIENCE: &str = "SET LOCAL lock_timeout = '10s'";
    const NO_LIMITS: &str = "SET LOCAL statement_timeout = 0";
    const NOT_IDLE: &str = "SET LOCAL idle_in_transaction_session_timeout = 0";
    let lock = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", tables.join(", "));
    if tx.either("", "server").is_empty() {
        return Ok(());
    }
    for text in [PATIENCE, NO_LIMITS, NOT_IDLE] {
        on!(tx, |c| sqlx::query(text).execute(c).await.map(drop))?;
    }
    on!(tx, |c| sqlx::query(AssertSqlSafe(lock)).execute(c).await.map(drop))?;
    Ok(())
}

/// The tables of the database and, on PostgreSQL, their partitions; not the bookkeeping of migrations.
async fn relations(tx: &mut Tx) -> Result<Vec<String>, Error> {
    const OURS: &str = "SELECT name FROM sqlite_master
         WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> '_sqlx_migrations' ORDER BY name";
    const THEIRS: &str = "SELECT relname::text FROM pg_class
         WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND relname <> '_sqlx_migrations'
         ORDER BY relname";
    let text = tx.either(OURS, THEIRS);
    Ok(on!(tx, |c| sqlx::query_scalar(text).fetch_all(c).await)?)
}

/// Lets every table refuse each change, with `says` as the reason. Undone by [`unseal`] alone.
pub async fn seal(tx: &mut Tx, says: &str) -> Result<(), Error> {
    let says = says.replace('\'', "''");
    let mut text = String::new();
    let on_a_server = !tx.either("", "server").is_empty();
    if on_a_server {
        let says = says.replace('%', "%%");
        let _ = write!(
            text,
            "CREATE OR REPLACE FUNCTION handover_sealed() RETURNS trigger LANGUAGE plpgsql AS
             $sealed$ BEGIN RAISE EXCEPTION '{says}'; END $sealed$;"
        );
    }
    for table in relations(tx).await? {
        if on_a_server {
            let _ = write!(
                text,
                "CREATE TRIGGER sealed BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON \"{table}\"
                 FOR EACH STATEMENT EXECUTE FUNCTION handover_sealed();"
            );
            continue;
        }
        for deed in ["INSERT", "UPDATE", "DELETE"] {
            let _ = write!(
                text,
                "CREATE TRIGGER sealed_{table}_{deed} BEFORE {deed} ON \"{table}\"
                 BEGIN SELECT RAISE(ABORT, '{says}'); END;"
            );
        }
    }
    run_all(tx, text).await
}

/// Lets every table take changes again.
pub async fn unseal(tx: &mut Tx) -> Result<(), Error> {
    let mut text = String::new();
    let on_a_server = !tx.either("", "server").is_empty();
    for table in relations(tx).await? {
        if on_a_server {
            let _ = write!(text, "DROP TRIGGER IF EXISTS sealed ON \"{table}\";");
            continue;
        }
        for deed in ["INSERT", "UPDATE", "DELETE"] {
            let _ = write!(text, "DROP TRIGGER IF EXISTS sealed_{table}_{deed};");
        }
    }
    if on_a_server {
        text.push_str("DROP FUNCTION IF EXISTS handover_sealed();");
    }
    run_all(tx, text).await
}

/// Runs several statements that bind nothing.
async fn run_all(tx: &mut Tx, text: String) -> Result<(), Error> {
    on!(tx, |c| sqlx::raw_sql(AssertSqlSafe(text).into_sql_str()).execute(c).await.map(drop))?;
    Ok(())
}

/// How far one table has come.
#[derive(Debug, Clone)]
pub struct Reached {
    /// The last key taken in.
    pub position: Option<Position>,
    /// How many rows.
    pub rows: i64,
    /// Whether all of it was taken in.
    pub finished: bool,
}

/// How far the copy of a part has come; absent where it has not begun.
pub async fn reached(tx: &mut Tx, part: &str) -> Result<Option<Reached>, Error> {
    const READ: &str = "SELECT position, rows, finished_at IS NOT NULL FROM copies WHERE part = $1";
    let found: Option<(Option<String>, i64, bool)> =
        on!(tx, |c| sqlx::query_as(READ).bind(part).fetch_optional(c).await)?;
    Ok(found.map(|(position, rows, finished)| Reached {
        position: position.as_deref().and_then(Position::parse),
        rows,
        finished,
    }))
}

/// Writes down how far the copy of a part has come.
pub async fn reach(
    tx: &mut Tx,
    part: &str,
    position: Option<&Position>,
    rows: i64,
    finished: Option<(DateTime<Utc>, &[u8])>,
) -> Result<(), Error> {
    const REACH: &str = "INSERT INTO copies (part, position, rows, digest, finished_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (part) DO UPDATE SET position = excluded.position, rows = excluded.rows, digest = excluded.digest,
             finished_at = excluded.finished_at";
    on!(tx, |c| sqlx::query(REACH)
        .bind(part)
        .bind(position.map(Position::text))
        .bind(rows)
        .bind(finished.map(|(_, digest)| digest.to_vec()))
        .bind(finished.map(|(at, _)| at))
        .execute(c)
        .await
        .map(drop))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_of_json_is_the_same_however_it_was_written() {
        let one = serde_json::from_str(r#"{"b": 1.0, "a": [1e2, "x", null], "c": {"z": 0.5, "y": true}}"#).unwrap();
        let other = serde_json::from_str(r#"{"a":[100,"x",null],"c":{"y":true,"z":0.5},"b":1}"#).unwrap();

        assert_eq!(canonical(&one), canonical(&other));
        assert_eq!(canonical(&one), r#"{"a":[100,"x",null],"b":1,"c":{"y":true,"z":0.5}}"#);
    }

    #[test]
    fn nothing_and_an_empty_text_are_told_apart_and_so_is_where_a_value_ends() {
        let row = |left: Option<&str>, right: Option<&str>| {
            AnyRow(vec![Cell::Text(left.map(str::to_owned)), Cell::Text(right.map(str::to_owned))])
        };

        assert!(!row(None, Some("")).is(&row(Some(""), None)));
        assert!(!row(Some("ab"), Some("c")).is(&row(Some("a"), Some("bc"))));
        assert!(row(Some("a"), None).is(&row(Some("a"), None)));
    }

    #[test]
    fn a_position_is_read_back_as_it_was_written() {
        let position = Position(vec![String::from("serial"), String::from("W \"1\"")]);

        assert_eq!(Position::parse(&position.text()), Some(position));
        assert_eq!(Position::parse("a1000000"), None);
    }
}
