//! The sandbox behaves as the services it stands for, over real HTTP and TLS.

#![cfg(feature = "sandbox")]
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::time::Duration;

use axum::{Router, body::Bytes, extract::State, routing::any};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use handover::sandbox::{
    CheckInCarries, EmptyList, Fate, Fault, FaultKind, Format, Hook, Lag, Quota, RetryAfter, Route, Rule, Sandbox,
    Settings, TimeForm, UemUserSpec, UserSpec,
};
use reqwest::{Response, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

const AMINA: &str = "amina.reuter@contoso.example";
const STAMP: &str = "signInSessionsValidFromDateTime";

/// A sandbox and a client that trusts it.
struct Bench {
    sandbox: Sandbox,
    client: reqwest::Client,
}

async fn bench() -> Bench {
    let sandbox = Sandbox::start(Settings { seed: 7, ..Settings::default() }).await.unwrap();
    let root = reqwest::Certificate::from_pem(sandbox.ca_pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([root])
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(20))
        .no_proxy()
        .build()
        .unwrap();
    Bench { sandbox, client }
}

impl Bench {
    async fn token_request(&self, form: &[(&str, &str)]) -> (u16, Value) {
        let entra = &self.sandbox.entra;
        let url = format!("{}/{}/oauth2/v2.0/token", entra.login_url(), entra.tenant_id());
        both(self.client.post(url).form(form).send().await.unwrap()).await
    }

    async fn app_token(&self) -> String {
        let entra = &self.sandbox.entra;
        let (id, secret) = (entra.client_id(), entra.client_secret());
        let scope = format!("{}/.default", entra.graph_url());
        let form =
            [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", &secret), ("scope", &scope)];
        let (status, answer) = self.token_request(&form).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn refresh(&self, refresh_token: &str) -> (u16, Value) {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", self.sandbox.entra.public_client_id()),
            ("refresh_token", refresh_token),
            ("scope", "openid offline_access User.Read"),
        ];
        self.token_request(&form).await
    }

    async fn revoke(&self, token: &str, user: Uuid) -> reqwest::Result<Response> {
        let url = format!("{}/v1.0/users/{user}/revokeSignInSessions", self.sandbox.entra.graph_url());
        self.client.post(url).bearer_auth(token).header("client-request-id", "from-the-test").send().await
    }

    async fn graph(&self, token: &str, path: &str) -> (u16, Value) {
        let url = format!("{}/v1.0/{path}", self.sandbox.entra.graph_url());
        both(self.client.get(url).bearer_auth(token).send().await.unwrap()).await
    }

    async fn uem_token(&self) -> String {
        let uem = &self.sandbox.uem;
        let form = [("grant_type", "client_credentials")];
        let request =
            self.client.post(uem.token_url()).basic_auth(uem.client_id(), Some(uem.client_secret())).form(&form);
        let (status, answer) = both(request.send().await.unwrap()).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn uem_get(&self, token: &str, path: &str, version: u8) -> Response {
        let url = format!("{}/api/{path}", self.sandbox.uem.url());
        let accept = format!("application/json;version={version}");
        self.client.get(url).bearer_auth(token).header("accept", accept).send().await.unwrap()
    }
}

async fn both(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

/// A receiver of webhooks: keeps the bodies and answers 200.
async fn receiver() -> (String, mpsc::UnboundedReceiver<String>) {
    let (sender, bodies) = mpsc::unbounded_channel();
    let take = |State(sender): State<mpsc::UnboundedSender<String>>, body: Bytes| async move {
        let _ = sender.send(String::from_utf8_lossy(&body).into_owned());
        "ok"
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/intake/uem", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, Router::new().fallback(any(take)).with_state(sender)).into_future());
    (url, bodies)
}

#[tokio::test]
async fn a_revocation_ends_the_refresh_token_and_a_new_sign_in_works() {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    let amina = entra.add_user(AMINA);
    let signed_in = entra.sign_in(AMINA).unwrap().refresh_token.unwrap();
    let token = bench.app_token().await;
    let (before, rotated) = bench.refresh(&signed_in).await;

    let revoked = bench.revoke(&token, amina).await.unwrap();

    assert_eq!((before, revoked.status()), (200, StatusCode::OK));
    assert_eq!(revoked.headers()["client-request-id"], "from-the-test");
    assert!(revoked.headers().contains_key("x-ms-ags-diagnostic"));
    for old in [signed_in.as_str(), rotated["refresh_token"].as_str().unwrap()] {
        let (status, refused) = bench.refresh(old).await;
        assert_eq!(status, 400);
        assert_eq!(refused["error"], "invalid_grant");
        assert_eq!(refused["suberror"], "bad_token");
        assert_eq!(refused["error_codes"], json!([50173]));
        assert!(refused["error_description"].as_str().unwrap().starts_with("AADSTS50173: "));
    }
    let again = entra.sign_in(AMINA).unwrap().refresh_token.unwrap();
    assert_eq!(bench.refresh(&again).await.0, 200);
    let effects = entra.effects(amina);
    assert_eq!(effects.len(), 1);
    assert_eq!(effects[0].client_request_id.as_deref(), Some("from-the-test"));
}

#[tokio::test]
async fn a_stamp_is_shown_when_selected_and_only_after_the_lag() {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    let amina = entra.add_user(AMINA);
    entra.set_lag(None, Lag::After(Duration::from_mins(1)));
    let token = bench.app_token().await;
    let select = format!("users/{amina}?$select=id,{STAMP}");
    let (_, before) = bench.graph(&token, &select).await;

    bench.revoke(&token, amina).await.unwrap();

    assert_eq!(bench.graph(&token, &format!("users/{amina}")).await.1.get(STAMP), None);
    assert_eq!(bench.graph(&token, &select).await.1, before);
    entra.advance(Duration::from_secs(61));
    let (_, after) = bench.graph(&token, &select).await;
    assert_eq!(after[STAMP], json!(entra.effects(amina)[0].stamp));
    assert_eq!(after[STAMP].as_str().unwrap().len(), "2026-03-02T05:58:41Z".len());
    assert!(after[STAMP].as_str() > before[STAMP].as_str());

    entra.set_lag(Some(amina), Lag::Never);
    assert_eq!(bench.graph(&token, &select).await.1, before);
}

#[rstest]
#[case::integer(RetryAfter::Integer, Some("4"))]
#[case::fraction(RetryAfter::Fraction, Some("3."))]
#[case::absent(RetryAfter::Absent, None)]
#[tokio::test]
async fn too_many_writes_are_throttled_and_asking_on_costs(
    #[case] retry_after: RetryAfter,
    #[case] expected: Option<&str>,
) {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    let amina = entra.add_user(AMINA);
    entra.set_quota(Some(Quota { writes: 5, per_seconds: 10.0, retry_after }));
    let token = bench.app_token().await;

    let mut statuses = Vec::new();
    let mut refused = None;
    for _ in 0..6 {
        let answer = bench.revoke(&token, amina).await.unwrap();
        statuses.push(answer.status().as_u16());
        refused = Some(answer);
    }

    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    let headers = refused.unwrap().headers().clone();
    let said = headers.get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(said.is_some(), expected.is_some());
    assert!(said.as_deref().unwrap_or_default().starts_with(expected.unwrap_or_default()), "{said:?}");
    assert!(headers["x-ms-throttle-scope"].to_str().unwrap().starts_with("Tenant_Application/Write/"));
    assert_eq!(headers["x-ms-throttle-information"], "WriteLimitExceeded");
    assert_eq!(entra.effects(amina).len(), 5);
    entra.advance(Duration::from_secs(3));
    assert_eq!(bench.revoke(&token, amina).await.unwrap().status(), 429, "the refused call counted");
    entra.advance(Duration::from_secs(10));
    assert_eq!(bench.revoke(&token, amina).await.unwrap().status(), 200);
}

#[rstest]
#[case::after(FaultKind::ResetAfter, 1)]
#[case::before(FaultKind::ResetBefore, 0)]
#[case::half(FaultKind::HalfAnswer, 1)]
#[tokio::test]
async fn a_dropped_connection_says_nothing_about_the_effect(#[case] kind: FaultKind, #[case] effects: usize) {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    let amina = entra.add_user(AMINA);
    let token = bench.app_token().await;
    entra.fault(Fault::once(Route::Revoke, kind).for_user(amina));

    let answer = bench.revoke(&token, amina).await;

    let got_through = match answer {
        Ok(response) => response.bytes().await.is_ok(),
        Err(_) => false,
    };
    assert!(!got_through);
    assert_eq!(entra.effects(amina).len(), effects);
    let seen = entra.seen();
    let revokes: Vec<_> = seen.iter().filter(|seen| seen.route == Route::Revoke).collect();
    assert_eq!(revokes.len(), 1, "the client must not try again by itself");
    assert_eq!((revokes[0].user, revokes[0].effect), (Some(amina), effects == 1));
    assert_eq!(bench.revoke(&token, amina).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_take_the_effect_back() {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    let amina = entra.add_user(AMINA);
    let token = bench.app_token().await;
    entra.fault(Fault::once(Route::Revoke, FaultKind::DelayAfter { ms: 5_000 }));

    let url = format!("{}/v1.0/users/{amina}/revokeSignInSessions", entra.graph_url());
    let hasty = bench.client.post(url).bearer_auth(&token).timeout(Duration::from_millis(500)).send().await;

    assert!(hasty.unwrap_err().is_timeout());
    assert_eq!(entra.effects(amina).len(), 1);
}

#[tokio::test]
async fn guests_and_protected_administrators_are_not_revoked() {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    let guest = entra.add_user(UserSpec { guest: true, ..UserSpec::from("g_home.example#EXT#@contoso.example") });
    let admin = entra.add_user(UserSpec { admin: true, ..UserSpec::from("root@contoso.example") });
    entra.change(|options| options.admin_protected = true);
    let token = bench.app_token().await;
    let session = entra.sign_in("g_home.example#EXT#@contoso.example").unwrap().refresh_token.unwrap();

    let (guest_said, _) = both(bench.revoke(&token, guest).await.unwrap()).await;
    let (admin_said, why) = both(bench.revoke(&token, admin).await.unwrap()).await;
    let (nobody_said, nobody) = both(bench.revoke(&token, Uuid::nil()).await.unwrap()).await;

    assert_eq!((guest_said, entra.effects(guest).len()), (200, 0));
    assert_eq!(bench.refresh(&session).await.0, 200);
    assert_eq!(admin_said, 403);
    assert_eq!(why["error"]["message"], "Access to invalidate refresh tokens operation is denied.");
    assert_eq!((nobody_said, &nobody["error"]["code"]), (404, &json!("Request_ResourceNotFound")));
    assert!(nobody["error"]["innerError"]["request-id"].is_string());
    entra.set_roles(["User.Read.All"]);
    let poorer = bench.app_token().await;
    assert_eq!(bench.revoke(&poorer, admin).await.unwrap().status(), 403);
}

#[rstest]
#[case::by_upn("users/amina.reuter@contoso.example", 200)]
#[case::in_any_case("users/AMINA.Reuter@contoso.example", 200)]
#[case::quoted("users('amina.reuter@contoso.example')", 200)]
#[case::apostrophe("users('sinead.o''neal@contoso.example')", 200)]
#[case::dollar_quoted("users('$dollar@contoso.example')", 200)]
#[case::dollar_in_a_segment("users/$dollar@contoso.example", 400)]
#[case::nobody("users/nobody@contoso.example", 404)]
#[case::unknown_property("users/amina.reuter@contoso.example?$select=shoeSize", 400)]
#[case::by_immutable_id("users?$filter=onPremisesImmutableId eq 'b2VlcQ=='", 200)]
#[case::by_mail("users?$filter=mail eq 'sinead.o''neal@contoso.example'", 200)]
#[case::unsupported("users?$filter=startswith(mail,'a')", 400)]
#[tokio::test]
async fn users_are_named_as_graph_names_them(#[case] path: &str, #[case] expected: u16) {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    entra.add_user(UserSpec { immutable_id: Some("b2VlcQ==".to_owned()), ..UserSpec::from(AMINA) });
    entra.add_user("sinead.o'neal@contoso.example");
    entra.add_user("$dollar@contoso.example");

    let (status, answer) = bench.graph(&bench.app_token().await, path).await;

    assert_eq!(status, expected, "{answer}");
    if path.contains("$filter") && status == 200 {
        assert_eq!(answer["value"].as_array().unwrap().len(), 1);
    }
}

#[rstest]
#[case::wrong_secret("client_secret", "guess", 401, 7_000_215)]
#[case::unknown_app("client_id", "0b9f6a30-0000-4000-8000-000000000000", 400, 700_016)]
#[case::wrong_resource("scope", "https://elsewhere.example/.default", 400, 500_011)]
#[case::no_default("scope", "User.Read", 400, 1_002_012)]
#[case::unknown_grant("grant_type", "magic", 400, 70_003)]
#[tokio::test]
async fn a_bad_token_request_is_refused_with_its_code(
    #[case] field: &str,
    #[case] value: &str,
    #[case] status: u16,
    #[case] code: u32,
) {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    let secret = entra.client_secret();
    let scope = format!("{}/.default", entra.graph_url());
    let mut form = [
        ("grant_type", "client_credentials"),
        ("client_id", entra.client_id()),
        ("client_secret", &secret),
        ("scope", &scope),
    ];
    for pair in &mut form {
        if pair.0 == field {
            pair.1 = value;
        }
    }

    let (said, error) = bench.token_request(&form).await;

    assert_eq!((said, &error["error_codes"]), (status, &json!([code])));
    for name in ["error", "error_description", "timestamp", "trace_id", "correlation_id"] {
        assert!(error[name].is_string(), "{name}");
    }
}

#[rstest]
#[case::good(json!({}), 200, 0)]
#[case::of_another_issuer(json!({"iss": "https://elsewhere.example"}), 401, 700_211)]
#[case::for_another_audience(json!({"aud": "https://vault.example"}), 401, 700_212)]
#[case::about_somebody_else(json!({"sub": "system:serviceaccount:default:default"}), 401, 700_213)]
#[case::expired(json!({"exp": 1}), 401, 700_024)]
#[tokio::test]
async fn a_federated_token_proves_the_app_when_all_it_says_is_right(
    #[case] wrong: Value,
    #[case] status: u16,
    #[case] code: u32,
) {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    let (issuer, subject) = ("https://cluster.example", "system:serviceaccount:handover:handover");
    entra.trust(issuer, subject);
    let mut claims = json!({
        "iss": issuer, "sub": subject, "aud": ["api://AzureADTokenExchange"],
        "exp": entra.now().timestamp() + 600,
    });
    claims.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let scope = format!("{}/.default", entra.graph_url());
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", entra.client_id()),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", &token),
        ("scope", &scope),
    ];

    let (said, answer) = bench.token_request(&form).await;

    assert_eq!(said, status, "{answer}");
    if code != 0 {
        assert_eq!(answer["error_codes"], json!([code]));
    }
}

#[tokio::test]
async fn an_expired_secret_and_an_unknown_tenant_say_so() {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    entra.expire_secret();
    let (secret, scope) = (entra.client_secret(), format!("{}/.default", entra.graph_url()));
    let form = [("grant_type", "client_credentials"), ("scope", &scope)];

    let basic = |tenant: String| {
        let url = format!("{}/{tenant}/oauth2/v2.0/token", entra.login_url());
        bench.client.post(url).basic_auth(entra.client_id(), Some(&secret)).form(&form).send()
    };
    let (expired, why) = both(basic(entra.tenant_id().to_string()).await.unwrap()).await;
    let (unknown, who) = both(basic("contoso.example".to_owned()).await.unwrap()).await;

    assert_eq!((expired, &why["error_codes"]), (401, &json!([7_000_222])));
    assert_eq!((unknown, &who["error_codes"]), (400, &json!([90_002])));
}

#[tokio::test]
async fn clocks_can_be_wrong_without_changing_what_happens() {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    let amina = entra.add_user(AMINA);
    entra.set_clock_offset_ms(-600_000);
    bench.sandbox.uem.set_clock_offset_ms(120_000);
    let session = entra.sign_in(AMINA).unwrap().refresh_token.unwrap();
    let token = bench.app_token().await;

    let answer = bench.revoke(&token, amina).await.unwrap();

    let date = |response: &Response| {
        let text = response.headers()["date"].to_str().unwrap().replace("GMT", "+0000");
        chrono::DateTime::parse_from_rfc2822(&text).unwrap().to_utc()
    };
    let effect = &entra.effects(amina)[0];
    assert!((effect.at - date(&answer)).num_seconds() > 590);
    let uem_token = bench.uem_token().await;
    let info = bench.uem_get(&uem_token, "system/info", 1).await;
    assert!((date(&info) - effect.at).num_seconds() > 110);
    assert_eq!(bench.refresh(&session).await.0, 400, "refusing does not depend on the stamp");
}

#[tokio::test]
async fn uem_lists_come_in_pages_that_are_cut_silently() {
    let bench = bench().await;
    let uem = &bench.sandbox.uem;
    uem.change(|options| options.largest_page = 2);
    for serial in ["A1", "A2", "A3"] {
        uem.add_device(serial);
    }
    let token = bench.uem_token().await;

    let first: Value = bench.uem_get(&token, "mdm/devices/search?pagesize=1000", 1).await.json().await.unwrap();
    let second: Value = bench.uem_get(&token, "mdm/devices/search?page=1&pagesize=2", 1).await.json().await.unwrap();
    let third = bench.uem_get(&token, "mdm/devices/search?page=2&pagesize=2", 1).await;

    assert_eq!((first["Devices"].as_array().unwrap().len(), &first["Total"]), (2, &json!(3)));
    assert_eq!(second["Devices"][0]["SerialNumber"], "A3");
    assert_eq!((third.status().as_u16(), third.text().await.unwrap()), (200, String::new()));
    uem.change(|options| options.empty_list = EmptyList::EmptyArray);
    let array: Value = bench.uem_get(&token, "mdm/devices/search?page=9", 1).await.json().await.unwrap();
    assert_eq!(array["Devices"], json!([]));
}

#[tokio::test]
async fn uem_reads_can_be_stale_and_name_users_twice() {
    let bench = bench().await;
    let uem = &bench.sandbox.uem;
    let (id, uuid) = uem.add_device("DMPX7Q2LK1");
    let amina = UemUserSpec { user_name: "areuter".to_owned(), upn: Some(AMINA.to_owned()), ..UemUserSpec::default() };
    let (_, user) = uem.add_user(amina);
    let token = bench.uem_token().await;
    uem.change(|options| options.rest_lag_ms = 60_000);

    uem.check_out("DMPX7Q2LK1", "areuter").await.unwrap();

    let stale: Value = bench.uem_get(&token, &format!("mdm/devices/{id}"), 1).await.json().await.unwrap();
    assert_eq!(stale["UserName"], "stg-ipad");
    let by = "mdm/devices/search?user=areuter";
    let listed: Value = bench.uem_get(&token, by, 1).await.json().await.unwrap();
    assert_eq!(listed["Devices"][0]["UserId"]["Uuid"], json!(user));
    assert_eq!(listed["Devices"][0]["EnrollmentUserUuid"], json!(Uuid::nil()));
    uem.advance(Duration::from_secs(61));
    let fresh: Value = bench.uem_get(&token, &format!("mdm/devices/{uuid}"), 2).await.json().await.unwrap();
    assert_eq!(fresh["enrollmentInfo"]["enrollmentUserUuid"], json!(user));
    let person: Value = bench.uem_get(&token, &format!("system/users/{user}"), 2).await.json().await.unwrap();
    assert_eq!(
        (&person["userPrincipalName"], &person["deviceStagingType"]),
        (&json!(AMINA), &json!("StagingDisabled"))
    );
    assert_eq!(bench.uem_get(&token, &format!("mdm/devices/{uuid}"), 1).await.status(), 400);
    assert_eq!(bench.uem_get(&token, "mdm/devices/1", 1).await.status(), 404);
}

#[tokio::test]
async fn uem_counts_requests_and_refuses_strangers() {
    let bench = bench().await;
    let uem = &bench.sandbox.uem;
    uem.change(|options| options.requests_per_minute = Some(1));
    let token = bench.uem_token().await;

    let first = bench.uem_get(&token, "system/info", 1).await;
    let second = bench.uem_get(&token, "system/info", 1).await;
    let stranger = bench.uem_get("forged", "system/info", 1).await;

    assert_eq!((first.status().as_u16(), first.headers()["x-ratelimit-remaining"].to_str().unwrap()), (200, "0"));
    assert_eq!(second.status(), 429);
    assert!(second.headers().contains_key("x-ratelimit-reset"));
    assert_eq!(stranger.status(), 401);
    assert_eq!(stranger.json::<Value>().await.unwrap()["errorCode"], 1005);
    uem.advance(Duration::from_mins(1));
    let basic = bench.client.get(format!("{}/API/system/info", uem.url())).header("accept", "application/json");
    let basic = basic.basic_auth(uem.username(), Some(uem.password())).header("aw-tenant-code", uem.tenant_code());
    assert_eq!(basic.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn webhooks_are_doubled_lost_and_out_of_order() {
    let bench = bench().await;
    let uem = &bench.sandbox.uem;
    let (url, mut bodies) = receiver().await;
    uem.set_hook(Some(Hook { duplicate_every: 3, ..Hook::to(&url, "handover", "secret") }));
    uem.add_device("DMPX7Q2LK1");
    uem.add_user(UemUserSpec { user_name: "areuter".to_owned(), ..UemUserSpec::default() });
    assert_eq!(uem.test_connection().await, Some(200));
    bodies.recv().await.unwrap();

    uem.lose_next(1);
    let lost = uem.check_out("DMPX7Q2LK1", "areuter").await.unwrap();
    uem.hold_next(1);
    let held = uem.check_in("DMPX7Q2LK1").await.unwrap();
    let doubled = uem.check_out("DMPX7Q2LK1", "areuter").await.unwrap();
    let late = uem.release().await;

    assert_eq!((lost[0].fate, held[0].fate), (Fate::Lost, Fate::Held));
    assert_eq!(doubled.iter().map(|sent| sent.status).collect::<Vec<_>>(), [Some(200), Some(200)]);
    let mut received = Vec::new();
    while let Ok(body) = bodies.try_recv() {
        received.push(serde_json::from_str::<Value>(&body).unwrap());
    }
    let kinds: Vec<_> = received.iter().map(|event| event["EventType"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Check Out", "Check Out", "Check In"]);
    assert_eq!(received[0], received[1]);
    assert!(received[2]["EventTime"].as_str() < received[0]["EventTime"].as_str());
    assert_eq!(late[0].fate, Fate::Answered);
}

#[rstest]
#[case(15, TimeForm::DotNetEscaped)]
#[case(16, TimeForm::DotNet)]
#[case(24, TimeForm::Iso)]
#[case(26, TimeForm::Iso)]
#[tokio::test]
async fn each_generation_of_webhook_has_its_fields(#[case] fields: u8, #[case] time: TimeForm) {
    let bench = bench().await;
    let uem = &bench.sandbox.uem;
    let (url, mut bodies) = receiver().await;
    uem.set_hook(Some(Hook { fields, time, check_in_carries: CheckInCarries::Leaver, ..Hook::to(&url, "", "") }));
    uem.add_device("DMPX7Q2LK1");
    uem.add_user(UemUserSpec { user_name: "areuter".to_owned(), ..UemUserSpec::default() });

    uem.check_out("DMPX7Q2LK1", "areuter").await.unwrap();
    uem.check_in("DMPX7Q2LK1").await.unwrap();
    uem.unenroll("DMPX7Q2LK1").await.unwrap();

    let mut events = Vec::new();
    while let Ok(body) = bodies.try_recv() {
        assert_eq!(time == TimeForm::DotNetEscaped, body.contains(r"\/Date("));
        events.push(serde_json::from_str::<Value>(&body).unwrap());
    }
    assert!(events.iter().all(|event| event.as_object().unwrap().len() == usize::from(fields)));
    let users: Vec<_> = events.iter().map(|event| event["EnrollmentUserName"].as_str().unwrap()).collect();
    assert_eq!(users, ["areuter", "areuter", ""]);
    assert_eq!(events[2]["EnrollmentStatus"], "Unenrolled");
}

#[tokio::test]
async fn a_rule_saved_as_xml_sends_xml_and_is_read_back() {
    let bench = bench().await;
    let uem = &bench.sandbox.uem;
    let (url, mut bodies) = receiver().await;
    let hook = Hook { format: Format::Xml, fields: 16, ..Hook::to(&url, "", "") };
    uem.set_hook(Some(hook.clone()));
    uem.add_device("DMPX7Q2LK1");
    let token = bench.uem_token().await;

    uem.check_in("DMPX7Q2LK1").await.unwrap();

    let body = bodies.recv().await.unwrap();
    assert!(body.starts_with("<?xml version=\"1.0\" encoding=\"utf-8\"?><Eventlog "));
    assert!(body.contains("<EnrollmentUserName>stg-ipad</EnrollmentUserName>"));
    assert!(body.contains("<EnrollmentEmailAddress />"));
    let path = "system/eventnotifications/search";
    let rules: Value = bench.uem_get(&token, path, 2).await.json().await.unwrap();
    assert_eq!(rules["EventNotifications"][0]["Format"], 0);
    uem.change(|options| options.rule = Some(Rule { active: false, ..Rule::of(&hook) }));
    let rules: Value = bench.uem_get(&token, path, 2).await.json().await.unwrap();
    assert_eq!(rules["EventNotifications"][0]["IsActive"], false);
}

#[tokio::test]
async fn another_process_can_do_everything_over_http() {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    let order = async |verb: &str, order: Value| {
        let url = format!("{}/_sandbox/{verb}", entra.login_url());
        both(bench.client.post(url).json(&order).send().await.unwrap()).await
    };
    let (_, added) = order("add_user", json!({"upn": AMINA})).await;
    let fault = json!({"route": "revoke", "times": 1, "kind": {"status": {"code": 503, "retry_after": "7"}}});
    assert_eq!(order("fault", fault).await.0, 200);
    let token = bench.app_token().await;
    let amina: Uuid = serde_json::from_value(added["object_id"].clone()).unwrap();

    let refused = bench.revoke(&token, amina).await.unwrap();

    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"7".parse().unwrap()));
    let (_, seen) = order("seen", json!({})).await;
    assert_eq!(seen["seen"].as_array().unwrap().last().unwrap()["status"], 503);
    assert_eq!(order("effects", json!({"user": AMINA})).await.1["effects"], json!([]));
    let (_, tokens) = order("sign_in", json!({"upn": AMINA})).await;
    assert_eq!(bench.refresh(tokens["refresh_token"].as_str().unwrap()).await.0, 200);
    assert_eq!(order("no_such_verb", json!({})).await.0, 400);
    let state = bench.client.get(format!("{}/_sandbox/state", entra.login_url())).send().await.unwrap();
    assert_eq!(both(state).await.1["users"][0]["upn"], AMINA);
}

#[rstest]
#[case::proxy(FaultKind::Html200, 200, 0)]
#[case::broken_proxy(FaultKind::Html503, 503, 0)]
#[case::redirect(FaultKind::Redirect { to: "https://elsewhere.example/".to_owned() }, 307, 0)]
#[case::unauthorized(FaultKind::Unauthorized, 401, 0)]
#[case::forbidden(FaultKind::Forbidden, 403, 0)]
#[case::gone(FaultKind::NotFound, 404, 0)]
#[case::throttled(FaultKind::Throttle { seconds: 2.128 }, 429, 0)]
#[case::garbage(FaultKind::WrongBody, 200, 1)]
#[case::huge(FaultKind::HugeBody, 200, 1)]
#[tokio::test]
async fn a_fault_answers_in_its_own_way_once(#[case] kind: FaultKind, #[case] status: u16, #[case] effects: usize) {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    let amina = entra.add_user(AMINA);
    let token = bench.app_token().await;
    entra.fault(Fault::once(Route::Revoke, kind.clone()));

    let answer = bench.revoke(&token, amina).await.unwrap();

    assert_eq!((answer.status().as_u16(), entra.effects(amina).len()), (status, effects));
    if let FaultKind::Throttle { .. } = kind {
        assert_eq!(answer.headers()["retry-after"], "2.128");
    }
    let body = answer.bytes().await.unwrap();
    assert_eq!(body.len() == 16 * 1024 * 1024, kind == FaultKind::HugeBody);
    assert_eq!(bench.revoke(&token, amina).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_read_can_show_the_stamp_before_the_last_one_or_none() {
    let bench = bench().await;
    let entra = &bench.sandbox.entra;
    let amina = entra.add_user(AMINA);
    let token = bench.app_token().await;
    let first = entra.stamp(amina).unwrap();
    bench.revoke(&token, amina).await.unwrap();
    entra.fault(Fault::once(Route::ReadUser, FaultKind::StaleStamp));
    entra.fault(Fault::once(Route::ReadUser, FaultKind::StampMissing));

    let select = format!("users/{amina}?$select=id,{STAMP}");
    let stale = bench.graph(&token, &select).await;
    let missing = bench.graph(&token, &select).await;
    let fresh = bench.graph(&token, &select).await;

    assert_eq!(stale.1[STAMP], json!(first));
    assert_eq!((missing.0, missing.1.get(STAMP)), (200, None));
    assert_eq!(fresh.1[STAMP], json!(entra.stamp(amina).unwrap()));
    assert_ne!(fresh.1[STAMP], json!(first));
}

#[tokio::test]
async fn a_wiped_device_comes_back_with_a_new_id() {
    let bench = bench().await;
    let uem = &bench.sandbox.uem;
    let (url, mut bodies) = receiver().await;
    uem.set_hook(Some(Hook::to(&url, "", "")));
    let (old, _) = uem.add_device("DMPX7Q2LK1");
    uem.add_user(UemUserSpec { user_name: "areuter".to_owned(), ..UemUserSpec::default() });
    uem.set_quiet(true);
    assert_eq!(uem.check_out("DMPX7Q2LK1", "areuter").await.unwrap().len(), 0);
    uem.set_quiet(false);

    uem.wipe("DMPX7Q2LK1").await.unwrap();
    uem.re_enrol("DMPX7Q2LK1").await.unwrap();

    let mut told = Vec::new();
    while let Ok(body) = bodies.try_recv() {
        let event: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(event["SerialNumber"], "DMPX7Q2LK1");
        told.push((event["EventId"].as_i64().unwrap(), event["EnrollmentUserName"].as_str().unwrap().to_owned()));
    }
    assert_eq!(told, [(25, "areuter".to_owned()), (39, String::new()), (148, "stg-ipad".to_owned())]);
    let token = bench.uem_token().await;
    let by_serial = "mdm/devices?searchby=Serialnumber&id=DMPX7Q2LK1";
    let newest: Value = bench.uem_get(&token, by_serial, 1).await.json().await.unwrap();
    assert_eq!(newest["Id"]["Value"], json!(old + 1));
    let listed: Value = bench.uem_get(&token, "mdm/devices/search", 1).await.json().await.unwrap();
    assert_eq!(listed["Total"], 2, "both records carry the serial number");
    uem.delete(&old.to_string()).await.unwrap();
    assert_eq!(bench.uem_get(&token, &format!("mdm/devices/{old}"), 1).await.status(), 404);
}

#[tokio::test]
async fn the_same_seed_throws_the_same_dice() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let bench = bench().await;
        let uem = &bench.sandbox.uem;
        let (url, _bodies) = receiver().await;
        uem.set_hook(Some(Hook { loss_probability: 0.3, duplicate_probability: 0.3, ..Hook::to(&url, "", "") }));
        uem.add_device("DMPX7Q2LK1");
        for _ in 0..20 {
            uem.check_in("DMPX7Q2LK1").await.unwrap();
        }
        runs.push(uem.sent().iter().map(|sent| (sent.fate, sent.duplicate)).collect::<Vec<_>>());
    }

    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].contains(&(Fate::Lost, false)) && runs[0].contains(&(Fate::Answered, true)));
}
