//! The read models.

use handover::custody::Standpoint;
use handover::store::asking::{
    Error, Paging, Span, audit, custodies, database, devices, people, revocations, status, timeline,
};
use handover::store::{Kind, instances};
use rstest::rstest;
use uuid::Uuid;

use crate::ward::*;

#[rstest]
#[tokio::test]
async fn a_device_answers_to_each_of_its_names(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut tx = ward.store.read().await.unwrap();

    for name in ["DMPX7Q2LK1", " dmpx7q2lk1 ", "00008030001A2B3C4D5E6F70", "00008030-001a2b3c4d5e6f70"] {
        assert_eq!(devices::identify(&mut tx, name).await.unwrap(), Some(IPAD), "{name}");
    }
    assert_eq!(devices::identify(&mut tx, "41208").await.unwrap(), Some(SECOND));
    assert_eq!(devices::identify(&mut tx, "nothing").await.unwrap(), None);
}

#[rstest]
#[tokio::test]
async fn a_number_that_two_sources_gave_is_ambiguous_and_names_both(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(ward) = ward(kind).await else { return };
    let mut tx = ward.store.read().await.unwrap();

    let Err(Error::Ambiguous { candidates, .. }) = devices::identify(&mut tx, "41207").await else {
        panic!("41207 is two devices")
    };

    assert_eq!(candidates.len(), 2);
    assert!(candidates[0].contains("DMPX7Q2LK1") && candidates[0].contains("uem"), "{candidates:?}");
}

#[rstest]
#[tokio::test]
async fn devices_come_page_by_page_and_those_without_a_serial_number_last(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(ward) = ward(kind).await else { return };
    let mut tx = ward.store.read().await.unwrap();
    let filter = devices::Filter::default();

    let mut seen = Vec::new();
    let mut paging = Paging::new(Some(1), None);
    loop {
        let page = devices::list(&mut tx, &filter, &paging).await.unwrap();
        seen.extend(page.items.into_iter().map(|device| device.udid.unwrap()));
        let Some(next) = page.next else { break };
        paging = paging.after(next);
    }
    let all = devices::list(&mut tx, &filter, &Paging::new(Some(3), None)).await.unwrap();

    assert_eq!(seen, ["00008030001A2B3C4D5E6F70", "00008030001A2B3C4D5E6F71", "00008030001A2B3C4D5E6F72"]);
    assert_eq!((all.items.len(), all.next), (3, None));
}

#[rstest]
#[tokio::test]
async fn devices_are_found_by_holder_state_site_and_text(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut tx = ward.store.read().await.unwrap();
    let some = |text: &str| Some(String::from(text));
    let filter = devices::Filter::default;
    let cases = [
        (devices::Filter { holder: some("BEN@contoso.example"), ..filter() }, 1),
        (devices::Filter { holder: some(&Uuid::from_u128(0x0b1).to_string()), ..filter() }, 1),
        (devices::Filter { holder: some("amina.klein@contoso.example"), ..filter() }, 0),
        (devices::Filter { state: some("unknown"), ..filter() }, 2),
        (devices::Filter { site: some("contoso CLINICS"), ..filter() }, 3),
        (devices::Filter { q: some("ward 3b"), ..filter() }, 1),
        (devices::Filter { q: some("00%"), ..filter() }, 1),
        (devices::Filter { q: some("LK"), state: some("person"), ..filter() }, 1),
        (devices::Filter { q: some("temp7"), ..filter() }, 1),
        (devices::Filter { q: some("' OR 1=1 --"), ..filter() }, 0),
    ];

    for (filter, many) in cases {
        let found = devices::list(&mut tx, &filter, &Paging::largest()).await.unwrap();
        assert_eq!(found.items.len(), many, "{filter:?}");
    }
}

#[rstest]
#[tokio::test]
async fn who_had_it_at_an_instant(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut tx = ward.store.read().await.unwrap();
    let cases = [
        ("before everything", "00:00:00", "unknown", None, None),
        ("just before the first moment", "06:00:00.249999", "unknown", None, None),
        ("the first moment", "06:00:00.25", "person", Some(AMINAS), None),
        ("in the middle", "10:00:00", "person", Some(AMINAS), None),
        ("at the return", "14:00:00", "pool", Some(RACK), Some(AMINAS)),
        ("in the rack", "14:29:59.999999", "pool", Some(RACK), Some(AMINAS)),
        ("with the next", "14:30:00", "person", Some(BENS), Some(AMINAS)),
        ("much later", "23:59:59", "person", Some(BENS), Some(AMINAS)),
    ];

    for (when, time, state, custody, previous) in cases {
        let answer = custodies::at(&mut tx, IPAD, at(time)).await.unwrap();
        assert_eq!(answer.state, state, "{when}");
        assert_eq!(answer.custody.map(|custody| custody.id), custody, "{when}");
        assert_eq!(answer.previous.map(|custody| custody.id), previous, "{when}");
        assert_eq!(answer.device, "DMPX7Q2LK1");
    }
}

#[rstest]
#[tokio::test]
async fn a_device_that_left_our_sight_is_with_nobody_we_know(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut aside = ward.aside().await;
    put!(
        aside,
        "UPDATE custodies SET ended_at = $2, ended = 'observed', ended_by = $1, departure = 'gone' WHERE id = $1",
        BENS,
        at("16:00:00")
    );
    let mut tx = ward.store.read().await.unwrap();

    let answer = custodies::at(&mut tx, IPAD, at("16:00:00")).await.unwrap();

    assert_eq!((answer.state.as_str(), answer.custody), ("unknown", None));
    assert_eq!(answer.previous.map(|custody| custody.id), Some(BENS));
}

#[rstest]
#[tokio::test]
async fn a_custody_says_who_followed_after_the_rack_and_what_became_of_the_revocation(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(ward) = ward(kind).await else { return };
    let mut tx = ward.store.read().await.unwrap();

    let page = custodies::of_device(&mut tx, IPAD, Span::default(), &Paging::largest()).await.unwrap();

    let [bens, aminas] = page.items.as_slice() else { panic!("the rack is no custody: {page:?}") };
    assert_eq!((bens.id, bens.seconds, &bens.next), (BENS, None, &None));
    assert_eq!(aminas.person.as_ref().unwrap().upn, "Amina.Reuter@contoso.example");
    assert_eq!(aminas.seconds, Some(28_799));
    assert_eq!(aminas.next.as_ref().unwrap().upn.as_deref(), Some("ben@contoso.example"));
    assert_eq!(aminas.revocation.as_ref().unwrap().state, "verified");
}

#[rstest]
#[tokio::test]
async fn a_next_holder_may_be_unknown(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut tx = ward.store.read().await.unwrap();

    let page = custodies::of_device(&mut tx, SECOND, Span::default(), &Paging::largest()).await.unwrap();

    let [somebodys, aminas] = page.items.as_slice() else { panic!("two custodies: {page:?}") };
    assert_eq!((&somebodys.person, somebodys.account.as_deref()), (&None, Some("temp7")));
    let next = aminas.next.as_ref().unwrap();
    assert_eq!((next.state.as_str(), &next.upn, next.account.as_deref()), ("unknown", &None, Some("temp7")));
}

#[rstest]
#[tokio::test]
async fn custodies_overlap_an_interval(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut tx = ward.store.read().await.unwrap();
    let cases = [
        ("all", None, None, 2),
        ("until the second begins", None, Some("14:30:00"), 1),
        ("from the end of the first", Some("14:00:00"), None, 1),
        ("from just before it", Some("13:59:59"), None, 2),
        ("only the rack", Some("14:00:00"), Some("14:30:00"), 0),
    ];

    for (which, from, to, many) in cases {
        let span = Span { from: from.map(at), to: to.map(at) };
        let page = custodies::of_device(&mut tx, IPAD, span, &Paging::largest()).await.unwrap();
        assert_eq!(page.items.len(), many, "{which}");
    }
}

#[rstest]
#[tokio::test]
async fn the_persons_side_has_every_device_and_every_name(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut tx = ward.store.read().await.unwrap();

    for name in ["AMINA.reuter@contoso.example", "amina.klein@contoso.example", &AMINA_OBJECT.to_string()] {
        assert_eq!(people::identify(&mut tx, name).await.unwrap(), Some(AMINA), "{name}");
    }
    assert_eq!(people::identify(&mut tx, "nobody@contoso.example").await.unwrap(), None);
    let amina = people::one(&mut tx, AMINA).await.unwrap().unwrap();
    assert_eq!((amina.names.len(), amina.devices.len(), amina.open_revocations), (2, 0, 1));
    let ben = people::one(&mut tx, BEN).await.unwrap().unwrap();
    assert_eq!((ben.devices[0].device.as_str(), ben.devices[0].custody), ("DMPX7Q2LK1", BENS));
    let first = custodies::of_person(&mut tx, AMINA, Span::default(), &Paging::new(Some(1), None)).await.unwrap();
    let paging = Paging::new(Some(1), first.next.clone());
    let second = custodies::of_person(&mut tx, AMINA, Span::default(), &paging).await.unwrap();
    assert_eq!((first.items[0].id, second.items[0].id, second.next), (AMINAS, AMINAS_SECOND, None));
}

#[rstest]
#[tokio::test]
async fn a_upn_given_to_somebody_else_means_its_present_owner(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut aside = ward.aside().await;
    put!(
        aside,
        "INSERT INTO person_names (person_id, upn_key, upn, from_at, until_at) VALUES ($1, $2, $3, $4, $5)",
        AMINA,
        "ben@contoso.example",
        "ben@contoso.example",
        at("01:00:00"),
        at("02:00:00")
    );
    let mut tx = ward.store.read().await.unwrap();

    assert_eq!(people::identify(&mut tx, "ben@contoso.example").await.unwrap(), Some(BEN));
}

#[rstest]
#[tokio::test]
async fn a_verified_revocation_shows_its_receipt(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut tx = ward.store.read().await.unwrap();

    let verified = revocations::one(&mut tx, VERIFIED).await.unwrap().unwrap();

    insta::allow_duplicates! {
        insta::assert_json_snapshot!(verified, @r#"
        {
          "id": "00000000-0000-0000-0000-0000000000e1",
          "state": "verified",
          "reason": "next_user",
          "person": {
            "upn": "Amina.Reuter@contoso.example",
            "object_id": "00000000-0000-0000-0000-0000000000a1"
          },
          "account": "amina",
          "device": "DMPX7Q2LK1",
          "custody": "00000000-0000-0000-0000-0000000000c1",
          "departed_at": "2026-03-02T14:00:00Z",
          "owed_at": "2026-03-02T14:30:01Z",
          "due_at": null,
          "closed_at": "2026-03-02T14:30:04Z",
          "why": null,
          "note": null,
          "attempts": [
            {
              "began_at": "2026-03-02T14:30:01.500Z",
              "ended_at": "2026-03-02T14:30:02Z",
              "state": "verified",
              "outcome": "accepted",
              "status": 200,
              "error_code": null,
              "request_id": "r-1",
              "client_request_id": "00000000-0000-0000-0000-0000000000f1",
              "graph_date": "2026-03-02T14:30:02Z",
              "stamp_before": "2026-03-02T01:00:00Z",
              "stamp_after": "2026-03-02T14:30:02Z"
            }
          ],
          "accepted_at": "2026-03-02T14:30:02Z",
          "verified_at": "2026-03-02T14:30:04Z",
          "stamp_before": "2026-03-02T01:00:00Z",
          "stamp_after": "2026-03-02T14:30:02Z",
          "exposure": {
            "from": "2026-03-02T14:30:00Z",
            "refresh_tokens_until": "2026-03-02T14:30:04Z",
            "access_tokens_until": "2026-03-02T16:00:04Z"
          },
          "collateral": [
            {
              "custody": "00000000-0000-0000-0000-0000000000c4",
              "device": "DMPX7Q2LK2"
            }
          ],
          "covered_by": null,
          "explanation": "Entra refuses every refresh token of this person that was issued before 2026-03-02T14:30:02Z"
        }
        "#);
    }
}

#[rstest]
#[tokio::test]
async fn a_revocation_that_another_attempt_answered_shows_that_receipt(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(ward) = ward(kind).await else { return };
    let mut aside = ward.aside().await;
    put!(aside, "UPDATE revocations SET state = 'covered_by_other', covered_by = $2 WHERE id = $1", HELD, VERIFIED);
    let mut tx = ward.store.read().await.unwrap();

    let covered = revocations::one(&mut tx, HELD).await.unwrap().unwrap();

    assert_eq!((covered.covered_by, covered.verified_at), (Some(VERIFIED), Some(at("14:30:04"))));
    assert_eq!(covered.exposure.access_tokens_until, Some(at("16:00:04")));
    assert!(covered.explanation.contains("another revocation"), "{}", covered.explanation);
}

#[rstest]
#[tokio::test]
async fn every_revocation_explains_its_state(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut aside = ward.aside().await;
    let mut tx = ward.store.read().await.unwrap();
    let cases = [
        ("open", None, 0_i64, "it is to be sent; due at 2026-03-02T08:00:01Z"),
        ("open", None, 2, "2 times in a row"),
        ("held", Some("late"), 0, "release it"),
        ("needs_operator", Some("unknown_person"), 0, "could not be tied to an Entra user"),
        ("held", Some("moonshine"), 0, "(moonshine): wait for Monday"),
        ("moot", None, 0, "nothing to revoke any more: wait for Monday"),
        ("waived", None, 0, "wait for Monday"),
        ("shadow", None, 0, "it would have been sent"),
        ("not_effective", None, 0, "guest"),
    ];

    for (state, why, failed, says) in cases {
        put!(
            aside,
            "UPDATE revocations SET state = $2, why = $3, failed = $4, note = 'wait for Monday' WHERE id = $1",
            HELD,
            state,
            why,
            failed
        );
        let revocation = revocations::one(&mut tx, HELD).await.unwrap().unwrap();
        assert!(revocation.explanation.contains(says), "{state}: {}", revocation.explanation);
    }
}

#[rstest]
#[tokio::test]
async fn revocations_are_found_by_state_device_and_person(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut tx = ward.store.read().await.unwrap();
    let filter = revocations::Filter::default;
    let held = Some(Standpoint::Held);
    let cases = [
        (filter(), vec![VERIFIED, HELD]),
        (revocations::Filter { state: held, ..filter() }, vec![HELD]),
        (revocations::Filter { device: Some(IPAD), ..filter() }, vec![VERIFIED]),
        (revocations::Filter { device: Some(IPAD), state: held, ..filter() }, vec![]),
        (revocations::Filter { device: Some(IPAD), person: Some(BEN), ..filter() }, vec![]),
        (revocations::Filter { person: Some(AMINA), ..filter() }, vec![VERIFIED, HELD]),
        (revocations::Filter { person: Some(AMINA), state: held, ..filter() }, vec![HELD]),
    ];

    for (filter, ids) in cases {
        let mut found = Vec::new();
        let mut paging = Paging::new(Some(1), None);
        loop {
            let page = revocations::list(&mut tx, &filter, &paging).await.unwrap();
            found.extend(page.items.into_iter().map(|revocation| revocation.id));
            let Some(next) = page.next else { break };
            paging = paging.after(next);
        }
        assert_eq!(found, ids, "{filter:?}");
    }
}

#[rstest]
#[tokio::test]
async fn the_timeline_is_the_same_in_one_page_and_in_many(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut tx = ward.store.read().await.unwrap();

    let whole = timeline::of_device(&mut tx, IPAD, &Paging::largest()).await.unwrap();
    let mut parts = Vec::new();
    let mut paging = Paging::new(Some(1), None);
    loop {
        let page = timeline::of_device(&mut tx, IPAD, &paging).await.unwrap();
        parts.extend(page.items);
        let Some(next) = page.next else { break };
        paging = paging.after(next);
    }

    assert_eq!(parts, whole.items);
    let told: Vec<_> = whole
        .items
        .iter()
        .map(|entry| {
            let shown = serde_json::to_value(entry).unwrap();
            format!("{} {}", shown["entry"].as_str().unwrap(), entry.sentence)
        })
        .collect();
    assert_eq!(
        told,
        [
            "action nina: revocation.retried",
            "attempt Entra was asked to revoke the tokens of Amina.Reuter@contoso.example: accepted",
            "revocation a revocation of Amina.Reuter@contoso.example became owed; it is verified now",
            "custody ben@contoso.example has the device",
            "event uem said that the device is with ben",
            "custody nobody has the device",
            "event uem said that the device is with stg-ipad",
            "custody Amina.Reuter@contoso.example has the device",
            "event uem said that the device is with amina",
        ]
    );
}

#[rstest]
#[tokio::test]
async fn the_audit_history_is_found_by_what_it_is_about(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut tx = ward.store.read().await.unwrap();
    let filter = audit::Filter::default;
    let span = |from: &str, to: &str| Span { from: Some(at(from)), to: Some(at(to)) };
    let cases = [
        (filter(), 3),
        (audit::Filter { device: Some(IPAD), ..filter() }, 3),
        (audit::Filter { device: Some(SECOND), ..filter() }, 0),
        (audit::Filter { person: Some(AMINA), ..filter() }, 3),
        (audit::Filter { person: Some(BEN), ..filter() }, 0),
        (audit::Filter { action: Some(String::from("revocation.retried")), ..filter() }, 1),
        (audit::Filter { span: span("14:30:00", "15:00:00"), ..filter() }, 2),
        (audit::Filter { span: span("14:30:01", "15:00:01"), ..filter() }, 2),
    ];

    for (filter, many) in cases {
        let page = audit::list(&mut tx, &filter, &Paging::largest()).await.unwrap();
        assert_eq!(page.items.len(), many, "{filter:?}");
    }
}

#[rstest]
#[tokio::test]
async fn the_tiles_say_how_things_stand(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(ward) = ward(kind).await else { return };
    let mut aside = ward.aside().await;
    put!(aside, "UPDATE revocations SET state = 'open' WHERE id = $1", HELD);
    let mut tx = ward.store.write().await.unwrap();
    instances::seen(&mut tx, "17-one", "ward-1", "0.1.0", at("15:59:58")).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = ward.store.read().await.unwrap();
    let now = status::Circumstances { now: at("16:00:00"), writes_per_second: 4.0, shadow: false };

    let status = status::read(&mut tx, ward.store.finished(), now).await.unwrap();

    insta::allow_duplicates! {
        insta::assert_json_snapshot!(status, { ".database" => "[database]" }, @r#"
        {
          "mode": "live",
          "house": null,
          "at": "2026-03-02T16:00:00Z",
          "devices": {
            "person": 1,
            "pool": 0,
            "unknown": 2,
            "undecided": 1
          },
          "revocations": {
            "accepted": 0,
            "covered_by_other": 0,
            "held": 0,
            "in_flight": 0,
            "moot": 0,
            "needs_operator": 0,
            "not_effective": 0,
            "open": 1,
            "shadow": 0,
            "verified": 1,
            "waived": 0
          },
          "owed": 1,
          "held": 0,
          "oldest_owed_at": "2026-03-02T08:00:01Z",
          "people_owed": 1,
          "drain_seconds": 0.25,
          "undecided_accounts": 1,
          "quarantine": {
            "malformed": 1,
            "unknown": 1
          },
          "looks_due": 1,
          "events_too_late": 0,
          "database": "[database]",
          "sources": [
            {
              "name": "uem",
              "last_heard_at": "2026-03-02T14:30:00Z",
              "last_swept_at": null,
              "offset_seconds": 1.5
            }
          ],
          "instances": [
            {
              "id": "17-one",
              "host": "ward-1",
              "version": "0.1.0",
              "started_at": "2026-03-02T15:59:58Z",
              "seen_at": "2026-03-02T15:59:58Z",
              "leads": false
            }
          ]
        }
        "#);
    }
}

/// The server of the tests has no standby.
#[rstest]
#[tokio::test]
async fn the_tiles_say_whether_acknowledged_events_outlive_the_server(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(test) = crate::support::empty(kind).await else { return };
    let mut tx = test.store.read().await.unwrap();
    let expected = match kind {
        Kind::Sqlite => ("sqlite", None, None),
        Kind::Postgres => ("postgresql", Some(false), Some(false)),
    };

    let alone = database::read(&mut tx).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "an instance was seen by the clock of the database")]
    let now = chrono::Utc::now();
    let mut aside = test.aside().await;
    for one in ["one", "two"] {
        put!(
            aside,
            "INSERT INTO instances (id, host, version, started_at, seen_at) VALUES ($1, 'here', '1', $2, $2)",
            one,
            now
        );
    }
    let two = database::read(&mut tx).await.unwrap();

    assert_eq!((alone.engine.as_str(), alone.encrypted, alone.synchronous_standby), expected);
    assert_eq!(alone.note, None);
    assert_eq!(two.note.is_some(), kind == Kind::Postgres, "{two:?}");
}

#[rstest]
#[tokio::test]
async fn an_empty_database_has_an_answer_to_everything(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(test) = crate::support::empty(kind).await else { return };
    let mut tx = test.store.read().await.unwrap();
    let now = status::Circumstances { now: at("16:00:00"), writes_per_second: 15.0, shadow: true };

    let status = status::read(&mut tx, test.store.finished(), now).await.unwrap();
    assert_eq!((status.mode.as_str(), status.owed, status.oldest_owed_at), ("shadow", 0, None));
    assert!(
        revocations::list(&mut tx, &revocations::Filter::default(), &Paging::largest()).await.unwrap().items.is_empty()
    );
    assert_eq!(revocations::one(&mut tx, VERIFIED).await.unwrap(), None);
    assert_eq!(custodies::at(&mut tx, IPAD, at("16:00:00")).await.unwrap().state, "unknown");
}
