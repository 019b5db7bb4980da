//! The loop that accepts connections, with a deadline for everything a slow or greedy client can do (E14).
//!
//! A connection is closed when the head of a request is not there within five seconds of its first byte, when nothing is
//! asked for a minute, and when the client does not take what we write for half a minute. A body that is not there in time is
//! an error to whoever reads it. Past the connection budgets a newcomer is closed at once; those who are served go on.
//!
//! One address may have so many connections. A trusted proxy speaks for many, so its connections count against the budget of
//! all alone; instead each client behind it may have as many requests under way (C8).
//!
//! What would surprise: hyper counts its own header deadline from the end of the answer before, so it would end an idle
//! connection instead. It serves here as the limit on idleness, and `Line` has the deadline that counts from the first byte.
//! HTTP/1.1 only: whoever terminates TLS in front of us speaks HTTP/2 with the browser.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::web::Refusal;
use crate::web::proxies::{ClientAddress, Proxies};

/// What a listener puts up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many connections at once.
    pub connections: usize,
    /// How many of them from one address; or requests under way, from one client behind a trusted proxy.
    pub per_address: usize,
    /// How long the head of a request may take, from its first byte.
    pub head: Duration,
    /// How long its body may take in total.
    pub body: Duration,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// How long a client may take nothing of what we write.
    pub stalled: Duration,
    /// How large a head may be, in bytes.
    pub head_bytes: usize,
    /// How many headers it may have.
    pub headers: usize,
    /// How long requests under way may take once we are told to stop.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            per_address: 64,
            head: Duration::from_secs(5),
            body: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            stalled: Duration::from_secs(30),
            head_bytes: 16 * 1024,
            headers: 100,
            farewell: Duration::from_secs(10),
        }
    }
}

/// How long to wait when the system has no more sockets for us. They come back as connections end.
const NO_SOCKETS: Duration = Duration::from_millis(100);

/// Accepts and serves until told to stop; then lets requests under way end, within `limits.farewell`.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, proxies: Proxies, stop: CancellationToken) {
    let guests = Guests::default();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_the_guest(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted at the moment");
                sleep(NO_SOCKETS).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let speaks_for_others = proxies.believes(from.ip());
        let seat = if speaks_for_others { None } else { Seat::take(&guests, from.ip(), limits.per_address) };
        if connections.len() >= limits.connections || (seat.is_none() && !speaks_for_others) {
            metrics::counter!("handover_http_connections_refused_total").increment(1);
            continue;
        }
        let (router, stop) = (router.clone(), stop.clone());
        let peer = Peer { address: from.ip(), proxies: proxies.clone(), guests: guests.clone() };
        connections.spawn(async move {
            converse(stream, peer, router, limits, stop).await;
            drop(seat);
        });
    }
    drop(listener);
    let all_gone = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.farewell, all_gone).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut off");
    }
}

/// Whether it is the fault of one connection, so that the next can be accepted at once.
fn is_of_the_guest(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// How many seats each address has taken.
type Guests = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A place among the connections of one address, or among the requests of a client behind a proxy; given back when dropped.
struct Seat {
    guests: Guests,
    address: IpAddr,
}

impl Seat {
    fn take(guests: &Guests, address: IpAddr, at_most: usize) -> Option<Self> {
        let address = address.to_canonical();
        let mut taken = guests.lock().unwrap_or_else(PoisonError::into_inner);
        let seats = taken.entry(address).or_default();
        if *seats >= at_most {
            return None;
        }
        *seats += 1;
        Some(Self { guests: Arc::clone(guests), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seats) = taken.get_mut(&self.address) {
            *seats -= 1;
            if *seats == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// Who is at the other end of a connection.
struct Peer {
    address: IpAddr,
    proxies: Proxies,
    guests: Guests,
}

impl Peer {
    /// The client of a request, and its seat where the connection itself has none.
    fn client(&self, headers: &HeaderMap, at_most: usize) -> (ClientAddress, Result<Option<Seat>, Refusal>) {
        let client = self.proxies.client(self.address, headers);
        // A proxy that asks for itself, as its health checks do, has no budget: it is trusted not to overrun us.
        if self.proxies.believes(client.0) || !self.proxies.believes(self.address) {
            return (client, Ok(None));
        }
        let seat = Seat::take(&self.guests, client.0, at_most);
        if seat.is_none() {
            metrics::counter!("handover_http_requests_refused_total").increment(1);
        }
        (client, seat.map(Some).ok_or(Refusal::Overloaded))
    }
}

async fn converse(stream: TcpStream, peer: Peer, router: Router, limits: Limits, stop: CancellationToken) {
    // Small answers must not wait for the acknowledgement of the one before. Where it cannot be set, they do.
    let _ = stream.set_nodelay(true);
    let between = Arc::new(AtomicBool::new(true));
    let line = Line { stream, between: Arc::clone(&between), limits, head: None, stalled: None };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        between.store(false, Ordering::Relaxed);
        let mut request = request.map(|body| Body::new(Timed { body, until: Box::pin(sleep(limits.body)) }));
        let (router, asked) = (router.clone(), Asked(Arc::clone(&between)));
        let (client, seat) = peer.client(request.headers(), limits.per_address);
        request.extensions_mut().insert(client);
        async move {
            let (response, seat) = match seat {
                Ok(seat) => match router.oneshot(request).await {
                    Ok(response) => (response, seat),
                    Err(never) => match never {},
                },
                Err(refusal) => (refusal.into_response(), None),
            };
            Ok::<_, Infallible>(response.map(|body| Answered { body, _asked: asked, _seat: seat }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_header_size(limits.head_bytes)
        .max_headers(limits.headers)
        .max_buf_size(64 * 1024)
        .keep_alive(true)
        .half_close(false)
        .serve_connection(TokioIo::new(line), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// From the head of a request to the end of its answer. Then the next head may begin.
struct Asked(Arc<AtomicBool>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection that ends when the head of a request takes too long, or when nothing can be written for too long.
struct Line {
    stream: TcpStream,
    /// Whether what is read belongs to the head of a request.
    between: Arc<AtomicBool>,
    limits: Limits,
    head: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let between = self.between.load(Ordering::Relaxed);
        if !between {
            self.head = None;
        }
        if let Some(head) = &mut self.head
            && head.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if between && self.head.is_none() && buf.filled().len() > before {
            let within = self.limits.head;
            self.head = Some(Box::pin(sleep(within)));
        }
        Poll::Ready(Ok(()))
    }
}

impl Line {
    /// The outcome of a write, or the end of the connection when there has been none for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        let within = self.limits.stalled;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(within)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The body did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive in time")]
pub struct TooSlow;

/// A request's body, with a deadline for all of it.
struct Timed {
    body: Incoming,
    until: Pin<Box<Sleep>>,
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            // A trickle must not put the deadline off for ever.
            if Instant::now() < self.until.deadline() || frame.is_none() {
                return Poll::Ready(frame.map(|frame| frame.map_err(axum::BoxError::from)));
            }
        }
        ready!(self.until.as_mut().poll(cx));
        Poll::Ready(Some(Err(axum::BoxError::from(TooSlow))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body. When it has been written, or dropped, the request is over.
struct Answered {
    body: Body,
    _asked: Asked,
    _seat: Option<Seat>,
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
