//! What the configuration takes, what it refuses, and in which words.

#![expect(clippy::wildcard_enum_match_arm, reason = "everything else is a plain value")]

use rstest::rstest;

use super::tree::{KEYS, without_positions};
use super::*;

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A folder with the files that the tests name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    for (name, text) in [
        ("secrets/entra", "hush\n"),
        ("secrets/token", "e30.e30.c2ln\n"),
        ("secrets/uem-webhook", "one\n\ntwo\n"),
        ("secrets/uem-api", "hush"),
        ("secrets/uem-tenant-code", "code"),
        ("secrets/empty", "\n"),
        ("ca.pem", "-----BEGIN CERTIFICATE-----\n"),
        ("no-ca.pem", "hello"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn read(text: &str, pairs: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    read_in(&folder(), text, pairs)
}

fn read_in(folder: &tempfile::TempDir, text: &str, pairs: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    Config::read(text, folder.path(), &variables(pairs)).map_err(|problems| {
        let base = format!("{}/", folder.path().display());
        problems.0.iter().map(|problem| problem.to_string().replace(&base, "")).collect()
    })
}

const ENTRA: &str = "[entra]\ntenant_id = \"contoso.example\"\nclient_id = \"app\"\nclient_secret = \"hush\"\n";
const SOURCE: &str = "[[source]]\nname = \"uem\"\nkind = \"workspace-one-uem\"\n";

#[rstest]
#[case("[serevr]\nlisten = \"127.0.0.1:1\"", "serevr: is not a known key; did you mean server?")]
#[case("[server]\nlissen = \"127.0.0.1:1\"", "server.lissen: is not a known key; did you mean listen?")]
#[case("tenant_id = \"x\"", "tenant_id: is not a known key; did you mean entra.tenant_id?")]
#[case("[server]\ncolour = 1", "server.colour: is not a known key; known here: listen, trusted_proxies, proxy_header")]
#[case("server = 8080", "server: is a number; write it as a section: [server]")]
#[case("[server]\nlisten = 8080", "server.listen: is a number; write text, in quotes")]
#[case(
    "[server]\nlisten = \"localhost\"",
    "server.listen: is not an address and a port; write for example \"127.0.0.1:8080\" or \"[::]:8080\""
)]
#[case(
    "[intake]\nlisten = \"127.0.0.1:8080\"",
    "intake.listen: is the same as server.listen; give each a port of its own"
)]
#[case(
    "[database]\nurl = \"mysql://x\"",
    "database.url: is not a database; write \"sqlite://path\" or \"postgres://user@host/name\""
)]
#[case("[database]\nurl = \" \"", "database.url: is empty; give it a value, or leave it out")]
#[case(
    "[entra]\ncloud = \"germany\"\ntenant_id = \"a\"\nclient_id = \"b\"\nclient_secret = \"c\"",
    "entra.cloud: is \"germany\"; write \"global\" or \"usgov\" or \"dod\" or \"china\""
)]
#[case(
    "[entra]\nclient_id = \"b\"\nclient_secret = \"c\"",
    "entra.tenant_id: is missing; write the directory (tenant) id from the app registration's overview page"
)]
#[case(
    "[entra]\ntenant_id = \"<tenant>\"\nclient_id = \"b\"\nclient_secret = \"c\"",
    "entra.tenant_id: is not an id; write the directory (tenant) id from the app registration's overview page"
)]
#[case(
    "[entra]\ntenant_id = \"a\"\nclient_id = \"b\"",
    "entra.client_secret: is missing; give it here, as client_secret_file, or as HANDOVER_ENTRA__CLIENT_SECRET; or give federated_token_file"
)]
#[case(
    "+federated_token_file = \"secrets/token\"",
    "entra.federated_token_file: is given beside the client secret; keep one way to prove who the app is"
)]
#[case(
    "[server]\ntrusted_proxies = [\"10.0.0.0/33\"]",
    "server.trusted_proxies: has an entry that is no network; write one such as \"10.0.0.0/8\" or \"192.0.2.7\""
)]
#[case(
    "[server]\ntrusted_proxies = [\"0.0.0.0/0\"]",
    "server.trusted_proxies: trusts the whole world, so that anybody could pretend to be anybody; name the proxies' networks"
)]
#[case(
    "[server]\nproxy_header = \"via\"",
    "server.proxy_header: is \"via\"; write \"x-forwarded-for\" or \"forwarded\""
)]
#[case(
    "[entra]\ntenant_id = \"a\"\nclient_id = \"b\"\nclient_secret = \"c\"\nclient_secret_file = \"secrets/entra\"",
    "entra.client_secret: is given twice, also as client_secret_file; keep one of the two"
)]
#[case(
    "[entra]\ntenant_id = \"a\"\nclient_id = \"b\"\nclient_secret_file = \"secrets/none\"",
    "entra.client_secret_file: secrets/none cannot be read (entity not found); correct the path or its rights"
)]
#[case(
    "[entra]\ntenant_id = \"a\"\nclient_id = \"b\"\nclient_secret_file = \"secrets/empty\"",
    "entra.client_secret_file: secrets/empty is empty; put the secret in it"
)]
#[case(
    "[entra]\ntenant_id = \"a\"\nclient_id = \"b\"\nclient_secret_file = \"secrets\"",
    "entra.client_secret_file: secrets is not a file; name the file itself"
)]
#[case(
    "+login_url = \"http://login.example\"",
    "entra.login_url: would send secrets in the clear; write https:// (plain http is for loopback addresses only)"
)]
#[case("+graph_url = \"https://graph.example/v1.0\"", "entra.graph_url: ends in a version; write the root without it")]
#[case(
    "+graph_url = \"https://graph.microsoft.com@evil.example\"",
    "entra.graph_url: holds a login; write the address without it, and the login in its own keys"
)]
#[case(
    "+graph_url = \"https://graph.example/?x=1\"",
    "entra.graph_url: has a part after ? or #; write the address without it"
)]
#[case(
    "+graph_url = \"graph.example\"",
    "entra.graph_url: is not an address; write one such as \"https://host.example\""
)]
#[case(
    "+ca_file = \"no-ca.pem\"",
    "entra.ca_file: no-ca.pem holds no certificate; it must be PEM, beginning with -----BEGIN CERTIFICATE-----"
)]
#[case("[policy]\nrevoke_on = \"always\"", "policy.revoke_on: is \"always\"; write \"next_user\" or \"return\"")]
#[case(
    "[policy]\nwhen_holding_another = \"hold\"",
    "policy.when_holding_another: \"hold\" comes in a later version; write \"revoke\" for now"
)]
#[case(
    "[policy]\nwhen_holding_another = \"ask\"",
    "policy.when_holding_another: \"ask\" comes in a later version; write \"revoke\" for now"
)]
#[case(
    "[policy]\nwrites_per_second = 21",
    "policy.writes_per_second: is out of range; write a number of writes a second, more than 0 and at most 20"
)]
#[case(
    "[policy]\nwrites_per_second = nan",
    "policy.writes_per_second: is out of range; write a number of writes a second, more than 0 and at most 20"
)]
#[case("[policy]\nshadow = \"yes\"", "policy.shadow: is text; write true or false, without quotes")]
#[case(
    "[policy]\nsettle_seconds = 0",
    "policy.settle_seconds: is out of range; write a whole number of seconds from 2 to 600"
)]
#[case(
    "[policy]\nact_within_hours = 1.5",
    "policy.act_within_hours: is a number; write a whole number of hours from 1 to 8760"
)]
#[case("[source]\nname = \"uem\"", "source: is a section; write each one as a section: [[source]]")]
#[case(
    "[[source]]\nname = \"UEM 1\"\nkind = \"workspace-one-uem\"",
    "source[0].name: is not usable in an address; write 1 to 40 of a-z, 0-9 and -"
)]
#[case("[[source]]\nname = \"uem\"", "source[0].kind: is missing; write \"workspace-one-uem\"")]
#[case("[[source]]\nname = \"uem\"\nkind = \"jamf\"", "source[0].kind: is \"jamf\"; write \"workspace-one-uem\"")]
#[case(
    "*username = \"handover\"",
    "source[0].passwords: is missing beside username; give password, passwords or passwords_file"
)]
#[case(
    "*password = \"x\"",
    "source[0].username: is missing beside the password; write the user name of the UEM's rule"
)]
#[case(
    "*username = \"a\"\npassword = \"x\"\npasswords_file = \"secrets/uem-webhook\"",
    "source[0].password: is given twice, also as passwords_file; keep one of them"
)]
#[case(
    "*username = \"a:b\"\npassword = \"x\"",
    "source[0].username: has a colon, which HTTP Basic cannot carry; choose a user name without one"
)]
#[case(
    "*upn_from = \"{name}@x\"",
    "source[0].upn_from: is not understood; write \"email\", \"user_name\" or a template such as \"{user_name}@contoso.example\""
)]
#[case("*pool_accounts = \"stg\"", "source[0].pool_accounts: is text; write a list of texts: [\"…\", \"…\"]")]
#[case("*time_zone = \"CET\"", "source[0].time_zone: is not an offset from UTC; write one such as \"+01:00\"")]
#[case(
    "*target_url = \"http://handover.example/intake/uem\"",
    "source[0].target_url: would send secrets in the clear; write https:// (plain http is for loopback addresses only)"
)]
#[case(
    "*events = [{ class = \"handover\" }]",
    "source[0].events[0].id: is missing, and text too; give at least one of them"
)]
#[case(
    "*events = [{ id = 1 }]",
    "source[0].events[0].class: is missing; write what the event is, for example \"handover\""
)]
#[case(
    "*[source.api]\nurl = \"https://as.example\"",
    "source[0].api: has no login; give token_url, client_id and client_secret, or username and password"
)]
#[case(
    "*[source.api]\nurl = \"https://as.example\"\nclient_id = \"a\"\nclient_secret = \"b\"",
    "source[0].api.token_url: is missing; the login needs it"
)]
#[case(
    "*[source.api]\nusername = \"a\"\npassword = \"b\"",
    "source[0].api.url: is missing; write the API's address, such as \"https://as1234.awmdm.com\""
)]
#[case("[log]\nlevel = \"loud\"", "log.level: is not a level; write error, warn, info, debug or trace")]
#[case("[log]\nformat = \"xml\"", "log.format: is \"xml\"; write \"text\" or \"json\"")]
fn a_mistake_is_named_with_its_key_and_its_fix(#[case] text: &str, #[case] says: &str) {
    let text = match text.split_at(1) {
        ("+", rest) => format!("{ENTRA}{rest}"),
        ("*", rest) => format!("{SOURCE}{rest}"),
        _ => text.to_owned(),
    };

    assert_eq!(read(&text, &[]).unwrap_err(), [says]);
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = format!("[server]\nlisten = 1\n[policy]\nshadow = 1\n{SOURCE}{SOURCE}");

    let problems = read(&text, &[("HANDOVER_LOG__FORMAT", "xml")]).unwrap_err();

    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(problems.contains(&"source[1].name: \"uem\" is taken by another source; give each its own".to_owned()));
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let problems = read("[server]\nlisten = ", &[]).unwrap_err();

    assert!(problems[0].starts_with("the file: is not TOML: TOML parse error at line 2"), "{problems:?}");
}

#[test]
fn nothing_configured_is_shadow_mode_on_sqlite() {
    let config = read("", &[]).unwrap();

    assert!(config.is_shadow());
    assert_eq!(config.database.url, "sqlite://data/handover.db");
    assert_eq!((config.server.listen.to_string(), config.intake.listen.port()), ("127.0.0.1:8080".to_owned(), 8081));
    assert!(!read(ENTRA, &[]).unwrap().is_shadow());
}

#[test]
fn the_environment_wins_over_the_file_for_keys_of_every_kind() {
    let folder = folder();
    let config = read_in(
        &folder,
        SOURCE,
        &[
            ("HANDOVER_ENTRA__TENANT_ID", "contoso.example"),
            ("HANDOVER_ENTRA__CLIENT_ID", "123"),
            ("HANDOVER_ENTRA__CLIENT_SECRET_FILE", "secrets/entra"),
            ("HANDOVER_POLICY__SHADOW", "true"),
            ("HANDOVER_POLICY__SETTLE_SECONDS", "30"),
            ("HANDOVER_POLICY__WRITES_PER_SECOND", "7.5"),
            ("HANDOVER_SOURCE__UEM__USERNAME", "handover"),
            ("HANDOVER_SOURCE__0__PASSWORDS", "[\"one\", \"two\"]"),
            ("HANDOVER_SOURCE__0__POOL_ACCOUNTS", "stg-ipad"),
            ("HANDOVER_SOURCE__0__API__URL", "https://as.example"),
            ("HANDOVER_SOURCE__0__API__USERNAME", "svc"),
            ("HANDOVER_SOURCE__0__API__PASSWORD", "hush"),
            ("HANDOVER_SOURCE__1__NAME", "second"),
            ("HANDOVER_SOURCE__1__KIND", "workspace-one-uem"),
            ("HANDOVER_PORT", "tcp://10.0.0.1:80"),
        ],
    )
    .unwrap();

    let source = &config.sources[0];
    assert_eq!(secret_of(&config), "hush");
    assert!(config.policy.shadow && config.policy.settle_seconds == 30);
    assert!((config.policy.writes_per_second - 7.5).abs() < f64::EPSILON);
    assert_eq!(source.passwords.as_ref().unwrap().reveal().unwrap().len(), 2);
    assert_eq!(source.pool_accounts, ["stg-ipad"]);
    assert!(matches!(&source.api, Some(Api { login: ApiLogin::Basic { .. }, sweep_seconds: 300, .. })));
    assert_eq!(config.sources[1].name, "second");
}

#[rstest]
#[case(
    "HANDOVER_ENTRA_CLIENT_SECRET",
    "HANDOVER_ENTRA_CLIENT_SECRET: has one underscore where two are needed; write HANDOVER_ENTRA__CLIENT_SECRET"
)]
#[case("HANDOVER_SERVER__LISSEN", "server.lissen: is not a known key; did you mean listen?")]
#[case(
    "HANDOVER_SOURCE__UEM__NAME",
    "HANDOVER_SOURCE__UEM__NAME: names a source that is not configured; use its position, counted from 0"
)]
#[case(
    "HANDOVER_SOURCE__4__NAME",
    "HANDOVER_SOURCE__4__NAME: names source 4, but there are 0; positions count from 0 without a gap"
)]
fn a_wrong_variable_is_refused(#[case] name: &str, #[case] says: &str) {
    assert_eq!(read("", &[(name, "x")]).unwrap_err(), [says]);
}

fn secret_of(config: &Config) -> String {
    match &config.entra.as_ref().unwrap().proof {
        Proof::Secret(secret) => secret.reveal().unwrap().expose_secret().to_owned(),
        Proof::FederatedToken(path) => panic!("it is the token in {}", path.display()),
    }
}

#[test]
fn a_federated_token_stands_for_the_secret() {
    let entra = "[entra]\ntenant_id = \"contoso.example\"\nclient_id = \"app\"\n";

    let config = read(&format!("{entra}federated_token_file = \"secrets/token\""), &[]).unwrap();

    assert!(matches!(&config.entra.unwrap().proof, Proof::FederatedToken(path) if path.ends_with("secrets/token")));
}

#[test]
fn proxies_are_networks_or_single_addresses() {
    let config = read("", &[("HANDOVER_SERVER__TRUSTED_PROXIES", "[\"10.0.0.0/8\", \"2001:db8::7\"]")]).unwrap();

    let shown: Vec<_> = config.server.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.0/8", "2001:db8::7/128"]);
    assert_eq!(read("", &[]).unwrap().server.trusted_proxies, []);
}

/// The sample with every setting switched on.
fn switched_on() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    sample().lines().map(on).collect::<Vec<_>>().join("\n")
}

fn keys(prefix: &str, value: &config::Value, found: &mut Vec<String>) {
    let key = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
    match &value.kind {
        config::ValueKind::Table(table) => {
            for (name, value) in table {
                keys(&key(name), value, found);
            }
        }
        config::ValueKind::Array(values)
            if values.iter().any(|value| matches!(value.kind, config::ValueKind::Table(_))) =>
        {
            for value in values {
                keys(&format!("{prefix}[]"), value, found);
            }
        }
        _ => found.push(without_positions(prefix)),
    }
}

#[test]
fn the_sample_loads_and_is_the_default() {
    let (sampled, bare) = (read(sample(), &[]).unwrap(), read("", &[]).unwrap());

    let without_base = |config: Config| format!("{:?}", Config { base: PathBuf::new(), ..config });
    assert_eq!(without_base(sampled), without_base(bare));
}

#[test]
fn the_sample_the_reader_and_the_list_of_keys_know_the_same_keys() {
    let parsed = FileFormat::Toml.parse(None, &switched_on()).unwrap();
    let mut sampled = Vec::new();
    for (name, value) in &parsed {
        keys(name, value, &mut sampled);
    }
    let folder = folder();
    let reader = Reader::new(folder.path());
    Config::sections(&reader, parsed.into_iter().collect(), folder.path());
    let mut asked = reader.asked();

    let mut known: Vec<_> = KEYS.iter().map(|key| (*key).to_owned()).collect();
    for list in [&mut sampled, &mut asked, &mut known] {
        list.sort_unstable();
        list.dedup();
    }
    assert_eq!(sampled, known);
    assert_eq!(asked, known);
}

#[test]
fn the_sample_switched_on_is_good_but_for_what_excludes_each_other() {
    let wordless = [
        "client_secret =",
        "federated_token_file =",
        "password =",
        "passwords =",
        "tenant_code =",
        "username = \"svc",
        "password_file =",
    ];
    let text: Vec<_> = switched_on()
        .lines()
        .filter(|line| !wordless.iter().any(|word| line.starts_with(word)))
        .map(str::to_owned)
        .collect();

    let folder = folder();
    let config = read_in(&folder, &text.join("\n"), &[]).unwrap();

    assert!(matches!(config.sources[0].api.as_ref().unwrap().login, ApiLogin::OAuth { .. }));
    assert_eq!(config.sources[0].passwords.as_ref().unwrap().reveal().unwrap().len(), 2);
}

#[test]
fn no_secret_is_printed() {
    let text =
        format!("[database]\nurl = \"postgres://u:hush@db/x\"\n{ENTRA}{SOURCE}username = \"a\"\npassword = \"hush\"");

    let printed = format!("{:?}", read(&text, &[]).unwrap());

    assert!(!printed.contains("hush"), "{printed}");
}
