//! iPads change hands: who is signed out, and above all who is not.

use std::time::Duration;

use chrono::TimeDelta;
use handover::sandbox::{CheckInCarries, EventName, Fate, Format, TimeForm, UemUserSpec};

use crate::town::{POOL, event, on_both, upn};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_return_owes_nothing_and_the_next_person_signs_the_first_one_out() {
    on_both(async |plan| {
        let town = plan.open().await;
        let tokens = town.entra();
        town.takes("W1", &["amina"]).await;
        let amina = tokens.sign_in(&upn("amina")).unwrap().refresh_token.unwrap();
        town.returns("W1").await;
        town.until_at_rest().await;
        assert_eq!(town.owed().await, [""; 0]);

        town.takes("W1", &["jonas"]).await;
        let jonas = tokens.sign_in(&upn("jonas")).unwrap().refresh_token.unwrap();
        let row = town.until_state("verified").await;

        assert_eq!(row["reason"], "next_user");
        assert_eq!(row["person"]["upn"], upn("amina"));
        assert!(row["stamp_after"].as_str() > row["stamp_before"].as_str(), "{row:#}");
        assert_eq!(row["attempts"].as_array().unwrap().len(), 1);
        assert_eq!(row["attempts"][0]["status"], 200);
        assert_eq!(tokens.refresh(&amina).unwrap_err().codes, [50173]);
        tokens.refresh(&jonas).unwrap();
        assert_eq!(town.calls().len(), 1);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_hand_to_hand_the_first_person_is_signed_out_and_the_second_is_not() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.takes("W1", &["amina", "jonas"]).await;

        town.until_owed(&["amina W1 verified"]).await;
        town.until_at_rest().await;

        assert_eq!(town.owed().await, ["amina W1 verified"]);
        assert_eq!(town.calls().len(), 1);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_uem_calls_its_events_the_users_decide() {
    let names = [
        (9001, "Check Out", 9002, "Check In"),
        (170, "CheckOut", 171, "CheckIn"),
        (0, "Device Checked Out", 0, "Device Checked In"),
        (7777, "CheckOutCheckIn", 7777, "CheckOutCheckIn"),
        (31_337, "Gerät ausgegeben", 31_338, "Gerät zurückgegeben"),
    ];
    on_both(async |plan| {
        let town = plan.empty().await;
        let mut wanted = Vec::new();
        for nth in 0..names.len() {
            town.person(&format!("first{nth}"));
            town.person(&format!("second{nth}"));
            town.uem().add_device(format!("W{nth}").as_str());
            wanted.push(format!("first{nth} W{nth} verified"));
        }
        town.device("SPARE").await;

        for (nth, (out, out_name, back, back_name)) in names.into_iter().enumerate() {
            let device = format!("W{nth}");
            town.hook(|hook| {
                hook.names.check_out = EventName::new(out, out_name);
                hook.names.check_in = EventName::new(back, back_name);
            });
            town.uem().check_out(&device, &format!("first{nth}")).await.unwrap();
            town.until_holds(&device, &format!("first{nth}")).await;
            town.uem().check_in(&device).await.unwrap();
            town.uem().check_out(&device, &format!("second{nth}")).await.unwrap();
        }

        town.until_owed(&wanted.iter().map(String::as_str).collect::<Vec<_>>()).await;
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_generation_and_format_of_the_webhook_tells_the_same_story() {
    let hooks = [
        (Format::Json, 16, TimeForm::DotNetEscaped),
        (Format::Json, 24, TimeForm::DotNet),
        (Format::Json, 24, TimeForm::Iso),
        (Format::Xml, 26, TimeForm::Iso),
    ];
    on_both(async |plan| {
        let town = plan.empty().await;
        let mut wanted = Vec::new();
        for nth in 0..hooks.len() {
            town.person(&format!("first{nth}"));
            town.person(&format!("second{nth}"));
            town.uem().add_device(format!("W{nth}").as_str());
            wanted.push(format!("first{nth} W{nth} verified"));
        }
        town.device("SPARE").await;

        for (nth, (format, fields, time)) in hooks.into_iter().enumerate() {
            let device = format!("W{nth}");
            town.hook(|hook| (hook.format, hook.fields, hook.time) = (format, fields, time));
            town.uem().check_out(&device, &format!("first{nth}")).await.unwrap();
            town.until_holds(&device, &format!("first{nth}")).await;
            town.uem().check_in(&device).await.unwrap();
            town.uem().check_out(&device, &format!("second{nth}")).await.unwrap();
        }

        town.until_owed(&wanted.iter().map(String::as_str).collect::<Vec<_>>()).await;
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_names_its_user_by_the_login_name_alone_is_resolved_through_the_device() {
    on_both(async |plan| {
        let town = plan.hook(|hook| hook.fields = 15).open().await;

        town.takes("W1", &["amina"]).await;
        town.until_holds("W1", "amina").await;
        town.returns("W1").await;
        town.takes("W1", &["jonas"]).await;

        town.until_owed(&["amina W1 verified"]).await;
        town.until_holds("W1", "jonas").await;
        town.until_at_rest().await;
        assert_eq!(town.calls().len(), 1);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_in_that_names_the_leaving_person_is_still_a_return() {
    on_both(async |plan| {
        let town = plan.hook(|hook| hook.check_in_carries = CheckInCarries::Leaver).open().await;
        town.takes("W1", &["amina"]).await;
        town.returns("W1").await;
        town.until_at_rest().await;
        assert_eq!(town.owed().await, [""; 0]);

        town.takes("W1", &["jonas"]).await;
        town.until_owed(&["amina W1 verified"]).await;
        town.until_at_rest().await;

        assert_eq!(town.calls().len(), 1);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_overtakes_the_uems_database_signs_nobody_out_wrongly() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.takes("W1", &["amina"]).await;
        town.until_at_rest().await;
        town.uem().change(|options| (options.rest_lag_ms, options.list_lag_ms) = (600, 600));

        town.uem().change_user("W1", "jonas").await.unwrap();
        town.sweep().await;
        town.until_owed(&["amina W1 verified"]).await;
        town.until_at_rest().await;

        assert_eq!(town.owed().await, ["amina W1 verified"]);
        assert_eq!(town.device_row("W1").await["holder"]["upn"], upn("jonas"));
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_uem_two_minutes_behind_and_a_sweep_make_no_phantom_return() {
    on_both(async |plan| {
        let town = plan.empty().await;
        town.uem().set_clock_offset_ms(-120_000);
        town.person("amina");
        town.person("jonas");
        town.device("W1").await;
        town.takes("W1", &["amina"]).await;

        town.sweep().await;
        town.until_at_rest().await;
        town.sweep().await;
        town.until_at_rest().await;
        assert_eq!(town.device_row("W1").await["holder"]["upn"], upn("amina"));
        town.takes("W1", &["jonas"]).await;
        town.sweep().await;
        town.until_owed(&["amina W1 verified"]).await;
        town.until_at_rest().await;

        assert_eq!(town.owed().await, ["amina W1 verified"]);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_webhook_is_found_by_the_sweep() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.takes("W1", &["amina"]).await;
        town.uem().lose_next(1);
        town.uem().change_user("W1", "jonas").await.unwrap();
        town.until_at_rest().await;

        town.sweep().await;
        town.until_owed(&["amina W1 verified"]).await;

        assert!(town.uem().sent().iter().any(|sent| sent.fate == Fate::Lost));
        assert_eq!(town.device_row("W1").await["holder"]["upn"], upn("jonas"));
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_census_of_an_empty_database_owes_nothing() {
    on_both(async |plan| {
        let town = plan.empty().await;
        town.uem().set_quiet(true);
        for nth in 0..6 {
            town.person(&format!("nurse{nth}"));
            town.uem().add_device(format!("W{nth}").as_str());
            if nth > 0 {
                town.uem().check_out(&format!("W{nth}"), &format!("nurse{nth}")).await.unwrap();
            }
        }
        town.person("jonas");
        town.uem().set_quiet(false);

        town.sweep().await;
        town.until_holds("W5", "nurse5").await;
        town.until_at_rest().await;
        assert_eq!(town.owed().await, [""; 0]);
        town.takes("W5", &["jonas"]).await;

        town.until_owed(&["nurse5 W5 verified"]).await;
        assert_eq!(town.calls().len(), 1);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doubled_and_disordered_webhooks_tell_the_same_story() {
    on_both(async |plan| {
        let town = plan.hook(|hook| hook.duplicate_every = 1).open().await;
        town.takes("W1", &["amina"]).await;
        town.until_at_rest().await;
        town.uem().hold_next(4);
        town.uem().check_in("W1").await.unwrap();
        town.uem().check_out("W1", "carla").await.unwrap();
        town.uem().check_in("W1").await.unwrap();
        town.uem().check_out("W1", "jonas").await.unwrap();

        town.uem().release().await;
        town.until_owed(&["amina W1 verified", "carla W1 verified"]).await;
        town.until_at_rest().await;

        assert_eq!(town.device_row("W1").await["holder"]["upn"], upn("jonas"));
        assert_eq!(town.owed().await, ["amina W1 verified", "carla W1 verified"]);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_event_twice_is_recorded_once() {
    on_both(async |plan| {
        let town = plan.payload_only(&payload_source()).open().await;
        let taken = event("W1", "amina", town.entra().now());

        let first = town.post_event(&taken).await;
        let second = town.post_event(&taken).await;

        assert_eq!((first.0, second.0), (200, 200));
        assert_eq!((first.1["status"].as_str(), second.1["status"].as_str()), (Some("recorded"), Some("duplicate")));
        assert_eq!(first.1["event"], second.1["event"]);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_person_again_with_nobody_in_between_owes_nothing() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.takes("W1", &["amina"]).await;
        town.returns("W1").await;
        town.takes("W1", &["amina"]).await;
        town.until_at_rest().await;

        assert_eq!(town.owed().await, [""; 0]);
        assert_eq!(town.calls().len(), 0);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_accounts_of_one_person_are_one_holder() {
    on_both(async |plan| {
        let town = plan.open().await;
        let second =
            UemUserSpec { user_name: "amina.second".into(), upn: Some(upn("amina")), ..UemUserSpec::default() };
        town.uem().add_user(second);
        town.takes("W1", &["amina"]).await;

        town.uem().change_user("W1", "amina.second").await.unwrap();
        town.until_at_rest().await;
        town.uem().check_in("W1").await.unwrap();
        town.uem().check_out("W1", "amina").await.unwrap();
        town.until_holds("W1", "amina").await;
        town.until_at_rest().await;

        assert_eq!(town.owed().await, [""; 0]);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_without_an_api_is_decided_by_its_payload() {
    on_both(async |plan| {
        let town = plan.payload_only(&payload_source()).open().await;
        let began = town.entra().now() - TimeDelta::seconds(30);
        let day = ["amina", POOL, "amina", "jonas", POOL, "carla"];

        for (nth, user) in (0..).zip(day) {
            town.post_event(&event("W1", user, began + TimeDelta::seconds(nth))).await;
        }
        town.until_owed(&["amina W1 verified", "jonas W1 verified"]).await;

        assert_eq!(town.device_row("W1").await["holder"]["upn"], upn("carla"));
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_return_is_enough_the_person_is_signed_out_at_once() {
    on_both(async |plan| {
        let town = plan.policy("revoke_on = \"return\"").open().await;
        town.takes("W1", &["amina"]).await;
        town.returns("W1").await;

        let row = town.until_state("verified").await;

        assert_eq!(row["reason"], "return");
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_revocations_of_one_person_within_a_second_are_both_proven() {
    on_both(async |plan| {
        let town = plan.payload_only(&payload_source()).open().await;
        let now = town.entra().now();
        for (nth, (device, user)) in (0..).zip([("W1", "amina"), ("W2", "amina"), ("W1", "jonas")]) {
            town.post_event(&event(device, user, now + TimeDelta::milliseconds(nth))).await;
        }
        town.until("the first call is out", async || town.calls().len() == 1).await;

        town.post_event(&event("W2", "carla", now + TimeDelta::milliseconds(9))).await;
        town.until_owed(&["amina W1 verified", "amina W2 verified"]).await;

        assert!(town.entra().now() - now < TimeDelta::from_std(Duration::from_secs(30)).unwrap());
        town.close().await;
    })
    .await;
}

/// How people are known where there is no API.
pub(crate) fn payload_source() -> String {
    format!("upn_from = \"{{user_name}}@contoso.example\"\npool_accounts = [\"{POOL}\"]")
}
