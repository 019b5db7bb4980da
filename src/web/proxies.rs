//! Whom a request comes from when a proxy stands in between (C8).
//!
//! What a request says about that is believed only if its connection comes from a configured proxy, and only from there to the
//! left as far as each hop is such a proxy too: the first address that is none is the client. Everything further left was said
//! by that client, and may be invented. From anybody else the headers count for nothing.
//!
//! What would surprise: one header is read, the configured one. A proxy writes one of the two and often lets the other pass
//! as the client sent it; reading whichever is there would believe the client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header in which a proxy says whom it speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`: addresses, separated by commas.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The proxies that are believed. None by default.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    networks: Arc<[IpNet]>,
    header: ProxyHeader,
}

/// Where a request comes from, as far as we can know; for limits and for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl Proxies {
    /// Believes these networks when they use this header.
    pub fn new(networks: &[IpNet], header: ProxyHeader) -> Self {
        Self { networks: networks.into(), header }
    }

    /// Whether this is one of them. An IPv4 address in IPv6 clothes is the IPv4 address.
    pub fn believes(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whom a request that came over a connection from `peer` comes from.
    ///
    /// Where a proxy says nothing that can be understood, it is the last address that is certain.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        let mut certain = peer.to_canonical();
        if !self.believes(certain) {
            return ClientAddress(certain);
        }
        let name = match self.header {
            ProxyHeader::XForwardedFor => X_FORWARDED_FOR,
            ProxyHeader::Forwarded => FORWARDED,
        };
        for value in headers.get_all(name).iter().rev() {
            let Ok(text) = value.to_str() else { break };
            let (hops, said_by): (Vec<_>, fn(&str) -> Option<IpAddr>) = match self.header {
                ProxyHeader::XForwardedFor => (text.rsplit(',').collect(), address),
                ProxyHeader::Forwarded => (rsplit(text, ','), forwarded_for),
            };
            for hop in hops {
                let said = said_by(hop);
                let Some(said) = said else { return ClientAddress(certain) };
                certain = said;
                if !self.believes(certain) {
                    return ClientAddress(certain);
                }
            }
        }
        ClientAddress(certain)
    }
}

/// An address, also with a port and in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare.or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

/// The `for` of one hop in `Forwarded`.
fn forwarded_for(hop: &str) -> Option<IpAddr> {
    let named = |pair: &&str| pair.split_once('=').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, value) = rsplit(hop, ';').into_iter().find(named)?.split_once('=')?;
    address(value.trim().trim_matches('"'))
}

/// The parts between separators that stand outside of quotes, the last one first.
///
/// Read from the end, since the end is what our own proxy wrote: a quote that a client opens and never closes must not
/// swallow it.
fn rsplit(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.rsplit(|letter: char| {
        quoted ^= letter == '"';
        letter == separator && !quoted
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn proxies(header: ProxyHeader) -> Proxies {
        let networks = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/64"].map(|text| text.parse().unwrap());
        Proxies::new(&networks, header)
    }

    fn client(proxies: &Proxies, peer: &str, name: &'static str, said: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for text in said {
            headers.append(name, text.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).0.to_string()
    }

    #[rstest]
    #[case::one_proxy("10.1.2.3", &["203.0.113.9"], "203.0.113.9")]
    #[case::with_a_port("10.1.2.3", &["203.0.113.9:4711"], "203.0.113.9")]
    #[case::version_6("10.1.2.3", &["2001:db8:1::9"], "2001:db8:1::9")]
    #[case::version_6_with_a_port("10.1.2.3", &["[2001:db8:1::9]:4711"], "2001:db8:1::9")]
    #[case::dressed_up("::ffff:10.1.2.3", &["::ffff:203.0.113.9"], "203.0.113.9")]
    #[case::two_proxies("10.1.2.3", &["203.0.113.9, 192.0.2.7"], "203.0.113.9")]
    #[case::two_lines("10.1.2.3", &["203.0.113.9", "192.0.2.7"], "203.0.113.9")]
    #[case::all_of_them_proxies("10.1.2.3", &["10.9.9.9, 192.0.2.7"], "10.9.9.9")]
    #[case::spoofed("10.1.2.3", &["198.51.100.1, 203.0.113.9"], "203.0.113.9")]
    #[case::spoofed_as_a_proxy("10.1.2.3", &["10.0.0.1, 203.0.113.9"], "203.0.113.9")]
    #[case::spoofed_in_a_line_of_its_own("10.1.2.3", &["198.51.100.1", "203.0.113.9"], "203.0.113.9")]
    #[case::spoofed_with_a_quote("10.1.2.3", &["\", 203.0.113.9"], "203.0.113.9")]
    #[case::by_nobody_we_know("203.0.113.9", &["198.51.100.1"], "203.0.113.9")]
    #[case::by_a_neighbour("192.0.2.8", &["198.51.100.1"], "192.0.2.8")]
    #[case::not_said("10.1.2.3", &[], "10.1.2.3")]
    #[case::not_understood("10.1.2.3", &["unknown"], "10.1.2.3")]
    #[case::not_understood_further_on("10.1.2.3", &["gibberish, 192.0.2.7"], "192.0.2.7")]
    fn the_client_is_the_last_hop_that_no_proxy_of_ours_vouches_beyond(
        #[case] peer: &str,
        #[case] said: &[&'static str],
        #[case] is: &str,
    ) {
        assert_eq!(client(&proxies(ProxyHeader::XForwardedFor), peer, "x-forwarded-for", said), is);
    }

    #[rstest]
    #[case::plain(&["for=203.0.113.9"], "203.0.113.9")]
    #[case::with_more(&["proto=https;For=203.0.113.9;by=10.1.2.3"], "203.0.113.9")]
    #[case::version_6(&["for=\"[2001:db8:1::9]:4711\";proto=https"], "2001:db8:1::9")]
    #[case::two_proxies(&["for=203.0.113.9, for=192.0.2.7"], "203.0.113.9")]
    #[case::spoofed(&["for=198.51.100.1", "for=203.0.113.9"], "203.0.113.9")]
    #[case::spoofed_with_a_quote(&["for=\"198.51.100.1, for=203.0.113.9"], "203.0.113.9")]
    #[case::spoofed_with_a_quote_before_quotes(&["for=\"x, for=\"[2001:db8:1::9]\""], "2001:db8:1::9")]
    #[case::a_comma_in_quotes(&["for=\"_a,b\", for=203.0.113.9"], "203.0.113.9")]
    #[case::hidden(&["for=_hidden"], "10.1.2.3")]
    fn forwarded_says_the_same_in_other_words(#[case] said: &[&'static str], #[case] is: &str) {
        assert_eq!(client(&proxies(ProxyHeader::Forwarded), "10.1.2.3", "forwarded", said), is);
    }

    #[test]
    fn the_header_that_is_not_configured_is_not_read() {
        assert_eq!(
            client(&proxies(ProxyHeader::XForwardedFor), "10.1.2.3", "forwarded", &["for=198.51.100.1"]),
            "10.1.2.3"
        );
        assert_eq!(
            client(&proxies(ProxyHeader::Forwarded), "10.1.2.3", "x-forwarded-for", &["198.51.100.1"]),
            "10.1.2.3"
        );
    }

    #[test]
    fn nobody_is_believed_by_default() {
        assert_eq!(client(&Proxies::default(), "127.0.0.1", "x-forwarded-for", &["198.51.100.1"]), "127.0.0.1");
    }
}
