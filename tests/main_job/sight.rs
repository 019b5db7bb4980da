//! Devices that leave our sight, events that come late, and the mode in which nothing is sent.

use chrono::TimeDelta;
use handover::sandbox::EventName;
use serde_json::json;

use crate::hands::payload_source;
use crate::town::{event, on_both, upn};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipad_that_leaves_management_signs_its_holder_out() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.takes("W1", &["amina"]).await;
        town.uem().unenroll("W1").await.unwrap();

        let row = town.until_state("verified").await;
        town.until_at_rest().await;

        assert_eq!(row["reason"], "left_sight");
        assert_eq!(town.owed().await, ["amina W1 verified"]);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipad_whose_management_is_wiped_or_deleted_signs_its_holder_out() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.device("W2").await;
        town.takes("W1", &["amina"]).await;
        town.takes("W2", &["jonas"]).await;
        town.uem().enterprise_wipe("W1").await.unwrap();
        town.uem().delete("W2").await.unwrap();

        town.until_owed(&["amina W1 verified", "jonas W2 verified"]).await;

        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipad_that_is_erased_owes_nothing() {
    on_both(async |plan| {
        // The order alone proves nothing, and neither does the end of management: only the confirmation does.
        let confirmed = EventName::new(26, "Wipe Confirmed");
        let town = plan.hook(|hook| hook.names.unenrolled = confirmed).open().await;
        town.takes("W1", &["amina"]).await;

        town.uem().wipe("W1").await.unwrap();
        town.until("nobody has W1", async || town.device_row("W1").await["state"] != "person").await;
        town.until_at_rest().await;

        assert_eq!(town.owed().await, [""; 0]);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipad_enrolled_anew_under_another_id_is_the_same_device() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.takes("W1", &["amina"]).await;
        let before = town.device_row("W1").await;
        town.uem().unenroll("W1").await.unwrap();
        town.until_owed(&["amina W1 verified"]).await;

        town.uem().re_enrol("W1").await.unwrap();
        town.until("W1 is in the rack", async || town.device_row("W1").await["state"] == "pool").await;
        town.takes("W1", &["jonas"]).await;
        town.until_at_rest().await;

        let devices = town.devices().await;
        assert_eq!(devices.len(), 1, "{devices:#?}");
        assert_ne!(devices[0]["uem_id"], before["uem_id"]);
        assert_eq!(town.owed().await, ["amina W1 verified"]);
        let custodies = town.get("/api/v1/devices/W1/custodies").await;
        let people: Vec<_> = custodies["items"].as_array().unwrap().iter().map(|one| &one["person"]["upn"]).collect();
        assert_eq!(people, [&json!(upn("jonas")), &json!(null), &json!(upn("amina"))], "out of sight in between");
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shadow_mode_writes_down_what_it_would_send_and_sends_nothing() {
    on_both(async |plan| {
        let town = plan.policy("shadow = true").open().await;
        town.takes("W1", &["amina", "jonas"]).await;

        town.until_owed(&["amina W1 shadow"]).await;
        town.until_at_rest().await;

        assert_eq!(town.calls().len(), 0);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_hours_late_finds_its_place_and_acts() {
    on_both(async |plan| {
        let town = plan.payload_only(&payload_source()).open().await;
        let now = town.entra().now();
        town.post_event(&event("W1", "amina", now - TimeDelta::hours(6))).await;
        town.post_event(&event("W1", "carla", now - TimeDelta::hours(2))).await;
        town.until_owed(&["amina W1 verified"]).await;

        let (status, _) = town.post_event(&event("W1", "jonas", now - TimeDelta::hours(4))).await;
        town.until_owed(&["amina W1 verified", "jonas W1 verified"]).await;

        assert_eq!(status, 200);
        assert_eq!(town.device_row("W1").await["holder"]["upn"], upn("carla"));
        let at = (now - TimeDelta::hours(3)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let held = town.get(&format!("/api/v1/devices/W1/holder?at={at}")).await;
        assert_eq!(held["holder"]["upn"], upn("jonas"), "{held:#}");
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_more_than_a_day_late_is_held_until_it_is_released() {
    on_both(async |plan| {
        let town = plan.payload_only(&payload_source()).open().await;
        let now = town.entra().now();
        town.post_event(&event("W1", "amina", now - TimeDelta::hours(50))).await;
        town.post_event(&event("W1", "jonas", now - TimeDelta::hours(49))).await;
        let row = town.until_state("held").await;
        assert_eq!(row["why"], "late");
        assert_eq!(town.calls().len(), 0);

        town.operate(&row, "release").await;

        town.until_owed(&["amina W1 verified"]).await;
        town.close().await;
    })
    .await;
}
