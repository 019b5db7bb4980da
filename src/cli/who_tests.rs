//! What `who` answers, in one sentence.

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

    insta::assert_snapshot!(format!("{}\n\n{}", answer.sentence(), answer.evidence()), @r#"
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) was held by amina.reuter@contoso.example from 05:58:41 to 14:07:03 UTC on 2 March 2026 (returned); the tokens were revoked at 14:09:11 UTC, verified at 14:09:12 UTC.

      asked for       2026-03-02 13:00:00 UTC
      custody         00000000-0000-0000-0000-00000000000c
                      from 2026-03-02 05:58:41 UTC (observed), to 2026-03-02 14:07:03 UTC (observed)
      lasted          8 h 08 min
      next            jo.lind@contoso.example
      revocation      00000000-0000-0000-0000-00000000000e (verified)
                      its effect was seen
      attempt         2026-03-02 14:09:10 UTC, answered 200
                      client-request-id 00000000-0000-0000-0000-00000000000f
                      request-id        7f0a
      stamp           2026-02-11 08:00:00 → 2026-03-02 14:09:11 UTC
      exposure        from 2026-03-02 14:08:59 UTC, for 13 s
    "#);
}

#[test]
fn every_state_of_a_revocation_has_its_words() {
    let told: Vec<_> = Standpoint::ALL.map(|state| with(state.name(), "because")).into();
    let told: Vec<_> = told.iter().map(|told| told.split_once("; ").unwrap().1).collect();

    insta::assert_snapshot!(told.join("\n"), @r#"
    the tokens are not revoked yet: because.
    the tokens are not revoked yet: because.
    the tokens were revoked at an unknown time, not verified yet (because).
    the tokens were revoked at 14:09:11 UTC, verified at 14:09:12 UTC.
    the tokens are not revoked, the revocation is held: because.
    the tokens are not revoked, the revocation needs an operator: because.
    the tokens are dealt with: because.
    the tokens needed no revocation: because.
    the tokens were not revoked: because.
    the tokens were not revoked: because.
    the tokens were not revoked: in shadow mode nothing is sent.
    "#);
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
    let told = vec![
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

    insta::assert_snapshot!(told.join("\n"), @r#"
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) has been held by amina.reuter@contoso.example since 05:58:41 UTC on 2 March 2026; nothing is owed for it yet.
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) has been held by amina.reuter@contoso.example since 05:58:41 UTC on 2 March 2026 and still is; nothing is owed for it yet.
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) has been held by somebody unknown (account areuter) since 05:58:41 UTC on 2 March 2026; nothing is owed for it yet.
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) has been held by somebody unknown since 05:58:41 UTC on 2 March 2026; nothing is owed for it yet.
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) has been held by the account areuter (still being looked up) since 05:58:41 UTC on 2 March 2026; nothing is owed for it yet.
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) is with nobody: it has been in the pool since 14:07:03 UTC on 2 March 2026; before that it was held by amina.reuter@contoso.example; the tokens are not revoked, the revocation is held: the event came late.
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) is with nobody: it has been in the pool since 14:07:03 UTC on 2 March 2026.
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) was with nobody from 14:07:03 to 14:07:03 UTC on 2 March 2026; before that it was held by amina.reuter@contoso.example.
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) was not known to Handover at 13:00:00 UTC on 2 March 2026; its first event came later, or has no holder.
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) is known to Handover, but nothing has said yet who has it.
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) is with nobody we know: it left our sight at 14:07:03 UTC on 2 March 2026; the last known holder was amina.reuter@contoso.example.
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) was with nobody we know at 13:00:00 UTC on 2 March 2026: it was erased at 14:07:03 UTC on 2 March 2026; the last known holder was amina.reuter@contoso.example.
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) was held by amina.reuter@contoso.example from 05:58:41 to 14:07:03 UTC on 2 March 2026 (returned); nothing is owed yet, since nobody has followed on the device.
    iPad DMPX7Q2LK1 (iPad Ward 3B 07) was held by amina.reuter@contoso.example from 05:58:41 to 14:07:03 UTC on 2 March 2026 (erased); nothing is owed, since the device was erased and the tokens with it.
    "#);
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
