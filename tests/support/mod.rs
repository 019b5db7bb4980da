//! An empty database of either kind, for every test its own.

use std::path::Path;

use handover::store::{Kind, Store};
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};
use uuid::Uuid;

/// A database that is there for one test and gone after it.
pub(crate) struct TestStore {
    /// The database.
    pub(crate) store: Store,
    /// Its URL.
    pub(crate) url: String,
    kept: Kept,
}

/// What goes when the test goes.
enum Kept {
    Folder(#[expect(dead_code, reason = "held for its drop")] tempfile::TempDir),
    Database { server: String, name: String },
}

/// An empty database with the newest schema. `None` where there is no PostgreSQL to be had and none is required; the test
/// then has nothing to say.
pub(crate) async fn empty(kind: Kind) -> Option<TestStore> {
    let (url, kept) = match kind {
        Kind::Sqlite => {
            let folder = tempfile::tempdir().unwrap();
            (format!("sqlite://{}", folder.path().join("test.db").display()), Kept::Folder(folder))
        }
        Kind::Postgres => {
            let Some(server) = server() else {
                eprintln!("skipped: no PostgreSQL");
                return None;
            };
            let name = format!("handover_test_{}", Uuid::new_v4().simple());
            run(&server, format!("CREATE DATABASE {name}")).await;
            let mut url = url::Url::parse(&server).unwrap();
            url.set_path(&name);
            (url.to_string(), Kept::Database { server, name })
        }
    };
    let store = Store::open(&url, Path::new("/")).await.unwrap();
    Some(TestStore { store, url, kept })
}

fn server() -> Option<String> {
    let server = std::env::var("HANDOVER_TEST_POSTGRES").ok();
    let required = std::env::var("HANDOVER_TEST_POSTGRES_REQUIRED").is_ok_and(|required| required == "1");
    assert!(server.is_some() || !required, "HANDOVER_TEST_POSTGRES names no server, and one is required");
    server
}

async fn run(server: &str, statement: String) {
    let mut connection = PgConnection::connect(server).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    connection.close().await.unwrap();
}

/// A connection past the store, to put rows in place and to look at them.
pub(crate) enum Aside {
    /// To SQLite.
    Sqlite(SqliteConnection),
    /// To PostgreSQL.
    Postgres(PgConnection),
}

impl TestStore {
    /// Opens a connection past the store.
    pub(crate) async fn aside(&self) -> Aside {
        match self.store.kind() {
            Kind::Sqlite => Aside::Sqlite(SqliteConnection::connect(&self.url).await.unwrap()),
            Kind::Postgres => Aside::Postgres(PgConnection::connect(&self.url).await.unwrap()),
        }
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        let Kept::Database { server, name } = &self.kept else { return };
        let (server, name) = (server.clone(), name.clone());
        // A drop cannot wait, so another thread does.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(&server, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")));
        });
        let _ = dropping.join();
    }
}
