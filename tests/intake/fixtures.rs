//! One test for every generation and every odd form of an event.

use handover::custody::Moment;
use handover::intake::{AccountNames, Class, Notice, Oddity, Rules, Unreadable, read, read_record};

/// The bytes of a fixture.
pub(crate) fn bytes(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/intake/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All events that exist as a fixture.
pub(crate) const EVENTS: [&str; 14] = [
    "asset-number-2021.json",
    "check-in-2014.xml",
    "check-in-2022-five-digits.json",
    "check-out-2022.json",
    "check-out-2022.xml",
    "compromised-2014-01.xml",
    "enrolled-2014-01-offset.json",
    "enrolled-by-staging.json",
    "odd.json",
    "person-to-person.json",
    "unenrolled-2013.json",
    "unenrolled-2014-03.json",
    "unenrolled-2022.json",
    "wipe-requested-2013.json",
];

fn rules() -> Rules {
    Rules::new("uem")
}

fn notice(name: &str) -> Notice {
    read(&bytes(name), None, &rules()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn said(json: &str) -> Notice {
    read(json.as_bytes(), Some("application/json"), &rules()).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "names are optional, and this is what they are compared with")]
fn named(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_check_out_names_the_device_and_the_person_and_loses_the_seventh_digit() {
    let notice = notice("check-out-2022.json");

    assert_eq!(notice.class, Class::Handover);
    assert_eq!((notice.kind, notice.text.as_deref()), (Some(9001), Some("Check Out")));
    assert_eq!(notice.occurred_at, Some(Moment(1_772_431_121_228_451)));
    assert_eq!(notice.notified_at, Some(Moment(1_772_431_121_801_127)));
    assert_eq!(notice.enrolled, Some(true));
    assert_eq!(notice.device.serial, named("DMPX7Q2LK1"));
    assert_eq!(notice.device.udid, named("00008103000A51C23E88001E"));
    assert_eq!(notice.device.uem_id, named("41207"));
    assert_eq!(notice.device.uem_uuid, named("5e0d4f0b-7f5e-4d0e-9b57-0c0f6a1f7a11"));
    assert_eq!(notice.device.name, named("iPad Ward 3B 07"));
    assert_eq!(notice.device.asset_number, named("W3B-07"));
    assert_eq!(notice.device.site, named("Contoso Clinics"));
    assert_eq!(
        notice.account,
        Some(AccountNames {
            uuid: named("c7a4e9f2-25d1-4a6f-8a58-4fe0a2f3d901"),
            id: named("88213"),
            user_name: named("amina.reuter@contoso.example"),
            email: named("amina.reuter@contoso.example"),
        })
    );
    assert_eq!(notice.oddities, []);
}

#[test]
fn a_check_in_with_five_digits_and_a_trailing_blank_belongs_to_the_pool_account() {
    let notice = notice("check-in-2022-five-digits.json");
    let account = notice.account.unwrap();

    assert_eq!(notice.occurred_at, Some(Moment(1_772_460_423_671_450)));
    assert_eq!(notice.device.site, named("Contoso Clinics"));
    assert_eq!((account.user_name, account.email), (named("stg-ipad"), None));
    assert_eq!(notice.class, Class::Handover);
}

#[test]
fn a_change_from_person_to_person_has_the_same_class_in_another_spelling() {
    let notice = notice("person-to-person.json");

    assert_eq!((notice.class, notice.text.as_deref()), (Class::Handover, Some("CheckOut")));
    assert_eq!(notice.occurred_at, Some(Moment(1_772_487_000_000_000)));
}

#[test]
fn an_enrolment_by_the_staging_account_is_enrolled() {
    let notice = notice("enrolled-by-staging.json");

    assert_eq!((notice.class, notice.enrolled), (Class::Enrolled, Some(true)));
}

#[test]
fn a_wipe_request_of_2013_is_no_departure_and_bytes_are_absent() {
    let notice = notice("wipe-requested-2013.json");

    assert_eq!((notice.class, notice.enrolled), (Class::WipeRequested, Some(true)));
    assert_eq!(notice.occurred_at, Some(Moment(1_772_528_403_986_000)));
    assert_eq!(notice.device.udid, None);
    assert_eq!(notice.device.uem_uuid, None);
    assert_eq!(notice.oddities, []);
}

#[test]
fn an_unenrolment_of_any_generation_names_nobody() {
    for name in ["unenrolled-2013.json", "unenrolled-2014-03.json", "unenrolled-2022.json"] {
        let notice = notice(name);

        assert_eq!((notice.class, notice.enrolled), (Class::Unenrolled, Some(false)), "{name}");
        assert_eq!(notice.account, None, "{name}");
        assert!(notice.occurred_at.is_some(), "{name}");
    }
}

#[test]
fn an_old_time_with_an_offset_is_the_same_instant() {
    assert_eq!(notice("enrolled-2014-01-offset.json").occurred_at, Some(Moment(1_391_182_403_986_000)));
    assert_eq!(notice("compromised-2014-01.xml").occurred_at, Some(Moment(1_391_182_403_986_000)));
}

#[test]
fn a_compromised_status_in_xml_and_an_asset_number_are_attributes() {
    assert_eq!(notice("compromised-2014-01.xml").class, Class::Attribute);
    assert_eq!(notice("asset-number-2021.json").class, Class::Attribute);
    assert_eq!(notice("asset-number-2021.json").device.asset_number, named("W3B-08"));
}

#[test]
fn xml_with_a_lower_case_udid_and_empty_elements_reads_like_json() {
    let notice = notice("check-in-2014.xml");

    assert_eq!(notice.device.udid, named("00008103000A51C23E88001E"));
    let account = notice.account.unwrap();
    assert_eq!((account.id, account.user_name, account.email), (named("70001"), named("stg-ipad"), None));
}

#[test]
fn an_odd_event_is_read_as_far_as_it_goes() {
    let notice = notice("odd.json");

    assert_eq!((notice.kind, notice.text.as_deref()), (Some(9001), Some("check-out")));
    assert_eq!(notice.class, Class::Handover);
    assert_eq!(notice.occurred_at, Some(Moment(1_772_431_080_000_000)));
    assert_eq!(notice.device.uem_id, named("41207"));
    assert_eq!(notice.device.serial, None);
    assert_eq!(notice.device.udid, named("00008103000A51C23E88001E"));
    assert_eq!((notice.account, notice.enrolled), (None, None));
}

#[test]
fn the_same_event_in_json_xml_and_csv_has_the_same_id() {
    let body = bytes("events.csv");
    let mut reader = csv::Reader::from_reader(&body[..]);
    let headers = reader.headers().unwrap().clone();
    let record = reader.records().next().unwrap().unwrap();
    let from_csv = read_record(&headers, &record, &rules()).unwrap();

    assert_eq!(notice("check-out-2022.json").id, notice("check-out-2022.xml").id);
    assert_eq!(notice("check-out-2022.json").id, from_csv.id);
    assert_eq!(notice("check-out-2022.json"), notice("check-out-2022.xml"));
}

#[test]
fn a_line_of_csv_may_say_little() {
    let body = bytes("events.csv");
    let mut reader = csv::Reader::from_reader(&body[..]);
    let headers = reader.headers().unwrap().clone();
    let record = reader.records().nth(1).unwrap().unwrap();

    let notice = read_record(&headers, &record, &rules()).unwrap();

    assert_eq!((notice.class, notice.kind), (Class::Handover, None));
    assert_eq!(notice.device.serial, named("DMPX7Q2LK1"));
    assert_eq!(notice.occurred_at, Some(Moment(1_772_460_420_000_000)));
}

#[test]
fn a_line_of_csv_with_a_doubled_column_or_without_a_device_is_malformed() {
    let line = |headers: &[&str], values: &[&str]| {
        read_record(&csv::StringRecord::from(headers.to_vec()), &csv::StringRecord::from(values.to_vec()), &rules())
    };

    assert!(matches!(line(&["SerialNumber", "serialnumber"], &["A", "B"]), Err(Unreadable::Malformed { .. })));
    assert!(matches!(line(&["SerialNumber"], &["A", "B"]), Err(Unreadable::Malformed { .. })));
    assert!(matches!(line(&["EventType", "SerialNumber"], &["Check In"]), Err(Unreadable::Malformed { .. })));
    assert!(matches!(line(&["Serial"], &["A"]), Err(Unreadable::Unknown { .. })));
}

#[test]
fn zeros_cut_off_a_time_and_numbers_sent_as_text_change_no_id() {
    let long = said(r#"{"EventId":9001,"DeviceId":41207,"EventTime":"2026-03-02T05:58:41.2000000Z"}"#);
    let short = said(r#"{"EventId":"9001","DeviceId":"41207","EventTime":"2026-03-02T05:58:41.2Z","Udid":null}"#);

    assert_eq!(long.id, short.id);
}

#[test]
fn another_source_device_kind_time_or_account_is_another_event() {
    let body = r#"{"EventId":9001,"DeviceId":41207,"EventTime":"2026-03-02T05:58:41Z","EnrollmentUserId":7}"#;
    let others = [
        body.replace("9001", "9002"),
        body.replace("41207", "41208"),
        body.replace(":41Z", ":42Z"),
        body.replace(":7}", ":8}"),
        body.replace(",\"EnrollmentUserId\":7", ""),
    ];

    let mut ids: Vec<_> = others.iter().map(|other| said(other).id).collect();
    ids.push(said(body).id);
    ids.push(read(body.as_bytes(), None, &Rules::new("another")).unwrap().id);
    ids.sort_unstable();
    ids.dedup();

    assert_eq!(ids.len(), 7);
}

#[test]
fn events_without_a_readable_time_are_told_apart_by_what_they_say() {
    let body = r#"{"EventId":9001,"DeviceId":41207,"EventTime":"soon","PhoneNumber":"1","MACAddress":"000000000000"}"#;
    let again = r#"{"MACAddress":"","PhoneNumber":" 1 ","EventTime":"soon","DeviceId":"41207","EventId":9001}"#;
    let other = body.replace(r#""1""#, r#""2""#);

    assert_eq!(said(body).id, said(again).id);
    assert_ne!(said(body).id, said(&other).id);
    assert_eq!(said(body).oddities, [Oddity::TimeUnreadable]);
    assert_eq!(said(body).occurred_at, None);
}

#[test]
fn an_id_is_a_custom_uuid_that_begins_with_the_time_and_never_changes() {
    let Notice { id, formerly, occurred_at, .. } = notice("check-out-2022.json");

    assert_eq!(id.get_version_num(), 8);
    assert_eq!(formerly.to_string(), "0f9e616a-f52e-81b5-bb66-45a151c10971");
    assert_eq!(id.as_u128() >> 80, u128::try_from(occurred_at.unwrap().0 / 1000).unwrap());
    assert_eq!(id.as_u128() << 48, formerly.as_u128() << 48, "the rest is the hash");
}

#[test]
fn what_does_not_fit_is_noted_and_set_aside() {
    let notice = said(
        r#"{"DeviceId":"x","SerialNumber":"A1","Udid":"not hex","DeviceUUID":"me","EventId":1.5,"EventTime":"soon",
            "CompromisedTimeStamp":5,"EnrollmentStatus":"Dreaming","EnrollmentUserId":-4}"#,
    );

    assert_eq!(
        notice.oddities,
        [
            Oddity::TimeUnreadable,
            Oddity::NotifiedTimeUnreadable,
            Oddity::NumberUnreadable,
            Oddity::UuidUnreadable,
            Oddity::UdidUnreadable,
            Oddity::NoEventName,
            Oddity::StatusUnknown,
        ]
    );
    assert_eq!((notice.account, notice.enrolled), (None, None));
}

#[test]
fn a_status_of_unenrolled_outweighs_the_name_but_not_a_wipe_or_a_deletion() {
    let class =
        |name: &str| said(&format!(r#"{{"EventType":"{name}","DeviceId":1,"EnrollmentStatus":"Unenrolled"}}"#)).class;

    assert_eq!(class("Check In"), Class::Unenrolled);
    assert_eq!(class("Device Wipe Requested"), Class::Unenrolled);
    assert_eq!(class("never heard of"), Class::Unenrolled);
    assert_eq!(class("Wipe Confirmed"), Class::Wiped);
    assert_eq!(class("Device Deleted"), Class::Deleted);
}

#[test]
fn an_unknown_name_is_a_legal_result() {
    let notice = said(r#"{"EventId":4711,"EventType":"Gerät ausgecheckt","DeviceId":1}"#);

    assert_eq!(notice.class, Class::Unknown);
    assert_eq!(notice.text, named("Gerät ausgecheckt"));
}
