use super::*;
use crate::cli::samples::{custody, device, lasting, morning, revocation};
use crate::store::asking::people::{Held, Name};

#[test]
fn a_history_is_a_table() {
    insta::assert_snapshot!(history(&device(), &[lasting(), custody()], true), @"");
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

    insta::assert_snapshot!(person(&amina, &[custody()], false), @"");
}

#[test]
fn revocations_that_wait_are_explained() {
    let items = [revocation("verified", ""), revocation("held", "the event came late; release it to send it now")];

    insta::assert_snapshot!(revocations(&items, false), @"");
    assert_eq!(revocations(&[], false), "revocations\nnothing to list\n");
}

#[test]
fn a_spreadsheet_gets_everything_and_no_formula() {
    let mut evil = custody();
    evil.account = Some("=cmd|' /C calc'!A0".into());

    insta::assert_snapshot!(custodies_csv(&[evil]).unwrap(), @"");
    insta::assert_snapshot!(revocations_csv(&[revocation("verified", "")]).unwrap(), @"");
}

#[test]
fn a_table_stays_within_its_width() {
    let wide = history(&device(), &[custody()], false);

    assert!(wide.lines().all(|line| line.chars().count() <= 120), "{wide}");
}
