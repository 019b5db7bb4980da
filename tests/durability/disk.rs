//! A disk that fails: errors of single system calls on the files of a SQLite database, put there by `strace`, and SIGKILL at
//! the one write that the test names (S1–S4, I2).
//!
//! `HANDOVER_KILL_ROUNDS` also says how finely the numbers of the calls are swept: two points each for a hundred.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, SqliteConnection};

use crate::ledger::Ledger;
use crate::program::{PROGRAM, Running, Site};
use crate::rounds::{self, Answered, EVENTS, Story, Told};
use crate::strace::{self, Injection, Strace};

/// How soon a sender has to be told that it must come again (S2), and the process has to be gone when a flush failed (S4).
const SOON: Duration = Duration::from_secs(1);

/// How soon events have to be taken again once the disk takes them.
const RESUMED_WITHIN: Duration = Duration::from_secs(5);

/// How long an error that stays is suffered.
const SUFFERED: Duration = Duration::from_millis(600);

/// How long everything may take to come to its end: a lease of 30 s may have to run out first.
const DRAINED_WITHIN: Duration = Duration::from_secs(90);

/// A ward whose disk fails.
struct Ward {
    site: Site,
    story: Story,
    told: Told,
    token: String,
}

/// What the failures came to.
#[derive(Default)]
struct Seen {
    cases: usize,
    injected: usize,
    refused: usize,
    ended: usize,
    slowest: Duration,
    resumed: Duration,
}

impl Ward {
    async fn new(seed: u64) -> (Self, Vec<uuid::Uuid>) {
        Self::at(Site::new(seed, "").await, seed)
    }

    fn at(site: Site, seed: u64) -> (Self, Vec<uuid::Uuid>) {
        let people = rounds::population(&site);
        let mut command = Command::new(PROGRAM);
        command.args(["token", "create", "--role", "viewer", "--config"]).arg(site.folder().join("handover.toml"));
        let token = String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned();
        (Self { site, story: Story::new(seed), told: Told::default(), token }, people)
    }

    /// Posts one event. A refusal has to come soon and to say when to come again; no answer is for a process that is gone.
    async fn post(&mut self, seen: &mut Seen) -> Answered {
        let body = self.story.next(self.site.sandbox.entra.now());
        let began = Instant::now();
        let answer = match self.site.send(0, body.clone()).await {
            Ok(answer) => {
                let (status, again) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
                assert!(status != 503 || again, "a refusal does not say when to come again");
                answer.json().await.ok().map(|answer| (status, answer))
            }
            Err(_) => None,
        };
        let (took, answered) = (began.elapsed(), self.told.hear(answer, &body));
        if !answered.is_acknowledged() {
            self.story.waiting.push_back(body);
        }
        if answered == Answered::NotNow {
            seen.refused += 1;
            seen.slowest = seen.slowest.max(took);
            assert!(took <= SOON, "the sender was told after {took:?}\n{}", self.site.log_tail());
        }
        answered
    }

    /// Posts until one is refused or not answered, or it has taken too long.
    async fn post_until_it_fails(&mut self, seen: &mut Seen) -> Answered {
        let began = Instant::now();
        loop {
            let answered = self.post(seen).await;
            if !answered.is_acknowledged() || began.elapsed() > Duration::from_secs(10) {
                return answered;
            }
        }
    }

    /// Whatever was under way in this time may have been hit.
    fn blame(&mut self, since: chrono::DateTime<chrono::Utc>) {
        let mut at = since;
        while at < self.site.sandbox.entra.now() {
            self.told.kills.push(at);
            at += chrono::TimeDelta::milliseconds(5);
        }
    }

    async fn is_whole(&self) {
        let mut connection =
            SqliteConnection::connect(&format!("sqlite://{}", self.site.file().display())).await.unwrap();
        let (says,): (String,) = sqlx::query_as("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
        assert_eq!(says, "ok");
        connection.close().await.unwrap();
    }

    /// Everything that was acknowledged is there, and the file is whole.
    async fn nothing_is_lost(&self) {
        self.is_whole().await;
        let stored = self.site.database().await.events().await;
        let lost: Vec<_> = self.told.acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "{} of {} acknowledged events are lost", lost.len(), self.told.acknowledged.len());
    }

    /// Everything comes to its end, and the laws hold.
    async fn ends_well(mut self, running: Running, people: Vec<uuid::Uuid>) {
        while !self.story.waiting.is_empty() {
            self.post(&mut Seen::default()).await;
        }
        let drained = rounds::drain(&self.site, DRAINED_WITHIN).await;
        running.kill();
        let (ledger, calls) = (Ledger::read(&self.site.database().await).await, rounds::calls(&self.site));
        let replayed = ledger.hold_to_the_laws(&self.site, &self.told, &calls, people.into_iter()).await;
        self.is_whole().await;
        self.told.print(&ledger, &calls, &replayed, drained);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_disk_refuses_senders_are_told_so_and_afterwards_it_goes_on() {
    if !strace::is_to_be_had() {
        return;
    }
    let (mut ward, people) = Ward::new(rounds::seed()).await;
    let (mut running, took) = ward.site.start().await;
    ward.told.starts.push(took);
    let mut seen = Seen::default();
    for (what, for_good) in [("error=EIO", false), ("error=EIO", true), ("error=ENOSPC", false), ("error=ENOSPC", true)]
    {
        for from in (0..rounds::points()).map(|point| 1 + point * 17) {
            let since = ward.site.sandbox.entra.now();
            let injection = Injection { call: "pwrite64", what, from, for_good: false };
            let strace = Strace::attach(&ward.site, &running, &injection);
            let answered = ward.post_until_it_fails(&mut seen).await;
            assert_eq!(answered, Answered::NotNow, "{injection:?}\n{}", ward.site.log_tail());
            seen.injected += strace.detach();
            if for_good {
                // Calls are counted by thread, and a connection that failed is replaced by one with a thread of its own: from here
                // on no number is let through.
                let injection = Injection { from: 1, for_good, ..injection };
                let strace = Strace::attach(&ward.site, &running, &injection);
                let began = Instant::now();
                while began.elapsed() < SUFFERED {
                    // Nothing new is taken; what was written down before still is.
                    let answered = ward.post(&mut seen).await;
                    assert!(matches!(answered, Answered::NotNow | Answered::Known), "{answered:?}: {injection:?}");
                    let answer = ward.site.ask("/api/v1/devices", &ward.token).await;
                    let read = answer.is_some_and(|(status, _)| status == 200);
                    assert!(read, "nothing can be read: {injection:?}\n{}", ward.site.log_tail());
                }
                seen.injected += strace.detach();
            }
            seen.cases += 1;

            let began = Instant::now();
            while ward.post(&mut seen).await != Answered::Yes {
                assert!(began.elapsed() < RESUMED_WITHIN, "{injection:?}\n{}", ward.site.log_tail());
            }
            seen.resumed = seen.resumed.max(began.elapsed());
            for _ in 0..EVENTS {
                ward.post(&mut seen).await;
            }
            assert!(running.ended().is_none(), "it had to be started again: {injection:?}");
            ward.blame(since);
        }
    }
    ward.is_whole().await;
    seen.print("errors of a write");
    assert!(seen.injected >= seen.cases);
    ward.ends_well(running, people).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_flush_fails_the_process_is_gone_and_the_next_one_has_everything() {
    if !strace::is_to_be_had() {
        return;
    }
    let (mut ward, people) = Ward::new(rounds::seed()).await;
    let mut seen = Seen::default();
    for what in ["error=EIO", "error=ENOSPC"] {
        for from in (0..rounds::points() * 2).map(|point| 1 + point * 2) {
            let (mut running, took) = ward.site.start().await;
            ward.told.starts.push(took);
            let injection = Injection { call: "fsync", what, from, for_good: false };
            let strace = Strace::attach(&ward.site, &running, &injection);
            while ward.post_until_it_fails(&mut seen).await == Answered::NotNow {}
            let failed = Instant::now();
            let status = loop {
                match running.ended() {
                    Some(status) => break status,
                    None => assert!(failed.elapsed() < SOON, "it still runs: {injection:?}\n{}", ward.site.log_tail()),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            };
            assert_eq!(status.code(), Some(74), "{injection:?}");
            ward.told.kills.push(ward.site.sandbox.entra.now());
            seen.slowest = seen.slowest.max(failed.elapsed());
            seen.injected += strace.detach();
            seen.cases += 1;
            seen.ended += 1;
            ward.nothing_is_lost().await;
        }
    }
    seen.print("failed flushes");
    assert!(seen.injected >= seen.cases);
    let (running, took) = ward.site.start().await;
    ward.told.starts.push(took);
    ward.ends_well(running, people).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_one_write_it_loses_nothing() {
    if !strace::is_to_be_had() {
        return;
    }
    let (mut ward, people) = Ward::new(rounds::seed()).await;
    let mut seen = Seen::default();
    let writes = (0..rounds::points() * 8).map(|point| ("pwrite64", 1 + point * 23));
    let flushes = (0..rounds::points() * 2).map(|point| ("fsync", 1 + point));
    for (call, from) in writes.chain(flushes) {
        let (mut running, took) = ward.site.start().await;
        ward.told.starts.push(took);
        let injection = Injection { call, what: "signal=KILL", from, for_good: false };
        let strace = Strace::attach(&ward.site, &running, &injection);
        let answered = ward.post_until_it_fails(&mut seen).await;
        assert_eq!(answered, Answered::Never, "{injection:?}");
        let status = loop {
            match running.ended() {
                Some(status) => break status,
                None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        };
        assert_eq!(status.signal(), Some(9), "{injection:?}");
        ward.told.kills.push(ward.site.sandbox.entra.now());
        drop(strace);
        seen.injected += 1;
        seen.cases += 1;
        seen.ended += 1;
        ward.nothing_is_lost().await;
    }
    seen.print("kills at a write or a flush");
    let (running, took) = ward.site.start().await;
    ward.told.starts.push(took);
    ward.ends_well(running, people).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_call_fails_between_the_start_and_the_end_nothing_is_lost() {
    const CALLS: [&str; 6] = ["openat", "pread64", "pwrite64", "fsync", "ftruncate", "unlink"];
    if !strace::is_to_be_had() {
        return;
    }
    let (mut ward, people) = Ward::new(rounds::seed()).await;
    let mut seen = Seen::default();
    for call in CALLS {
        for what in ["error=EIO", "error=ENOSPC"] {
            for from in (0..rounds::points()).map(|point| 1 + point * 3) {
                let since = ward.site.sandbox.entra.now();
                let injection = Injection { call, what, from, for_good: false };
                if let Ok(mut running) = ward.site.try_command(0, strace::command(&ward.site, &injection)).await {
                    for _ in 0..3 {
                        let _: Answered = ward.post(&mut seen).await;
                    }
                    running.signal("TERM");
                    while running.ended().is_none() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                } else {
                    seen.ended += 1;
                }
                ward.blame(since);
                seen.injected += strace::injected_from_the_start(&ward.site);
                seen.cases += 1;
                ward.nothing_is_lost().await;
            }
        }
    }
    seen.print("lives with one failing call");
    assert!(seen.injected > 0);
    let (running, took) = ward.site.start().await;
    ward.told.starts.push(took);
    ward.ends_well(running, people).await;
}

/// A disk of its own that is soon full. Gone when dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where nothing may be mounted; errors of single system calls then have to do.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(folder.path()).output();
        if !mounted.is_ok_and(|mounted| mounted.status.success()) {
            eprintln!("skipped: nothing may be mounted here");
            return None;
        }
        Some(Self { folder })
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(self.folder.path()).output());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_events_and_answers_questions_until_there_is_room() {
    let Some(disk) = SmallDisk::new() else { return };
    let repeat = rounds::seed();
    let url = format!("sqlite://{}", disk.folder.path().join("handover.db").display());
    let mut site = Site::over(&url, 1, repeat, "").await;
    // The log lies on the same disk, and what cannot be logged must not be what ends the program.
    site.log_into(disk.folder.path());
    let (mut ward, people) = Ward::at(site, repeat);
    let (mut running, took) = ward.site.start().await;
    ward.told.starts.push(took);
    let mut seen = Seen::default();
    for round in 0..rounds::points() * 2 {
        for _ in 0..EVENTS {
            ward.post(&mut seen).await;
        }
        let since = ward.site.sandbox.entra.now();
        disk.fill();
        assert_eq!(
            ward.post_until_it_fails(&mut seen).await,
            Answered::NotNow,
            "the disk is not full in round {round}"
        );
        let began = Instant::now();
        while began.elapsed() < SUFFERED {
            ward.post(&mut seen).await;
            let answer = ward.site.ask("/api/v1/devices", &ward.token).await;
            assert!(answer.is_some_and(|(status, _)| status == 200), "nothing can be read in round {round}");
        }
        let alarm = "handover_database_failures_total{why=\"full\"}";
        assert!(ward.site.numbers().await.contains(alarm), "nobody is told");
        disk.make_room();

        let began = Instant::now();
        while ward.post(&mut seen).await != Answered::Yes {
            assert!(began.elapsed() < RESUMED_WITHIN, "round {round}\n{}", ward.site.log_tail());
        }
        seen.resumed = seen.resumed.max(began.elapsed());
        assert!(running.ended().is_none(), "it ended in round {round}");
        ward.blame(since);
        seen.cases += 1;
    }
    seen.print("times a disk was full");
    ward.ends_well(running, people).await;
}

impl Seen {
    fn print(&self, what: &str) {
        println!(
            "{} {what}, {} calls tampered with: {} refusals, {} times the process ended; \
             the slowest answer or end took {:?}, taking events again {:?} at most",
            self.cases, self.injected, self.refused, self.ended, self.slowest, self.resumed
        );
    }
}
