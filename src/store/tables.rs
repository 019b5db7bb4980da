//! Every table that moves when the house moves, with its columns and its key.
//!
//! The list is compared with the schema of the database before anything is copied, so that a table or column that a migration
//! adds and this list lacks stops the copy instead of being left behind. `house` is not in it: its row is written anew; nor is
//! `copies`, which is about the copy itself.

use self::Of::{Bytes, Flag, Int, Json, Text, Time, Uuid};
use super::engine::on;
use super::{Error, Tx};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Letters.
    Text,
    /// An id.
    Uuid,
    /// A moment, to the microsecond.
    Time,
    /// A whole number.
    Int,
    /// Yes or no.
    Flag,
    /// A JSON document.
    Json,
    /// Bytes.
    Bytes,
}

/// A table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns.
    pub columns: &'static [(&'static str, Of)],
    /// The columns of its primary key, in order.
    pub key: &'static [&'static str],
}

/// The tables that are written anew instead of being copied.
pub const NOT_COPIED: &[&str] = &["copies", "house"];

/// The tables that are copied.
pub const TABLES: &[Table] = &[
    Table {
        name: "accounts",
        columns: &[
            ("id", Uuid),
            ("source", Text),
            ("uem_uuid", Text),
            ("uem_id", Text),
            ("user_name", Text),
            ("email", Text),
            ("standing", Text),
            ("person_id", Uuid),
            ("rule", Text),
            ("why", Text),
            ("first_seen_at", Time),
            ("decided_at", Time),
            ("due_at", Time),
            ("tries", Int),
        ],
        key: &["id"],
    },
    Table {
        name: "attempt_revocations",
        columns: &[("attempt_id", Uuid), ("revocation_id", Uuid)],
        key: &["attempt_id", "revocation_id"],
    },
    Table {
        name: "attempts",
        columns: &[
            ("id", Uuid),
            ("person_id", Uuid),
            ("state", Text),
            ("began_at", Time),
            ("owner", Text),
            ("lease_until", Time),
            ("stamp_before", Time),
            ("stamp_verified", Time),
            ("outcome", Text),
            ("status", Int),
            ("error_code", Text),
            ("request_id", Text),
            ("graph_date", Time),
            ("graph_offset_us", Int),
            ("ended_at", Time),
            ("reads", Int),
            ("read_at", Time),
            ("stamp_after", Time),
            ("collateral", Json),
        ],
        key: &["id"],
    },
    Table {
        name: "audit",
        columns: &[
            ("id", Uuid),
            ("at", Time),
            ("actor", Text),
            ("action", Text),
            ("device_id", Uuid),
            ("person_id", Uuid),
            ("subject", Uuid),
            ("detail", Json),
        ],
        key: &["id"],
    },
    Table {
        name: "custodies",
        columns: &[
            ("id", Uuid),
            ("device_id", Uuid),
            ("holder", Text),
            ("person_id", Uuid),
            ("account_id", Uuid),
            ("started_at", Time),
            ("started", Text),
            ("ended_at", Time),
            ("ended", Text),
            ("ended_by", Uuid),
            ("departure", Text),
        ],
        key: &["id"],
    },
    Table {
        name: "device_keys",
        columns: &[("kind", Text), ("scope", Text), ("value", Text), ("device_id", Uuid)],
        key: &["kind", "scope", "value"],
    },
    Table {
        name: "devices",
        columns: &[
            ("id", Uuid),
            ("source", Text),
            ("serial", Text),
            ("udid", Text),
            ("uem_id", Text),
            ("uem_uuid", Text),
            ("name", Text),
            ("asset_number", Text),
            ("site", Text),
            ("state", Text),
            ("holder_person", Uuid),
            ("holder_account", Uuid),
            ("undecided", Flag),
            ("since", Time),
            ("last_event_at", Time),
            ("head", Json),
            ("base", Json),
            ("base_at", Time),
            ("confirmed_at", Time),
            ("version", Int),
            ("origin", Json),
            ("origin_at", Time),
        ],
        key: &["id"],
    },
    Table {
        name: "events",
        columns: &[
            ("id", Uuid),
            ("device_id", Uuid),
            ("source", Text),
            ("class", Text),
            ("kind", Int),
            ("label", Text),
            ("what", Text),
            ("how", Text),
            ("account_id", Uuid),
            ("occurred_at", Time),
            ("at", Time),
            ("received_at", Time),
            ("disposition", Text),
            ("oddity", Text),
            ("content_type", Text),
            ("raw", Bytes),
        ],
        key: &["id"],
    },
    Table {
        name: "imports",
        columns: &[("digest", Bytes), ("name", Text), ("lines", Int), ("finished_at", Time)],
        key: &["digest"],
    },
    Table {
        name: "instances",
        columns: &[("id", Text), ("host", Text), ("version", Text), ("started_at", Time), ("seen_at", Time)],
        key: &["id"],
    },
    Table {
        name: "leases",
        columns: &[("name", Text), ("holder", Text), ("term", Int), ("until", Time)],
        key: &["name"],
    },
    Table {
        name: "looks",
        columns: &[
            ("device_id", Uuid),
            ("source", Text),
            ("settled", Flag),
            ("due_at", Time),
            ("asked_at", Time),
            ("tries", Int),
            ("unlisted", Flag),
        ],
        key: &["device_id"],
    },
    Table {
        name: "paces",
        columns: &[("lane", Text), ("next_at", Time), ("closed_until", Time), ("throttled", Int), ("stretch", Int)],
        key: &["lane"],
    },
    Table {
        name: "people",
        columns: &[
            ("id", Uuid),
            ("object_id", Uuid),
            ("upn", Text),
            ("upn_key", Text),
            ("guest", Flag),
            ("stamp_verified", Time),
            ("first_seen_at", Time),
        ],
        key: &["id"],
    },
    Table {
        name: "person_names",
        columns: &[("person_id", Uuid), ("upn_key", Text), ("upn", Text), ("from_at", Time), ("until_at", Time)],
        key: &["person_id", "upn_key", "from_at"],
    },
    Table {
        name: "quarantine",
        columns: &[
            ("id", Uuid),
            ("source", Text),
            ("received_at", Time),
            ("kind", Text),
            ("why", Text),
            ("content_type", Text),
            ("body", Bytes),
            ("read_at", Time),
        ],
        key: &["id"],
    },
    Table {
        name: "revocations",
        columns: &[
            ("id", Uuid),
            ("device_id", Uuid),
            ("custody_id", Uuid),
            ("person_id", Uuid),
            ("account_id", Uuid),
            ("reason", Text),
            ("state", Text),
            ("why", Text),
            ("note", Text),
            ("departed_at", Time),
            ("departed_by", Uuid),
            ("because", Uuid),
            ("exposed_from", Time),
            ("owed_at", Time),
            ("urgency", Int),
            ("due_at", Time),
            ("failed", Int),
            ("unfound", Int),
            ("blind", Int),
            ("attempt_id", Uuid),
            ("covered_by", Uuid),
            ("accepted_at", Time),
            ("verified_at", Time),
            ("closed_at", Time),
            ("version", Int),
        ],
        key: &["id"],
    },
    Table {
        name: "sources",
        columns: &[("name", Text), ("last_heard_at", Time), ("last_swept_at", Time), ("offset_us", Int)],
        key: &["name"],
    },
    Table {
        name: "tokens",
        columns: &[
            ("id", Uuid),
            ("name", Text),
            ("role", Text),
            ("digest", Bytes),
            ("created_at", Time),
            ("revoked_at", Time),
        ],
        key: &["id"],
    },
];

/// The tables and columns that the database has: `table.column`, sorted. Migrations' own bookkeeping is left out, and so
/// are PostgreSQL's partitions, which are their table's.
pub async fn in_schema(tx: &mut Tx) -> Result<Vec<String>, Error> {
    const OURS: &str = "SELECT t.name || '.' || c.name FROM sqlite_master t, pragma_table_info(t.name) c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> '_sqlx_migrations'";
    const THEIRS: &str =
        "SELECT t.relname::text || '.' || c.attname::text FROM pg_class t JOIN pg_attribute c ON c.attrelid = t.oid
         WHERE t.relnamespace = current_schema()::regnamespace AND t.relkind IN ('r', 'p') AND NOT t.relispartition
           AND t.relname <> '_sqlx_migrations' AND c.attnum > 0 AND NOT c.attisdropped";
    let text = tx.either(OURS, THEIRS);
    let mut found: Vec<String> = on!(tx, |c| sqlx::query_scalar(text).fetch_all(c).await)?;
    found.sort();
    Ok(found)
}

/// What of the schema this list does not have, and what of this list the schema does not have: `table.column`.
pub async fn unlisted(tx: &mut Tx) -> Result<Vec<String>, Error> {
    let schema = in_schema(tx).await?;
    let of = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let mut listed: Vec<String> = TABLES
        .iter()
        .flat_map(|table| table.columns.iter().map(|(column, _)| format!("{}.{column}", table.name)))
        .collect();
    listed.sort();
    let mut differ: Vec<_> = schema
        .iter()
        .filter(|column| !NOT_COPIED.contains(&of(column).as_str()) && listed.binary_search(column).is_err())
        .cloned()
        .collect();
    differ.extend(listed.into_iter().filter(|column| schema.binary_search(column).is_err()));
    Ok(differ)
}
