//! Ordinary answers of the store for the tests of what is printed.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::store::asking::Who;
use crate::store::asking::custodies::{Custody, HolderAt, Next, RevocationState};
use crate::store::asking::devices::Device;
use crate::store::asking::revocations::{Attempt, Exposure, Revocation};

pub(crate) fn at(time: &str) -> DateTime<Utc> {
    time.parse().unwrap()
}

pub(crate) fn morning() -> DateTime<Utc> {
    at("2026-03-02T05:58:41.228451Z")
}

pub(crate) fn noon() -> DateTime<Utc> {
    at("2026-03-02T14:07:03Z")
}

pub(crate) fn amina() -> Who {
    Who { upn: "amina.reuter@contoso.example".into(), object_id: Some(Uuid::from_u128(0xa)) }
}

pub(crate) fn device() -> Device {
    Device {
        serial: Some("DMPX7Q2LK1".into()),
        udid: None,
        uem_id: Some("41207".into()),
        uem_uuid: None,
        name: Some("iPad Ward 3B 07".into()),
        asset_number: None,
        site: Some("Contoso Clinics".into()),
        state: "person".into(),
        holder: None,
        account: None,
        undecided: false,
        since: None,
        last_event_at: None,
        open_revocations: 0,
    }
}

/// A custody of Amina's that ended with a return, after which Jo took the device.
pub(crate) fn custody() -> Custody {
    Custody {
        id: Uuid::from_u128(0xc),
        device: "DMPX7Q2LK1".into(),
        state: "person".into(),
        person: Some(amina()),
        account: Some("areuter".into()),
        undecided: false,
        started_at: morning(),
        started: "observed".into(),
        ended_at: Some(noon()),
        ended: Some("observed".into()),
        departure: Some("return".into()),
        seconds: Some(29_302),
        next: Some(Next {
            upn: Some("jo.lind@contoso.example".into()),
            object_id: None,
            state: "person".into(),
            account: None,
        }),
        revocation: Some(RevocationState { id: Uuid::from_u128(0xe), state: "verified".into() }),
    }
}

/// Amina's, still going on.
pub(crate) fn lasting() -> Custody {
    Custody { ended_at: None, ended: None, departure: None, seconds: None, next: None, revocation: None, ..custody() }
}

/// A stretch in the pool after Amina's.
pub(crate) fn rack() -> Custody {
    Custody {
        id: Uuid::from_u128(0xd),
        state: "pool".into(),
        person: None,
        account: Some("stg-ipad".into()),
        started_at: noon(),
        ..lasting()
    }
}

pub(crate) fn revocation(state: &str, explanation: &str) -> Revocation {
    let done = state == "verified";
    let until = done.then(|| at("2026-03-02T14:09:12Z"));
    Revocation {
        id: Uuid::from_u128(0xe),
        state: state.into(),
        reason: "next_user".into(),
        person: Some(amina()),
        account: None,
        device: "DMPX7Q2LK1".into(),
        custody: Uuid::from_u128(0xc),
        departed_at: noon(),
        owed_at: at("2026-03-02T14:09:10Z"),
        due_at: None,
        closed_at: None,
        why: None,
        note: None,
        attempts: if done {
            vec![Attempt {
                began_at: at("2026-03-02T14:09:10.5Z"),
                ended_at: None,
                state: "verified".into(),
                outcome: None,
                status: Some(200),
                error_code: None,
                request_id: Some("7f0a".into()),
                client_request_id: Uuid::from_u128(0xf),
                graph_date: None,
                stamp_before: None,
                stamp_after: None,
            }]
        } else {
            vec![]
        },
        accepted_at: done.then(|| at("2026-03-02T14:09:11Z")),
        verified_at: until,
        stamp_before: done.then(|| at("2026-02-11T08:00:00Z")),
        stamp_after: done.then(|| at("2026-03-02T14:09:11Z")),
        exposure: Exposure { from: at("2026-03-02T14:08:59Z"), refresh_tokens_until: until, access_tokens_until: None },
        collateral: Vec::new(),
        covered_by: None,
        explanation: explanation.into(),
    }
}

/// Who had the device at one in the afternoon, going by a custody.
pub(crate) fn held(custody: Option<Custody>, previous: Option<Custody>) -> HolderAt {
    HolderAt {
        device: "DMPX7Q2LK1".into(),
        at: at("2026-03-02T13:00:00Z"),
        state: custody.as_ref().map_or_else(|| "unknown".into(), |custody| custody.state.clone()),
        holder: custody.as_ref().and_then(|custody| custody.person.clone()),
        revocation: custody.as_ref().and_then(|custody| custody.revocation.clone()),
        custody,
        previous,
    }
}
