//! The room that talks to Microsoft, seen from outside: against a small fake of the token endpoint and of Graph, over real
//! HTTP on this machine. Each fake keeps what it saw and can be asked afterwards.

#![expect(clippy::unwrap_used, reason = "in a test a failed step is a failed test, helpers included")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use handover::custody::{Moment, Verdict};
use handover::entra::{
    Answer, CircuitState, Credential, Entra, Fault, Finding, Permissions, PersonName, SecretSource, Settings, Stamp,
};

const AMINA: Uuid = Uuid::from_u128(0x0f0e_7c52_0000_4000_8000_0000_0000_000a);
const CALL: Uuid = Uuid::from_u128(0xca11);

/// One request as a fake saw it.
#[derive(Debug, Clone)]
struct Seen {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// One answer to give.
#[derive(Clone)]
struct Say {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    after: Duration,
}

#[expect(clippy::needless_pass_by_value, reason = "it reads better where it is called")]
fn say(status: u16, body: impl ToString) -> Say {
    Say {
        status,
        headers: vec![("content-type", "application/json".to_owned())],
        body: body.to_string(),
        after: Duration::ZERO,
    }
}

impl Say {
    #[expect(clippy::needless_pass_by_value, reason = "it reads better where it is called")]
    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.retain(|(held, _)| *held != name);
        self.headers.push((name, value.to_string()));
        self
    }

    fn after(mut self, wait: Duration) -> Self {
        self.after = wait;
        self
    }
}

fn done() -> Say {
    say(200, json!({ "@odata.context": "…#Edm.Boolean", "value": true }))
}

fn refused(code: &str) -> Value {
    json!({ "error": { "code": code, "message": "no", "innerError": { "request-id": "inner-1" } } })
}

fn token(value: &str, seconds: u64) -> Say {
    say(200, json!({ "token_type": "Bearer", "expires_in": seconds, "access_token": value }))
}

/// A host that says what it was told to say, the last thing again and again.
#[derive(Clone, Default)]
struct Fake {
    script: Arc<Mutex<VecDeque<Say>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    async fn start(script: impl IntoIterator<Item = Say>) -> (Self, Url) {
        let fake = Self { script: Arc::new(Mutex::new(script.into_iter().collect())), ..Self::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let router = Router::new().fallback(hear).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (fake, url)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn hits(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

async fn hear(State(fake): State<Fake>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let say = {
        let body = String::from_utf8_lossy(&body).into_owned();
        fake.seen.lock().unwrap().push(Seen { method, target: uri.to_string(), headers, body });
        let mut script = fake.script.lock().unwrap();
        if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
    }
    .unwrap_or_else(|| say(500, ""));
    tokio::time::sleep(say.after).await;
    let mut response = Response::builder().status(StatusCode::from_u16(say.status).unwrap());
    for (name, value) in &say.headers {
        response = response.header(*name, value);
    }
    response.body(Body::from(say.body)).unwrap()
}

/// An address where nobody listens.
async fn nobody() -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap()
}

fn settings(login: &Url, graph: &Url) -> Settings {
    let credential = Credential::Secret(SecretSource::Fixed("hush&=hush".to_owned().into()));
    Settings {
        login_url: Some(login.clone()),
        graph_url: Some(graph.clone()),
        writes_per_second: 1000.0,
        ..Settings::new("contoso.example", "handover-app", credential)
    }
}

fn entra_with(settings: &Settings) -> Entra {
    Entra::new(settings, Arc::new(|| Moment::from_seconds(1_772_431_121)), Arc::new(|| 0.5)).unwrap()
}

/// The room before a good token endpoint and a Graph that says this.
async fn before(script: impl IntoIterator<Item = Say>) -> (Entra, Fake, Fake) {
    let (login, login_url) = Fake::start([token("first", 3599)]).await;
    let (graph, graph_url) = Fake::start(script).await;
    (entra_with(&settings(&login_url, &graph_url)), login, graph)
}

#[tokio::test]
async fn a_revoke_is_one_post_for_one_person() {
    let answer = done()
        .with("request-id", "r-1")
        .with("date", "Mon, 02 Mar 2026 05:58:43 GMT")
        .with("x-ms-ags-diagnostic", "{}")
        .with("x-ms-throttle-limit-percentage", "0.85");
    let (entra, login, graph) = before([answer]).await;

    let answer = entra.revoke(AMINA, CALL).await;

    assert_eq!(answer.verdict, Verdict::Accepted);
    let Answer { status, request_id, client_request_id, graph_date, diagnostic, pressure, sent, .. } = answer;
    assert_eq!((status, request_id.as_deref(), client_request_id, sent), (Some(200), Some("r-1"), CALL, true));
    assert_eq!((graph_date, diagnostic.as_deref()), (Some(Moment::from_seconds(1_772_431_123)), Some("{}")));
    assert_eq!(pressure, Some(0.85));
    let seen = &graph.seen()[0];
    assert_eq!(
        (&seen.method, seen.target.as_str()),
        (&Method::POST, &*format!("/v1.0/users/{AMINA}/revokeSignInSessions"))
    );
    assert_eq!(seen.header("authorization"), Some("Bearer first"));
    assert_eq!(seen.header("client-request-id"), Some(&*CALL.to_string()));
    assert_eq!((seen.header("content-length"), seen.body.as_str()), (Some("0"), ""));
    let asked = &login.seen()[0];
    assert_eq!(asked.target, "/contoso.example/oauth2/v2.0/token");
    assert!(asked.body.contains("grant_type=client_credentials&client_id=handover-app&scope=http%3A%2F%2F127.0.0.1"));
    assert!(asked.body.contains("%2F.default&client_secret=hush%26%3Dhush"), "{}", asked.body);
    assert_eq!(asked.header("authorization"), None);
}

#[tokio::test]
async fn the_clocks_are_compared_with_each_answer() {
    let (entra, ..) = before([done().with("date", "Mon, 02 Mar 2026 05:59:41 GMT")]).await;
    assert_eq!(entra.clock_offset(), None);

    entra.revoke(AMINA, CALL).await;

    let offset = entra.clock_offset().unwrap();
    assert!((60_000_000..61_500_000).contains(&offset), "{offset}");
}

#[rstest]
#[case::nobody(say(404, refused("Request_ResourceNotFound")), Verdict::Unfound, Some("Request_ResourceNotFound"))]
#[case::administrator(
    say(403, refused("Authorization_RequestDenied")),
    Verdict::Forbidden,
    Some("Authorization_RequestDenied")
)]
#[case::malformed(say(400, refused("BadRequest")), Verdict::Refused, Some("BadRequest"))]
#[case::later(say(503, "").with("retry-after", "7.0001"), Verdict::Unavailable(Some(Duration::from_millis(7001))), None)]
#[case::page(say(200, "<html>Sign in</html>").with("content-type", "text/html"), Verdict::Misled, None)]
#[case::page_for_404(say(404, "<html>Not found</html>").with("content-type", "text/html"), Verdict::Misled, None)]
#[case::oversized(say(200, format!("[{}1]", "1,".repeat(64 * 1024))), Verdict::Ambiguous, None)]
#[tokio::test]
async fn an_answer_has_one_meaning(#[case] answer: Say, #[case] means: Verdict, #[case] code: Option<&str>) {
    let (entra, _, graph) = before([answer]).await;

    let answer = entra.revoke(AMINA, CALL).await;

    assert_eq!((answer.verdict, answer.error_code.as_deref(), answer.sent), (means, code, true));
    assert_eq!(answer.request_id.as_deref(), code.map(|_| "inner-1"));
    assert_eq!(graph.hits(), 1);
}

#[rstest]
#[tokio::test]
async fn a_redirect_is_never_followed(#[values(301, 302, 303, 307, 308)] status: u16) {
    let (trap, trap_url) = Fake::start([done()]).await;
    let (entra, _, graph) = before([say(status, "").with("location", &trap_url)]).await;

    let answer = entra.revoke(AMINA, CALL).await;

    assert_eq!((answer.verdict, answer.sent), (Verdict::Misled, true));
    assert_eq!((graph.hits(), trap.hits()), (1, 0));
}

#[tokio::test]
async fn a_location_beside_success_is_not_followed_either() {
    let (trap, trap_url) = Fake::start([done()]).await;
    let (entra, ..) = before([done().with("location", &trap_url)]).await;

    assert_eq!(entra.revoke(AMINA, CALL).await.verdict, Verdict::Accepted);
    assert_eq!(trap.hits(), 0);
}

#[tokio::test]
async fn a_token_endpoint_that_redirects_gets_no_second_look_at_the_secret() {
    let (trap, trap_url) = Fake::start([token("stolen", 3599)]).await;
    let (_, login_url) = Fake::start([say(307, "").with("location", &trap_url)]).await;
    let (graph, graph_url) = Fake::start([done()]).await;
    let entra = entra_with(&settings(&login_url, &graph_url));

    let answer = entra.revoke(AMINA, CALL).await;

    assert_eq!((answer.verdict, answer.sent), (Verdict::Misled, false));
    assert_eq!((trap.hits(), graph.hits()), (0, 0));
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let (_, login_url) = Fake::start([token("first", 3599)]).await;
    let entra = entra_with(&settings(&login_url, &nobody().await));

    let answer = entra.revoke(AMINA, CALL).await;

    assert_eq!((answer.verdict, answer.status, answer.sent), (Verdict::Unavailable(None), None, false));
}

/// A Graph that answers the first so many requests and then reads one more and hangs up.
async fn hangs_up_after(answers: usize) -> (Url, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let requests = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            loop {
                let mut read = vec![];
                while !read.ends_with(b"\r\n\r\n") {
                    match socket.read_u8().await {
                        Ok(byte) => read.push(byte),
                        Err(_) => break,
                    }
                }
                if read.is_empty() {
                    break;
                }
                let count = {
                    let mut count = counted.lock().unwrap();
                    *count += 1;
                    *count
                };
                if count > answers {
                    break;
                }
                socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            }
        }
    });
    (url, requests)
}

#[rstest]
#[case::on_a_new_connection(0)]
#[case::on_a_used_connection(1)]
#[tokio::test]
async fn a_hang_up_after_sending_is_ambiguous_and_not_repeated(#[case] answered: usize) {
    let (_, login_url) = Fake::start([token("first", 3599)]).await;
    let (graph_url, requests) = hangs_up_after(answered).await;
    let entra = entra_with(&settings(&login_url, &graph_url));
    for _ in 0..answered {
        assert_eq!(entra.revoke(AMINA, CALL).await.verdict, Verdict::Accepted);
    }

    let answer = entra.revoke(AMINA, CALL).await;

    assert_eq!((answer.verdict, answer.sent), (Verdict::Ambiguous, true));
    assert_eq!(*requests.lock().unwrap(), answered + 1);
}

#[tokio::test]
async fn silence_after_sending_is_ambiguous() {
    let (_, login_url) = Fake::start([token("first", 3599)]).await;
    let (graph, graph_url) = Fake::start([done().after(Duration::from_secs(30))]).await;
    let settings = Settings { total_timeout: Duration::from_millis(200), ..settings(&login_url, &graph_url) };

    let answer = entra_with(&settings).revoke(AMINA, CALL).await;

    assert_eq!((answer.verdict, answer.sent), (Verdict::Ambiguous, true));
    assert_eq!(graph.hits(), 1);
}

#[tokio::test]
async fn one_token_serves_many_calls_at_once() {
    let (_, graph_url) = Fake::start([done()]).await;
    let (login, login_url) = Fake::start([token("first", 3599).after(Duration::from_millis(50))]).await;
    let entra = entra_with(&settings(&login_url, &graph_url));

    let calls = (0..20).map(|_| entra.revoke(AMINA, CALL));
    let answers = futures_util::future::join_all(calls).await;

    assert!(answers.iter().all(|answer| answer.verdict == Verdict::Accepted));
    assert_eq!(login.hits(), 1);
}

#[tokio::test]
async fn a_401_gets_a_new_token_and_one_more_try() {
    let (login, login_url) = Fake::start([token("first", 3599), token("second", 3599)]).await;
    let (graph, graph_url) = Fake::start([say(401, refused("InvalidAuthenticationToken")), done()]).await;
    let entra = entra_with(&settings(&login_url, &graph_url));

    let answer = entra.revoke(AMINA, CALL).await;

    assert_eq!(answer.verdict, Verdict::Accepted);
    let bearers: Vec<String> =
        graph.seen().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(bearers, ["Bearer first", "Bearer second"]);
    assert_eq!(login.hits(), 2);
}

#[tokio::test]
async fn a_second_401_stops_everybody_without_another_call() {
    let (entra, login, graph) = before([say(401, refused("InvalidAuthenticationToken"))]).await;

    let first = entra.revoke(AMINA, CALL).await;
    let second = entra.revoke(AMINA, CALL).await;

    assert_eq!((first.verdict, first.status, first.sent), (Verdict::Credentials, Some(401), true));
    assert_eq!((second.verdict, second.status, second.sent), (Verdict::Credentials, None, false));
    assert_eq!((graph.hits(), login.hits()), (2, 2));
    assert!(matches!(entra.circuit(), CircuitState::Open { why: Fault::Credentials, .. }));
    assert!(entra.next_free() > Duration::from_secs(55));
}

#[tokio::test]
async fn a_wrong_secret_is_tried_once_and_named() {
    let wrong = say(401, json!({ "error": "invalid_client", "error_codes": [7_000_215], "trace_id": "t-1" }));
    let (login, login_url) = Fake::start([wrong]).await;
    let (graph, graph_url) = Fake::start([done()]).await;
    let entra = entra_with(&settings(&login_url, &graph_url));

    let answers = [entra.revoke(AMINA, CALL).await, entra.revoke(AMINA, CALL).await];
    let fault = entra.token_facts().await.unwrap_err();

    assert!(answers.iter().all(|answer| answer.verdict == Verdict::Credentials && !answer.sent));
    assert_eq!((login.hits(), graph.hits()), (1, 0));
    assert_eq!((fault.error.as_deref(), fault.error_codes.as_slice()), (Some("invalid_client"), &[7_000_215][..]));
    assert_eq!(fault.trace_id.as_deref(), Some("t-1"));
    assert!(fault.wait > Duration::from_secs(55));
}

#[tokio::test]
async fn a_token_is_renewed_at_half_its_life_and_serves_on_while_the_endpoint_is_down() {
    let (login, login_url) = Fake::start([token("first", 4), say(503, "")]).await;
    let (graph, graph_url) = Fake::start([done()]).await;
    let entra = entra_with(&settings(&login_url, &graph_url));

    entra.revoke(AMINA, CALL).await;
    assert_eq!(login.hits(), 1);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let served = entra.revoke(AMINA, CALL).await;
    while entra.token_health().fault.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    assert_eq!(served.verdict, Verdict::Accepted);
    assert_eq!(entra.revoke(AMINA, CALL).await.verdict, Verdict::Accepted);
    assert_eq!(login.hits(), 2, "a failed renewal is not repeated at once");
    assert_eq!(graph.seen()[2].header("authorization"), Some("Bearer first"));
    assert!(entra.token_health().expires_in.is_some());
}

#[tokio::test]
async fn a_rotated_secret_is_read_without_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("secret");
    std::fs::write(&file, "old\n").unwrap();
    let (login, login_url) = Fake::start([token("first", 3599)]).await;
    let (_, graph_url) = Fake::start([say(401, ""), done()]).await;
    let credential = Credential::Secret(SecretSource::File(file.clone()));
    let entra = entra_with(&Settings { credential, ..settings(&login_url, &graph_url) });
    entra.token_facts().await.unwrap();

    std::fs::write(&file, "new\n").unwrap();
    entra.revoke(AMINA, CALL).await;

    let sent: Vec<bool> = login.seen().iter().map(|seen| seen.body.ends_with("client_secret=new")).collect();
    assert_eq!(sent, [false, true]);
}

/// A token in the form of a JWT; what it says is Entra's business.
fn signed(says: &str) -> String {
    format!("e30.{says}.c2lnbmF0dXJl")
}

#[tokio::test]
async fn a_federated_token_is_read_anew_for_every_token_request_and_no_secret_is_sent() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("token");
    std::fs::write(&file, format!("{}\n", signed("b2xk"))).unwrap();
    let (login, login_url) = Fake::start([token("first", 3599)]).await;
    let (_, graph_url) = Fake::start([say(401, ""), done()]).await;
    let credential = Credential::Federated(file.clone());
    let entra = entra_with(&Settings { credential, ..settings(&login_url, &graph_url) });
    entra.token_facts().await.unwrap();

    std::fs::write(&file, signed("bmV3")).unwrap();
    entra.revoke(AMINA, CALL).await;

    let sent: Vec<String> = login.seen().iter().map(|seen| seen.body.clone()).collect();
    let kind = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
    assert_eq!(sent.len(), 2);
    for (body, says) in sent.iter().zip(["b2xk", "bmV3"]) {
        assert!(body.ends_with(&format!("&{kind}&client_assertion={}", signed(says))), "{body}");
        assert!(!body.contains("client_secret"), "{body}");
    }
}

#[rstest]
#[case::empty("")]
#[case::a_secret("hush")]
#[case::several("e30.e30.c2ln e30.e30.c2ln")]
#[case::endless(&"a.".repeat(20_000))]
#[tokio::test]
async fn what_is_no_federated_token_is_not_sent(#[case] text: &str) {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("token");
    std::fs::write(&file, text).unwrap();
    let (_, graph_url) = Fake::start([done()]).await;
    let (login, login_url) = Fake::start([token("first", 3599)]).await;
    let entra = entra_with(&Settings { credential: Credential::Federated(file), ..settings(&login_url, &graph_url) });

    let fault = entra.token_facts().await.unwrap_err();

    assert!(fault.to_string().contains("entra.federated_token_file holds no token"), "{fault}");
    assert_eq!(login.hits(), 0);
}

#[tokio::test]
async fn a_missing_secret_file_is_a_fault_of_ours_that_says_where() {
    let (_, graph_url) = Fake::start([done()]).await;
    let (login, login_url) = Fake::start([token("first", 3599)]).await;
    let credential = Credential::Secret(SecretSource::File("/nowhere/secret".into()));
    let entra = entra_with(&Settings { credential, ..settings(&login_url, &graph_url) });

    let fault = entra.token_facts().await.unwrap_err();

    assert!(fault.to_string().contains("entra.client_secret_file"), "{fault}");
    assert_eq!(login.hits(), 0);
}

#[tokio::test]
async fn a_429_stops_every_write_for_the_whole_wait() {
    let (entra, _, graph) = before([say(429, refused("TooManyRequests")).with("retry-after", "0.4"), done()]).await;

    let first = entra.revoke(AMINA, CALL).await;
    assert_eq!(first.verdict, Verdict::Throttled(Some(Duration::from_millis(400))));
    assert!(entra.next_free() > Duration::from_millis(300));
    let (began, hits) = (Instant::now(), graph.hits());
    entra.ready().await;
    assert_eq!(graph.hits(), hits);
    let second = entra.revoke(AMINA, CALL).await;

    assert_eq!(second.verdict, Verdict::Accepted);
    assert!(began.elapsed() > Duration::from_millis(350));
}

#[tokio::test]
async fn a_long_429_answers_the_next_calls_unsent() {
    let (entra, _, graph) = before([say(429, "").with("retry-after", "86400")]).await;

    entra.revoke(AMINA, CALL).await;
    let second = entra.revoke(AMINA, CALL).await;

    assert!(matches!(second.verdict, Verdict::Throttled(Some(wait)) if wait > Duration::from_secs(590)));
    assert_eq!((second.sent, graph.hits()), (false, 1));
}

#[tokio::test]
async fn twenty_failures_in_a_row_stop_the_calls_until_a_probe_succeeds() {
    let mut script = vec![say(503, ""); 20];
    script.push(done());
    let (entra, _, graph) = before(script).await;
    for _ in 0..20 {
        assert_eq!(entra.revoke(AMINA, CALL).await.verdict, Verdict::Unavailable(None));
    }

    let spared = entra.revoke(AMINA, CALL).await;
    assert!(matches!(spared.verdict, Verdict::Unavailable(Some(_))));
    assert_eq!((spared.sent, graph.hits()), (false, 20));
    entra.ready().await;
    let probe = entra.revoke(AMINA, CALL).await;

    assert_eq!(probe.verdict, Verdict::Accepted);
    assert_eq!((entra.circuit(), graph.hits()), (CircuitState::Closed, 21));
}

#[tokio::test]
async fn forbidden_people_are_counted_and_do_not_stop_the_others() {
    let mut script = vec![say(403, refused("Authorization_RequestDenied")); 25];
    script.push(done());
    let (entra, ..) = before(script).await;

    for _ in 0..25 {
        entra.revoke(AMINA, CALL).await;
    }
    assert_eq!((entra.circuit(), entra.forbidden_in_a_row()), (CircuitState::Closed, 25));
    entra.revoke(AMINA, CALL).await;

    assert_eq!(entra.forbidden_in_a_row(), 0);
}

#[tokio::test]
async fn a_guest_is_found_by_a_upn_with_a_hash() {
    let upn = "amina_fabrikam.com#EXT#@contoso.example";
    let user = json!({ "id": AMINA, "userPrincipalName": upn, "userType": "Guest", "accountEnabled": false });
    let (entra, _, graph) = before([say(200, user)]).await;

    let Finding::Person(found) = entra.find(&PersonName::Upn(upn.to_owned())).await else { panic!("not found") };

    assert_eq!((found.object_id, found.upn.as_str(), found.guest, found.enabled), (AMINA, upn, true, Some(false)));
    assert!(graph.seen()[0].target.starts_with("/v1.0/users/amina_fabrikam.com%23EXT%23%40contoso.example?$select="));
}

#[tokio::test]
async fn two_people_with_one_address_are_several() {
    let user = |upn: &str| json!({ "id": AMINA, "userPrincipalName": upn, "mail": "o'neal@contoso.example" });
    let (entra, _, graph) = before([say(200, json!({ "value": [user("a@x"), user("b@x")] }))]).await;

    let finding = entra.find(&PersonName::Mail("o'neal@contoso.example".to_owned())).await;

    assert_eq!(finding, Finding::Several);
    let target = &graph.seen()[0].target;
    assert!(target.contains("$filter=mail%20eq%20%27o%27%27neal%40contoso.example%27&"), "{target}");
}

#[rstest]
#[case::nobody(say(404, refused("Request_ResourceNotFound")), Finding::Nobody)]
#[case::unreadable(say(403, refused("Authorization_RequestDenied")), Finding::Unreadable)]
#[case::a_page_is_not_nobody(say(404, "<html/>").with("content-type", "text/html"), Finding::NotNow(Verdict::Misled))]
#[case::cut_short(say(200, "1,".repeat(64 * 1024)), Finding::NotNow(Verdict::Unavailable(None)))]
#[tokio::test]
async fn looking_for_a_person_ends_in_one_finding(#[case] answer: Say, #[case] is: Finding) {
    let (entra, ..) = before([answer]).await;

    assert_eq!(entra.find(&PersonName::Upn("amina@contoso.example".to_owned())).await, is);
}

#[tokio::test]
async fn an_unusable_name_is_not_sent() {
    let (entra, login, graph) = before([done()]).await;

    assert_eq!(entra.find(&PersonName::Upn("..".to_owned())).await, Finding::Unusable);
    assert_eq!((login.hits(), graph.hits()), (0, 0));
}

#[tokio::test]
async fn a_stamp_comes_with_graphs_clock() {
    let user =
        json!({ "id": AMINA, "userPrincipalName": "a@x", "signInSessionsValidFromDateTime": "2026-03-02T05:58:41Z" });
    let (entra, ..) = before([say(200, user).with("date", "Mon, 02 Mar 2026 05:58:43 GMT")]).await;

    let read = entra.stamp(AMINA).await;

    let stamp = Some(Moment::from_seconds(1_772_431_121));
    assert_eq!(read.stamp, Stamp::Read { stamp, upn: Some("a@x".to_owned()), guest: false });
    assert_eq!(read.answer.graph_date, Some(Moment::from_seconds(1_772_431_123)));
}

#[rstest]
#[case(403, Stamp::Unreadable)]
#[case(404, Stamp::Gone)]
#[case(503, Stamp::NotNow(Verdict::Unavailable(None)))]
#[tokio::test]
async fn a_stamp_that_is_not_read_says_why(#[case] status: u16, #[case] is: Stamp) {
    let (entra, ..) = before([say(status, refused("x"))]).await;

    assert_eq!(entra.stamp(AMINA).await.stamp, is);
}

#[tokio::test]
async fn the_token_says_what_the_app_may_do() {
    use base64::Engine as _;
    let claims = json!({ "roles": ["User.RevokeSessions.All", "Mail.Read"] }).to_string();
    let jwt = format!("e30.{}.c2ln", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims));
    let (_, login_url) = Fake::start([token(&jwt, 3599).with("date", "Mon, 02 Mar 2026 05:58:43 GMT")]).await;
    let (_, graph_url) = Fake::start([done()]).await;

    let facts = entra_with(&settings(&login_url, &graph_url)).token_facts().await.unwrap();

    let Permissions::Read { missing, surplus, .. } = facts.permissions else { panic!("opaque") };
    assert_eq!((missing, surplus), (vec!["User.Read.All"], vec!["Mail.Read".to_owned()]));
    assert_eq!(facts.server_clock, Some(Moment::from_seconds(1_772_431_123)));
    assert!(facts.expires_in > Duration::from_secs(3580));
}

/// A Graph behind TLS, for this machine's name, and the anchor to trust it by.
#[cfg(feature = "sandbox")]
async fn behind_tls() -> (Url, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let anchor = made.cert.pem().into_bytes();
    let key = made.signing_key.serialize_pem().into_bytes();
    let config = axum_server::tls_rustls::RustlsConfig::from_pem(anchor.clone(), key).await.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = Url::parse(&format!("https://localhost:{}", listener.local_addr().unwrap().port())).unwrap();
    let router = Router::new()
        .fallback(hear)
        .with_state(Fake { script: Arc::new(Mutex::new([done()].into())), ..Fake::default() });
    tokio::spawn(async move {
        axum_server::from_tcp_rustls(listener, config).unwrap().serve(router.into_make_service()).await
    });
    (url, anchor)
}

#[cfg(feature = "sandbox")]
#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_an_alarm_and_gets_no_token() {
    let (_, login_url) = Fake::start([token("first", 3599)]).await;
    let (graph_url, anchor) = behind_tls().await;
    let stranger = settings(&login_url, &graph_url);
    let known = Settings { ca_pem: Some(anchor), ..stranger.clone() };

    let refused = entra_with(&stranger).revoke(AMINA, CALL).await;
    let trusted = entra_with(&known).revoke(AMINA, CALL).await;

    assert_eq!((refused.verdict, refused.sent), (Verdict::Misled, false));
    assert_eq!((trusted.verdict, trusted.sent), (Verdict::Accepted, true));
}

#[tokio::test]
async fn plain_http_where_tls_is_expected_is_an_alarm() {
    let (_, login_url) = Fake::start([token("first", 3599)]).await;
    let (graph, graph_url) = Fake::start([done()]).await;
    let mut graph_url = graph_url;
    graph_url.set_scheme("https").unwrap();

    let answer = entra_with(&settings(&login_url, &graph_url)).revoke(AMINA, CALL).await;

    assert_eq!((answer.verdict, answer.sent, graph.hits()), (Verdict::Misled, false, 0));
}
