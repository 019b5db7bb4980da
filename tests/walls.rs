//! The rooms under `src` and what each may know, held by reading the source.
//!
//! `ARCHITECTURE.md` tells the same for people. What is read here is code: comments are taken out, and where a rule is about
//! what is shipped, so is the module of tests at the end.

#![expect(clippy::unwrap_used, reason = "a check that cannot read what it checks has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms that it may know. `cli` puts everything together and may know them all.
const ROOMS: &[(&str, &[&str])] = &[
    ("custody", &[]),
    ("intake", &["custody"]),
    ("entra", &["custody"]),
    ("store", &["custody"]),
    ("app", &["custody", "entra", "intake", "store"]),
    ("web", &["app", "custody", "entra", "intake", "store"]),
    ("cli", &["app", "custody", "entra", "intake", "store", "web", "sandbox"]),
    ("sandbox", &[]),
];

/// What of `std` the core does without: it reads no clock, and asks nobody outside.
const NOT_PURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::sync",
    "std::thread",
    "SystemTime",
    "Instant",
    "println!",
    "eprintln!",
];

/// Files that say which engine they run on, and why. All others leave it to `store/engine`.
const SAYS_THE_ENGINE: &[(&str, &str)] = &[
    ("src/store/engine/mod.rs", "it is the seam"),
    ("src/store/engine/sqlite.rs", "it is the seam's one side"),
    ("src/store/engine/postgres.rs", "it is the seam's other side"),
    ("src/store/engine/address.rs", "it reads a PostgreSQL URL"),
    ("src/store/paces.rs", "only several instances need a pace that is kept in the database"),
    ("src/store/asking/database.rs", "it names the database to a person"),
    ("src/store/mod.rs", "it shows the seam's `Kind` to other rooms"),
    ("src/cli/doctor/checks.rs", "it names the database to a person"),
    ("src/app/run.rs", "on SQLite nobody else can run, so what is in flight at the start was left behind"),
];

/// Files longer than [`LONG`], and why each is one file all the same.
const LONG_FILES: &[(&str, &str)] =
    &[("src/app/record.rs", "a commit group is one thing: how it gathers, what it folds, what it writes")];

/// How many lines a file may have.
const LONG: usize = 600;

/// The only places from which the sandbox is started.
const STARTS_THE_SANDBOX: &[&str] = &["src/cli/demo", "src/cli/sandbox"];

struct Source {
    /// Its path from the root, with `/`.
    path: String,
    text: String,
    /// Without comments.
    code: String,
    /// Without comments and tests.
    shipped: String,
}

fn sources_in(folder: &str) -> Vec<Source> {
    let mut files = Vec::new();
    walk(&root().join(folder), &mut files);
    files.sort();
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
        let code = without_comments(&text);
        let shipped = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
        Source { path, text, code, shipped }
    };
    files.into_iter().map(read).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// A comment begins with `//` at the start of a word; an address has a colon before it.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let begins =
            line.match_indices("//").map(|(at, _)| at).find(|&at| at == 0 || line[..at].ends_with([' ', '\t']));
        code.push_str(begins.map_or(line, |at| &line[..at]));
        code.push('\n');
    }
    code
}

/// The identifiers that follow `before` in the code.
fn names_after(code: &str, before: &str) -> BTreeSet<String> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(before)
        .filter(|(at, _)| !code[..*at].ends_with(is_word))
        .map(|(at, _)| code[at + before.len()..].chars().take_while(|letter| is_word(*letter)).collect())
        .collect()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty())
}

/// The crates in the manifest, as the code spells them.
fn crates() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut crates = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if let (true, Some((name, _))) = (inside, line.split_once('=')) {
            crates.push(name.trim().replace('-', "_"));
        }
    }
    assert!(crates.contains(&"sqlx".to_owned()), "the manifest is not read right");
    crates
}

#[test]
fn every_folder_is_a_room() {
    let folders: BTreeSet<_> = fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();

    let rooms: BTreeSet<_> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();

    assert_eq!(folders, rooms);
}

#[test]
fn rooms_know_only_the_rooms_they_may() {
    for (room, allowed) in ROOMS {
        for source in sources_in(&format!("src/{room}")) {
            let known = names_after(&source.code, "crate::");

            let strangers: Vec<_> =
                known.iter().filter(|name| name != room && !allowed.contains(&name.as_str())).collect();

            assert!(strangers.is_empty(), "{} may not know {strangers:?}; spell it crate::room::thing", source.path);
        }
    }
}

#[test]
fn nobody_leaves_a_room_through_super() {
    for (room, _) in ROOMS {
        for source in sources_in(&format!("src/{room}")) {
            // How many `super` lead out of the room: one from `room/mod.rs`, two from `room/thing.rs`, one more from tests.
            let inside = source.path.trim_end_matches("/mod.rs").trim_end_matches(".rs").split('/').count() - 1;
            let tests = source.code[source.shipped.len()..].to_owned();

            for (code, most) in [(&source.shipped, inside - 1), (&tests, inside)] {
                let out = "super::".repeat(most + 1);
                assert!(!code.contains(&out), "{} leaves {room} through {out}", source.path);
            }
        }
    }
}

#[test]
fn the_core_uses_std_and_nothing_else() {
    let crates = crates();

    for source in sources_in("src/custody") {
        for stranger in &crates {
            let named = names_after(&source.shipped, &format!("{stranger}::"));
            assert!(named.is_empty(), "{} uses {stranger}", source.path);
        }
        for impure in NOT_PURE {
            assert!(!source.shipped.contains(impure), "{} uses {impure}", source.path);
        }
        assert!(!source.shipped.contains("async "), "{} waits", source.path);
    }
}

#[test]
fn only_the_store_knows_sql() {
    let statements = ["SELECT ", "INSERT INTO ", "DELETE FROM ", " SET ", "sqlx::query", "fetch_one(", "fetch_all("];

    for (room, _) in ROOMS.iter().filter(|(room, _)| *room != "store") {
        for source in sources_in(&format!("src/{room}")) {
            // A column of JSON is a type, not a statement.
            let code = source.shipped.replace("sqlx::types::Json", "");
            assert!(!words(&code).any(|word| word == "sqlx"), "{} knows sqlx", source.path);
            for statement in statements {
                assert!(!code.contains(statement), "{} knows SQL: {statement}", source.path);
            }
        }
    }
}

#[test]
fn only_the_seam_says_which_engine() {
    let engines = |word: &str| {
        ["Sqlite", "Postgres"].contains(&word)
            || ["Pg", "SqliteCon", "SqlitePool"].iter().any(|one| word.starts_with(one))
    };

    let says: BTreeSet<_> = sources_in("src")
        .into_iter()
        .filter(|source| words(&source.shipped).any(engines))
        .map(|source| source.path)
        .collect();

    for path in &says {
        assert!(SAYS_THE_ENGINE.iter().any(|(allowed, _)| allowed == path), "{path} says which engine it runs on");
    }
}

#[test]
fn the_sandbox_is_reached_from_its_two_commands_alone() {
    for source in sources_in("src") {
        if source.path.starts_with("src/sandbox/") || STARTS_THE_SANDBOX.iter().any(|one| source.path.starts_with(one))
        {
            continue;
        }
        assert!(!source.code.contains("crate::sandbox"), "{} reaches the sandbox", source.path);
        assert!(!source.code.contains("handover::sandbox"), "{} reaches the sandbox", source.path);
    }
}

#[test]
fn the_sandbox_is_left_out_without_its_feature() {
    let gate = "#[cfg(feature = \"sandbox\")]";

    for source in sources_in("src") {
        let lines: Vec<_> = source.code.lines().map(str::trim).collect();
        for (number, line) in lines.iter().enumerate() {
            let declares = ["mod sandbox;", "mod demo;"].iter().any(|one| line.ends_with(one));
            if declares && !source.path.starts_with("src/sandbox/") {
                let before = number.checked_sub(1).map(|before| lines[before]);
                assert_eq!(before, Some(gate), "{}: `{line}` is not behind the feature", source.path);
            }
        }
    }
}

#[test]
fn the_web_writes_through_app_alone() {
    for source in sources_in("src/web") {
        assert!(!source.shipped.contains("store.write("), "{} writes past app", source.path);
        assert!(!source.shipped.contains(".commit("), "{} writes past app", source.path);
    }
}

#[test]
fn production_code_has_no_branch_for_tests() {
    for source in sources_in("src") {
        let lines: Vec<_> = source.code.lines().map(str::trim).filter(|line| !line.starts_with("#[path")).collect();
        for pair in lines.windows(2).filter(|pair| pair[0].contains("cfg(test")) {
            // Tests, or a question that only tests ask. Never something that runs otherwise under test.
            let item = words(pair[1]).any(|word| ["mod", "fn"].contains(&word));
            assert!(pair[0] == "#[cfg(test)]" && item, "{} differs under test at `{}`", source.path, pair[1]);
        }
        assert!(!source.code.contains("cfg!(test"), "{} differs under test", source.path);
        assert!(!source.code.contains("cfg(not(test"), "{} differs under test", source.path);
    }
}

#[test]
fn every_file_opens_with_what_it_promises() {
    for source in sources_in("src") {
        assert!(source.text.starts_with("//! "), "{} does not begin with //!", source.path);
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    for source in sources_in("src") {
        let lines = source.text.lines().count();
        let excused = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        assert!(excused || lines <= LONG, "{} has {lines} lines; it wants to be two", source.path);
        assert!(!excused || lines > LONG, "{} has {lines} lines and needs no excuse any more", source.path);
    }
}

#[test]
fn no_room_is_a_drawer() {
    let drawers = ["util", "utils", "helper", "helpers", "common", "manager", "misc"];

    for source in sources_in("src") {
        let names = source.path.trim_end_matches(".rs").split('/');
        let drawer: Vec<_> = names.filter(|name| drawers.contains(name) || name.starts_with("new_")).collect();
        assert!(drawer.is_empty(), "{}: {drawer:?} is not a subject", source.path);
    }
}
