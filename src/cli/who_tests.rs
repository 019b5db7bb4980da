use super::*;
use crate::cli::samples::{custody, device, held, lasting, rack, revocation};

fn answer(now: Option<Custody>, before: Option<Custody>, revocation: Option<Revocation>, past: bool) -> Answer {
    Answer { device: device(), held: held(now, before), revocation, past }
}

fn with(state: &str, explanation: &str) -> String {
    answer(Some(custody()), None, Some(revocation(state, explanation)), true).sentence()
}

#[test]
fn a_custody_whose_tokens_were_revoked_has_its_whole_evidence() {
    let answer = answer(Some(custody()), None, Some(revocation("verified", "its effect was seen")), true);

    insta::assert_snapshot!(format!("{}\n\n{}", answer.sentence(), answer.evidence()), @"");
}

#[test]
fn every_state_of_a_revocation_has_its_words() {
    let told: Vec<_> = Standpoint::ALL.map(|state| with(state.name(), "because")).into();
    let told: Vec<_> = told.iter().map(|told| told.split_once("; ").unwrap().1).collect();

    insta::assert_snapshot!(told.join("\n"), @"");
}

#[test]
fn a_device_that_is_with_nobody_or_with_somebody_says_so() {
    let unknown = Custody { state: "unknown".into(), person: None, ..lasting() };
    let nameless = Custody { account: None, ..unknown.clone() };
    let undecided = Custody { undecided: true, ..unknown.clone() };
    let ended = Custody { ended_at: Some(custody().ended_at.unwrap()), ..rack() };
    let gone = Custody { departure: Some("gone".into()), revocation: None, ..custody() };
    let erased = Custody { departure: Some("erased".into()), ..gone.clone() };
    let alone = Custody { next: None, revocation: None, ..custody() };
    let short = Some(revocation("held", "the event came late"));
    let told = [
        answer(Some(lasting()), None, None, false),
        answer(Some(lasting()), None, None, true),
        answer(Some(unknown), None, None, false),
        answer(Some(nameless), None, None, false),
        answer(Some(undecided), None, None, false),
        answer(Some(rack()), Some(custody()), short, false),
        answer(Some(rack()), None, None, false),
        answer(Some(ended), Some(alone.clone()), None, true),
        answer(None, None, None, true),
        answer(None, None, None, false),
        answer(None, Some(gone), None, false),
        answer(None, Some(erased.clone()), None, true),
        answer(Some(alone), None, None, true),
        answer(Some(erased), None, None, true),
    ];
    let told: Vec<_> = told.iter().map(Answer::sentence).collect();

    insta::assert_snapshot!(told.join("\n"), @"");
}

#[test]
fn a_custody_over_midnight_names_both_days() {
    let night = Custody { started_at: "2026-03-01T22:00:00Z".parse().unwrap(), ..custody() };
    let told = answer(Some(night), None, Some(revocation("shadow", "")), true).sentence();

    assert!(told.contains("from 22:00:00 UTC on 1 March 2026 to 14:07:03 UTC on 2 March 2026"), "{told}");
}

#[test]
fn a_name_cannot_repaint_the_terminal() {
    let mut answer = answer(Some(lasting()), None, None, false);
    answer.device.name = Some("x\u{1b}[2J\u{202e}".into());

    assert!(!answer.sentence().contains(['\u{1b}', '\u{202e}']));
}
