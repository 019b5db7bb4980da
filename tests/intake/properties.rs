//! Laws that hold for any body.

use handover::intake::{Rules, Unreadable, read};
use proptest::prelude::*;

use crate::fixtures::{EVENTS, bytes};

fn rules() -> Rules {
    Rules::new("uem")
}

fn xml_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What a field may hold, often something that means "nothing" or almost a name.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{1,7}",
        "[A-Fa-f0-9-]{4,30}",
        "[A-Za-z@. ]{0,20}",
        "[ -~äß€\u{1F4F1}\t\n\r]{0,20}",
        Just(String::new()),
        Just("System.Byte[]".to_owned()),
        Just("00000000-0000-0000-0000-000000000000".to_owned()),
        Just("5E0D4F0B-7F5E-4D0E-9B57-0C0F6A1F7A11".to_owned()),
        Just("2026-03-02T05:58:41.2284513Z".to_owned()),
        Just("/Date(1772528403986+0100)/".to_owned()),
        Just("Unenrolled".to_owned()),
    ]
}

const NAMES: [&str; 16] = [
    "EventId",
    "EventType",
    "DeviceId",
    "DeviceFriendlyName",
    "EnrollmentEmailAddress",
    "EnrollmentUserName",
    "EventTime",
    "EnrollmentStatus",
    "CompromisedTimeStamp",
    "Udid",
    "SerialNumber",
    "MACAddress",
    "EnrollmentUserId",
    "DeviceUUID",
    "EnrollmentUserUUID",
    "NewVendorField",
];

fn event() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    proptest::collection::vec(proptest::option::weighted(0.6, value()), NAMES.len())
        .prop_map(|values| NAMES.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_break_it(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&body, None, &rules());
    }

    #[test]
    fn nothing_that_looks_like_json_or_xml_breaks_it(
        body in r#"[{}\[\]",:0-9eE+.a-c\\u<>/!?&;=' \n-]{0,120}"#,
        content_type in proptest::option::of("[ -~]{0,30}"),
    ) {
        let _ = read(body.as_bytes(), content_type.as_deref(), &rules());
    }

    #[test]
    fn a_damaged_event_breaks_nothing(
        which in 0..EVENTS.len(),
        at in any::<prop::sample::Index>(),
        take in 0_usize..40,
        put in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut body = bytes(EVENTS[which]);
        let at = at.index(body.len());
        body.splice(at..(at + take).min(body.len()), put);
        let _ = read(&body, None, &rules());
    }

    #[test]
    fn a_truncated_event_is_never_recorded(which in 0..EVENTS.len(), at in any::<prop::sample::Index>()) {
        let body = bytes(EVENTS[which]);
        let body = body.trim_ascii_end();
        let cut = read(&body[..at.index(body.len())], None, &rules());
        let malformed = matches!(cut, Err(Unreadable::Malformed { .. }));
        prop_assert!(malformed);
    }

    #[test]
    fn json_and_xml_say_the_same(event in event()) {
        let json: serde_json::Map<_, _> =
            event.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect();
        let json = serde_json::to_vec(&json).unwrap();
        let xml: String =
            event.iter().map(|(name, value)| format!("<{name}>{}</{name}>", xml_text(value))).collect::<Vec<_>>().concat();
        let xml = format!("<Eventlog>{xml}</Eventlog>");

        prop_assert_eq!(read(&json, None, &rules()), read(xml.as_bytes(), None, &rules()));
    }

    #[test]
    fn the_order_of_fields_makes_no_difference(event in event()) {
        let object = |fields: &mut dyn Iterator<Item = &(&str, String)>| {
            let fields: Vec<_> = fields.map(|(name, value)| format!("{name:?}:{}", serde_json::json!(value))).collect();
            format!("{{{}}}", fields.join(","))
        };
        let (ahead, back) = (object(&mut event.iter()), object(&mut event.iter().rev()));

        prop_assert_eq!(read(ahead.as_bytes(), None, &rules()), read(back.as_bytes(), None, &rules()));
    }
}
