//! Every route: who may, what it answers, and what it refuses.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use handover::custody::Moment;
use handover::store::Kind;
use handover::store::tokens::{self, NewToken, Role};
use handover::web::{self, Deeds, Doing, Line, Many, Received, Refused, Site, Trouble};
use http_body_util::BodyExt as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use rstest::rstest;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::support::TestStore;
use crate::ward::*;

/// Credentials that are right.
const BASIC: &str = "Basic dWVtOnNlY3JldA==";

/// What the service was asked to do.
#[derive(Default)]
struct Asked(Mutex<Vec<String>>);

impl Asked {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn act(&self, deed: &str, id: Uuid, actor: &str, reason: &str) -> Result<(), Refused> {
        self.note(format!("{deed} {id} {actor} {reason}"));
        match reason {
            "overtaken" => Err(Refused::Overtaken),
            "too late" => Err(Refused::DoesNotFit(String::from("verified"))),
            "broken" => Err(Refused::Unwritten("the disk is full".into())),
            _ if id == VERIFIED || id == HELD => Ok(()),
            _ => Err(Refused::Unknown),
        }
    }
}

impl Deeds for Asked {
    fn greet(&self, source: &str, authorization: Option<&[u8]>) -> bool {
        source == "uem" && authorization == Some(BASIC.as_bytes())
    }

    fn receive(&self, _: String, content_type: Option<String>, body: Bytes) -> Doing<'_, Result<Received, Trouble>> {
        self.note(format!("receive {} {}", content_type.unwrap_or_default(), body.len()));
        let id = Uuid::from_u128(9);
        Box::pin(async move {
            match &body[..] {
                b"new" => Ok(Received::Recorded(id)),
                b"known" => Ok(Received::Duplicate(id)),
                b"strange" => Ok(Received::Quarantined(id)),
                b"busy" => Err(Trouble::Overloaded),
                b"broken" => Err(Trouble::Unwritten("the disk is full".into())),
                b"panic" => panic!("a handler fell over"),
                _ => Err(Trouble::Malformed(String::from("not JSON"))),
            }
        })
    }

    fn receive_many(&self, _: String, lines: Vec<Bytes>) -> Doing<'_, Result<Many, Trouble>> {
        self.note(format!("receive_many {}", lines.len()));
        let bad = lines.iter().position(|line| line == "bad").map(|nth| nth as u64 + 1);
        Box::pin(async move {
            let refused: Vec<_> = bad.into_iter().map(|line| Line { line, why: String::from("not JSON") }).collect();
            Ok(Many { recorded: (lines.len() - refused.len()) as u64, refused, ..Many::default() })
        })
    }

    fn retry(&self, id: Uuid, actor: String, reason: String) -> Doing<'_, Result<(), Refused>> {
        let done = self.act("retry", id, &actor, &reason);
        Box::pin(async move { done })
    }

    fn release(&self, id: Uuid, actor: String, reason: String) -> Doing<'_, Result<(), Refused>> {
        let done = self.act("release", id, &actor, &reason);
        Box::pin(async move { done })
    }

    fn waive(&self, id: Uuid, actor: String, reason: String) -> Doing<'_, Result<(), Refused>> {
        let done = self.act("waive", id, &actor, &reason);
        Box::pin(async move { done })
    }
}

struct Room {
    test: TestStore,
    asked: Arc<Asked>,
    api: Router,
    intake: Router,
    tokens: Vec<(Role, String)>,
}

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Value,
}

async fn room(kind: Kind) -> Option<Room> {
    let test = ward(kind).await?;
    let mut tokens = Vec::new();
    let mut tx = test.store.write().await.unwrap();
    for (nth, role) in (1_u8..).zip(Role::ALL) {
        let id = Uuid::from_u128(u128::from(nth));
        let new = NewToken { id, name: role.name(), role, secret: [nth; 32], at: at("04:00:00") };
        tokens.push((role, tokens::create(&mut tx, &new).await.unwrap()));
    }
    tx.commit().await.unwrap();
    let asked = Arc::new(Asked::default());
    let now = Moment(at("16:00:00").timestamp_micros());
    let site = Arc::new(Site {
        store: test.store.clone(),
        deeds: Arc::clone(&asked) as Arc<dyn Deeds>,
        metrics: PrometheusBuilder::new().build_recorder().handle(),
        clock: Arc::new(move || now),
        writes_per_second: 15.0,
        shadow: true,
    });
    Some(Room { test, asked, api: web::api(Arc::clone(&site)), intake: web::intake(site), tokens })
}

async fn answer(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
    Answer { status: parts.status, headers: parts.headers, body }
}

impl Room {
    fn token(&self, role: Role) -> &str {
        &self.tokens.iter().find(|(of, _)| *of == role).unwrap().1
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, Some(Role::Viewer), None).await
    }

    async fn ask(&self, method: &str, path: &str, role: Option<Role>, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(role) = role {
            request = request.header("authorization", format!("Bearer {}", self.token(role)));
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        answer(&self.api, request.body(body).unwrap()).await
    }

    async fn knock(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(&self.intake, request.body(body.into()).unwrap()).await
    }
}

fn kind_of(answer: &Answer) -> &str {
    answer.body["type"].as_str().unwrap_or("none").strip_prefix("urn:handover:problem:").unwrap_or("none")
}

/// Who may do what: the least role, and the status that the right one gets.
fn routes() -> Vec<(&'static str, String, Role, u16)> {
    let revocation = format!("/api/v1/revocations/{HELD}");
    let read = [
        String::from("/api/v1/devices"),
        String::from("/api/v1/devices/DMPX7Q2LK1"),
        String::from("/api/v1/devices/DMPX7Q2LK1/holder"),
        String::from("/api/v1/devices/DMPX7Q2LK1/custodies"),
        String::from("/api/v1/devices/DMPX7Q2LK1/timeline"),
        String::from("/api/v1/people/ben@contoso.example"),
        String::from("/api/v1/people/ben@contoso.example/custodies"),
        String::from("/api/v1/revocations"),
        revocation.clone(),
        String::from("/api/v1/audit"),
        String::from("/api/v1/status"),
    ];
    let mut routes: Vec<_> = read.into_iter().map(|path| ("GET", path, Role::Viewer, 200)).collect();
    routes.push(("POST", format!("{revocation}/retry"), Role::Operator, 200));
    routes.push(("POST", format!("{revocation}/release"), Role::Operator, 200));
    routes.push(("POST", format!("{revocation}/waive"), Role::Admin, 200));
    routes
}

#[rstest]
#[tokio::test]
async fn every_route_knows_who_may(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(room) = room(kind).await else { return };

    for (method, path, least, status) in routes() {
        for role in [None, Some(Role::Viewer), Some(Role::Operator), Some(Role::Admin)] {
            let body = (method == "POST").then(|| json!({"reason": "a test"}));
            let answer = room.ask(method, &path, role, body).await;
            let expected = match role {
                None => 401,
                Some(role) if role < least => 403,
                Some(_) => status,
            };
            assert_eq!(answer.status.as_u16(), expected, "{method} {path} as {role:?}: {}", answer.body);
            assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
            assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
            assert!(answer.headers.contains_key("x-request-id"), "{path}");
        }
    }
}

#[rstest]
#[tokio::test]
async fn every_documented_route_is_in_the_table_of_roles(#[values(Kind::Sqlite)] kind: Kind) {
    let Some(_) = room(kind).await else { return };
    let document = serde_json::to_value(web::api::document()).unwrap();

    let documented = document["paths"].as_object().unwrap().len();

    assert_eq!(documented, routes().len());
}

#[rstest]
#[tokio::test]
async fn wrong_tokens_are_no_tokens(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(room) = room(kind).await else { return };

    let basic = format!("Basic {}", room.token(Role::Admin));
    for sent in ["Bearer ho_nothing", "Bearer ", "Bearer", "", basic.as_str()] {
        let request = Request::get("/api/v1/status").header("authorization", sent).body(Body::empty()).unwrap();
        let answer = answer(&room.api, request).await;
        assert_eq!((answer.status.as_u16(), kind_of(&answer)), (401, "unauthenticated"), "{sent:?}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"handover\"");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    let nowhere = room.ask("GET", "/api/v1/nowhere", None, None).await;
    assert_eq!(nowhere.status, 401, "nobody learns what there is without a token");
}

#[rstest]
#[tokio::test]
async fn what_cannot_be_understood_is_refused_with_a_reason(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(room) = room(kind).await else { return };
    let cases = [
        ("/api/v1/devices?limit=0", 400, "unintelligible"),
        ("/api/v1/devices?limit=501", 400, "unintelligible"),
        ("/api/v1/devices?limit=many", 400, "unintelligible"),
        ("/api/v1/devices?stat=pool", 400, "unintelligible"),
        ("/api/v1/devices?state=lost", 400, "unintelligible"),
        ("/api/v1/devices?q=%00", 400, "unintelligible"),
        ("/api/v1/devices?cursor=nonsense", 400, "cursor"),
        ("/api/v1/devices/DMPX7Q2LK1/timeline?cursor=e30", 400, "cursor"),
        ("/api/v1/devices/DMPX7Q2LK1/custodies?cursor=e30", 400, "cursor"),
        ("/api/v1/devices/DMPX7Q2LK1/custodies?from=yesterday", 400, "unintelligible"),
        ("/api/v1/devices/DMPX7Q2LK1/holder?at=2026-03-02", 400, "unintelligible"),
        ("/api/v1/devices/DMPX7Q2LK1/holder?at=2026-13-02T00:00:00Z", 400, "unintelligible"),
        ("/api/v1/devices/nothing", 404, "not-found"),
        ("/api/v1/devices/nothing/holder", 404, "not-found"),
        ("/api/v1/devices/%00", 400, "unintelligible"),
        ("/api/v1/devices/41207", 409, "ambiguous"),
        ("/api/v1/people/nobody@contoso.example", 404, "not-found"),
        ("/api/v1/people/nobody@contoso.example/custodies", 404, "not-found"),
        ("/api/v1/revocations?state=given_up", 400, "unintelligible"),
        ("/api/v1/revocations?cursor=e30", 400, "cursor"),
        ("/api/v1/revocations?device=nothing", 404, "not-found"),
        ("/api/v1/revocations?person=nobody", 404, "not-found"),
        ("/api/v1/revocations/seven", 400, "unintelligible"),
        ("/api/v1/revocations/00000000-0000-0000-0000-000000000000", 404, "not-found"),
        ("/api/v1/audit?cursor=e30", 400, "cursor"),
        ("/api/v1/audit?to=soon", 400, "unintelligible"),
        ("/api/v1/nowhere", 404, "no-route"),
        ("/nowhere", 404, "no-route"),
    ];

    for (path, status, kind) in cases {
        let answer = room.get(path).await;
        assert_eq!((answer.status.as_u16(), kind_of(&answer)), (status, kind), "{path}: {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
        assert_eq!(answer.body["status"], status);
    }
    let ambiguous = room.get("/api/v1/devices/41207").await;
    assert_eq!(ambiguous.body["candidates"].as_array().unwrap().len(), 2);
    let wrong = room.ask("DELETE", "/api/v1/status", Some(Role::Admin), None).await;
    assert_eq!((wrong.status.as_u16(), kind_of(&wrong)), (405, "wrong-method"));
    assert_eq!(wrong.headers["allow"], "GET,HEAD");
}

#[rstest]
#[tokio::test]
async fn who_has_it_now_and_who_had_it_then(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(room) = room(kind).await else { return };

    let now = room.get("/api/v1/devices/dmpx7q2lk1/holder").await.body;
    let then = room.get("/api/v1/devices/DMPX7Q2LK1/holder?at=2026-03-02T10:00:00%2B01:00").await.body;

    assert_eq!((&now["at"], &now["holder"]["upn"]), (&json!("2026-03-02T16:00:00Z"), &json!("ben@contoso.example")));
    insta::allow_duplicates! {
        insta::assert_json_snapshot!(then, @r#"
        {
          "at": "2026-03-02T09:00:00Z",
          "custody": {
            "account": "amina",
            "departure": "return",
            "device": "DMPX7Q2LK1",
            "ended": "observed",
            "ended_at": "2026-03-02T14:00:00Z",
            "id": "00000000-0000-0000-0000-0000000000c1",
            "next": {
              "account": "ben",
              "object_id": "00000000-0000-0000-0000-0000000000b1",
              "state": "person",
              "upn": "ben@contoso.example"
            },
            "person": {
              "object_id": "00000000-0000-0000-0000-0000000000a1",
              "upn": "Amina.Reuter@contoso.example"
            },
            "revocation": {
              "id": "00000000-0000-0000-0000-0000000000e1",
              "state": "verified"
            },
            "seconds": 28799,
            "started": "observed",
            "started_at": "2026-03-02T06:00:00.250Z",
            "state": "person",
            "undecided": false
          },
          "device": "DMPX7Q2LK1",
          "holder": {
            "object_id": "00000000-0000-0000-0000-0000000000a1",
            "upn": "Amina.Reuter@contoso.example"
          },
          "previous": null,
          "revocation": {
            "id": "00000000-0000-0000-0000-0000000000e1",
            "state": "verified"
          },
          "state": "person"
        }
        "#);
    }
}

#[rstest]
#[tokio::test]
async fn lists_filter_and_go_on_by_cursor(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(room) = room(kind).await else { return };
    let count = async |path: &str| room.get(path).await.body["items"].as_array().map(Vec::len);
    let cases = [
        ("/api/v1/devices?state=unknown&site=contoso%20clinics", 2),
        ("/api/v1/devices?holder=ben@contoso.example", 1),
        ("/api/v1/devices?q=100%25", 1),
        ("/api/v1/devices/DMPX7Q2LK1/custodies?from=2026-03-02T14:00:00Z", 1),
        ("/api/v1/people/amina.klein@contoso.example/custodies", 2),
        ("/api/v1/revocations?state=held", 1),
        ("/api/v1/revocations?device=DMPX7Q2LK1&person=ben@contoso.example", 0),
        ("/api/v1/audit?device=DMPX7Q2LK1&action=revocation.retried", 1),
        ("/api/v1/audit?person=amina.klein@contoso.example&to=2026-03-02T15:00:00Z", 2),
    ];
    for (path, many) in cases {
        assert_eq!(count(path).await, Some(many), "{path}");
    }

    for path in [
        "/api/v1/devices",
        "/api/v1/devices/DMPX7Q2LK1/timeline",
        "/api/v1/devices/DMPX7Q2LK1/custodies",
        "/api/v1/people/amina.klein@contoso.example/custodies",
        "/api/v1/revocations",
        "/api/v1/audit",
    ] {
        let all = count(path).await.unwrap();
        let mut seen = 0;
        let mut next = room.get(&format!("{path}?limit=1")).await.body;
        loop {
            seen += next["items"].as_array().unwrap().len();
            let Some(cursor) = next["next"].as_str() else { break };
            next = room.get(&format!("{path}?limit=1&cursor={cursor}")).await.body;
        }
        assert_eq!(seen, all, "{path}");
    }
}

#[rstest]
#[tokio::test]
async fn an_operators_action_needs_a_reason_and_a_state_that_fits(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(room) = room(kind).await else { return };
    let retry = format!("/api/v1/revocations/{HELD}/retry");
    let unknown = "/api/v1/revocations/00000000-0000-0000-0000-000000000007/retry";
    let act = async |path: &str, body: Value| room.ask("POST", path, Some(Role::Operator), Some(body)).await;

    let cases = [
        (json!({"reason": "  "}), 400),
        (json!({"reason": "x".repeat(501)}), 400),
        (json!({"reason": "x".repeat(20_000)}), 413),
        (json!({"reason": "fine", "force": true}), 400),
        (json!({}), 400),
        (json!({"reason": "overtaken"}), 409),
        (json!({"reason": "too late"}), 409),
        (json!({"reason": "broken"}), 503),
    ];
    for (body, status) in cases {
        assert_eq!(act(&retry, body).await.status.as_u16(), status);
    }
    assert_eq!(act(unknown, json!({"reason": "fine"})).await.status.as_u16(), 404);
    assert_eq!(room.ask("POST", &retry, Some(Role::Operator), None).await.status.as_u16(), 415);
    let of_nothing = room.ask("POST", unknown, Some(Role::Viewer), Some(json!({"reason": "fine"}))).await;
    assert_eq!(of_nothing.status, 403, "who may not act learns nothing");

    let done = act(&retry, json!({"reason": " the ward called "})).await;
    assert_eq!((done.status.as_u16(), &done.body["id"]), (200, &json!(HELD)));
    let last = room.asked.0.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last, format!("retry {HELD} operator the ward called"));
}

#[rstest]
#[tokio::test]
async fn the_uem_is_answered_by_what_became_of_its_event(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(room) = room(kind).await else { return };
    let known = [("authorization", BASIC), ("content-type", "application/json")];
    let id = Uuid::from_u128(9);

    for (body, status, said) in [("new", 200, "recorded"), ("known", 200, "duplicate"), ("strange", 202, "quarantined")]
    {
        let answer = room.knock("POST", "/intake/uem", &known, body).await;
        assert_eq!((answer.status.as_u16(), answer.body), (status, json!({"status": said, "event": id})));
    }
    for (body, status, kind) in [
        ("{", 400, "unintelligible"),
        ("busy", 503, "overloaded"),
        ("broken", 503, "overloaded"),
        ("panic", 500, "ours"),
    ] {
        let answer = room.knock("POST", "/intake/uem", &known, body).await;
        assert_eq!((answer.status.as_u16(), kind_of(&answer)), (status, kind), "{body}");
        assert_eq!(answer.headers.contains_key("retry-after"), status == 503, "{body}");
        assert!(!answer.body.to_string().contains("disk"), "what went wrong inside stays inside");
    }
}

#[rstest]
#[tokio::test]
async fn the_uem_has_to_show_who_it_is_before_its_body_is_read(#[values(Kind::Sqlite)] kind: Kind) {
    let Some(room) = room(kind).await else { return };
    let known = [("authorization", BASIC)];

    assert_eq!(room.knock("GET", "/intake/uem", &known, "").await.status, 200);
    for (path, headers) in [("/intake/uem", [("authorization", "Basic eDp4")]), ("/intake/other", known)] {
        for method in ["GET", "POST"] {
            let answer = room.knock(method, path, &headers, "new").await;
            assert_eq!((answer.status.as_u16(), kind_of(&answer)), (401, "wrong-credentials"));
            assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Basic "));
        }
    }
    for method in ["HEAD", "PUT", "DELETE", "OPTIONS"] {
        let answer = room.knock(method, "/intake/uem", &known, "").await;
        assert_eq!(
            (answer.status.as_u16(), &answer.headers["allow"]),
            (405, &"GET, POST".parse().unwrap()),
            "{method}"
        );
    }
    assert_eq!(room.knock("GET", "/api/v1/status", &known, "").await.status, 404, "the API is on its own listener");
    assert!(room.asked.0.lock().unwrap().is_empty(), "nothing was handed on");
}

#[rstest]
#[tokio::test]
async fn bodies_have_limits(#[values(Kind::Sqlite)] kind: Kind) {
    let Some(room) = room(kind).await else { return };
    let known = ("authorization", BASIC);
    let bulk = ("content-type", "application/x-ndjson; charset=utf-8");
    let at_most = 256 * 1024;

    let zipped = room.knock("POST", "/intake/uem", &[known, ("content-encoding", "gzip")], "new").await;
    assert_eq!(zipped.status, 415);
    let told = room.knock("POST", "/intake/uem", &[known, ("content-length", "9999999")], "new").await;
    assert_eq!(told.status, 413);
    let large = Body::from_stream(futures_util::stream::once(async move {
        Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; at_most + 1]))
    }));
    assert_eq!(room.knock("POST", "/intake/uem", &[known], large).await.status, 413, "chunked, without a length");
    let most = room.knock("POST", "/intake/uem", &[known], vec![b'x'; at_most]).await;
    assert_eq!(most.status, 400, "it is read, and is not well-formed");
    let lines = room.knock("POST", "/intake/uem", &[known, bulk], "{}\n".repeat(10_001)).await;
    assert_eq!(lines.status, 400);
    let huge = room.knock("POST", "/intake/uem", &[known, bulk], vec![b'\n'; 8 * 1024 * 1024 + 1]).await;
    assert_eq!(huge.status, 413);
    let long = format!("{}\nfine", "x".repeat(at_most + 1));
    let long = room.knock("POST", "/intake/uem", &[known, bulk], long).await;
    assert_eq!((long.status.as_u16(), &long.body["refused"][0]["line"]), (200, &json!(1)));
}

#[rstest]
#[tokio::test]
async fn many_lines_are_answered_by_counts_and_the_numbers_of_the_refused(#[values(Kind::Sqlite)] kind: Kind) {
    let Some(room) = room(kind).await else { return };
    let headers = [("authorization", BASIC), ("content-type", "application/x-ndjson")];

    let answer = room.knock("POST", "/intake/uem", &headers, "a\n\n\nbad\nb\n").await;

    assert_eq!(answer.status, 200);
    let refused = json!([{"line": 4, "why": "not JSON"}]);
    assert_eq!(answer.body, json!({"recorded": 2, "duplicate": 0, "quarantined": 0, "refused": refused}));
}

#[rstest]
#[tokio::test]
async fn health_and_numbers_need_no_token(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(room) = room(kind).await else { return };

    for path in ["/health/live", "/health/ready", "/metrics", "/openapi.json"] {
        assert_eq!(room.ask("GET", path, None, None).await.status, 200, "{path}");
    }
    assert_eq!(room.knock("GET", "/health/ready", &[], "").await.status, 200);
    assert_eq!(room.knock("GET", "/metrics", &[], "").await.status, 404);
}

#[rstest]
#[tokio::test]
async fn a_database_that_is_away_is_said_and_not_shown(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(room) = room(kind).await else { return };
    room.test.store.close().await;

    assert_eq!(room.ask("GET", "/health/live", None, None).await.status, 200);
    assert_eq!(room.ask("GET", "/health/ready", None, None).await.status, 503);
    let answer = room.get("/api/v1/status").await;
    assert_eq!((answer.status.as_u16(), kind_of(&answer)), (503, "overloaded"));
    assert!(answer.headers.contains_key("retry-after"));
}
