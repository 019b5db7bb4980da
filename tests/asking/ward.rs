//! A ward with three iPads, put in place row by row.
//!
//! On `DMPX7Q2LK1` Amina was followed by Ben, with half an hour in the rack between. On `DMPX7Q2LK2` Amina was followed by an
//! account that is nobody. The third has no serial number, and nobody knows yet whose its account is.

use chrono::{DateTime, Utc};
use handover::store::Kind;
use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

use crate::support::{Aside, TestStore, empty};

macro_rules! put {
    ($aside:expr, $statement:literal $(, $value:expr)* $(,)?) => {
        match &mut $aside {
            $crate::support::Aside::Sqlite(c) => {
                sqlx::query($statement)$(.bind($value))*.execute(c).await.map(drop).unwrap()
            }
            $crate::support::Aside::Postgres(c) => {
                sqlx::query($statement)$(.bind($value))*.execute(c).await.map(drop).unwrap()
            }
        }
    };
}
pub(crate) use put;

pub(crate) const IPAD: Uuid = Uuid::from_u128(0xd1);
pub(crate) const SECOND: Uuid = Uuid::from_u128(0xd2);
pub(crate) const NAMELESS: Uuid = Uuid::from_u128(0xd3);
pub(crate) const AMINA: Uuid = Uuid::from_u128(0xa1);
pub(crate) const AMINA_OBJECT: Uuid = Uuid::from_u128(0x0a1);
pub(crate) const BEN: Uuid = Uuid::from_u128(0xb1);
pub(crate) const AMINAS: Uuid = Uuid::from_u128(0xc1);
pub(crate) const RACK: Uuid = Uuid::from_u128(0xc2);
pub(crate) const BENS: Uuid = Uuid::from_u128(0xc3);
pub(crate) const AMINAS_SECOND: Uuid = Uuid::from_u128(0xc4);
pub(crate) const SOMEBODYS: Uuid = Uuid::from_u128(0xc5);
pub(crate) const VERIFIED: Uuid = Uuid::from_u128(0xe1);
pub(crate) const HELD: Uuid = Uuid::from_u128(0xe2);
pub(crate) const ATTEMPT: Uuid = Uuid::from_u128(0xf1);

/// A time on the second of March, as `06:00:00.25`.
pub(crate) fn at(time: &str) -> DateTime<Utc> {
    format!("2026-03-02T{time}Z").parse().unwrap()
}

/// The ward, or nothing where its kind of database is not to be had.
pub(crate) async fn ward(kind: Kind) -> Option<TestStore> {
    let test = empty(kind).await?;
    let mut aside = test.aside().await;
    put!(aside, "BEGIN");
    people(&mut aside).await;
    devices(&mut aside).await;
    events(&mut aside).await;
    custodies(&mut aside).await;
    revocations(&mut aside).await;
    rest(&mut aside).await;
    put!(aside, "COMMIT");
    Some(test)
}

async fn people(aside: &mut Aside) {
    for (id, object_id, upn) in [
        (AMINA, Some(AMINA_OBJECT), "Amina.Reuter@contoso.example"),
        (BEN, Some(Uuid::from_u128(0x0b1)), "ben@contoso.example"),
    ] {
        put!(
            *aside,
            "INSERT INTO people (id, object_id, upn, upn_key, guest, first_seen_at) VALUES ($1, $2, $3, $4, $5, $6)",
            id,
            object_id,
            upn,
            upn.to_ascii_lowercase(),
            false,
            at("04:00:00")
        );
    }
    for (person, upn, from, until) in [
        (AMINA, "amina.klein@contoso.example", "04:00:00", Some("05:30:00")),
        (AMINA, "Amina.Reuter@contoso.example", "05:30:00", None),
        (BEN, "ben@contoso.example", "04:00:00", None),
    ] {
        put!(
            *aside,
            "INSERT INTO person_names (person_id, upn_key, upn, from_at, until_at) VALUES ($1, $2, $3, $4, $5)",
            person,
            upn.to_ascii_lowercase(),
            upn,
            at(from),
            until.map(at)
        );
    }
    for (id, name, standing, person) in [
        (Uuid::from_u128(1), "amina", "person", Some(AMINA)),
        (Uuid::from_u128(2), "ben", "person", Some(BEN)),
        (Uuid::from_u128(3), "stg-ipad", "pool", None),
        (Uuid::from_u128(4), "temp7", "unresolved", None),
        (Uuid::from_u128(5), "new9", "undecided", None),
    ] {
        put!(
            *aside,
            "INSERT INTO accounts (id, source, user_name, standing, person_id, first_seen_at, decided_at, tries)
             VALUES ($1, 'uem', $2, $3, $4, $5, $6, $7)",
            id,
            name,
            standing,
            person,
            at("04:00:00"),
            (standing != "undecided").then(|| at("04:01:00")),
            0_i64
        );
    }
}

async fn devices(aside: &mut Aside) {
    for (id, serial, udid, uem_id, name, state, person, account, undecided, since) in [
        (
            IPAD,
            Some("DMPX7Q2LK1"),
            "00008030001A2B3C4D5E6F70",
            "41207",
            "iPad Ward 3B 07",
            "person",
            Some(BEN),
            2,
            false,
            "14:30:00",
        ),
        (
            SECOND,
            Some("DMPX7Q2LK2"),
            "00008030001A2B3C4D5E6F71",
            "41208",
            "iPad 100%",
            "unknown",
            None,
            4,
            false,
            "08:00:00",
        ),
        (NAMELESS, None, "00008030001A2B3C4D5E6F72", "41207", "Empfang", "unknown", None, 5, true, "09:00:00"),
    ] {
        let source = if id == NAMELESS { "uem2" } else { "uem" };
        put!(
            *aside,
            "INSERT INTO devices (id, source, serial, udid, uem_id, uem_uuid, name, asset_number, site, state,
                holder_person, holder_account, undecided, since, last_event_at, head, base, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
            id,
            source,
            serial,
            udid,
            uem_id,
            id.to_string(),
            name,
            "W3B-07",
            "Contoso Clinics",
            state,
            person,
            Uuid::from_u128(account),
            undecided,
            at(since),
            at(since),
            Json(json!({})),
            Json(json!({})),
            1_i64
        );
        let keys = [("udid", "", Some(udid)), ("serial", "", serial), ("uem_id", source, Some(uem_id))];
        for (kind, scope, value) in keys.into_iter().filter_map(|(kind, scope, value)| Some((kind, scope, value?))) {
            put!(
                *aside,
                "INSERT INTO device_keys (kind, scope, value, device_id) VALUES ($1, $2, $3, $4)",
                kind,
                scope,
                value,
                id
            );
        }
    }
}

async fn events(aside: &mut Aside) {
    for (id, device, what, account, when) in [
        (AMINAS_SECOND, SECOND, "with", 1, "05:00:00"),
        (AMINAS, IPAD, "with", 1, "06:00:00.25"),
        (SOMEBODYS, SECOND, "with", 4, "08:00:00"),
        (RACK, IPAD, "with", 3, "14:00:00"),
        (BENS, IPAD, "with", 2, "14:30:00"),
    ] {
        put!(
            *aside,
            "INSERT INTO events (id, device_id, source, class, label, what, how, account_id, occurred_at, at, received_at,
                disposition, raw)
             VALUES ($1, $2, 'uem', 'told', 'Device Checked Out', $3, 'told', $4, $5, $6, $7, 'folded', $8)",
            id,
            device,
            what,
            Uuid::from_u128(account),
            at(when),
            at(when),
            at(when),
            b"{}".as_slice()
        );
    }
}

async fn custodies(aside: &mut Aside) {
    for (id, device, holder, person, account, started, ended) in [
        (AMINAS_SECOND, SECOND, "person", Some(AMINA), 1, "05:00:00", Some(("08:00:00", SOMEBODYS, "next"))),
        (SOMEBODYS, SECOND, "unknown", None, 4, "08:00:00", None),
        (AMINAS, IPAD, "person", Some(AMINA), 1, "06:00:00.25", Some(("14:00:00", RACK, "return"))),
        (RACK, IPAD, "pool", None, 3, "14:00:00", Some(("14:30:00", BENS, "next"))),
        (BENS, IPAD, "person", Some(BEN), 2, "14:30:00", None),
    ] {
        put!(
            *aside,
            "INSERT INTO custodies (id, device_id, holder, person_id, account_id, started_at, started, ended_at, ended,
                ended_by, departure)
             VALUES ($1, $2, $3, $4, $5, $6, 'observed', $7, $8, $9, $10)",
            id,
            device,
            holder,
            person,
            Uuid::from_u128(account),
            at(started),
            ended.map(|(time, ..)| at(time)),
            ended.map(|_| "observed"),
            ended.map(|(_, by, _)| by),
            ended.map(|(.., departure)| departure)
        );
    }
}

async fn revocations(aside: &mut Aside) {
    for (id, device, custody, reason, state, why, departed, owed) in [
        (HELD, SECOND, AMINAS_SECOND, "unknown_user", "held", Some("late"), "08:00:00", "08:00:01"),
        (VERIFIED, IPAD, AMINAS, "next_user", "verified", None, "14:00:00", "14:30:01"),
    ] {
        let done = id == VERIFIED;
        put!(
            *aside,
            "INSERT INTO revocations (id, device_id, custody_id, person_id, account_id, reason, state, why, departed_at,
                departed_by, because, exposed_from, owed_at, urgency, due_at, failed, unfound, blind, attempt_id,
                accepted_at, verified_at, closed_at, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)",
            id,
            device,
            custody,
            AMINA,
            Uuid::from_u128(1),
            reason,
            state,
            why,
            at(departed),
            custody,
            custody,
            at(if done { "14:30:00" } else { departed }),
            at(owed),
            1_i64,
            at(owed),
            0_i64,
            0_i64,
            0_i64,
            done.then_some(ATTEMPT),
            done.then(|| at("14:30:02")),
            done.then(|| at("14:30:04")),
            done.then(|| at("14:30:04")),
            1_i64
        );
    }
    put!(
        *aside,
        "INSERT INTO attempts (id, person_id, state, began_at, owner, stamp_before, outcome, status, request_id, graph_date,
            ended_at, reads, stamp_after, collateral)
         VALUES ($1, $2, 'verified', $3, 'one', $4, 'accepted', $5, 'r-1', $6, $7, $8, $9, $10)",
        ATTEMPT,
        AMINA,
        at("14:30:01.5"),
        at("01:00:00"),
        200_i64,
        at("14:30:02"),
        at("14:30:02"),
        1_i64,
        at("14:30:02"),
        Json(json!([AMINAS_SECOND]))
    );
    put!(*aside, "INSERT INTO attempt_revocations (attempt_id, revocation_id) VALUES ($1, $2)", ATTEMPT, VERIFIED);
}

async fn rest(aside: &mut Aside) {
    put!(
        *aside,
        "INSERT INTO sources (name, last_heard_at, offset_us) VALUES ('uem', $1, $2)",
        at("14:30:00"),
        1_500_000_i64
    );
    for (id, actor, action, when) in [
        (0x51, "uem", "event.recorded", "14:30:00"),
        (0x52, "handover", "revocation.verified", "14:30:04"),
        (0x53, "nina", "revocation.retried", "15:00:00"),
    ] {
        put!(
            *aside,
            "INSERT INTO audit (id, at, actor, action, device_id, person_id, subject, detail)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            Uuid::from_u128(id),
            at(when),
            actor,
            action,
            IPAD,
            AMINA,
            VERIFIED,
            Json(json!({"reason": "asked for"}))
        );
    }
    for (id, kind) in [(0x61, "malformed"), (0x62, "unknown")] {
        put!(
            *aside,
            "INSERT INTO quarantine (id, source, received_at, kind, why, body) VALUES ($1, 'uem', $2, $3, 'a test', $4)",
            Uuid::from_u128(id),
            at("10:00:00"),
            kind,
            b"?".as_slice()
        );
    }
    put!(
        *aside,
        "INSERT INTO looks (device_id, source, settled, due_at, asked_at, tries) VALUES ($1, 'uem', $2, $3, $4, $5)",
        IPAD,
        true,
        at("14:30:20"),
        at("14:30:00"),
        0_i64
    );
}
