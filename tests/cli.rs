//! The commands from outside: what they print, where, and how they end.

use assert_cmd::Command;
use tempfile::TempDir;

/// Handover in an empty folder, with nothing of ours in its environment.
fn handover(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("handover").unwrap();
    command.current_dir(folder.path()).env_clear().args(arguments);
    command
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn ended(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(folder: &TempDir, arguments: &[&str]) -> Ended {
    ended(handover(folder, arguments))
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn every_command_has_help_with_an_example() {
    let folder = folder();
    for command in [
        "serve",
        "doctor",
        "import",
        "who",
        "history",
        "person",
        "revocations",
        "revocations retry",
        "revocations release",
        "revocations waive",
        "replay",
        "token",
        "token create",
        "token list",
        "token revoke",
        "config",
        "config sample",
        "config check",
    ] {
        let mut arguments: Vec<_> = command.split(' ').collect();
        arguments.push("--help");
        let help = run(&folder, &arguments);

        assert_eq!(help.code, 0, "{command}");
        assert!(help.out.contains("Example"), "{command}: {}", help.out);
        let verb = command.split(' ').next().unwrap();
        assert!(help.out.contains(&format!("  handover {verb}")), "{command}: {}", help.out);
    }
}

#[test]
fn misuse_ends_with_two() {
    let folder = folder();
    for arguments in [
        &["whoo"][..],
        &["who"],
        &["who", "X", "--at", "noon"],
        &["revocations", "--state", "given_up"],
        &["revocations", "waive", "00000000-0000-0000-0000-000000000001"],
        &["history", "X", "--json", "--csv"],
        &["replay"],
        &["token", "create"],
        &["token", "create", "--role", "king"],
        &["import", "--source", "uem", "x.jsonl"],
        &["who", "X", "--config", "none.toml"],
    ] {
        let ended = run(&folder, arguments);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{arguments:?}: {}", ended.err);
    }
}

#[test]
fn the_sample_is_a_configuration() {
    let folder = folder();
    let sample = run(&folder, &["config", "sample"]);
    std::fs::write(folder.path().join("handover.toml"), &sample.out).unwrap();

    let check = run(&folder, &["config", "check"]);

    assert_eq!(
        (check.code, check.out.as_str()),
        (0, "handover.toml: good; shadow mode, 0 source(s), sqlite://data/handover.db\n")
    );
}

#[test]
fn a_wrong_configuration_is_found_by_check_and_refused_by_the_rest() {
    let folder = folder();
    std::fs::write(folder.path().join("handover.toml"), "[policy]\nshadow = 1\nsettle_second = 2\n").unwrap();
    let check = run(&folder, &["config", "check"]);
    let serve = run(&folder, &["serve"]);
    let doctor = run(&folder, &["doctor"]);

    assert_eq!((check.code, serve.code, doctor.code), (1, 2, 1));
    assert_eq!(
        check.out,
        "the configuration has 2 problems:\n  \
         policy.shadow: is a number; write true or false, without quotes\n  \
         policy.settle_second: is not a known key; did you mean settle_seconds?\n\
         every key is explained by: handover config sample\n"
    );
    assert_eq!(serve.err, check.out);
    assert!(doctor.out.contains("✗ configuration  policy.shadow"), "{}", doctor.out);
}

#[test]
fn a_token_is_printed_alone_listed_without_its_secret_and_made_void() {
    let folder = folder();
    let made = run(&folder, &["token", "create", "--role", "viewer", "--name", "dash"]);
    let listed = run(&folder, &["token", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    let id = list["items"][0]["id"].as_str().unwrap();
    let void = run(&folder, &["token", "revoke", id]);
    let again = run(&folder, &["token", "revoke", id]);

    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.out.starts_with("ho_") && made.out.ends_with('\n') && made.out.lines().count() == 1);
    assert!(!listed.out.contains(made.out.trim()));
    assert_eq!(list["items"][0]["role"], "viewer");
    assert_eq!((void.code, again.code), (0, 1));
}

#[test]
fn a_question_without_a_database_says_what_to_do_and_makes_none() {
    let folder = folder();
    let who = run(&folder, &["who", "DMPX7Q2LK1"]);

    assert_eq!(who.code, 1);
    assert!(who.err.contains("there is no database at ./data/handover.db; start handover serve first"), "{}", who.err);
    assert!(!folder.path().join("data").exists());
}

#[test]
fn a_name_that_nobody_has_is_found_wrong() {
    let folder = folder();
    run(&folder, &["token", "create", "--role", "viewer"]);
    for (arguments, says) in [
        (&["who", "DMPX7Q2LK1"][..], "no device is called DMPX7Q2LK1\n"),
        (&["history", "DMPX7Q2LK1"], "no device is called DMPX7Q2LK1\n"),
        (&["person", "nobody@contoso.example"], "nobody is called nobody@contoso.example\n"),
        (&["revocations", "--device", "x\u{1b}[2J"], "no device is called x\\u{1b}[2J\n"),
    ] {
        let ended = run(&folder, arguments);
        assert_eq!((ended.code, ended.err.as_str()), (1, says));
    }
    let none = run(&folder, &["revocations", "--state", "held", "--json"]);
    assert_eq!((none.code, none.out.as_str()), (0, "{\n  \"items\": [],\n  \"more\": false\n}\n"));
}

#[test]
fn the_doctor_finds_nothing_wrong_with_the_default() {
    let folder = folder();
    let config = "[server]\nlisten = \"127.0.0.1:0\"\n[intake]\nlisten = \"127.0.0.1:0\"\n";
    std::fs::write(folder.path().join("handover.toml"), config).unwrap();
    let doctor = run(&folder, &["doctor"]);

    assert_eq!(doctor.code, 0, "{}", doctor.out);
    assert!(doctor.out.contains("! Entra          shadow mode: nothing is sent"), "{}", doctor.out);
    assert!(doctor.out.ends_with("nothing must be fixed; 2 to look at\n"), "{}", doctor.out);
}

#[test]
fn the_doctor_finds_what_cannot_work() {
    let folder = folder();
    let config = "[entra]\nlogin_url = \"http://127.0.0.1:1\"\ngraph_url = \"http://127.0.0.1:1\"\ntenant_id = \"t\"\n\
                  client_id = \"c\"\nclient_secret = \"hush\"\n[[source]]\nname = \"uem\"\nkind = \"workspace-one-uem\"\n";
    std::fs::write(folder.path().join("handover.toml"), config).unwrap();
    let mut command = handover(&folder, &["doctor", "--json"]);
    command.env("HANDOVER_SERVER__LISTEN", "127.0.0.1:0").env("HANDOVER_INTAKE__LISTEN", "127.0.0.1:0");
    let doctor = ended(command);

    assert_eq!(doctor.code, 1);
    let report: serde_json::Value = serde_json::from_str(&doctor.out).unwrap();
    let wrong = |about: &str| {
        let findings = report["findings"].as_array().unwrap();
        findings
            .iter()
            .any(|finding| finding["about"] == about && finding["mark"] == "wrong" && finding["fix"].is_string())
    };
    assert!(wrong("Entra") && wrong("source uem"), "{}", doctor.out);
    assert!(!doctor.out.contains("hush"));
}
