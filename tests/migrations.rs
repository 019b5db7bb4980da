//! The two folders of migrations say the same, each in its engine's own types, and both run on the real engines.
//!
//! Every migration brings sample rows in `tests/fixtures/migrations`, so that none meets an empty database for the first
//! time at somebody's site. They are one text: `uuid '…'` and `bytea '\x…'` are what PostgreSQL calls a blob in SQLite.

#![expect(clippy::unwrap_used, reason = "a check that cannot read what it checks has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, SqliteConnection};

/// What a column's type is called on PostgreSQL and on SQLite.
const TYPES: &[(&str, &str)] = &[
    ("text", "TEXT"),
    ("timestamptz", "TEXT"),
    ("jsonb", "TEXT"),
    ("uuid", "BLOB"),
    ("bytea", "BLOB"),
    ("bigint", "INTEGER"),
    ("boolean", "INTEGER"),
];

/// What the SQL of one engine creates.
#[derive(Debug, Default)]
struct Schema {
    tables: BTreeMap<String, Table>,
    /// The whole statement of each index, by name.
    indexes: BTreeMap<String, String>,
    /// The columns of each view, by the view's name on SQLite.
    views: BTreeMap<String, String>,
    /// Statements of any other kind, in order.
    others: Vec<String>,
}

#[derive(Debug, Default)]
struct Table {
    /// Name, type, and what else is said of it, in order.
    columns: Vec<(String, String, String)>,
    constraints: Vec<String>,
    strict: bool,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The migrations of one engine: file name and text, in order.
fn migrations(engine: &str) -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join("migrations").join(engine)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(file).unwrap()))
        .collect()
}

fn schema(engine: &str) -> Schema {
    let mut schema = Schema::default();
    for (_, text) in migrations(engine) {
        for statement in statements(&text) {
            schema.take_in(&statement);
        }
    }
    schema
}

/// The statements of a text, without comments, with single blanks.
fn statements(text: &str) -> Vec<String> {
    let bare: String =
        text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    let one_blank = bare.split_whitespace().collect::<Vec<_>>().join(" ");
    one_blank.split(';').map(|statement| statement.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

/// How a table of PostgreSQL says that it lies by the month. SQLite has nothing of the kind.
const BY_MONTH: &str = " PARTITION BY RANGE (id)";

/// Whether a statement is about what only PostgreSQL has: partitions, and the rows that move into them, and schemas.
fn is_only_for_postgres(statement: &str) -> bool {
    statement == "CREATE SCHEMA reporting"
        || statement.starts_with("LOCK TABLE ")
        || statement.starts_with("SET LOCAL lock_timeout ")
        || statement.contains(" SET (fillfactor")
        || statement.contains(" PARTITION OF ")
        || statement.contains(" DROP CONSTRAINT ")
        || (statement.starts_with("INSERT INTO ") && statement.ends_with("_before"))
}

/// The parts between the commas that stand in no bracket.
fn parts(list: &str) -> Vec<String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for letter in list.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if letter == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

impl Schema {
    fn take_in(&mut self, statement: &str) {
        if is_only_for_postgres(statement) {
            return;
        }
        if let Some(rest) = statement.strip_prefix("CREATE TABLE ") {
            let statement = rest.strip_suffix(BY_MONTH).unwrap_or(rest);
            let (name, rest) = statement.split_once(" (").unwrap();
            let (list, end) = rest.rsplit_once(')').unwrap();
            let mut table = Table { strict: end.trim() == "STRICT", ..Table::default() };
            for part in parts(list) {
                if ["CHECK", "PRIMARY", "UNIQUE", "FOREIGN"].iter().any(|word| part.starts_with(word)) {
                    table.constraints.push(part);
                } else {
                    // PostgreSQL has to be told to order by bytes, which is all that SQLite knows.
                    let part = part.replace(" COLLATE \"C\"", "");
                    let mut words = part.splitn(3, ' ');
                    let mut next = || words.next().unwrap_or_default().to_owned();
                    table.columns.push((next(), next(), next()));
                }
            }
            assert!(self.tables.insert(name.to_owned(), table).is_none(), "{name} is created twice");
        } else if statement.starts_with("CREATE INDEX ") || statement.starts_with("CREATE UNIQUE INDEX ") {
            let name = statement.split(" INDEX ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
            // Moments are text in SQLite, and have to be counted before they can be taken from each other.
            let statement = statement.replace(
                "julianday(ended_at) - julianday(started_at) > 1.0",
                "ended_at - started_at > INTERVAL '1 day'",
            );
            assert!(self.indexes.insert(name.to_owned(), statement.clone()).is_none(), "{name} is created twice");
        } else if let Some(rest) = statement.strip_prefix("CREATE VIEW ") {
            let (name, rest) = rest.split_once(" (").unwrap();
            let (columns, _) = rest.split_once(") AS ").unwrap();
            // SQLite has no schemas.
            let name = name.replace("reporting.", "reporting_");
            assert!(self.views.insert(name, columns.to_owned()).is_none(), "a view is created twice");
        } else if let Some(name) = statement.strip_prefix("DROP INDEX ") {
            assert!(self.indexes.remove(name).is_some(), "{name} is dropped, but was never created");
        } else if let Some((name, rest)) =
            statement.strip_prefix("ALTER TABLE ").and_then(|rest| rest.split_once(" ADD COLUMN "))
        {
            let mut words = rest.splitn(3, ' ');
            let mut next = || words.next().unwrap_or_default().to_owned();
            self.tables.get_mut(name).unwrap().columns.push((next(), next(), next()));
        } else if let Some((name, new)) =
            statement.strip_prefix("ALTER TABLE ").and_then(|rest| rest.split_once(" RENAME TO "))
        {
            let table = self.tables.remove(name).unwrap();
            assert!(self.tables.insert(new.to_owned(), table).is_none(), "{new} is there already");
        } else if let Some(name) = statement.strip_prefix("DROP TABLE ") {
            assert!(self.tables.remove(name).is_some(), "{name} is dropped, but was never created");
        } else {
            self.others.push(statement.to_owned());
        }
    }

    /// Which words each column of each table may hold, by its CHECKs.
    fn states(&self) -> Vec<(String, String, String)> {
        let mut states = Vec::new();
        for (name, table) in &self.tables {
            for (column, _, rest) in &table.columns {
                let Some((_, list)) = rest.split_once(&format!("CHECK ({column} IN (")) else { continue };
                let list = list.split(')').next().unwrap_or_default();
                for state in parts(list) {
                    states.push((name.clone(), column.clone(), state.trim_matches('\'').to_owned()));
                }
            }
        }
        states
    }
}

#[test]
fn both_engines_have_the_same_migrations() {
    let names = |engine| migrations(engine).into_iter().map(|(name, _)| name).collect::<Vec<_>>();

    assert_eq!(names("sqlite"), names("postgres"));
    for (place, name) in names("sqlite").iter().enumerate() {
        assert!(name.starts_with(&format!("{:04}_", place + 1)), "{name} is not number {}", place + 1);
    }
}

#[test]
fn the_program_carries_every_migration() {
    let seam = fs::read_to_string(root().join("src/store/engine/mod.rs")).unwrap();

    for engine in ["sqlite", "postgres"] {
        for (name, _) in migrations(engine) {
            assert!(seam.contains(&format!("migrations/{engine}/{name}\"")), "{engine}/{name} is not in the program");
        }
    }
}

#[test]
fn both_engines_have_the_same_tables_columns_and_checks() {
    let (sqlite, postgres) = (schema("sqlite"), schema("postgres"));

    assert_eq!(sqlite.tables.keys().collect::<Vec<_>>(), postgres.tables.keys().collect::<Vec<_>>());
    for (name, left) in &sqlite.tables {
        let right = &postgres.tables[name];
        let said = |table: &Table| {
            table.columns.iter().map(|(column, _, rest)| format!("{column} {rest}")).collect::<Vec<_>>()
        };
        assert_eq!(said(left), said(right), "columns of {name}");
        assert_eq!(left.constraints, right.constraints, "constraints of {name}");
        for ((column, ours, _), (_, theirs, _)) in left.columns.iter().zip(&right.columns) {
            let pair = (theirs.as_str(), ours.as_str());
            assert!(TYPES.contains(&pair), "{name}.{column} is {ours} on SQLite and {theirs} on PostgreSQL");
        }
    }
    assert_eq!(sqlite.others, postgres.others);
}

#[test]
fn both_engines_have_the_same_views() {
    let (sqlite, postgres) = (schema("sqlite").views, schema("postgres").views);

    assert_eq!(
        sqlite.keys().collect::<Vec<_>>(),
        ["reporting_custodies", "reporting_devices", "reporting_revocations"]
    );
    assert_eq!(sqlite, postgres);
}

#[test]
fn both_engines_have_the_same_indexes() {
    assert_eq!(schema("sqlite").indexes, schema("postgres").indexes);
}

#[test]
fn sqlite_keeps_to_its_types() {
    for (name, table) in schema("sqlite").tables {
        assert!(table.strict, "{name} is not STRICT");
    }
}

#[test]
fn every_table_says_what_it_is() {
    for (file, text) in migrations("sqlite").into_iter().chain(migrations("postgres")) {
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[1].starts_with("CREATE TABLE ")) {
            assert!(pair[0].starts_with("-- "), "{file}: {} has no comment", pair[1]);
        }
    }
}

#[test]
fn every_state_is_written_by_some_code() {
    let mut code = String::new();
    read(&root().join("src"), &mut code);

    let states = schema("sqlite").states();

    assert!(states.len() > 50, "only {} states were found", states.len());
    for (table, column, state) in states {
        let written = code.contains(&format!("\"{state}\"")) || code.contains(&format!("'{state}'"));
        assert!(written, "{table}.{column} may be {state}, but nothing in src says so");
    }
}

fn read(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, code);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(path).unwrap();
            code.push_str(text.split("#[cfg(test)]\nmod ").next().unwrap_or_default());
        }
    }
}

/// The sample rows that go with a migration.
fn samples(migration: &str) -> String {
    let file = root().join("tests/fixtures/migrations").join(migration);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{} brings no sample rows: {error}", file.display()))
}

/// The samples as SQLite takes them.
fn for_sqlite(text: &str) -> String {
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

#[tokio::test]
async fn sqlite_takes_every_migration_over_the_rows_of_the_one_before() {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();

    for (name, text) in migrations("sqlite") {
        connection.execute(AssertSqlSafe(text)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let rows = for_sqlite(&samples(&name));
        connection.execute(AssertSqlSafe(rows)).await.unwrap_or_else(|error| panic!("samples of {name}: {error}"));
    }

    let mut empty = BTreeSet::new();
    for table in schema("sqlite").tables.keys() {
        let row = connection.fetch_one(AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).await.unwrap();
        if row.get::<i64, _>(0) == 0 {
            empty.insert(table.clone());
        }
    }
    assert!(empty.is_empty(), "no sample row of {empty:?}");
}

#[tokio::test]
async fn postgres_takes_every_migration_over_the_rows_of_the_one_before() {
    let Ok(server) = std::env::var("HANDOVER_TEST_POSTGRES") else {
        let required = std::env::var("HANDOVER_TEST_POSTGRES_REQUIRED").is_ok_and(|required| required == "1");
        assert!(!required, "HANDOVER_TEST_POSTGRES names no server, and one is required");
        eprintln!("skipped: no PostgreSQL");
        return;
    };
    let mut connection = PgConnection::connect(&server).await.unwrap();
    let schema_name = format!("migrations_{}", uuid::Uuid::new_v4().simple());
    // A schema of its own inside a transaction that is never committed: nothing is left behind.
    connection.execute("BEGIN").await.unwrap();
    connection.execute(AssertSqlSafe(format!("CREATE SCHEMA {schema_name}"))).await.unwrap();
    connection.execute(AssertSqlSafe(format!("SET LOCAL search_path TO {schema_name}"))).await.unwrap();

    for (name, text) in migrations("postgres") {
        connection.execute(AssertSqlSafe(text)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let rows = samples(&name);
        connection.execute(AssertSqlSafe(rows)).await.unwrap_or_else(|error| panic!("samples of {name}: {error}"));
    }

    let mut empty = BTreeSet::new();
    for table in schema("postgres").tables.keys() {
        let row = connection.fetch_one(AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).await.unwrap();
        if row.get::<i64, _>(0) == 0 {
            empty.insert(table.clone());
        }
    }
    assert!(empty.is_empty(), "no sample row of {empty:?}");
    connection.execute("ROLLBACK").await.unwrap();
}
