//! What instances tell each other, and that nobody depends on it.

use std::time::Duration;

use handover::app::Rulebook;
use handover::store::Kind;

use crate::site::instances;
use crate::support::Aside;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_is_heard_until_the_connection_is_lost() {
    let Some((home, apps)) = instances(Kind::Postgres, &["one", "two"], Rulebook::default(), None).await else {
        return;
    };
    let mut ear = apps[1].store.listen("handover").await.unwrap();

    apps[0].store.tell("handover", "one owing").await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(10), ear.next()).await.unwrap().unwrap();
    let Aside::Postgres(mut aside) = home.aside().await else { unreachable!() };
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let killed = sqlx::query(kill).fetch_all(&mut aside).await.unwrap().len();
    let lost = tokio::time::timeout(Duration::from_secs(10), ear.next()).await.unwrap();
    let mut again = apps[1].store.listen("handover").await.unwrap();
    apps[0].store.tell("handover", "one looking").await.unwrap();
    let heard_again = tokio::time::timeout(Duration::from_secs(10), again.next()).await.unwrap().unwrap();

    assert_eq!((heard.as_str(), killed, heard_again.as_str()), ("one owing", 1, "one looking"));
    assert!(lost.is_err(), "{lost:?}");
}
