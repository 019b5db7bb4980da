//! The commands from outside: what they print, where, and how they end.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use assert_cmd::Command;
use tempfile::TempDir;

/// Handover in an empty folder, with nothing of ours in its environment.
fn handover(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("handover").expect("the program is built before its tests");
    command.current_dir(folder.path()).env_clear().args(arguments);
    command
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn ended(mut command: Command) -> Ended {
    let output = command.output().expect("the program starts");
    Ended {
        code: output.status.code().expect("it ends by itself"),
        out: String::from_utf8(output.stdout).expect("it prints text"),
        err: String::from_utf8(output.stderr).expect("it prints text"),
    }
}

fn run(folder: &TempDir, arguments: &[&str]) -> Ended {
    ended(handover(folder, arguments))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("there is room for a folder")
}

#[test]
fn every_command_has_help_with_an_example() {
    let folder = folder();
    for command in [
        "serve",
        "doctor",
        "health",
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

/// A shift change as the UEM tells it: Amina takes an iPad, returns it, Jo takes it.
fn shift_change() -> String {
    let told = |time: &str, id: u32, user: &str| {
        serde_json::json!({
            "EventId": 4711, "EventType": "Check Out", "EventTime": format!("2026-03-02T{time}Z"), "DeviceId": 41207,
            "SerialNumber": "DMPX7Q2LK1", "DeviceFriendlyName": "iPad Ward 3B 07", "EnrollmentStatus": "Enrolled",
            "EnrollmentUserId": id, "EnrollmentUserName": user,
        })
        .to_string()
    };
    let lines = [
        told("05:58:41", 11, "amina.reuter@contoso.example"),
        told("14:07:03", 99, "stg-ipad"),
        told("14:08:59", 12, "jo.lind@contoso.example"),
        "not an event".to_owned(),
    ];
    lines.join("\n")
}

#[test]
fn an_imported_shift_change_is_answered_listed_and_folded_again() {
    let folder = folder();
    let config = "[[source]]\nname = \"uem\"\nkind = \"workspace-one-uem\"\nupn_from = \"user_name\"\npool_accounts = [\"stg-ipad\"]\n";
    std::fs::write(folder.path().join("handover.toml"), config).unwrap();
    std::fs::write(folder.path().join("events.jsonl"), shift_change()).unwrap();
    let import = run(&folder, &["import", "--source", "uem", "events.jsonl"]);
    let again = run(&folder, &["import", "--source", "uem", "events.jsonl", "--json"]);
    let who = run(&folder, &["who", "dmpx7q2lk1", "--at", "2026-03-02 12:00"]);
    let rack = run(&folder, &["who", "41207", "--at", "2026-03-02 14:08"]);
    let history = run(&folder, &["history", "DMPX7Q2LK1", "--csv"]);
    let person = run(&folder, &["person", "AMINA.reuter@contoso.example", "--json"]);
    let owed = run(&folder, &["revocations", "--state", "shadow"]);
    let replay = run(&folder, &["replay", "--check"]);

    assert_eq!(
        (import.code, import.out.as_str()),
        (1, "events.jsonl: 4 lines; 3 recorded, 0 known, 1 refused\n  refused and in quarantine: lines 4\n"),
        "{}",
        import.err
    );
    assert_eq!(again.code, 0, "{}", again.out);
    assert!(
        who.out.starts_with(
            "iPad DMPX7Q2LK1 (iPad Ward 3B 07) was held by amina.reuter@contoso.example from 05:58:41 to 14:07:03 UTC on \
             2 March 2026 (returned); the tokens were not revoked: in shadow mode nothing is sent.\n\n"
        ),
        "{}", who.out
    );
    assert!(
        rack.out.contains(" was with nobody from 14:07:03 to 14:08:59 UTC on 2 March 2026; before that"),
        "{}",
        rack.out
    );
    assert_eq!((history.code, history.out.lines().count()), (0, 3), "{}", history.out);
    assert!(person.out.contains("\"more\": false") && person.out.contains("DMPX7Q2LK1"), "{}", person.out);
    assert!(owed.out.contains("amina.reuter@contoso.example"), "{}", owed.out);
    assert_eq!((replay.code, replay.out.as_str()), (0, "1 devices folded again from 3 events: all as stored\n"));
}

/// A service that answers `status` to everything, once.
fn answering(status: &'static str) -> (std::thread::JoinHandle<String>, String) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 1024];
        let many = stream.read(&mut buffer).unwrap();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\nconnection: close\r\n\r\nso\n");
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&buffer[..many]).lines().next().unwrap_or_default().to_owned()
    });
    (served, at)
}

#[test]
fn health_asks_where_the_configuration_listens_and_says_it_by_its_exit_code() {
    for (status, arguments, line, code) in [
        ("200 OK", &["health"][..], "GET /health/live HTTP/1.1", 0),
        ("200 OK", &["health", "--ready"], "GET /health/ready HTTP/1.1", 0),
        ("503 Service Unavailable", &["health", "--ready"], "GET /health/ready HTTP/1.1", 1),
    ] {
        let folder = folder();
        let (served, at) = answering(status);
        let port = at.rsplit(':').next().unwrap();
        std::fs::write(folder.path().join("handover.toml"), format!("[server]\nlisten = \"0.0.0.0:{port}\"\n"))
            .unwrap();

        let ended = run(&folder, arguments);

        assert_eq!((ended.code, served.join().unwrap().as_str()), (code, line), "{}", ended.err);
        let is = if code == 0 { "is" } else { "is not" };
        assert!(ended.out.contains(&format!("http://{at}/health/")) && ended.out.contains(is), "{}", ended.out);
    }
}

#[test]
fn health_of_nobody_is_found_wrong_and_told_as_json_too() {
    let folder = folder();
    let (served, at) = answering("200 OK");
    let url = format!("http://{at}");
    let good = run(&folder, &["health", "--json", "--url", &url]);
    served.join().unwrap();

    let gone = run(&folder, &["health", "--json", "--url", &url]);

    let read = |out: &str| serde_json::from_str::<serde_json::Value>(out).unwrap();
    let (said, nothing) = (read(&good.out), read(&gone.out));
    assert_eq!((good.code, said["good"].as_bool(), said["status"].as_u64()), (0, Some(true), Some(200)));
    assert_eq!((gone.code, nothing["good"].as_bool(), nothing["status"].as_u64()), (1, Some(false), None));
    assert!(nothing["says"].as_str().unwrap().starts_with("no answer"), "{nothing}");
}

#[test]
fn health_with_a_wrong_configuration_is_misused() {
    let folder = folder();
    std::fs::write(folder.path().join("handover.toml"), "[server]\nlisten = 1\n").unwrap();

    assert_eq!(run(&folder, &["health"]).code, 2);
}

#[test]
fn a_backup_goes_into_a_folder_that_is_made_for_it() {
    let folder = TempDir::new().unwrap();
    handover(&folder, &["token", "create", "--role", "viewer"]).assert().success();

    handover(&folder, &["backup", "--to", "backups/weekly"]).assert().success();

    let mut names: Vec<_> = std::fs::read_dir(folder.path().join("backups/weekly"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names[0].starts_with("handover-20") && names[0].ends_with("Z.db"), "{names:?}");
    assert_eq!(names[1..], [format!("{}.json", names[0])]);
    let file = folder.path().join("backups/weekly").join(&names[0]);
    handover(&folder, &["backup", "verify", file.to_str().unwrap()]).assert().success();
}
