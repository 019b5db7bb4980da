//! What the lists print, and in which order.

use super::*;
use crate::cli::samples::{custody, device, lasting, morning, revocation};
use crate::store::asking::people::{Held, Name};

#[test]
fn a_history_is_a_table() {
    insta::assert_snapshot!(history(&device(), &[lasting(), custody()], true), @r#"
    DMPX7Q2LK1 · iPad Ward 3B 07 · Contoso Clinics
    from (UTC)           to (UTC)  lasted      holder                      ended       next                     revocation
    2026-03-02 05:58:41  –         –           amina.reuter@contoso.examp  still held  –                        –
                                               le
    2026-03-02 05:58:41  14:07:03  8 h 08 min  amina.reuter@contoso.examp  returned    jo.lind@contoso.example  verified
                                               le
    the newest 2; --limit shows more
    "#);
}

#[test]
fn a_person_has_names_and_devices() {
    let amina = Person {
        upn: "amina.reuter@contoso.example".into(),
        object_id: None,
        guest: false,
        open_revocations: 0,
        first_seen_at: morning(),
        names: vec![Name { upn: "amina.klein@contoso.example".into(), from: morning(), until: Some(morning()) }],
        devices: vec![Held { device: "DMPX7Q2LK1".into(), since: morning(), custody: uuid::Uuid::nil() }],
    };

    insta::assert_snapshot!(person(&amina, &[custody()], false), @r#"
    amina.reuter@contoso.example (formerly amina.klein@contoso.example) · holds DMPX7Q2LK1
    from (UTC)           to (UTC)  lasted      device      ended     next                     revocation
    2026-03-02 05:58:41  14:07:03  8 h 08 min  DMPX7Q2LK1  returned  jo.lind@contoso.example  verified
    "#);
}

#[test]
fn revocations_that_wait_are_explained() {
    let items = [revocation("verified", ""), revocation("held", "the event came late; release it to send it now")];

    insta::assert_snapshot!(revocations(&items, false), @r#"
    revocations
    owed (UTC)           state     person                        device      id
    2026-03-02 14:09:10  verified  amina.reuter@contoso.example  DMPX7Q2LK1  00000000-0000-0000-0000-00000000000e
    2026-03-02 14:09:10  held      amina.reuter@contoso.example  DMPX7Q2LK1  00000000-0000-0000-0000-00000000000e
      waits           00000000-0000-0000-0000-00000000000e: the event came late; release it to send it now
    "#);
    assert_eq!(revocations(&[], false), "revocations\nnothing to list\n");
}

#[test]
fn a_spreadsheet_gets_everything_and_no_formula() {
    let mut evil = custody();
    evil.account = Some("=cmd|' /C calc'!A0".into());

    insta::assert_snapshot!(custodies_csv(&[evil]).unwrap(), @r#"
    custody,device,state,upn,object_id,account,started_at,started,ended_at,ended,departure,seconds,next_upn,next_state,revocation,revocation_state
    00000000-0000-0000-0000-00000000000c,DMPX7Q2LK1,person,amina.reuter@contoso.example,00000000-0000-0000-0000-00000000000a,'=cmd|' /C calc'!A0,2026-03-02T05:58:41.228451Z,observed,2026-03-02T14:07:03.000000Z,observed,return,29302,jo.lind@contoso.example,person,00000000-0000-0000-0000-00000000000e,verified
    "#);
    insta::assert_snapshot!(revocations_csv(&[revocation("verified", "")]).unwrap(), @r#"
    id,state,reason,upn,object_id,account,device,custody,departed_at,owed_at,accepted_at,verified_at,stamp_before,stamp_after,exposed_from,refresh_tokens_until,access_tokens_until,covered_by,explanation
    00000000-0000-0000-0000-00000000000e,verified,next_user,amina.reuter@contoso.example,00000000-0000-0000-0000-00000000000a,,DMPX7Q2LK1,00000000-0000-0000-0000-00000000000c,2026-03-02T14:07:03.000000Z,2026-03-02T14:09:10.000000Z,2026-03-02T14:09:11.000000Z,2026-03-02T14:09:12.000000Z,2026-02-11T08:00:00.000000Z,2026-03-02T14:09:11.000000Z,2026-03-02T14:08:59.000000Z,2026-03-02T14:09:12.000000Z,,,
    "#);
}

#[test]
fn a_table_stays_within_its_width() {
    let wide = history(&device(), &[custody()], false);

    assert!(wide.lines().all(|line| line.chars().count() <= 120), "{wide}");
}
