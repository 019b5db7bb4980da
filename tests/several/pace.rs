//! The pace of all instances together.

use std::path::Path;
use std::time::{Duration, Instant};

use handover::store::{Kind, Store, paces};

use crate::support::empty;

const GAP: i64 = 50_000;
const PATIENCE: i64 = 15_000_000;

/// Takes turns and leaves at them until `end`, and says when it left.
async fn leaves(store: Store, began: Instant, end: Duration) -> Vec<Duration> {
    let mut left = Vec::new();
    while began.elapsed() < end {
        let mut tx = store.autocommit().await.unwrap();
        paces::standing(&mut tx, "write", GAP).await.unwrap();
        let turn = paces::take(&mut tx, "write", GAP, PATIENCE).await.unwrap().unwrap();
        drop(tx);
        tokio::time::sleep(Duration::from_micros(u64::try_from(turn.wait).unwrap())).await;
        left.push(began.elapsed());
    }
    left
}

/// The most calls that any window of this length sees.
fn most_within(left: &[Duration], window: Duration) -> usize {
    (0..left.len()).map(|nth| left[nth..].iter().take_while(|at| **at < left[nth] + window).count()).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_together_keep_the_pace_also_when_one_dies_half_way() {
    let Some(home) = empty(Kind::Postgres).await else { return };
    let began = Instant::now();
    let mut tasks = Vec::new();
    for nth in 0..3_u64 {
        let store = Store::open(&home.url, Path::new("/")).await.unwrap();
        // The first one is dropped with whatever its workers have reserved.
        let dies = if nth == 0 { Duration::from_secs(3) } else { Duration::MAX };
        let workers = (0..4).map(|_| leaves(store.clone(), began, Duration::from_secs(8))).collect::<Vec<_>>();
        tasks.push(tokio::spawn(async move {
            tokio::time::timeout(dies, futures_util::future::join_all(workers)).await.unwrap_or_default()
        }));
    }
    let mut left = Vec::new();
    for task in tasks {
        left.extend(task.await.unwrap().into_iter().flatten());
    }
    left.sort();

    // 20 a second and the burst of the first second. What the dead one left with before it died is not counted here.
    let after: Vec<_> = left.iter().copied().filter(|at| *at > Duration::from_millis(3500)).collect();
    let spans = [1_u64, 2, 4].map(|seconds| (seconds, most_within(&left, Duration::from_secs(seconds))));
    for (seconds, most) in spans {
        let bound = usize::try_from(20 * seconds).unwrap() + 20 + 2;
        assert!(most <= bound, "{most} calls within {seconds} s, of {} in all", left.len());
    }
    assert!(after.len() >= 70, "the survivors used {} turns of some 90", after.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_429_to_one_closes_the_lane_for_all_and_no_burst_follows() {
    let Some(home) = empty(Kind::Postgres).await else { return };
    let other = Store::open(&home.url, Path::new("/")).await.unwrap();
    let mut tx = home.store.autocommit().await.unwrap();
    paces::close(&mut tx, "write", GAP, 2_128_000).await.unwrap();
    paces::close(&mut tx, "write", GAP, 500_000).await.unwrap();

    let mut tx = other.autocommit().await.unwrap();
    let impatient = paces::take(&mut tx, "write", GAP, 1_000_000).await.unwrap();
    let mut waits = Vec::new();
    for _ in 0..3 {
        waits.push(paces::take(&mut tx, "write", GAP, PATIENCE).await.unwrap().unwrap());
    }
    let standing = paces::standing(&mut tx, "write", GAP).await.unwrap();
    let reads = paces::standing(&mut tx, "read", GAP).await.unwrap();

    assert!(impatient.is_none(), "{impatient:?}");
    let apart: Vec<_> = waits.windows(2).map(|two| two[1].wait - two[0].wait).collect();
    assert!((1_000_000..=2_128_000).contains(&waits[0].wait) && waits[0].strained, "{waits:?}");
    assert!(apart.iter().all(|apart| (30_000..=50_000).contains(apart)), "{waits:?}");
    assert!(standing.closed > 1_000_000 && standing.free > standing.closed, "{standing:?}");
    assert!(reads.closed <= 0 && reads.free <= 0, "{reads:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pressure_slows_everybody_and_calm_brings_the_pace_back() {
    let Some(home) = empty(Kind::Postgres).await else { return };
    let mut tx = home.store.autocommit().await.unwrap();
    paces::standing(&mut tx, "write", GAP).await.unwrap();
    for _ in 0..100 {
        paces::answered(&mut tx, "write", Some(1_800)).await.unwrap();
    }
    let pressed = paces::take(&mut tx, "write", GAP, PATIENCE).await.unwrap().unwrap();
    // At four times the gap, five leave at once.
    let mut burst = 0;
    while paces::take(&mut tx, "write", GAP, 0).await.unwrap().is_some() {
        burst += 1;
    }
    for _ in 0..100 {
        paces::answered(&mut tx, "write", None).await.unwrap();
    }
    let calm = paces::take(&mut tx, "write", GAP, PATIENCE).await.unwrap().unwrap();

    assert!(pressed.strained && !calm.strained, "{pressed:?} {calm:?}");
    assert!((3..=5).contains(&burst), "{burst} more left at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_window_of_150_seconds_sees_more_than_its_quota() {
    let Some(home) = empty(Kind::Postgres).await else { return };
    let mut tx = home.store.autocommit().await.unwrap();
    paces::standing(&mut tx, "write", GAP).await.unwrap();
    // The gap that 20 a second is kept with, and somebody patient enough to reserve turns far ahead.
    let gap = 50_000 * 151 / 150;
    let began = Instant::now();
    let mut at = Vec::new();
    for _ in 0..3_100 {
        let turn = paces::take(&mut tx, "write", gap, i64::MAX / 4_000_000).await.unwrap().unwrap();
        at.push(began.elapsed() + Duration::from_micros(u64::try_from(turn.wait).unwrap()));
    }

    let most = most_within(&at, Duration::from_secs(150));
    assert!(most <= 3_000, "{most} of {} turns within 150 s", at.len());
    assert!(most >= 2_950, "only {most}: that is slower than it has to be");
}
