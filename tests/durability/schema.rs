//! A database as the first release left it, some thousands of rows and live debts included, and what is compared of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, SqlSafeStr as _, SqliteConnection};

/// How often the sample rows are laid down, each time under other names.
const WARDS: u32 = 100;

/// What a start writes at any rate, and what differs between two databases with the same history.
const OF_THE_PROCESS: [&str; 5] = ["_sqlx_migrations", "house", "leases", "paces", "instances"];

/// The migrations of one engine up to this number, as the program would apply them.
fn up_to(number: i64, engine: &str) -> Migrator {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(engine);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let known = (1..=number).zip(files).map(|(number, file)| {
        let text = AssertSqlSafe(fs::read_to_string(file).unwrap()).into_sql_str();
        Migration::new(number, "".into(), MigrationType::Simple, text, false)
    });
    Migrator::with_migrations(known.collect())
}

/// The sample rows of the first schema, a hundred times over.
fn samples() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/migrations/0001_first.sql");
    let one = fs::read_to_string(file).unwrap();
    (0..WARDS).map(|ward| renamed(&one, ward)).collect()
}

/// The same rows about other people and devices: whatever is unique carries the ward's number.
fn renamed(rows: &str, ward: u32) -> String {
    let names = ["DMPX7Q2LK", "amina", "jonas", "li_partner", "Amina", "night-desk", "00008027"];
    let mut text = rows.to_owned();
    for name in names {
        text = text.replace(name, &format!("{name}{ward}"));
    }
    for number in ["41207", "41208", "41209", "38001", "1101", "1102", "900", "1199", "1200"] {
        text = text.replace(&format!("'{number}'"), &format!("'{number}-{ward}'"));
    }
    for digest in ["00ff", "00fe"] {
        text = text.replace(&format!("\\x{digest}"), &format!("\\x{digest}{ward:04x}"));
    }
    for source in ["'uem'", "'import'"] {
        text = text.replace(&format!("    ({source}, "), &format!("    ('{}{ward}', ", source.trim_matches('\'')));
    }
    let mut out = String::new();
    for (nth, part) in text.split("uuid '").enumerate() {
        if nth == 0 {
            out.push_str(part);
        } else {
            // The second group of a UUID is the ward's.
            write!(out, "uuid '{}-{ward:04x}-{}", &part[..8], &part[14..]).unwrap();
        }
    }
    out.replace("4d7b1f7e-2c0e-", &format!("4d7b1f7e-{ward:04x}-"))
}

/// The samples as SQLite takes them.
pub(crate) fn for_sqlite(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some(at) = ["uuid '", "bytea '\\x"].iter().filter_map(|mark| rest.find(mark)).min() {
        let (before, blob) = rest.split_at(at);
        let opens = blob.find('\'').unwrap() + 1;
        let closes = opens + blob[opens..].find('\'').unwrap();
        out.push_str(before);
        out.push_str("x'");
        out.push_str(&blob[opens..closes].trim_start_matches("\\x").replace('-', ""));
        rest = &blob[closes..];
    }
    out + rest
}

/// Lays it down as a SQLite file.
pub(crate) async fn lay_down_sqlite(file: &Path) {
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", file.display())).await.unwrap();
    up_to(1, "sqlite").run(&mut connection).await.unwrap();
    connection.execute(AssertSqlSafe(format!("BEGIN;{};COMMIT", for_sqlite(&samples())))).await.unwrap();
    connection.close().await.unwrap();
}

/// Lays it down in an empty database of PostgreSQL.
pub(crate) async fn lay_down_postgres(connection: &mut PgConnection) {
    up_to(1, "postgres").run(&mut *connection).await.unwrap();
    connection.execute(AssertSqlSafe(samples())).await.unwrap();
}

/// What a SQLite file of the first release holds after each migration, from none to all of them.
pub(crate) async fn steps_of_sqlite(file: &Path) -> Vec<Held> {
    let mut steps = vec![Held::by_sqlite(file).await];
    loop {
        let next = i64::try_from(steps.len()).unwrap() + 1;
        let mut connection = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
        up_to(next, "sqlite").run(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let held = Held::by_sqlite(file).await;
        if held.schema < next {
            return steps;
        }
        steps.push(held);
    }
}

/// What a database of PostgreSQL holds after each migration, from none to all of them.
pub(crate) async fn steps_of_postgres(connection: &mut PgConnection) -> Vec<Held> {
    let mut steps = vec![Held::by_postgres(connection).await];
    loop {
        let next = i64::try_from(steps.len()).unwrap() + 1;
        up_to(next, "postgres").run(&mut *connection).await.unwrap();
        let held = Held::by_postgres(connection).await;
        if held.schema < next {
            return steps;
        }
        steps.push(held);
    }
}

/// What a database holds: its schema's number, and each table's columns and rows in one order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) schema: i64,
    tables: BTreeMap<String, Vec<String>>,
}

impl Held {
    pub(crate) fn rows(&self) -> usize {
        self.tables.values().map(Vec::len).sum()
    }

    /// What a SQLite file holds.
    pub(crate) async fn by_sqlite(file: &Path) -> Self {
        const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        let mut connection = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
        let (whole,): (String,) = sqlx::query_as("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
        assert_eq!(whole, "ok");
        let mut tables = BTreeMap::new();
        let names: Vec<(String,)> = sqlx::query_as(TABLES).fetch_all(&mut connection).await.unwrap();
        for (name,) in names.into_iter().filter(|(name,)| !OF_THE_PROCESS.contains(&name.as_str())) {
            let columns = connection.fetch_all(AssertSqlSafe(format!("PRAGMA table_info({name})"))).await.unwrap();
            let quoted: Vec<_> =
                columns.iter().map(|column| format!("quote({})", column.get::<String, _>("name"))).collect();
            let statement = format!("SELECT {} AS row FROM {name}", quoted.join(" || ',' || "));
            let rows = connection.fetch_all(AssertSqlSafe(statement)).await.unwrap();
            let mut rows: Vec<String> = rows.iter().map(|row| row.get("row")).collect();
            rows.sort_unstable();
            tables.insert(name, rows);
        }
        let (schema,): (i64,) =
            sqlx::query_as("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        Self { schema, tables }
    }

    /// What a database of PostgreSQL holds. Partitions count as part of their table.
    pub(crate) async fn by_postgres(connection: &mut PgConnection) -> Self {
        const TABLES: &str = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
             AND relkind IN ('r', 'p') AND NOT relispartition";
        let mut tables = BTreeMap::new();
        let names: Vec<(String,)> = sqlx::query_as(TABLES).fetch_all(&mut *connection).await.unwrap();
        for (name,) in names.into_iter().filter(|(name,)| !OF_THE_PROCESS.contains(&name.as_str())) {
            let statement = format!("SELECT t::text AS row FROM {name} t");
            let rows = connection.fetch_all(AssertSqlSafe(statement)).await.unwrap();
            let mut rows: Vec<String> = rows.iter().map(|row| row.get("row")).collect();
            rows.sort_unstable();
            tables.insert(name, rows);
        }
        let (schema,): (i64,) =
            sqlx::query_as("SELECT max(version) FROM _sqlx_migrations").fetch_one(connection).await.unwrap();
        Self { schema, tables }
    }
}
