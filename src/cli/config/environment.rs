//! Configuration from the environment: `HANDOVER_ENTRA__CLIENT_SECRET` is `entra.client_secret`.
//!
//! Two underscores go one level down. A source is meant by its position, counted from 0 (`HANDOVER_SOURCE__0__PASSWORD`; the
//! one after the last adds a source), or by its name in capitals with `_` for everything else (`HANDOVER_SOURCE__UEM__PASSWORD`).
//! A list is written as in the file (`["one", "two"]`); a single text may stand alone. The environment wins over the file.
//!
//! A variable without two underscores is not ours (Kubernetes sets `HANDOVER_PORT` for a service of that name), unless it
//! would be a key if it had them: then somebody meant that key, and it is refused.

#![expect(clippy::wildcard_enum_match_arm, reason = "a value of any other type is refused alike")]

use std::collections::BTreeMap;

use config::{FileFormat, Format as _, Value, ValueKind};

use super::tree::{KEYS, Reader};

/// What all our variables begin with.
const PREFIX: &str = "HANDOVER_";

type Table = BTreeMap<String, Value>;

/// Puts the variables over what the file says.
pub(super) fn overlay(table: &mut Table, variables: &BTreeMap<String, String>, reader: &Reader<'_>) {
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let parts: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        if parts.len() < 2 {
            if let Some(meant) = meant(rest) {
                reader.problem(name, format!("has one underscore where two are needed; write {PREFIX}{meant}"));
            }
            continue;
        }
        let value = value(name, text);
        if let Err(says) = put(table, &parts, value) {
            reader.problem(name, says);
        }
    }
}

/// The variable that was meant by one with too few underscores.
fn meant(rest: &str) -> Option<String> {
    let known = KEYS.iter().find(|key| key.replace('.', "_").eq_ignore_ascii_case(rest))?;
    Some(known.replace('.', "__").to_ascii_uppercase())
}

fn value(name: &str, text: &str) -> Value {
    let origin = name.to_owned();
    if text.trim_start().starts_with('[')
        && let Ok(mut read) = FileFormat::Toml.parse(Some(&origin), &format!("value = {text}"))
        && let Some(list) = read.remove("value")
    {
        return list;
    }
    Value::new(Some(&origin), ValueKind::String(text.to_owned()))
}

fn put(table: &mut Table, parts: &[String], value: Value) -> Result<(), String> {
    match parts {
        [] => Ok(()),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [list, which, rest @ ..] if list == "source" && !rest.is_empty() => {
            let held = table.remove(list).map_or_else(|| ValueKind::Array(Vec::new()), |held| held.kind);
            let ValueKind::Array(mut sources) = held else {
                table.insert(list.clone(), Value::new(None, held));
                return Ok(());
            };
            let done = source(&mut sources, which).and_then(|found| put_in(found, rest, value));
            table.insert(list.clone(), Value::new(None, ValueKind::Array(sources)));
            done
        }
        [key, rest @ ..] => {
            let empty = || Value::new(None, ValueKind::Table(config::Map::new()));
            let held = table.entry(key.clone()).or_insert_with(empty);
            put_in(held, rest, value)
        }
    }
}

fn put_in(held: &mut Value, rest: &[String], value: Value) -> Result<(), String> {
    let ValueKind::Table(map) = &mut held.kind else { return Ok(()) };
    let mut table: Table = std::mem::take(map).into_iter().collect();
    let done = put(&mut table, rest, value);
    *map = table.into_iter().collect();
    done
}

/// The source meant by a position or a name.
fn source<'a>(sources: &'a mut Vec<Value>, which: &str) -> Result<&'a mut Value, String> {
    let count = sources.len();
    if let Ok(position) = which.parse::<usize>() {
        if position > count {
            return Err(format!(
                "names source {position}, but there are {count}; positions count from 0 without a gap"
            ));
        }
        if position == count {
            sources.push(Value::new(None, ValueKind::Table(config::Map::new())));
        }
        return sources.get_mut(position).ok_or_else(String::new);
    }
    let named = |source: &Value| match &source.kind {
        ValueKind::Table(table) => table
            .get("name")
            .and_then(|name| name.clone().into_string().ok())
            .is_some_and(|name| spelled(&name) == which),
        _ => false,
    };
    sources
        .iter_mut()
        .find(|source| named(source))
        .ok_or_else(|| "names a source that is not configured; use its position, counted from 0".to_owned())
}

/// A source's name as it can stand in a variable, in lower case.
fn spelled(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}
