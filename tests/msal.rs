//! The promise as the apps on the iPad see it: Microsoft's own library, MSAL for Python, against the simulated tenant.
//!
//! `HANDOVER_TEST_PYTHON` names a Python with `msal`. Without it `target/msal` is used, and made where it is missing.

#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "msal/apps.rs"]
mod apps;
#[path = "main_job/town.rs"]
#[expect(dead_code, reason = "the stories of the main job use the rest")]
mod town;

use handover::sandbox::{Sandbox, Settings, UemUserSpec};
use serde_json::json;

use crate::apps::Apps;
use crate::town::{POOL, on_both, upn};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_hand_over_the_first_persons_apps_ask_for_a_sign_in_and_the_next_persons_go_on() {
    on_both(async |plan| {
        let town = plan.open().await;
        let apps = Apps::install(&town.sandbox).await;
        town.takes("W1", &["amina"]).await;
        apps.sign_in(&upn("amina"));
        assert_eq!(apps.open(&upn("amina"))["token"], true);

        town.takes("W1", &["jonas"]).await;
        apps.sign_in(&upn("jonas"));
        town.until_owed(&["amina W1 verified"]).await;

        let amina = apps.open(&upn("amina"));
        assert_eq!(amina["token"], false, "{amina}");
        assert_eq!((&amina["error"], &amina["codes"]), (&json!("invalid_grant"), &json!([50173])));
        assert_eq!(apps.open(&upn("jonas"))["token"], true);
        apps.sign_in(&upn("amina"));
        assert_eq!(apps.open(&upn("amina"))["token"], true, "she signs in anew elsewhere");
        town.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_handover_the_first_persons_apps_go_on_for_the_next_person() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    sandbox.uem.add_pool_account(POOL);
    sandbox.uem.add_device("W1");
    for name in ["amina", "jonas"] {
        sandbox.uem.add_user(UemUserSpec { user_name: name.into(), upn: Some(upn(name)), ..UemUserSpec::default() });
        sandbox.entra.add_user(upn(name).as_str());
    }
    let apps = Apps::install(&sandbox).await;
    sandbox.uem.check_out("W1", "amina").await.unwrap();
    apps.sign_in(&upn("amina"));

    sandbox.uem.check_in("W1").await.unwrap();
    sandbox.uem.check_out("W1", "jonas").await.unwrap();
    apps.sign_in(&upn("jonas"));

    assert_eq!(apps.open(&upn("amina"))["token"], true);
    assert_eq!(apps.open(&upn("jonas"))["token"], true);
}
