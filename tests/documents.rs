//! The documents say what is so: commands and options exist, keys of the configuration exist, links lead somewhere.

#![expect(clippy::unwrap_used, reason = "a check that cannot read what it checks has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document: those at the top, and everything under `docs`.
fn documents() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    collect(root(), false, &mut files);
    collect(&root().join("docs"), true, &mut files);
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read_to_string(file).unwrap())).collect()
}

fn collect(folder: &Path, deep: bool, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && deep {
            collect(&path, deep, files);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            files.push(path);
        }
    }
}

/// What stands between single backticks, and the lines that are set as code by four blanks.
fn code_in(text: &str) -> Vec<String> {
    let mut code: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("    ")).map(str::to_owned).collect();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("```")) {
        code.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    code
}

/// The keys of a TOML text, as `section.key`. A setting that is switched off (`#key = …`) counts.
fn keys(text: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some(name) = line.strip_prefix('[') {
            name.trim_start_matches('[').split(']').next().unwrap_or_default().clone_into(&mut section);
            keys.insert(section.clone());
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
        {
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

fn sample() -> BTreeSet<String> {
    keys(&fs::read_to_string(root().join("src/cli/config/sample.toml")).unwrap())
}

#[test]
fn every_command_in_the_documents_exists_with_its_options() {
    let mut seen = 0;
    for (file, text) in documents() {
        for code in code_in(&text) {
            let Some((before, line)) = code.split_once("handover ") else { continue };
            if !(before.is_empty() || before.ends_with('/')) || line.starts_with('-') {
                continue;
            }
            let words: Vec<_> = line.split([' ', '>']).collect();
            let is_name = |word: &&&str| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_lowercase());
            let names: Vec<_> = words.iter().take_while(is_name).copied().collect();

            let help = Command::cargo_bin("handover").unwrap().args(&names).arg("--help").output().unwrap();

            let help_text = String::from_utf8(help.stdout).unwrap();
            assert!(help.status.success(), "{}: `handover {line}` does not exist", file.display());
            let usage = format!("Usage: handover {}", names.join(" "));
            assert!(help_text.contains(&usage), "{}: `handover {line}` does not exist", file.display());
            for option in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help_text.contains(option), "{}: `handover {line}` has no {option}", file.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} commands were found");
}

#[test]
fn every_command_is_in_the_readme() {
    let help = Command::cargo_bin("handover").unwrap().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();

    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for command in commands.filter(|line| !line.starts_with("    ")).filter_map(|line| line.split_whitespace().next()) {
        assert!(
            command == "help" || readme.contains(&format!("`handover {command}")),
            "{command} is not in the README"
        );
    }
}

#[test]
fn every_setting_in_the_documents_is_in_the_sample() {
    let sample = sample();
    assert!(sample.contains("entra.client_secret_file"), "the sample is not read right");

    for (file, text) in documents() {
        for block in text.split("```toml").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            for key in keys(block) {
                assert!(sample.contains(&key), "{}: {key} is no setting", file.display());
            }
        }
        for code in code_in(&text) {
            let is_key = |(section, _): &(&str, &str)| sample.contains(*section);
            if code.split_once('.').as_ref().is_some_and(is_key) && !code.contains(' ') {
                assert!(sample.contains(&code), "{}: {code} is no setting", file.display());
            }
        }
    }
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    for (file, text) in documents() {
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap_or_default();
            if link.is_empty() || link.contains("://") {
                continue;
            }
            assert!(file.parent().unwrap().join(link).exists(), "{}: {link} leads nowhere", file.display());
        }
    }
}

#[test]
fn every_path_in_the_documents_exists() {
    for (file, text) in documents() {
        for code in code_in(&text) {
            let ours = ["src/", "tests/", "docs/", "scripts/", "migrations/", "deploy/"]
                .iter()
                .any(|folder| code.starts_with(folder));
            let path = code.split(' ').next().unwrap_or_default();
            if ours && !path.contains("NNNN") {
                assert!(root().join(path).exists(), "{}: {path} is not there", file.display());
            }
        }
    }
}
