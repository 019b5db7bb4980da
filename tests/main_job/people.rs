//! Who a person is, and what becomes of a revocation when that is not clear or not allowed.

use handover::sandbox::{Fault, FaultKind, Route, UemUserSpec, UserSpec};

use crate::town::{on_both, upn};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_cannot_be_revoked_here_and_that_is_said() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.account("lena_partner#EXT#");
        town.entra().add_user(UserSpec { upn: upn("lena_partner#EXT#"), guest: true, ..UserSpec::default() });
        town.takes("W1", &["lena_partner#EXT#", "jonas"]).await;

        let row = town.until_state("not_effective").await;

        assert!(row["verified_at"].is_null() && row["accepted_at"].is_null(), "{row:#}");
        assert_eq!(town.calls().len(), 0);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_the_directory_does_not_know_waits_for_an_operator_and_goes_on_once_known() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.account("ghost");
        town.uem().check_out("W1", "ghost").await.unwrap();
        town.until("an unknown has W1", async || town.device_row("W1").await["state"] == "unknown").await;
        town.takes("W1", &["jonas"]).await;
        let row = town.until_state("needs_operator").await;
        assert_eq!(row["why"], "unknown_person");
        assert_eq!(town.calls().len(), 0);

        let ghost = town.entra().add_user(upn("ghost").as_str());
        town.operate(&row, "retry").await;

        town.until_owed(&["ghost W1 verified"]).await;
        assert_eq!(town.effects(ghost), 1);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_person_who_follows_signs_the_known_one_out() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.account("ghost");
        town.takes("W1", &["amina"]).await;

        town.uem().check_out("W1", "ghost").await.unwrap();
        let row = town.until_state("verified").await;

        assert_eq!(
            (row["reason"].as_str(), row["person"]["upn"].as_str()),
            (Some("unknown_user"), Some(&*upn("amina")))
        );
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_people_who_fit_nobody_is_chosen() {
    on_both(async |plan| {
        let town = plan.open().await;
        let mail = upn("twin");
        town.uem().add_user(UemUserSpec { user_name: "twin".into(), email: mail.clone(), ..UemUserSpec::default() });
        for name in ["twin.one", "twin.two"] {
            town.entra().add_user(UserSpec { upn: upn(name), mail: Some(mail.clone()), ..UserSpec::default() });
        }
        town.uem().check_out("W1", "twin").await.unwrap();
        town.until("an unknown has W1", async || town.device_row("W1").await["state"] == "unknown").await;

        town.takes("W1", &["jonas"]).await;
        let row = town.until_state("needs_operator").await;

        assert_eq!(row["why"], "several_people");
        assert_eq!(town.calls().len(), 0);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_who_may_not_be_revoked_needs_an_operator_who_is_told_the_fix() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.entra().change(|options| options.admin_protected = true);
        town.account("root");
        town.entra().add_user(UserSpec { upn: upn("root"), admin: true, ..UserSpec::default() });
        town.takes("W1", &["root", "jonas"]).await;
        let row = town.until_state("needs_operator").await;
        assert_eq!(row["why"], "forbidden");
        assert!(row["explanation"].as_str().unwrap().contains("Privileged Authentication Administrator"), "{row:#}");
        assert_eq!(town.calls().len(), 1);

        town.entra().change(|options| options.admin_protected = false);
        town.operate(&row, "retry").await;

        town.until_state("verified").await;
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_permission_waits_and_goes_on_once_it_is_given() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.entra().set_roles(["User.Read.All"]);
        town.takes("W1", &["amina", "jonas"]).await;
        town.until("it was refused", async || {
            let rows = town.revocations().await;
            rows.len() == 1 && rows[0]["attempts"][0]["status"] == 403
        })
        .await;
        let row = town.until_state("open").await;
        assert!(row["due_at"].as_str() > row["owed_at"].as_str(), "{row:#}");

        town.entra().set_roles(["User.RevokeSessions.All", "User.Read.All"]);
        town.operate(&row, "retry").await;

        town.until_state("verified").await;
        assert_eq!(town.calls().len(), 2);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_deleted_has_nothing_left_to_revoke() {
    on_both(async |plan| {
        let town = plan.empty().await;
        let amina = town.person("amina");
        town.person("jonas");
        town.device("W1").await;
        town.takes("W1", &["amina"]).await;
        town.entra().delete_user(amina);
        town.takes("W1", &["jonas"]).await;

        let not_there = || town.entra().seen().iter().filter(|seen| seen.status == Some(404)).count();
        for times in 1..4 {
            town.until("it was not there", async || not_there() >= times).await;
            town.until_state("open").await;
            town.hurry().await;
        }
        let row = town.until_state("moot").await;

        assert!(row["note"].as_str().unwrap().contains("deleted"), "{row:#}");
        assert_eq!(town.calls().len(), 0);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_renamed_is_signed_out_and_who_got_the_old_name_is_not() {
    on_both(async |plan| {
        let town = plan.empty().await;
        let amina = town.person("amina");
        town.person("jonas");
        town.device("W1").await;
        town.takes("W1", &["amina"]).await;

        town.entra().rename_user(amina, &upn("amina.married"));
        let other = town.entra().add_user(upn("amina").as_str());
        town.takes("W1", &["jonas"]).await;
        town.until_state("verified").await;

        assert_eq!((town.effects(amina), town.effects(other)), (1, 0));
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_with_two_ipads_is_signed_out_once_and_the_other_one_is_listed() {
    on_both(async |plan| {
        let town = plan.open().await;
        town.device("W2").await;
        town.takes("W1", &["amina"]).await;
        town.takes("W2", &["amina"]).await;

        town.takes("W1", &["jonas"]).await;
        let row = town.until_state("verified").await;
        town.until_at_rest().await;

        assert_eq!(row["collateral"].as_array().unwrap().len(), 1, "{row:#}");
        assert_eq!(row["collateral"][0]["device"], "W2");
        assert_eq!(town.device_row("W2").await["holder"]["upn"], upn("amina"));
        assert_eq!(town.calls().len(), 1);
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_ipads_that_change_hands_while_graph_is_away_cost_one_call() {
    on_both(async |plan| {
        let town = plan.empty().await;
        let amina = town.person("amina");
        town.person("jonas");
        town.device("W1").await;
        town.device("W2").await;
        town.takes("W1", &["amina"]).await;
        town.takes("W2", &["amina"]).await;
        let away = FaultKind::Status { code: 503, retry_after: Some("4".into()) };
        town.entra().fault(Fault::once(Route::Revoke, away));

        town.takes("W1", &["jonas"]).await;
        town.takes("W2", &["jonas"]).await;
        town.until_owed(&["amina W1 verified", "amina W2 verified"]).await;

        assert_eq!((town.calls().len(), town.effects(amina)), (2, 1));
        town.close().await;
    })
    .await;
}
