//! One listening server: connections, faults, the log, and the control routes.
//!
//! A request that has been read is worked on to its end in a task of its own, whatever its client does meanwhile: a caller
//! that hangs up after sending does not take the effect back, here as in reality. To drop a connection without an answer the
//! service fails; hyper then closes an HTTP/1.1 connection and resets an HTTP/2 stream.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use axum_server::{
    accept::Accept,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::sandbox::{
    clock::Clock,
    fault::{FaultKind, Faults, Route},
    held,
    journal::{Journal, Seen},
    wire::{Call, Reply},
};

/// The largest request either server reads.
const LARGEST_BODY: usize = 4 * 1024 * 1024;

/// What both servers have in common.
pub(super) struct Desk {
    pub(super) name: &'static str,
    pub(super) clock: Clock,
    pub(super) faults: Mutex<Faults>,
    pub(super) journal: Mutex<Journal>,
    pub(super) down: AtomicBool,
}

impl Desk {
    pub(super) fn new(name: &'static str, seed: u64) -> Self {
        Self {
            name,
            clock: Clock::default(),
            faults: Mutex::new(Faults::new(seed)),
            journal: Mutex::default(),
            down: AtomicBool::new(false),
        }
    }
}

/// What a request is about, told before it is served.
#[derive(Default)]
pub(super) struct Subject {
    pub(super) route: Route,
    pub(super) user: Option<Uuid>,
    pub(super) caller: Option<String>,
}

/// How one request shall be served.
pub(super) struct Orders {
    /// The id this request is answered and logged with.
    pub(super) request_id: Uuid,
    /// A fault that bends the answer's content rather than its way.
    pub(super) bend: Option<FaultKind>,
    /// Set by the site when the request changed something.
    pub(super) effect: bool,
}

/// One simulated server's own part.
pub(super) trait Site: Send + Sync + 'static {
    fn desk(&self) -> &Desk;

    /// Tells what a request is about, without doing anything.
    fn recognise(&self, call: &Call) -> Subject;

    /// Does what the request asks and answers.
    fn answer(&self, call: &Call, orders: &mut Orders) -> Reply;

    /// An error in this server's own form.
    fn refusal(&self, call: &Call, orders: &Orders, status: StatusCode) -> Reply;

    /// Adds what each answer of this server carries.
    fn dress(&self, call: &Call, orders: &Orders, reply: &mut Reply);

    /// Obeys `POST /_sandbox/{verb}`.
    fn control(&self, verb: &str, order: Value) -> impl Future<Output = Result<Value, String>> + Send;
}

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection was dropped on purpose")]
pub(super) struct Dropped;

/// Accepts connections until `stop`. Connections still open then are cut.
pub(super) async fn listen<S: Site>(
    site: Arc<S>,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    stop: CancellationToken,
) {
    let acceptor = tls.map(|tls| RustlsAcceptor::new(RustlsConfig::from_config(tls)));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else {
            // Out of file handles, most likely: give the open connections a moment to end.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if site.desk().down.load(Ordering::Relaxed) {
            continue;
        }
        let connection = connect(Arc::clone(&site), socket, acceptor.clone());
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                // A connection that fails is its client's business; what it asked is in the log.
                _ = connection => {}
            }
        });
    }
}

async fn connect<S: Site>(site: Arc<S>, socket: TcpStream, acceptor: Option<RustlsAcceptor>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let service = service_fn(move |request| serve(Arc::clone(&site), request));
    let builder = auto::Builder::new(TokioExecutor::new());
    let served = match acceptor {
        Some(acceptor) => {
            let (stream, ()) = acceptor.accept(socket, ()).await?;
            builder.serve_connection(TokioIo::new(stream), service).await
        }
        None => builder.serve_connection(TokioIo::new(socket), service).await,
    };
    served.map_err(io::Error::other)
}

async fn serve<S: Site>(site: Arc<S>, request: Request<Incoming>) -> Result<Response<Body>, Dropped> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST_BODY).collect().await else {
        return Ok(Reply::empty(StatusCode::PAYLOAD_TOO_LARGE).with_body(Body::empty()));
    };
    let call = Call::new(&head, body.to_bytes());
    let work = async move {
        match call.path()[..] {
            ["_sandbox", verb] => Ok(obey(&*site, &call, verb).await),
            _ if site.desk().down.load(Ordering::Relaxed) => Err(Dropped),
            _ => conduct(&*site, &call).await,
        }
    };
    // A panic in the sandbox shows as a dropped connection and on standard error.
    tokio::spawn(work).await.unwrap_or(Err(Dropped))
}

/// Serves one control request.
async fn obey<S: Site>(site: &S, call: &Call, verb: &str) -> Response<Body> {
    let order = if call.body.is_empty() { Ok(json!({})) } else { serde_json::from_slice(&call.body) };
    let answer = match order {
        Ok(order) => site.control(verb, order).await,
        Err(error) => Err(format!("the order is not JSON: {error}")),
    };
    let reply = match answer {
        Ok(value) => Reply::json(StatusCode::OK, &value),
        Err(why) => Reply::json(StatusCode::BAD_REQUEST, &json!({"error": why})),
    };
    let body = Body::from(reply.body.clone());
    reply.with_body(body)
}

/// Serves one request of the simulated service, with the fault that hits it.
async fn conduct<S: Site>(site: &S, call: &Call) -> Result<Response<Body>, Dropped> {
    let desk = site.desk();
    let subject = site.recognise(call);
    let fault = held(&desk.faults).draw(subject.route, subject.user);
    let mut orders = Orders { request_id: Uuid::new_v4(), bend: fault.clone(), effect: false };
    let route = subject.route;
    let number = held(&desk.journal).arrive(seen(desk, call, subject, &orders));

    if let Some(FaultKind::Delay { ms }) = fault {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    let outcome = if let Some(outcome) = fault.as_ref().and_then(|kind| instead(site, call, &orders, kind)) {
        outcome
    } else {
        let mut reply = site.answer(call, &mut orders);
        site.dress(call, &orders, &mut reply);
        if matches!(fault, Some(FaultKind::ResetAfter)) { Err(Dropped) } else { Ok(reply) }
    };
    let outcome = outcome.map(|reply| bent(reply, fault.as_ref()));
    let status = outcome.as_ref().ok().map(|response| response.status().as_u16());
    held(&desk.journal).complete(number, route, status, orders.effect);
    if let Some(FaultKind::DelayAfter { ms }) = fault {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    outcome
}

fn seen(desk: &Desk, call: &Call, subject: Subject, orders: &Orders) -> Seen {
    Seen {
        number: 0,
        at: desk.clock.real(),
        server: desk.name,
        method: call.method.to_string(),
        path: call.target.clone(),
        route: subject.route,
        user: subject.user,
        status: None,
        client_request_id: call.header("client-request-id").map(str::to_owned),
        request_id: orders.request_id.to_string(),
        effect: false,
        caller: subject.caller,
        fault: orders.bend.clone(),
    }
}

/// What happens in place of serving the request.
fn instead<S: Site>(site: &S, call: &Call, orders: &Orders, kind: &FaultKind) -> Option<Result<Reply, Dropped>> {
    let refused = |status: StatusCode| {
        let mut reply = site.refusal(call, orders, status);
        site.dress(call, orders, &mut reply);
        reply
    };
    let reply = match kind {
        FaultKind::Status { code, retry_after } => {
            let mut reply = refused(StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
            if let Some(retry_after) = retry_after {
                reply.set("retry-after", retry_after);
            }
            reply
        }
        FaultKind::Throttle { seconds } => {
            refused(StatusCode::TOO_MANY_REQUESTS).with("retry-after", seconds.to_string())
        }
        FaultKind::ResetBefore => return Some(Err(Dropped)),
        FaultKind::Html200 => Reply::html(StatusCode::OK, PROXY_PAGE),
        FaultKind::Html503 => Reply::html(StatusCode::SERVICE_UNAVAILABLE, PROXY_PAGE),
        FaultKind::Redirect { to } => Reply::empty(StatusCode::TEMPORARY_REDIRECT).with("location", to),
        FaultKind::Unauthorized => refused(StatusCode::UNAUTHORIZED),
        FaultKind::Forbidden => refused(StatusCode::FORBIDDEN),
        FaultKind::NotFound => refused(StatusCode::NOT_FOUND),
        FaultKind::ResetAfter
        | FaultKind::Delay { .. }
        | FaultKind::DelayAfter { .. }
        | FaultKind::HalfAnswer
        | FaultKind::WrongBody
        | FaultKind::HugeBody
        | FaultKind::StaleStamp
        | FaultKind::StampMissing => return None,
    };
    Some(Ok(reply))
}

const PROXY_PAGE: &str = "<!DOCTYPE html><html><head><title>Network access</title></head>\
    <body><h1>This request was answered by a proxy</h1></body></html>";

/// The answer on its way out, spoilt if the fault says so.
fn bent(mut reply: Reply, fault: Option<&FaultKind>) -> Response<Body> {
    let whole = reply.body.clone();
    if matches!(fault, Some(FaultKind::WrongBody)) {
        reply.status = StatusCode::OK;
        return reply.with_body(Body::from("{\"value\": tru\u{0}"));
    }
    if matches!(fault, Some(FaultKind::HugeBody)) {
        reply.status = StatusCode::OK;
        let chunk = Bytes::from(vec![b' '; 64 * 1024]);
        let chunks = (0..256).map(move |_| Ok::<_, Infallible>(chunk.clone()));
        return reply.with_body(Body::from_stream(stream::iter(chunks)));
    }
    if matches!(fault, Some(FaultKind::HalfAnswer)) {
        let promised = whole.len().max(64).to_string();
        let half = whole.slice(..whole.len() / 2);
        let broken = stream::unfold(Some(half), |half| async {
            let half = half?;
            if half.is_empty() {
                // Long enough for the first half to be on its way before the connection breaks.
                tokio::time::sleep(Duration::from_millis(20)).await;
                return Some((Err(Dropped), None));
            }
            Some((Ok(half), Some(Bytes::new())))
        });
        return reply.with("content-length", promised).with_body(Body::from_stream(broken));
    }
    reply.with_body(Body::from(whole))
}

/// Obeys the orders that both servers know; `None` for any other.
pub(super) fn common_control(desk: &Desk, verb: &str, order: &Value) -> Option<Result<Value, String>> {
    let done = Some(Ok(json!({})));
    match verb {
        "fault" => match serde_json::from_value(order.clone()) {
            Ok(fault) => held(&desk.faults).add(fault),
            Err(error) => return Some(Err(error.to_string())),
        },
        "clear_faults" => held(&desk.faults).clear(),
        "clock" => match order["offset_ms"].as_i64() {
            Some(offset_ms) => desk.clock.set_offset_ms(offset_ms),
            None => return Some(Err("offset_ms is missing".to_owned())),
        },
        "advance" => match order["ms"].as_u64() {
            Some(ms) => desk.clock.advance(Duration::from_millis(ms)),
            None => return Some(Err("ms is missing".to_owned())),
        },
        "down" => desk.down.store(order["down"].as_bool().unwrap_or(true), Ordering::Relaxed),
        "seen" => {
            let journal = held(&desk.journal);
            return Some(Ok(json!({"total": journal.arrived(), "seen": journal.entries()})));
        }
        "clear_seen" => held(&desk.journal).clear(),
        _ => return None,
    }
    done
}
