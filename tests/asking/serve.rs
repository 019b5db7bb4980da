//! The loop that accepts connections, and what it does to slow and greedy clients.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::routing::{get, post};
use axum::{Extension, Router};
use handover::web::proxies::{ClientAddress, Proxies, ProxyHeader};
use handover::web::serve::{Limits, TooSlow, serve};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Door {
    at: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

fn brisk() -> Limits {
    Limits {
        head: Duration::from_millis(200),
        body: Duration::from_millis(300),
        idle: Duration::from_millis(600),
        farewell: Duration::from_millis(500),
        ..Limits::default()
    }
}

async fn open(limits: Limits) -> Door {
    open_behind(limits, Proxies::default()).await
}

async fn open_behind(limits: Limits, proxies: Proxies) -> Door {
    async fn read(request: Request) -> String {
        match request.into_body().collect().await {
            Ok(body) => format!("{} bytes", body.to_bytes().len()),
            Err(error) => {
                let inner = error.into_inner();
                String::from(if inner.is::<TooSlow>() { "too slow" } else { "broken" })
            }
        }
    }
    async fn slow() -> &'static str {
        tokio::time::sleep(Duration::from_millis(250)).await;
        "done"
    }
    async fn whence(Extension(ClientAddress(address)): Extension<ClientAddress>) -> String {
        format!("from {address}")
    }
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/", post(read))
        .route("/slow", get(slow))
        .route("/whence", get(whence));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(listener, router, limits, proxies, stop.clone()));
    Door { at, stop, served }
}

impl Door {
    async fn knock(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }
}

/// Everything that still comes, until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut text)).await.expect("it never closed");
    String::from_utf8_lossy(&text).into_owned()
}

/// One piece of an answer.
async fn some(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 4096];
    let many = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&buffer[..many]).into_owned()
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off_from_its_first_byte() {
    let door = open(brisk()).await;
    let mut stream = door.knock().await;
    let began = Instant::now();
    let (mut reads, mut writes) = stream.split();

    let trickle = async {
        for byte in b"GET / HTTP/1.1\r\nhost: x\r\nx-long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
            if writes.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut said = Vec::new();
    let closed = async {
        let _ = reads.read_to_end(&mut said).await;
    };
    tokio::select! { () = closed => {}, () = async { trickle.await; std::future::pending::<()>().await } => {} }

    assert!(began.elapsed() >= Duration::from_millis(200), "not before its time");
    assert!(began.elapsed() < Duration::from_millis(500), "the trickle does not put it off");
}

#[tokio::test]
async fn a_silent_connection_may_be_silent_longer_than_a_head_may_take() {
    let door = open(brisk()).await;
    let mut stream = door.knock().await;

    tokio::time::sleep(Duration::from_millis(350)).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(some(&mut stream).await.ends_with("hello"));
    tokio::time::sleep(Duration::from_millis(350)).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(some(&mut stream).await.ends_with("hello"));

    let began = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    assert!(began.elapsed() >= Duration::from_millis(500), "idle, not slow");
}

#[tokio::test]
async fn the_second_head_on_a_connection_has_a_deadline_too() {
    let door = open(brisk()).await;
    let mut stream = door.knock().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(some(&mut stream).await.ends_with("hello"));

    let began = Instant::now();
    stream.write_all(b"GET / HT").await.unwrap();
    rest(&mut stream).await;

    assert!(began.elapsed() < Duration::from_millis(450), "five seconds, not the minute of the idle");
}

#[tokio::test]
async fn a_body_that_trickles_in_is_too_slow() {
    let door = open(brisk()).await;
    let mut stream = door.knock().await;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n").await.unwrap();
    let (mut reads, mut writes) = stream.split();
    let trickle = async {
        while writes.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut buffer = [0; 1024];

    let many = tokio::select! { many = reads.read(&mut buffer) => many.unwrap(), () = trickle => 0 };

    assert!(String::from_utf8_lossy(&buffer[..many]).ends_with("too slow"));
}

#[tokio::test]
async fn a_body_in_time_is_read_whole() {
    let door = open(brisk()).await;
    let mut stream = door.knock().await;
    stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();

    assert!(some(&mut stream).await.ends_with("3 bytes"));
}

#[tokio::test]
async fn a_head_that_is_too_large_or_has_too_many_headers_is_refused() {
    let door = open(Limits::default()).await;
    for head in [
        format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(17 * 1024)),
        format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: a\r\n".repeat(101)),
    ] {
        let mut stream = door.knock().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431"));
    }
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let door = open(Limits { per_address: 2, ..Limits::default() }).await;
    let mut guests = [door.knock().await, door.knock().await];
    for guest in &mut guests {
        guest.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(some(guest).await.ends_with("hello"));
    }

    let mut third = door.knock().await;
    assert_eq!(rest(&mut third).await, "");

    let [first, _second] = guests;
    drop(first);
    let served = async {
        loop {
            let mut next = door.knock().await;
            let _ = next.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            if rest(&mut next).await.ends_with("hello") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), served).await.expect("a place that is given up is free again");
}

#[tokio::test]
async fn told_to_stop_it_ends_what_is_under_way_and_takes_nothing_new() {
    let door = open(brisk()).await;
    let mut idle = door.knock().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    some(&mut idle).await;
    let mut busy = door.knock().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;

    door.stop.cancel();

    assert_eq!(rest(&mut idle).await, "");
    assert!(rest(&mut busy).await.ends_with("done"));
    tokio::time::timeout(Duration::from_secs(2), door.served).await.unwrap().unwrap();
    assert!(TcpStream::connect(door.at).await.is_err());
}

#[tokio::test]
async fn a_request_that_does_not_end_does_not_keep_the_service_from_stopping() {
    let door = open(Limits { farewell: Duration::from_millis(50), ..brisk() }).await;
    let mut busy = door.knock().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = Instant::now();

    door.stop.cancel();
    door.served.await.unwrap();

    assert!(began.elapsed() < Duration::from_millis(180));
}

/// Proxies on this very machine, as far as `networks` go.
fn behind(networks: &str) -> Proxies {
    Proxies::new(&[networks.parse().unwrap()], ProxyHeader::XForwardedFor)
}

/// What is answered to one request on a connection of its own.
async fn ask(door: &Door, path: &str, client: &str) -> String {
    let mut stream = door.knock().await;
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {client}\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    rest(&mut stream).await
}

#[tokio::test]
async fn a_proxy_is_believed_and_nobody_else_is() {
    let (trusting, wary) = (
        open_behind(Limits::default(), behind("127.0.0.0/8")).await,
        open_behind(Limits::default(), behind("10.0.0.0/8")).await,
    );

    assert!(ask(&trusting, "/whence", "203.0.113.9").await.ends_with("from 203.0.113.9"));
    assert!(ask(&trusting, "/whence", "198.51.100.1, 203.0.113.9").await.ends_with("from 203.0.113.9"));
    assert!(ask(&wary, "/whence", "203.0.113.9").await.ends_with("from 127.0.0.1"));
}

#[tokio::test]
async fn a_proxy_may_have_more_connections_than_one_address_and_not_more_than_all() {
    let limits = Limits { per_address: 2, connections: 5, ..Limits::default() };
    let door = open_behind(limits, behind("127.0.0.0/8")).await;
    let mut connections = Vec::new();
    for number in 0..5 {
        let mut stream = door.knock().await;
        let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 203.0.113.{number}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        assert!(some(&mut stream).await.ends_with("hello"));
        connections.push(stream);
    }

    assert_eq!(rest(&mut door.knock().await).await, "");
}

#[tokio::test]
async fn a_client_behind_a_proxy_has_so_many_requests_under_way_and_no_more() {
    let door = open_behind(Limits { per_address: 2, ..Limits::default() }, behind("127.0.0.0/8")).await;

    let (one, two, three, another) = tokio::join!(
        ask(&door, "/slow", "203.0.113.9"),
        ask(&door, "/slow", "203.0.113.9"),
        ask(&door, "/slow", "198.51.100.1, 203.0.113.9"),
        ask(&door, "/slow", "203.0.113.10"),
    );

    let of_the_greedy = [&one, &two, &three];
    assert_eq!(of_the_greedy.iter().filter(|answer| answer.ends_with("done")).count(), 2, "{of_the_greedy:?}");
    assert_eq!(of_the_greedy.iter().filter(|answer| answer.starts_with("HTTP/1.1 503")).count(), 1);
    assert!(another.ends_with("done"), "somebody else's haste costs nobody their place");
    assert!(ask(&door, "/slow", "203.0.113.9").await.ends_with("done"), "a place that is given up is free again");
}

#[tokio::test]
async fn an_invented_header_buys_no_more_connections() {
    let door = open_behind(Limits { per_address: 1, ..Limits::default() }, behind("10.0.0.0/8")).await;
    let mut first = door.knock().await;
    first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 10.0.0.1\r\n\r\n").await.unwrap();
    assert!(some(&mut first).await.ends_with("hello"));

    assert_eq!(ask(&door, "/", "10.0.0.2").await, "");
}
