//! The REST client against a UEM that answers over real HTTP.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use handover::custody::Moment;
use handover::intake::DeviceNames;
use handover::intake::workspace_one::rest::{
    Login, Settings, Uem, UemError, UserRef, candidates, newest_of_each_serial,
};

use crate::fixtures::bytes;

const DATE: &str = "Mon, 02 Mar 2026 05:58:50 GMT";

/// [`DATE`] in seconds.
const DATE_SECONDS: i64 = 1_772_431_130;

/// One answer the fake gives.
struct Canned {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn ok(body: impl Into<Vec<u8>>) -> Canned {
    answer(200, body)
}

fn answer(status: u16, body: impl Into<Vec<u8>>) -> Canned {
    Canned { status, headers: vec![("content-type", "application/json".to_owned())], body: body.into() }
}

impl Canned {
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// What the fake was asked.
#[derive(Debug, Clone)]
struct Asked {
    line: String,
    headers: HeaderMap,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A UEM that gives prepared answers in order, then 500.
#[derive(Clone, Default)]
struct Fake {
    answers: Arc<Mutex<VecDeque<Canned>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    async fn start(answers: impl IntoIterator<Item = Canned>) -> (Self, String) {
        let fake = Self::default();
        fake.answers.lock().unwrap().extend(answers);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(give).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (fake, url)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

async fn give(State(fake): State<Fake>, request: Request) -> Response<Body> {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let body = axum::body::to_bytes(request.into_body(), 10_000).await.unwrap();
    fake.asked.lock().unwrap().push(Asked { line, headers, body: String::from_utf8(body.to_vec()).unwrap() });
    let canned = fake.answers.lock().unwrap().pop_front().unwrap_or_else(|| answer(500, ""));
    let mut response = Response::builder().status(canned.status);
    if !canned.headers.iter().any(|(name, _)| *name == "date") {
        response = response.header("date", DATE);
    }
    for (name, value) in canned.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(canned.body)).unwrap()
}

fn quick(url: &str, login: Login) -> Settings {
    let mut settings = Settings::new(url.parse().unwrap(), login);
    settings.back_off = Duration::from_millis(1);
    settings.patience = Duration::from_secs(2);
    settings
}

fn basic() -> Login {
    Login::Basic { user_name: "svc-handover".into(), password: "pass:word".into() }
}

fn oauth(url: &str) -> Login {
    Login::OAuth2 {
        token_url: format!("{url}/connect/token").parse().unwrap(),
        client_id: "id".into(),
        client_secret: "secret".into(),
    }
}

async fn uem(answers: impl IntoIterator<Item = Canned>) -> (Fake, Uem) {
    let (fake, url) = Fake::start(answers).await;
    let mut settings = quick(&url, basic());
    settings.tenant_code = Some("tenant".into());
    (fake, Uem::new(settings).unwrap())
}

fn by_id() -> DeviceNames {
    DeviceNames { uem_id: Some("41207".into()), serial: Some("DMPX7Q2LK1".into()), ..DeviceNames::default() }
}

#[tokio::test]
async fn a_device_of_the_old_form_belongs_to_its_user_and_is_stamped_by_the_uems_clock() {
    let (fake, uem) = uem([ok(bytes("rest-device-v1.json"))]).await;

    let seen = uem.device(&by_id()).await.unwrap();

    assert_eq!(seen.at, Some(Moment::from_seconds(DATE_SECONDS)));
    let device = seen.value.unwrap();
    let account = device.account.unwrap();
    assert!(device.enrolled);
    assert_eq!(account.uuid.as_deref(), Some("c7a4e9f2-25d1-4a6f-8a58-4fe0a2f3d901"));
    assert_eq!(account.id.as_deref(), Some("88213"));
    assert_eq!(account.user_name.as_deref(), Some("amina.reuter@contoso.example"));
    assert_eq!(device.names.uem_id.as_deref(), Some("41207"));
    assert_eq!(device.names.site.as_deref(), Some("Contoso Clinics"));
    assert_eq!(device.last_seen, Some(Moment(1_772_431_130_150_000)));
    let asked = &fake.asked()[0];
    assert_eq!(asked.line, "GET /api/mdm/devices/41207");
    assert_eq!(asked.header("accept"), "application/json;version=1");
    assert_eq!(asked.header("authorization"), "Basic c3ZjLWhhbmRvdmVyOnBhc3M6d29yZA==");
    assert_eq!(asked.header("aw-tenant-code"), "tenant");
    assert_eq!(asked.header("user-agent"), concat!("handover/", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_device_of_the_new_form_says_the_same() {
    let (fake, uem) = uem([ok(bytes("rest-device-v1.json")), ok(bytes("rest-device-v2.json"))]).await;
    let by_uuid =
        DeviceNames { uem_uuid: Some("5e0d4f0b-7f5e-4d0e-9b57-0c0f6a1f7a11".into()), ..DeviceNames::default() };

    let old = uem.device(&by_id()).await.unwrap().value.unwrap();
    let new = uem.device(&by_uuid).await.unwrap().value.unwrap();

    assert_eq!(fake.asked()[1].header("accept"), "application/json;version=2");
    assert_eq!(old.names.serial, new.names.serial);
    assert_eq!(old.names.udid, new.names.udid);
    assert_eq!(old.names.uem_uuid, new.names.uem_uuid);
    assert_eq!(old.names.os_version, new.names.os_version);
    assert_eq!(old.last_seen, new.last_seen);
    let (old, new) = (old.account.unwrap(), new.account.unwrap());
    assert_eq!((old.uuid, old.user_name, old.email), (new.uuid, new.user_name, new.email));
}

#[tokio::test]
async fn a_device_is_found_by_whatever_name_is_known() {
    let (fake, uem) = uem([answer(404, "{}"), ok(""), answer(404, "")]).await;
    let serial = DeviceNames { serial: Some("A/1 &x".into()), udid: Some("AB".into()), ..DeviceNames::default() };
    let udid = DeviceNames { udid: Some("AB".into()), ..DeviceNames::default() };
    let strange = DeviceNames { uem_id: Some("../x?y".into()), ..DeviceNames::default() };

    assert_eq!(uem.device(&serial).await.unwrap().value, None);
    assert_eq!(uem.device(&udid).await.unwrap().value, None);
    assert_eq!(uem.device(&strange).await.unwrap().value, None);
    assert!(matches!(uem.device(&DeviceNames::default()).await, Err(UemError::Unreadable { .. })));
    assert_eq!(
        fake.lines(),
        [
            "GET /api/mdm/devices?searchby=Serialnumber&id=A%2F1+%26x",
            "GET /api/mdm/devices?searchby=Udid&id=AB",
            "GET /api/mdm/devices/..%2Fx%3Fy",
        ]
    );
}

#[tokio::test]
async fn an_unenrolled_device_belongs_to_nobody() {
    let body = r#"{"Id":{"Value":41207},"EnrollmentStatus":"Unenrolled","UserName":"","EnrollmentUserUuid":"00000000-0000-0000-0000-000000000000"}"#;
    let (_, uem) = uem([ok(body)]).await;

    let device = uem.device(&by_id()).await.unwrap().value.unwrap();

    assert_eq!((device.account, device.enrolled), (None, false));
}

#[tokio::test]
async fn an_answer_without_a_date_is_read_all_the_same() {
    let (_, uem) = uem([ok(bytes("rest-device-v1.json")).with("date", "today")]).await;

    let seen = uem.device(&by_id()).await.unwrap();

    assert_eq!(seen.at, None);
    assert!(seen.value.is_some());
}

fn page(ids: std::ops::Range<usize>, rest: &str) -> Canned {
    let devices: Vec<_> = ids.map(|id| format!(r#"{{"Id":{{"Value":{id}}},"SerialNumber":"S{id}"}}"#)).collect();
    ok(format!(r#"{{"Devices":[{}]{rest}}}"#, devices.join(",")))
}

#[tokio::test]
async fn a_listing_is_read_page_by_page_until_its_total() {
    let rest = r#","Page":0,"PageSize":500,"Total":501"#;
    let (fake, uem) = uem([page(1..501, rest), page(501..502, rest)]).await;

    let first = uem.devices(0).await.unwrap().value;
    let second = uem.devices(1).await.unwrap().value;

    assert_eq!((first.devices.len(), first.last, first.total), (500, false, Some(501)));
    assert_eq!((second.devices.len(), second.last, second.page), (1, true, 1));
    assert_eq!(fake.lines()[1], "GET /api/mdm/devices/search?page=1&pagesize=500");
}

#[tokio::test]
async fn a_page_that_the_uem_made_smaller_is_not_the_last() {
    let (_, uem) =
        uem([page(1..101, r#","PageSize":100,"Total":150"#), page(1..101, ""), page(0..0, r#","Total":900"#)]).await;

    assert!(!uem.devices(0).await.unwrap().value.last);
    assert!(uem.devices(0).await.unwrap().value.last);
    assert!(uem.devices(7).await.unwrap().value.last);
}

#[tokio::test]
async fn an_empty_body_means_no_devices() {
    let (_, uem) = uem([ok(""), answer(204, "")]).await;

    for _ in 0..2 {
        let page = uem.devices(0).await.unwrap().value;
        assert_eq!((page.devices.len(), page.last), (0, true));
    }
}

#[tokio::test]
async fn an_entry_that_is_no_device_is_counted() {
    let (_, uem) = uem([ok(r#"{"Devices":[{"SerialNumber":"A1"},{"New":1},7],"Total":3}"#), ok("[]")]).await;

    let page = uem.devices(0).await.unwrap().value;

    assert_eq!((page.devices.len(), page.unreadable), (1, 2));
    assert!(matches!(uem.devices(0).await, Err(UemError::Unreadable { .. })));
}

#[tokio::test]
async fn of_one_serial_number_the_newest_device_counts() {
    let body = r#"{"Devices":[{"Id":{"Value":9},"SerialNumber":"a1"},{"Id":{"Value":10},"SerialNumber":"A1"},
        {"Id":{"Value":3},"SerialNumber":"B1"},{"Id":{"Value":10},"SerialNumber":"A1"},{"Id":{"Value":1}},{"Id":{"Value":2}}]}"#;
    let (_, uem) = uem([ok(body), ok(body)]).await;

    let devices = newest_of_each_serial(uem.devices(0).await.unwrap().value.devices);
    let by_serial = DeviceNames { serial: Some("A1".into()), ..DeviceNames::default() };
    let one = uem.device(&by_serial).await.unwrap().value.unwrap();

    let ids: Vec<_> = devices.into_iter().filter_map(|device| device.names.uem_id).collect();
    assert_eq!(ids, ["10", "3", "1", "2"]);
    assert_eq!(one.names.uem_id.as_deref(), Some("10"));
}

#[tokio::test]
async fn a_user_known_by_number_is_read_twice_to_learn_the_upn() {
    let (fake, uem) = uem([ok(bytes("rest-user-v1.json")), ok(bytes("rest-user-person-v2.json"))]).await;

    let user = uem.user(UserRef::Id("88213")).await.unwrap().value.unwrap();

    assert_eq!(user.upn.as_deref(), Some("amina.reuter@contoso.example"));
    assert_eq!(user.id.as_deref(), Some("88213"));
    assert_eq!((user.pool, user.status), (false, Some(true)));
    assert_eq!(candidates(&user).len(), 5);
    assert_eq!(
        fake.lines(),
        ["GET /api/system/users/88213", "GET /api/system/users/c7a4e9f2-25d1-4a6f-8a58-4fe0a2f3d901"]
    );
    assert_eq!(fake.asked()[1].header("accept"), "application/json;version=2");
}

#[tokio::test]
async fn a_staging_account_is_the_pool_and_nobody() {
    let (_, uem) = uem([ok(bytes("rest-user-staging-v2.json")), answer(404, "{}"), ok("{}")]).await;

    let user = uem.user(UserRef::Uuid("11f0a0de-52f5-4f6e-9d4a-6f1d33c0aa01")).await.unwrap().value.unwrap();

    assert!(user.pool);
    assert_eq!(candidates(&user), []);
    assert_eq!(uem.user(UserRef::Uuid("11f0a0de-52f5-4f6e-9d4a-6f1d33c0aa02")).await.unwrap().value, None);
    assert!(matches!(uem.user(UserRef::Id("7")).await, Err(UemError::Unreadable { .. })));
}

#[tokio::test]
async fn the_rule_that_posts_to_us_is_read_back() {
    let (_, uem) = uem([ok(bytes("rest-rules.json")), ok(bytes("rest-rules.json")), ok("")]).await;
    let ours = "https://handover.example/intake/uem".parse().unwrap();
    let nobodys = "https://handover.example/intake/other".parse().unwrap();

    let rule = uem.rule(&ours).await.unwrap().value.unwrap();

    assert!(rule.active && rule.json && rule.check_out_check_in);
    assert!(rule.events.contains(&"UserEmailAddress".to_owned()) && !rule.events.contains(&"PhoneNumber".to_owned()));
    assert_eq!(uem.rule(&nobodys).await.unwrap().value, None);
    assert_eq!(uem.rule(&ours).await.unwrap().value, None);
}

#[tokio::test]
async fn the_first_wrong_password_stops_all_calls() {
    let (fake, uem) = uem([answer(401, bytes("rest-error-1005.json")), ok(bytes("rest-device-v1.json"))]).await;

    for _ in 0..3 {
        let Err(UemError::Refused { status, code, activity_id }) = uem.device(&by_id()).await else { panic!() };
        assert_eq!((status, code.as_deref()), (401, Some("1005")));
        assert_eq!(activity_id.as_deref(), Some("7a1f9a52-5c5b-4b59-a9f3-1f7a2f0f9d10"));
    }

    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_role_that_is_missing_is_a_refusal_of_this_call_only() {
    let (_, uem) =
        uem([answer(403, r#"{"errorCode":"1003"}"#), ok(r#"{"ProductName":"UEM","ProductVersion":"26.2.0.1"}"#)]).await;

    let refused = uem.info().await.unwrap_err();

    assert_eq!(refused.to_string(), "the UEM refused with 403, error 1003");
    assert_eq!(uem.info().await.unwrap().value.version.as_deref(), Some("26.2.0.1"));
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used_again() {
    let token = r#"{"access_token":"abc","token_type":"Bearer","expires_in":"3600"}"#;
    let (fake, url) = Fake::start([ok(token), ok("{}"), ok("{}")]).await;
    let uem = Uem::new(quick(&url, oauth(&url))).unwrap();

    uem.info().await.unwrap();
    uem.info().await.unwrap();

    let asked = fake.asked();
    assert_eq!(fake.lines(), ["POST /connect/token", "GET /api/system/info", "GET /api/system/info"]);
    assert_eq!(asked[0].body, "grant_type=client_credentials&client_id=id&client_secret=secret");
    assert_eq!(asked[2].header("authorization"), "Bearer abc");
    assert_eq!(asked[2].header("aw-tenant-code"), "");
}

#[tokio::test]
async fn a_token_withdrawn_early_is_renewed_once() {
    let token = |name| ok(format!(r#"{{"access_token":"{name}","expires_in":3600}}"#));
    let (fake, url) = Fake::start([token("a"), answer(401, ""), token("b"), ok("{}")]).await;
    let uem = Uem::new(quick(&url, oauth(&url))).unwrap();

    uem.info().await.unwrap();

    assert_eq!(fake.asked()[3].header("authorization"), "Bearer b");
}

#[tokio::test]
async fn a_login_that_stays_refused_stops_all_calls() {
    let token = |name| ok(format!(r#"{{"access_token":"{name}","expires_in":3600}}"#));
    let (fake, url) = Fake::start([token("a"), answer(401, ""), token("b"), answer(401, "")]).await;
    let uem = Uem::new(quick(&url, oauth(&url))).unwrap();

    for _ in 0..2 {
        assert!(matches!(uem.info().await, Err(UemError::Refused { status: 401, .. })));
    }

    assert_eq!(fake.asked().len(), 4);
}

#[tokio::test]
async fn a_wrong_client_secret_is_a_refusal_and_is_not_tried_again() {
    let (fake, url) = Fake::start([answer(400, r#"{"error":"invalid_client"}"#)]).await;
    let uem = Uem::new(quick(&url, oauth(&url))).unwrap();

    for _ in 0..2 {
        let error = uem.info().await.unwrap_err();
        assert_eq!(error.to_string(), "the UEM refused with 400, error invalid_client");
    }

    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_busy_uem_is_asked_again_after_the_wait_it_asks_for() {
    let busy = answer(429, "").with("retry-after", "1");
    let (fake, uem) = uem([busy, answer(503, ""), ok("{}")]).await;
    let began = std::time::Instant::now();

    uem.info().await.unwrap();

    assert!(began.elapsed() >= Duration::from_millis(990));
    assert_eq!(fake.asked().len(), 3);
}

#[tokio::test]
async fn a_long_wait_is_handed_to_the_caller_and_holds_for_everybody() {
    let (fake, uem) = uem([answer(429, "").with("retry-after", "600")]).await;

    for _ in 0..2 {
        let Err(UemError::Busy { retry_after: Some(wait) }) = uem.info().await else { panic!() };
        assert!(wait > Duration::from_secs(590) && wait <= Duration::from_mins(10));
    }

    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_uem_that_stays_broken_is_asked_four_times() {
    let (fake, uem) = uem([]).await;

    assert!(matches!(uem.info().await, Err(UemError::Busy { retry_after: None })));
    assert_eq!(fake.asked().len(), 4);
}

#[tokio::test]
async fn the_last_calls_of_a_quota_are_not_used_up() {
    let low = ok("{}").with("x-ratelimit-remaining", "3").with("x-ratelimit-reset", "1772431160");
    let (fake, uem) = uem([low]).await;

    uem.info().await.unwrap();

    assert!(matches!(uem.info().await, Err(UemError::Busy { retry_after: Some(_) })));
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn somebody_else_who_answers_is_not_believed() {
    let page = |status| answer(status, "<html></html>").with("content-type", "text/html; charset=utf-8");
    let elsewhere = answer(302, "").with("location", "/login");
    let (fake, uem) = uem([page(200), page(404), elsewhere, answer(400, r#"{"errorCode":7}"#), ok("{"), ok("7")]).await;

    for _ in 0..6 {
        assert!(matches!(uem.device(&by_id()).await, Err(UemError::Unreadable { .. })));
    }

    assert_eq!(fake.asked().len(), 6);
}

#[tokio::test]
async fn a_body_without_an_end_is_not_read_to_its_end() {
    let (_, uem) = uem([ok(vec![b' '; 17 * 1024 * 1024])]).await;

    let error = uem.info().await.unwrap_err();

    assert_eq!(error.to_string(), "the UEM's answer cannot be read: it is too large");
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_names_no_device() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let uem = Uem::new(quick(&url, basic())).unwrap();

    let error = uem.device(&by_id()).await.unwrap_err();

    assert!(matches!(error, UemError::Unreachable(_)));
    assert!(!format!("{error:?}").contains("41207"));
}

#[cfg(feature = "sandbox")]
#[tokio::test]
async fn an_extra_anchor_is_trusted_and_without_it_the_line_is_cut() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let tls = axum_server::tls_rustls::RustlsConfig::from_pem(certificate.clone().into(), key.into()).await.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(|| async { "{}" }).into_make_service();
    tokio::spawn(axum_server::from_tcp_rustls(listener, tls).unwrap().serve(app));

    let stranger = Uem::new(quick(&url, basic())).unwrap();
    let mut settings = quick(&url, basic());
    settings.extra_anchor = Some(certificate.into_bytes());
    let trusting = Uem::new(settings).unwrap();

    assert!(matches!(stranger.info().await, Err(UemError::Unreachable(_))));
    trusting.info().await.unwrap();
}
