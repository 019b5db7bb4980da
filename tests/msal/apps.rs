//! The apps on an iPad: a Python process with MSAL in it, spoken to line by line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use handover::sandbox::Sandbox;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The apps, with one token cache for everybody who uses the iPad.
pub(crate) struct Apps {
    talk: Mutex<Talk>,
    _folder: TempDir,
}

struct Talk {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Apps {
    pub(crate) async fn install(sandbox: &Sandbox) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("ca.pem");
        std::fs::write(&root, sandbox.ca_pem()).unwrap();
        let entra = &sandbox.entra;
        let python = tokio::task::spawn_blocking(|| python().clone()).await.unwrap();
        let mut child = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/msal/shared_ipad.py"))
            .arg(format!("{}/{}", entra.login_url(), entra.tenant_id()))
            .arg(entra.public_client_id())
            .env("REQUESTS_CA_BUNDLE", root)
            .env("NO_PROXY", "localhost")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { talk: Mutex::new(Talk { child, orders, answers }), _folder: folder }
    }

    /// Somebody signs in, and gets a token.
    pub(crate) fn sign_in(&self, upn: &str) {
        let answer = self.order("sign_in", upn);
        assert_eq!(answer["token"], true, "{answer}");
    }

    /// Somebody opens an app; what the cache can do without a window.
    pub(crate) fn open(&self, upn: &str) -> Value {
        self.order("open", upn)
    }

    fn order(&self, what: &str, upn: &str) -> Value {
        tokio::task::block_in_place(|| {
            let mut talk = self.talk.lock().unwrap();
            writeln!(talk.orders, "{}", json!({ "do": what, "upn": upn })).unwrap();
            let mut line = String::new();
            talk.answers.read_line(&mut line).unwrap();
            assert!(!line.is_empty(), "the apps ended; what they said is above");
            serde_json::from_str(&line).unwrap()
        })
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A Python that has MSAL.
fn python() -> &'static PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        if let Ok(named) = std::env::var("HANDOVER_TEST_PYTHON") {
            return named.into();
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/msal");
        let python = folder.join("bin/python");
        if !can_import_msal(&python) {
            run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
            run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "msal", "requests"]));
        }
        assert!(can_import_msal(&python), "{} has no MSAL", python.display());
        python
    })
}

fn can_import_msal(python: &Path) -> bool {
    Command::new(python).args(["-c", "import msal, requests"]).status().is_ok_and(|status| status.success())
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    assert!(status.success(), "{command:?} ended with {status}; set HANDOVER_TEST_PYTHON to a Python with msal");
}
