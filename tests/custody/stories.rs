//! What happens on a ward, in plain words, and what follows from it.
//!
//! Times are seconds; reads settle after 20. A history is told as one line, `amina 0..60 | rack 60..`, and so is what is owed:
//! `amina at 120: NextUser`. A `~` before a holder or a time means that it was read, not told; a `?` that an end was inferred.

use std::time::Duration;

use handover::custody::{
    AccountId, Custody, Event, EventId, Folded, Holder, How, Known, Moment, Oddity, Owed, PersonId, Policy, RevokeOn,
    Standing, State, Subject, What, fold,
};
use rstest::rstest;

const AMINA: AccountId = AccountId([1; 16]);
/// Another account of Amina's.
const AMINA_TOO: AccountId = AccountId([2; 16]);
const BEN: AccountId = AccountId([3; 16]);
const RACK: AccountId = AccountId([4; 16]);
/// Another staging account.
const OTHER_RACK: AccountId = AccountId([5; 16]);
/// Looked up, and nobody we know.
const STRANGER: AccountId = AccountId([6; 16]);
/// Not looked up yet.
const NEW: AccountId = AccountId([7; 16]);

fn standing(account: AccountId, new_is: Standing) -> Standing {
    match account {
        AMINA | AMINA_TOO => Standing::Person(PersonId([1; 16])),
        BEN => Standing::Person(PersonId([3; 16])),
        RACK | OTHER_RACK => Standing::Pool,
        STRANGER => Standing::Unresolved,
        _ => new_is,
    }
}

fn event(seconds: i64, what: What, how: How) -> Event {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&seconds.to_be_bytes());
    Event { id: EventId(id), at: Moment::from_seconds(seconds), what, how }
}

fn told(seconds: i64, what: What) -> Event {
    event(seconds, what, How::Told)
}

fn with(seconds: i64, account: AccountId) -> Event {
    told(seconds, What::With(account))
}

fn enrolled(seconds: i64, account: AccountId) -> Event {
    told(seconds, What::Enrolled(account))
}

fn read(seconds: i64, account: AccountId) -> Event {
    event(seconds, What::With(account), How::Read)
}

fn folded(events: &[Event], new_is: Standing, revoke_on: RevokeOn) -> Folded {
    let policy = Policy { revoke_on, settle: Duration::from_secs(20) };
    fold(State::default(), events.iter().copied(), |account| standing(account, new_is), policy)
}

fn seconds(at: Moment) -> i64 {
    at.0 / 1_000_000
}

fn name(holder: Holder) -> &'static str {
    match holder {
        Holder::Person(PersonId([1, ..]), _) => "amina",
        Holder::Person(PersonId([3, ..]), _) => "ben",
        Holder::Person(..) => "new person",
        Holder::Pool(_) => "rack",
        Holder::Unknown(None) => "nobody named",
        Holder::Unknown(Some(_)) => "stranger",
        Holder::Undecided(_) => "undecided",
    }
}

fn line(custodies: &[Custody]) -> String {
    let mark = |known| match known {
        Known::Observed => "",
        Known::Inferred => "?",
        Known::Reconciled => "~",
    };
    let one = |custody: &Custody| {
        let end = custody.ended.map(|end| format!("{}{}", mark(end.how), seconds(end.at))).unwrap_or_default();
        format!("{}{} {}..{end}", mark(custody.started), name(custody.holder), seconds(custody.started_at))
    };
    custodies.iter().map(one).collect::<Vec<_>>().join(" | ")
}

fn debts(owed: &[Owed]) -> String {
    let one = |debt: &Owed| {
        let name = match debt.subject {
            Subject::Person(PersonId([1, ..])) => "amina",
            Subject::Person(PersonId([3, ..])) => "ben",
            Subject::Person(_) => "new person",
            Subject::Account(_) => "stranger",
        };
        let because = i64::from_be_bytes(debt.because.0[..8].try_into().expect("eight of sixteen"));
        format!("{name} at {because}: {:?}", debt.reason)
    };
    owed.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[rstest]
#[case::a_return_and_then_the_next_person(
    &[with(0, AMINA), with(60, RACK), with(120, BEN)],
    "amina 0..60 | rack 60..?120 | ben 120..",
    "amina at 120: NextUser",
    "amina at 60: Return"
)]
#[case::a_return_that_nobody_follows(
    &[with(0, AMINA), with(60, RACK)],
    "amina 0..60 | rack 60..",
    "",
    "amina at 60: Return"
)]
#[case::straight_from_person_to_person(
    &[with(0, AMINA), with(60, BEN)],
    "amina 0..?60 | ben 60..",
    "amina at 60: NextUser",
    "amina at 60: NextUser"
)]
#[case::the_same_person_again(
    &[with(0, AMINA), with(60, RACK), with(120, AMINA)],
    "amina 0..60 | rack 60..?120 | amina 120..",
    "",
    "amina at 60: Return"
)]
#[case::the_same_person_again_and_then_the_next(
    &[with(0, AMINA), with(60, RACK), with(120, AMINA), with(180, RACK), with(240, BEN)],
    "amina 0..60 | rack 60..?120 | amina 120..180 | rack 180..?240 | ben 240..",
    "amina at 240: NextUser",
    "amina at 60: Return, amina at 180: Return"
)]
#[case::hearing_of_the_same_person_twice_changes_nothing(
    &[with(0, AMINA), with(60, AMINA)],
    "amina 0..",
    "",
    ""
)]
#[case::from_one_staging_account_to_another(
    &[with(0, RACK), with(60, OTHER_RACK), with(120, AMINA), with(180, OTHER_RACK), with(240, RACK)],
    "rack 0..?120 | amina 120..180 | rack 180..",
    "",
    "amina at 180: Return"
)]
#[case::two_accounts_of_one_person(
    &[with(0, AMINA), with(60, AMINA_TOO), with(120, RACK), with(180, AMINA)],
    "amina 0..120 | rack 120..?180 | amina 180..",
    "",
    "amina at 120: Return"
)]
#[case::erased_while_a_person_has_it(
    &[with(0, AMINA), told(60, What::Erased), enrolled(120, RACK), with(180, BEN)],
    "amina 0..60 | nobody named 60..120 | rack 120..?180 | ben 180..",
    "",
    "amina at 60: Return"
)]
#[case::erased_after_the_return(
    &[with(0, AMINA), with(60, RACK), told(120, What::Erased), enrolled(180, BEN)],
    "amina 0..60 | rack 60..120 | nobody named 120..?180 | ben 180..",
    "",
    "amina at 60: Return"
)]
#[case::unenrolled_while_a_person_has_it(
    &[with(0, AMINA), told(60, What::Gone)],
    "amina 0..60 | nobody named 60..",
    "amina at 60: LeftSight",
    "amina at 60: LeftSight"
)]
#[case::unenrolled_from_the_rack(
    &[with(0, AMINA), with(60, RACK), told(120, What::Gone), told(180, What::Gone)],
    "amina 0..60 | rack 60..120 | nobody named 120..",
    "amina at 120: LeftSight",
    "amina at 60: Return"
)]
#[case::enrolled_anew_by_the_next_person(
    &[with(0, AMINA), enrolled(60, BEN)],
    "amina 0..?60 | ben 60..",
    "amina at 60: NextUser",
    "amina at 60: NextUser"
)]
#[case::enrolled_anew_by_the_same_person(
    &[with(0, AMINA), enrolled(60, AMINA)],
    "amina 0..?60 | amina 60..",
    "",
    "amina at 60: Return"
)]
#[case::enrolled_anew_into_the_rack(
    &[with(0, AMINA), enrolled(60, RACK), with(120, BEN)],
    "amina 0..?60 | rack 60..?120 | ben 120..",
    "amina at 120: NextUser",
    "amina at 60: Return"
)]
#[case::a_check_in_that_names_who_leaves_is_put_right_once_it_has_settled(
    &[with(0, AMINA), with(60, AMINA), read(61, RACK), read(80, RACK), with(120, BEN)],
    "amina 0..~80 | ~rack 80..?120 | ben 120..",
    "amina at 120: NextUser",
    "amina at 80: Return"
)]
#[case::a_read_that_was_overtaken_signs_nobody_out(
    &[with(0, AMINA), with(60, RACK), with(120, BEN), read(121, AMINA), read(139, RACK), read(140, BEN)],
    "amina 0..60 | rack 60..?120 | ben 120..",
    "amina at 120: NextUser",
    "amina at 60: Return"
)]
#[case::a_hint_that_names_nobody_unsettles_a_read_all_the_same(
    &[with(0, AMINA), told(60, What::Silent), read(79, RACK)],
    "amina 0..",
    "",
    ""
)]
#[case::a_lost_return_is_found_by_a_read(
    &[with(0, AMINA), read(60, BEN)],
    "amina 0..~60 | ~ben 60..",
    "amina at 60: NextUser",
    "amina at 60: NextUser"
)]
#[case::somebody_unknown_follows(
    &[with(0, AMINA), with(60, RACK), with(120, STRANGER), with(180, RACK), with(240, BEN)],
    "amina 0..60 | rack 60..?120 | stranger 120..180 | rack 180..?240 | ben 240..",
    "amina at 120: UnknownUser, stranger at 240: NextUser",
    "amina at 60: Return, stranger at 180: Return"
)]
#[case::somebody_whom_nobody_names_follows_and_is_never_owed(
    &[with(0, AMINA), told(60, What::Nameless), with(120, BEN)],
    "amina 0..?60 | nobody named 60..?120 | ben 120..",
    "amina at 60: UnknownUser",
    "amina at 60: UnknownUser"
)]
fn what_follows(#[case] events: &[Event], #[case] told: &str, #[case] next_user: &str, #[case] every_return: &str) {
    let by_next_user = folded(events, Standing::Undecided, RevokeOn::NextUser);
    let by_return = folded(events, Standing::Undecided, RevokeOn::Return);

    assert_eq!(line(&by_next_user.custodies), told);
    assert_eq!(debts(&by_next_user.owed), next_user, "when the next user counts");
    assert_eq!(by_return.custodies, by_next_user.custodies, "who had it is no question of policy");
    assert_eq!(debts(&by_return.owed), every_return, "when every departure counts");
}

/// Amina, then an account of which nothing is known, then the rack; and what it turns out to be.
#[rstest]
#[case::not_known_yet(Standing::Undecided, "amina 0..?60 | undecided 60..120 | rack 120..", "", "amina at 120: Return")]
#[case::the_rack(Standing::Pool, "amina 0..60 | rack 60..", "", "amina at 60: Return")]
#[case::another_person(
    Standing::Person(PersonId([9; 16])),
    "amina 0..?60 | new person 60..120 | rack 120..",
    "amina at 60: NextUser",
    "amina at 60: NextUser, new person at 120: Return"
)]
#[case::the_same_person(
    Standing::Person(PersonId([1; 16])),
    "amina 0..120 | rack 120..",
    "",
    "amina at 120: Return"
)]
#[case::nobody_we_know(
    Standing::Unresolved,
    "amina 0..?60 | stranger 60..120 | rack 120..",
    "amina at 60: UnknownUser",
    "amina at 60: UnknownUser, stranger at 120: Return"
)]
fn what_an_undecided_account_turns_out_to_be(
    #[case] new_is: Standing,
    #[case] told: &str,
    #[case] next_user: &str,
    #[case] every_return: &str,
) {
    let events = [with(0, AMINA), with(60, NEW), with(120, RACK)];

    let by_next_user = folded(&events, new_is, RevokeOn::NextUser);
    let by_return = folded(&events, new_is, RevokeOn::Return);

    assert_eq!(line(&by_next_user.custodies), told);
    assert_eq!(debts(&by_next_user.owed), next_user, "when the next user counts");
    assert_eq!(debts(&by_return.owed), every_return, "when every departure counts");
}

/// While nothing is known of whoever came in between, who comes after decides.
#[rstest]
#[case::another_person(with(120, BEN), "amina at 120: NextUser")]
#[case::the_same_person(with(120, AMINA), "")]
#[case::out_of_sight(told(120, What::Gone), "amina at 120: LeftSight")]
fn nobody_gets_lost_behind_an_undecided_account(
    #[case] then: Event,
    #[case] owed: &str,
    #[values(RevokeOn::NextUser, RevokeOn::Return)] revoke_on: RevokeOn,
) {
    let folded = folded(&[with(0, AMINA), with(60, NEW), then], Standing::Undecided, revoke_on);

    assert_eq!(debts(&folded.owed), owed);
}

#[test]
fn a_person_with_two_devices_is_owed_for_the_one_they_left() {
    let left = folded(&[with(0, AMINA), with(60, RACK), with(120, BEN)], Standing::Undecided, RevokeOn::NextUser);
    let kept = folded(&[with(30, AMINA)], Standing::Undecided, RevokeOn::NextUser);

    assert_eq!(debts(&left.owed), "amina at 120: NextUser");
    assert_eq!(line(&kept.custodies), "amina 30..");
    assert_eq!(kept.owed, []);
}

#[test]
fn exposure_begins_with_the_next_user_or_with_the_departure_where_nobody_follows() {
    let from = |events: &[Event], revoke_on| {
        let owed = folded(events, Standing::Undecided, revoke_on).owed;
        owed.iter().map(|debt| (seconds(debt.departed_at), seconds(debt.exposed_from))).collect::<Vec<_>>()
    };

    assert_eq!(from(&[with(0, AMINA), with(60, RACK), with(120, BEN)], RevokeOn::NextUser), [(60, 120)]);
    assert_eq!(from(&[with(0, AMINA), with(60, RACK), told(120, What::Gone)], RevokeOn::NextUser), [(60, 60)]);
    assert_eq!(from(&[with(0, AMINA), with(60, RACK), with(120, BEN)], RevokeOn::Return), [(60, 60)]);
    assert_eq!(from(&[with(0, AMINA), with(60, NEW), with(120, BEN)], RevokeOn::Return), [(60, 120)]);
}

#[test]
fn what_does_not_fit_is_kept() {
    let events = [
        with(0, AMINA),
        read(1, RACK),
        with(60, BEN),
        told(120, What::Nameless),
        told(180, What::Gone),
        told(240, What::Gone),
    ];

    let odd = folded(&events, Standing::Undecided, RevokeOn::NextUser).oddities;

    let odd: Vec<_> = odd.into_iter().map(|(_, odd)| odd).collect();
    assert_eq!(
        odd,
        [
            Oddity::Overtaken,
            Oddity::TakenWhileHeld,
            Oddity::Nameless,
            Oddity::TakenWhileHeld,
            Oddity::GoneTwice,
            Oddity::GoneTwice
        ]
    );
}
