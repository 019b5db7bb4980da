//! A webhook sender: HTTP/1.1 over one kept connection, at the least cost beside the service that is measured.

use std::net::SocketAddr;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One kept connection.
pub(crate) struct Client {
    stream: TcpStream,
    head: String,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects, to post to `path`.
    pub(crate) async fn connect(to: SocketAddr, path: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let credentials = BASE64_STANDARD.encode("handover:benchmark");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {to}\r\nAuthorization: Basic {credentials}\r\nContent-Type: application/json\r\nContent-Length: "
        );
        Ok(Self { stream, head, buffer: Vec::with_capacity(4096) })
    }

    /// Posts a body and waits for the whole answer, which must be 200.
    pub(crate) async fn post(&mut self, body: &[u8]) -> anyhow::Result<()> {
        self.buffer.clear();
        self.buffer.extend_from_slice(self.head.as_bytes());
        self.buffer.extend_from_slice(body.len().to_string().as_bytes());
        self.buffer.extend_from_slice(b"\r\n\r\n");
        self.buffer.extend_from_slice(body);
        self.stream.write_all(&self.buffer).await?;
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            anyhow::ensure!(read > 0, "the connection was closed");
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end])?;
            anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "the answer was {head}");
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .context("the answer has no length")?;
            if self.buffer.len() >= end + 4 + length.1.trim().parse::<usize>()? {
                return Ok(());
            }
        }
    }
}
