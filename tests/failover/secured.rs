//! Nobody on the way reads along or plays the server, and no server that could lose what it acknowledged is used.

use std::fs;
use std::path::Path;
use std::time::Duration;

use handover::store::{Kind, Settings, Store};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::server::{Programs, Server};

/// A certificate authority of the test's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key of a server of this name.
    fn server(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

async fn open(url: &str) -> Result<Store, String> {
    let chain = |error: handover::store::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {cause}")
    };
    Store::open_with(&Settings::new(url), Path::new("/")).await.map_err(chain)
}

#[tokio::test]
async fn the_server_is_verified_by_name_and_by_authority_unless_told_otherwise() {
    let Some(programs) = Programs::find() else { return };
    let (ours, other) = (Authority::new("ours"), Authority::new("another"));
    let folder = tempfile::tempdir().unwrap();
    let (ca, other_ca) = (folder.path().join("ca.pem"), folder.path().join("other.pem"));
    fs::write(&ca, &ours.pem).unwrap();
    fs::write(&other_ca, &other.pem).unwrap();
    let mut server = Server::made(&programs);
    let (certificate, key) = ours.server("localhost");
    server.put("server.crt", &certificate);
    server.put("server.key", &key);
    server.start(&["ssl=on"]).await;
    let port = server.port;
    let url = |host: &str, tail: String| format!("postgres://handover@{host}:{port}/postgres{tail}");
    let trusting = |ca: &Path| format!("?sslrootcert={}", ca.display());

    let store = open(&url("localhost", trusting(&ca))).await.unwrap();
    let mut aside = PgConnection::connect(&server.url("postgres")).await.unwrap();
    let seen = sqlx::query(
        "SELECT count(*) AS many, count(*) FILTER (WHERE ssl) AS encrypted
         FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'handover'",
    );
    drop(store.read().await.unwrap());
    let seen = seen.fetch_one(&mut aside).await.unwrap();
    assert_eq!(store.kind(), Kind::Postgres);
    assert!(seen.get::<i64, _>("many") > 0 && seen.get::<i64, _>("many") == seen.get::<i64, _>("encrypted"));
    store.close().await;

    let refused = |url: String, says: &'static str| async move {
        let refused = open(&url).await.map(drop).unwrap_err();
        assert!(refused.contains(says), "{url}: {refused}");
    };
    refused(url("127.0.0.1", trusting(&ca)), "not valid for name").await;
    refused(url("localhost", trusting(&other_ca)), "UnknownIssuer").await;
    refused(url("localhost", String::new()), "UnknownIssuer").await;
    // Told otherwise.
    open(&url("127.0.0.1", format!("{}&sslmode=verify-ca", trusting(&ca)))).await.unwrap().close().await;
    refused(url("127.0.0.1", format!("{}&sslmode=verify-ca", trusting(&other_ca))), "UnknownIssuer").await;
    open(&url("127.0.0.1", "?sslmode=require".to_owned())).await.unwrap().close().await;

    server.kill();
    server.start(&["ssl=off"]).await;
    for mode in ["verify-full", "verify-ca", "require"] {
        refused(url("localhost", format!("{}&sslmode={mode}", trusting(&ca))), "does not support TLS").await;
    }
    open(&url("localhost", "?sslmode=disable".to_owned())).await.unwrap().close().await;
}

/// Somebody between us and the server who says that it has no TLS.
#[tokio::test]
async fn nothing_is_said_in_clear_text_to_a_server_that_wants_no_tls() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://handover:geheim@localhost:{}/handover", listener.local_addr().unwrap().port());
    let between = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut asked = [0; 8];
        client.read_exact(&mut asked).await.unwrap();
        client.write_all(b"N").await.unwrap();
        let mut more = Vec::new();
        tokio::time::timeout(Duration::from_secs(5), client.read_to_end(&mut more)).await.unwrap().ok();
        (asked, more)
    });

    let refused = open(&url).await.map(drop).unwrap_err();

    let (asked, more) = between.await.unwrap();
    assert_eq!(asked, [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f], "that is no request for TLS");
    assert_eq!(more, b"", "something was said in clear text");
    assert!(refused.contains("does not support TLS") && !refused.contains("geheim"), "{refused}");
}

#[tokio::test]
async fn a_server_that_could_lose_or_refuse_what_it_is_told_is_not_used() {
    let Some(programs) = Programs::find() else { return };
    let mut server = Server::made(&programs);
    let refused = [
        (&["fsync=off"][..], "fsync = off"),
        (&["full_page_writes=off"], "full_page_writes = off"),
        (&["default_transaction_read_only=on"], "read-only"),
    ];
    for (settings, says) in refused {
        server.start(settings).await;
        let error = open(&server.url("postgres")).await.map(drop).unwrap_err();
        assert!(error.contains(says), "{settings:?}: {error}");
        server.kill();
    }

    server.start(&[]).await;
    server.run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0").await;
    let error = open(&server.url("latin")).await.map(drop).unwrap_err();
    assert!(error.contains("LATIN1"), "{error}");
    let mut standby = Server::standby_of(&programs, &server);
    standby.start(&[]).await;
    let error = open(&standby.url("postgres")).await.map(drop).unwrap_err();
    assert!(error.contains("standby"), "{error}");

    // Of both, whichever takes writes.
    let both =
        format!("postgres://handover@127.0.0.1:{},127.0.0.1:{}/postgres?sslmode=disable", standby.port, server.port);
    let store = open(&both).await.unwrap();
    store.write().await.unwrap().commit().await.unwrap();
    store.close().await;
    server.kill();
    let error = open(&both).await.map(drop).unwrap_err();
    assert!(error.contains("none of the PostgreSQL servers") && error.contains("standby"), "{error}");
}
