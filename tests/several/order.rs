//! Two instances are fed the same events at the same time, each in an order of its own and with repetitions, and the
//! custodies are those of the reference model, to the byte (I1).

use std::collections::{BTreeSet, HashMap};

use handover::app::folding;
use handover::app::receive::Received;
use handover::app::{App, Rulebook};
use handover::custody::{AccountId, Event, Standing};
use handover::store::{Kind, accounts, recording};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use crate::model;
use crate::site::{self, instances};

const ROUNDS: u64 = 8;
const EVENTS: usize = 160;

fn shift(dice: &mut StdRng) -> Vec<bytes::Bytes> {
    let users = ["amina", "jonas", "lea", "kofi", "stg-ipad"];
    let morning = site::now() - chrono::TimeDelta::hours(2);
    (0..EVENTS)
        .map(|nth| {
            let device = dice.random_range(0..4);
            let user = users[dice.random_range(0..users.len())];
            let at = (morning + chrono::TimeDelta::seconds(dice.random_range(0..3600))).timestamp() * 1000;
            let (kind, text, user, status) = match dice.random_range(0..20) {
                0 => (39, "Break MDM Confirmed", "", "Unenrolled"),
                1 => (148, "MDM Enrollment Complete", user, "Enrolled"),
                2 => (7001, "Wipe Confirmed", user, "Enrolled"),
                _ => (9000 + i64::try_from(nth % 3).unwrap(), "Something new", user, "Enrolled"),
            };
            format!(
                r#"{{"EventId":{kind},"EventType":"{text}","DeviceId":{},"SerialNumber":"W{device}","EventTime":"/Date({at})/","EnrollmentUserName":"{user}","EnrollmentStatus":"{status}"}}"#,
                41_000 + device
            )
            .into()
        })
        .collect()
}

/// Posts everything to one instance, in groups, and says how much of it was new there.
async fn feed(app: App, bodies: Vec<bytes::Bytes>, seed: u64) -> usize {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut rest = bodies.as_slice();
    let mut new = 0;
    while !rest.is_empty() {
        let (group, later) = rest.split_at(dice.random_range(1..=rest.len().min(12)));
        // As a sender does that was not told that it is written down.
        let received = loop {
            if let Ok(received) = app.receive_many("uem", None, group.to_vec()).await {
                break received;
            }
        };
        new += received.iter().filter(|one| matches!(one, Received::Recorded(_))).count();
        rest = later;
    }
    new
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_fed_at_the_same_time_come_to_the_custodies_of_the_model() {
    let mut compared = 0;
    for seed in 0..ROUNDS {
        let mut dice = StdRng::seed_from_u64(seed);
        let bodies = shift(&mut dice);
        let Some((home, apps)) = instances(Kind::Postgres, &["one", "two"], Rulebook::default(), None).await else {
            return;
        };
        let shuffled = |dice: &mut StdRng| {
            let mut order = bodies.clone();
            order.extend(bodies.iter().take(EVENTS / 5).cloned());
            order.shuffle(dice);
            order
        };
        let (left, right) = (shuffled(&mut dice), shuffled(&mut dice));
        let feeds = tokio::join!(
            tokio::spawn(feed(apps[0].clone(), left, seed)),
            tokio::spawn(feed(apps[1].clone(), right, seed + 1000))
        );
        let new = feeds.0.unwrap() + feeds.1.unwrap();

        let mut tx = home.store.read().await.unwrap();
        let mut kept = 0;
        for device in recording::device_ids(&mut tx, Uuid::nil(), 100).await.unwrap() {
            let rows = recording::events_after(&mut tx, device, None).await.unwrap();
            kept += rows.len();
            let named: BTreeSet<_> = rows.iter().filter_map(|row| row.account_id).collect();
            let named: Vec<_> = named.into_iter().collect();
            let standings: HashMap<_, _> = accounts::standings(&mut tx, &named)
                .await
                .unwrap()
                .iter()
                .map(|row| (AccountId(row.id.into_bytes()), folding::standing(row)))
                .collect();
            let of = |account| standings.get(&account).copied().unwrap_or(Standing::Undecided);
            let events: Vec<Event> = rows.iter().map(folding::event).collect();
            let history = model::history(&events, of, Rulebook::default().policy());
            let expected: BTreeSet<_> =
                history.custodies.iter().map(|one| format!("{:?}", folding::custody_row(device, one))).collect();
            let stored = recording::custodies_from(&mut tx, device, None).await.unwrap();
            let stored: BTreeSet<_> = stored.iter().map(|row| format!("{row:?}")).collect();
            compared += stored.len();
            assert_eq!(stored, expected, "seed {seed}, device {device}");
        }
        drop(tx);
        assert_eq!(new, kept, "seed {seed}: what is kept was new to exactly one of the two");
        let replayed = apps[0].replay(|_| ()).await.unwrap();
        assert_eq!(replayed.differences, [""; 0], "seed {seed}");
    }
    assert!(compared > 1000, "only {compared} custodies were compared");
}
