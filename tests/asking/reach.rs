//! A custody may reach far: what a person had in any span is found among minutes and weeks alike, page by page.

use chrono::{DateTime, TimeDelta, Utc};
use handover::store::Kind;
use handover::store::asking::{Paging, Span, custodies};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rstest::rstest;
use uuid::Uuid;

use crate::support::empty;
use crate::ward::put;

const PERSON: Uuid = Uuid::from_u128(0xa1);
const DEVICES: u128 = 6;

/// A custody of the person: which, from when, until when.
type Stretch = (Uuid, DateTime<Utc>, Option<DateTime<Utc>>);

fn begin() -> DateTime<Utc> {
    "2026-03-02T00:00:00Z".parse().unwrap()
}

/// What the person had of one device in the order of time, with pauses: a minute, a shift, a day to the microsecond, weeks.
fn stretches(dice: &mut StdRng, device: u128) -> Vec<Stretch> {
    let day = TimeDelta::days(1);
    let tick = TimeDelta::microseconds(1);
    let mut at = begin() + TimeDelta::minutes(dice.random_range(0..600));
    let mut stretches = Vec::new();
    for nth in 0..25_u128 {
        let lasted = match dice.random_range(0..8) {
            0 => day,
            1 => day + tick,
            2 => day - tick,
            3 => TimeDelta::hours(dice.random_range(25..900)),
            4 | 5 => TimeDelta::minutes(dice.random_range(1..30)),
            _ => TimeDelta::hours(dice.random_range(1..14)),
        };
        let open = nth == 24 && device.is_multiple_of(2);
        stretches.push((Uuid::from_u128(device << 32 | nth), at, (!open).then_some(at + lasted)));
        at += lasted + TimeDelta::minutes(dice.random_range(0..300));
    }
    stretches
}

#[rstest]
#[tokio::test]
async fn a_custody_is_found_in_every_span_that_it_reaches_into(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(home) = empty(kind).await else { return };
    let mut dice = StdRng::seed_from_u64(86_401);
    let mut aside = home.aside().await;
    let mut all: Vec<Stretch> = Vec::new();
    put!(aside, "BEGIN");
    put!(
        aside,
        "INSERT INTO people (id, upn, upn_key, guest, first_seen_at) VALUES ($1, 'a', 'a', $2, $3)",
        PERSON,
        false,
        begin()
    );
    for device in 1..=DEVICES {
        let stretches = stretches(&mut dice, device);
        let open = stretches.iter().find(|(.., ended)| ended.is_none());
        put!(
            aside,
            "INSERT INTO devices (id, source, state, holder_person, since, undecided, head, base, version)
             VALUES ($1, 'uem', $2, $3, $4, $5, '{}', '{}', 0)",
            Uuid::from_u128(device),
            if open.is_some() { "person" } else { "unknown" },
            open.map(|_| PERSON),
            open.map(|(_, started, _)| *started),
            false
        );
        for (id, started, ended) in &stretches {
            put!(
                aside,
                "INSERT INTO custodies (id, device_id, holder, person_id, started_at, started, ended_at, ended, ended_by, departure)
                 VALUES ($1, $2, 'person', $3, $4, 'observed', $5, $6, $7, $8)",
                *id,
                Uuid::from_u128(device),
                PERSON,
                *started,
                *ended,
                ended.map(|_| "observed"),
                ended.map(|_| *id),
                ended.map(|_| "return")
            );
        }
        all.extend(stretches);
    }
    put!(aside, "COMMIT");
    drop(aside);
    all.sort_by_key(|(id, started, _)| std::cmp::Reverse((*started, *id)));

    let mut tx = home.store.read().await.unwrap();
    let mut found = 0;
    for nth in 0..60 {
        let from = begin() + TimeDelta::minutes(dice.random_range(-2_000..200_000));
        let to = from + TimeDelta::minutes(dice.random_range(1..4_000));
        // The very moments at which custodies begin and end are the ones that are easy to get wrong.
        let from = if nth % 3 == 0 { all[dice.random_range(0..all.len())].2.unwrap_or(from) } else { from };
        let span = Span { from: (nth % 7 != 0).then_some(from), to: (nth % 5 != 0).then_some(to) };
        let reaches = |(_, started, ended): &&Stretch| {
            span.to.is_none_or(|to| *started < to)
                && span.from.is_none_or(|from| ended.is_none_or(|ended| ended > from))
        };
        let expected: Vec<_> = all.iter().filter(reaches).map(|(id, ..)| *id).collect();

        let mut told = Vec::new();
        let mut paging = Paging::new(Some(3), None);
        loop {
            let page = custodies::of_person(&mut tx, PERSON, span, &paging).await.unwrap();
            told.extend(page.items.iter().map(|custody| custody.id));
            let Some(next) = page.next else { break };
            paging = paging.after(next);
        }
        assert_eq!(told, expected, "{span:?}");
        found += told.len();
    }
    assert!(found > 500, "{found} is too few to tell anything");
}
