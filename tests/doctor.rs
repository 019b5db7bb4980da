//! What `handover doctor` says of an installation that is right, and of one where everything that can be wrong is.
//!
//! The program itself runs, against the sandbox's Entra and UEM over TLS.

#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use handover::sandbox::{Format, Hook, Rule, Sandbox, Settings};

const TARGET: &str = "https://handover.contoso.example/intake/uem";

/// The rule as the UEM's administrator saved it.
fn save_rule(sandbox: &Sandbox, rule: &Rule) {
    sandbox.uem.set_hook(Some(Hook::to(&rule.url, "handover", "a password of the rule")));
    sandbox.uem.change(|options| options.rule = Some(rule.clone()));
}

fn configure(folder: &Path, sandbox: &Sandbox, secret: &str) {
    let (entra, uem) = (&sandbox.entra, &sandbox.uem);
    std::fs::write(folder.join("ca.pem"), sandbox.ca_pem()).unwrap();
    let text = format!(
        r#"
[server]
listen = "127.0.0.1:0"
[intake]
listen = "127.0.0.1:0"
[entra]
tenant_id = "{tenant}"
client_id = "{client}"
client_secret = "{secret}"
login_url = "{login}"
graph_url = "{graph}"
ca_file = "ca.pem"
[[source]]
name = "uem"
kind = "workspace-one-uem"
username = "handover"
passwords = ["a password of the rule"]
target_url = "{TARGET}"
[source.api]
url = "{url}"
token_url = "{token_url}"
client_id = "{uem_client}"
client_secret = "{uem_secret}"
tenant_code = "{code}"
ca_file = "ca.pem"
"#,
        tenant = entra.tenant_id(),
        client = entra.client_id(),
        login = entra.login_url(),
        graph = entra.graph_url(),
        url = uem.url(),
        token_url = uem.token_url(),
        uem_client = uem.client_id(),
        uem_secret = uem.client_secret(),
        code = uem.tenant_code(),
    );
    std::fs::write(folder.join("handover.toml"), text).unwrap();
}

async fn doctor(folder: &Path) -> (Output, String) {
    let folder = folder.to_path_buf();
    let run = move || {
        Command::new(env!("CARGO_BIN_EXE_handover")).arg("doctor").current_dir(folder).env_clear().output().unwrap()
    };
    let output =
        tokio::time::timeout(Duration::from_secs(60), tokio::task::spawn_blocking(run)).await.unwrap().unwrap();
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    (output, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_is_right_has_nothing_to_fix() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    sandbox.uem.add_pool_account("stg-ipad");
    save_rule(&sandbox, &Rule { url: TARGET.to_owned(), active: true, format: Format::Json, check_out_check_in: true });
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), &sandbox, &sandbox.entra.client_secret());

    let (output, said) = doctor(folder.path()).await;

    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(!said.contains('✗'), "{said}");
    assert!(sandbox.entra.seen().iter().all(|seen| !seen.effect), "the doctor revokes nobody");
}

/// A token as a cluster projects it: the sandbox believes what it says.
fn projected(sandbox: &Sandbox, subject: &str) -> String {
    let exp = sandbox.entra.now().timestamp() + 600;
    let says = format!(
        r#"{{"iss":"https://cluster.example","sub":"{subject}","aud":["api://AzureADTokenExchange"],"exp":{exp}}}"#
    );
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(says))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_federated_token_will_do_and_one_that_fits_no_credential_is_named() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    sandbox.uem.add_pool_account("stg-ipad");
    save_rule(&sandbox, &Rule { url: TARGET.to_owned(), active: true, format: Format::Json, check_out_check_in: true });
    sandbox.entra.trust("https://cluster.example", "system:serviceaccount:handover:handover");
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), &sandbox, "not the secret");
    let file = folder.path().join("handover.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("client_secret = \"not the secret\"", "federated_token_file = \"token\"");
    std::fs::write(&file, text).unwrap();
    let token = |subject| std::fs::write(folder.path().join("token"), projected(&sandbox, subject)).unwrap();

    token("system:serviceaccount:handover:handover");
    let (output, said) = doctor(folder.path()).await;
    assert_eq!(output.status.code(), Some(0), "{said}");

    token("system:serviceaccount:default:default");
    let (output, said) = doctor(folder.path()).await;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("700213") && said.contains("compare issuer, subject and audience"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_is_named_with_its_fix() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    sandbox.entra.set_roles(["User.Read.All", "Directory.ReadWrite.All"]);
    save_rule(
        &sandbox,
        &Rule { url: TARGET.to_owned(), active: false, format: Format::Xml, check_out_check_in: false },
    );
    sandbox.uem.set_clock_offset_ms(10 * 60 * 1000);
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), &sandbox, &sandbox.entra.client_secret());

    let (output, said) = doctor(folder.path()).await;

    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in ["Directory.ReadWrite.All", "inactive", "Check-in/Check-out", "XML", "ahead of ours"] {
        assert!(said.contains(word), "{word} is not named:\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_and_a_missing_permission_must_be_fixed() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();

    configure(folder.path(), &sandbox, "not the secret");
    let (output, said) = doctor(folder.path()).await;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("7000215"), "Entra's own number is told:\n{said}");

    sandbox.entra.set_roles(["User.Read.All"]);
    configure(folder.path(), &sandbox, &sandbox.entra.client_secret());
    let (output, said) = doctor(folder.path()).await;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("User.RevokeSessions.All"), "{said}");
}
