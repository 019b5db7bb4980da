//! `handover health`: asks a service that runs whether it lives, or is ready; for containers, which have nothing else to ask with.
//!
//! It opens no database and reads no secret's worth. What would surprise: it asks over the network, at the address that
//! `server.listen` names, or at this machine where that is all addresses; so it says what a probe from outside would find.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use url::Url;

/// How long an answer may take. Longer than the service gives its database.
const PATIENCE: Duration = Duration::from_secs(4);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Whether the process answers at all.
    Live,
    /// Whether it can do its work: whether its database answers.
    Ready,
}

impl Question {
    fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Ready => "ready",
        }
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    /// `live` or `ready`.
    pub(crate) asked: &'static str,
    /// Where.
    pub(crate) url: String,
    /// Whether it is so.
    pub(crate) good: bool,
    /// The status of the answer; `null` when none came.
    pub(crate) status: Option<u16>,
    /// What was said, or why nothing was.
    pub(crate) says: String,
    /// How long it took.
    pub(crate) took_ms: u64,
}

impl Health {
    /// One line.
    pub(crate) fn told(&self) -> String {
        let is = if self.good { "is" } else { "is not" };
        format!("{} {is} {}: {}\n", self.url, self.asked, self.says)
    }
}

/// Where a service that listens here is asked from its own machine.
pub(crate) fn address(listen: SocketAddr) -> anyhow::Result<Url> {
    let host = match listen.ip() {
        IpAddr::V4(all) if all.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(all) if all.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        one @ (IpAddr::V4(_) | IpAddr::V6(_)) => one,
    };
    let at = SocketAddr::new(host, listen.port());
    Url::parse(&format!("http://{at}")).with_context(|| format!("server.listen: {at} is no address to ask at"))
}

/// Asks the service whose API is at `root`.
pub(crate) async fn ask(question: Question, root: &Url) -> anyhow::Result<Health> {
    let url = format!("{}/health/{}", root.as_str().trim_end_matches('/'), question.name());
    // The question is about this service, not about a proxy on the way to it, nor about the machine's trust store.
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    let client = if root.scheme() == "http" { client.tls_certs_only([]) } else { client };
    let client = client.build().context("no client can be set up; is there a trust store on this machine?")?;
    let began = Instant::now();
    let answer = async {
        let answer = client.get(&url).send().await?;
        let status = answer.status();
        Ok::<_, reqwest::Error>((status, answer.text().await?))
    };
    let (status, says) = match answer.await {
        Ok((status, text)) => (Some(status), super::text::plain(text.trim()).chars().take(200).collect()),
        Err(error) if error.is_timeout() => (None, format!("no answer within {} s", PATIENCE.as_secs())),
        Err(error) => (None, format!("no answer: {:#}", anyhow::Error::from(error.without_url()))),
    };
    Ok(Health {
        asked: question.name(),
        url,
        good: status.is_some_and(|status| status.is_success()),
        status: status.map(|status| status.as_u16()),
        says,
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("127.0.0.1:8080", "http://127.0.0.1:8080/")]
    #[case("0.0.0.0:8080", "http://127.0.0.1:8080/")]
    #[case("[::]:8080", "http://[::1]:8080/")]
    #[case("192.0.2.7:80", "http://192.0.2.7/")]
    fn a_service_that_listens_everywhere_is_asked_here(#[case] listen: &str, #[case] asked: &str) {
        assert_eq!(address(listen.parse().unwrap()).unwrap().as_str(), asked);
    }
}
