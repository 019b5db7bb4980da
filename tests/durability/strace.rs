//! System calls of the program that fail or kill, at the call that the test names: `strace` puts itself between the two.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::program::{PROGRAM, Running, Site, signal};

/// What happens at which calls.
#[derive(Debug, Clone)]
pub(crate) struct Injection {
    /// `pwrite64`, `fsync`, …
    pub(crate) call: &'static str,
    /// `error=EIO` or `signal=KILL`.
    pub(crate) what: &'static str,
    /// The number of the first call that it happens at, counted from 1.
    pub(crate) from: u64,
    /// Whether it happens at every call after that too.
    pub(crate) for_good: bool,
}

impl Injection {
    fn arguments(&self, site: &Site, log: &Path) -> Vec<String> {
        let Self { call, what, from, for_good } = self;
        let more = if *for_good { "+" } else { "" };
        let mut arguments = vec![String::from("-f"), String::from("-o"), log.display().to_string()];
        for ending in ["", "-wal", "-shm"] {
            arguments.extend([String::from("-P"), format!("{}{ending}", site.file().display())]);
        }
        arguments.push(format!("--trace={call}"));
        arguments.push(format!("--inject={call}:{what}:when={from}{more}"));
        arguments
    }
}

/// `strace`, attached to a running program.
pub(crate) struct Strace {
    child: Child,
    log: PathBuf,
}

/// Whether system calls can be tampered with here. Where it is required and cannot be done, that is a failure.
pub(crate) fn is_to_be_had() -> bool {
    // Attaching to a child of one's own is what everything here rests on.
    let tried = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    let why = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let required = std::env::var("HANDOVER_TEST_STRACE_REQUIRED").is_ok_and(|required| required == "1");
    assert!(!required, "strace is required and cannot be used: {why}");
    eprintln!("skipped: no strace ({})", why.trim());
    false
}

fn log_file(site: &Site) -> PathBuf {
    site.folder().join("strace.txt")
}

impl Strace {
    /// Puts itself between a running program and the files of its database. From here on the calls are counted.
    pub(crate) fn attach(site: &Site, running: &Running, injection: &Injection) -> Self {
        let log = log_file(site);
        let mut command = Command::new("strace");
        command.args(injection.arguments(site, &log)).args(["-p", &running.id().to_string()]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut says = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(" attached") {
            line.clear();
            assert!(says.read_line(&mut line).unwrap() > 0, "strace did not attach");
        }
        // What it says later is of no interest, but it has to be able to say it.
        std::thread::spawn(move || std::io::copy(&mut says, &mut std::io::sink()));
        Self { child, log }
    }

    /// Lets go of the program. Says how many calls were tampered with.
    pub(crate) fn detach(mut self) -> usize {
        signal(self.child.id(), "INT");
        self.child.wait().unwrap();
        injected(&self.log)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        signal(self.child.id(), "INT");
        drop(self.child.wait());
    }
}

/// `serve` under `strace` from its first instruction. The program is the child all the same.
pub(crate) fn command(site: &Site, injection: &Injection) -> Command {
    site.command_under(0, Some(("strace", &from_the_start(site, injection))), Path::new(PROGRAM))
}

/// The program under `strace`, waiting for its arguments.
pub(crate) fn over(site: &Site, injection: &Injection) -> Command {
    let mut command = Command::new("strace");
    command.args(from_the_start(site, injection)).arg(PROGRAM);
    command
}

fn from_the_start(site: &Site, injection: &Injection) -> Vec<String> {
    // With `--seccomp-bpf`, which would be faster, strace 6.1 delivers no signal.
    let mut arguments = vec![String::from("-D")];
    arguments.extend(injection.arguments(site, &log_file(site)));
    arguments
}

/// How many calls were tampered with in a life that has ended.
pub(crate) fn injected_from_the_start(site: &Site) -> usize {
    injected(&log_file(site))
}

fn injected(log: &Path) -> usize {
    fs::read_to_string(log).unwrap_or_default().lines().filter(|line| line.ends_with("(INJECTED)")).count()
}
