//! What may differ from one source to the next: its name, its zone, its names of events, its limits.
//!
//! The table of event names is data, because the vendor neither publishes the names nor keeps their spelling. An event
//! that no entry matches is [`Class::Unknown`], which loses nothing: what matters is decided by comparing accounts.

use chrono::{FixedOffset, Offset as _, Utc};
use serde::{Deserialize, Serialize};

use crate::intake::{Class, canon};

/// How the events of one source are read.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The source's name. Part of every id, so two sources never meet on one event.
    pub source: String,
    /// What the names of events mean.
    pub table: EventTable,
    /// The zone of a time that names none. Default: UTC.
    pub assumed_zone: FixedOffset,
    /// How much is read.
    pub limits: Limits,
}

impl Rules {
    /// The ordinary rules for a source of this name.
    pub fn new(source: impl Into<String>) -> Self {
        Self { source: source.into(), table: EventTable::default(), assumed_zone: Utc.fix(), limits: Limits::default() }
    }
}

/// How much of a body is read before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body. Default: 256 KiB.
    pub body_bytes: usize,
    /// Bytes of one text. Default: 4 KiB.
    pub text_bytes: usize,
    /// Objects, arrays or elements inside each other. Default: 32.
    pub depth: usize,
    /// Elements of one array. Default: 1,000.
    pub elements: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes: 256 * 1024, text_bytes: 4096, depth: 32, elements: 1000 }
    }
}

/// One line of the table. What is given must match; an entry that gives nothing matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The event's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<i64>,
    /// The event's name. Only letters and digits count, in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// What it is.
    pub class: Class,
}

/// What the names and numbers of events mean; the first entry that matches decides.
///
/// In the default table names come before numbers, because what is known of the numbers is thinner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct EventTable(Vec<Entry>);

impl EventTable {
    /// This table with `entries` asked first.
    #[must_use]
    pub fn with_first(self, entries: impl IntoIterator<Item = Entry>) -> Self {
        Self::from(entries.into_iter().chain(self.0).collect::<Vec<_>>())
    }

    /// What an event of this number and name is.
    pub fn class(&self, event_id: Option<i64>, event_type: Option<&str>) -> Class {
        let folded = event_type.map(canon::folded);
        let matching = |entry: &&Entry| {
            let id = entry.event_id.is_none() || entry.event_id == event_id;
            let name = entry.event_type.is_none() || entry.event_type == folded;
            id && name && (entry.event_id.is_some() || entry.event_type.is_some())
        };
        self.0.iter().find(matching).map_or(Class::Unknown, |entry| entry.class)
    }
}

impl From<Vec<Entry>> for EventTable {
    fn from(mut entries: Vec<Entry>) -> Self {
        for entry in &mut entries {
            entry.event_type = entry.event_type.as_deref().map(canon::folded).filter(|name| !name.is_empty());
        }
        Self(entries)
    }
}

impl From<EventTable> for Vec<Entry> {
    fn from(table: EventTable) -> Self {
        table.0
    }
}

impl Default for EventTable {
    fn default() -> Self {
        let names = NAMES.iter().flat_map(|(class, names)| names.iter().map(|name| (*class, *name)));
        let names = names.map(|(class, name)| Entry { event_id: None, event_type: Some(name.to_owned()), class });
        let numbers = NUMBERS.iter().map(|(id, class)| Entry { event_id: Some(*id), event_type: None, class: *class });
        Self(names.chain(numbers).collect())
    }
}

/// The names seen in the field, and the spellings they may have had before or since.
///
/// An enterprise wipe leaves the device and what other apps keep on it, so its confirmation is an unenrolment, not a wipe.
const NAMES: &[(Class, &[&str])] = &[
    (
        Class::Handover,
        &[
            "checkout",
            "checkin",
            "checkedout",
            "checkedin",
            "checkoutcheckin",
            "checkincheckout",
            "devicecheckout",
            "devicecheckin",
            "devicecheckedout",
            "devicecheckedin",
            "devicecheckoutcheckin",
            "devicecheckincheckout",
            "shareddevicecheckout",
            "shareddevicecheckin",
            "shareddevicecheckedout",
            "shareddevicecheckedin",
        ],
    ),
    (Class::Unenrolled, &["breakmdmconfirmed", "deviceunenrolled", "enterprisewipeconfirmed"]),
    (Class::Enrolled, &["mdmenrollmentcomplete", "enrollmentcomplete", "deviceenrollmentcomplete"]),
    (
        Class::WipeRequested,
        &[
            "devicewiperequested",
            "deviceenterprisewiperequested",
            "enterprisewiperequested",
            "breakmdmrequested",
            "wiperequested",
        ],
    ),
    (Class::Wiped, &["wipeconfirmed", "devicewipeconfirmed"]),
    (
        Class::Deleted,
        &["devicedeleted", "devicedelete", "deletedevice", "deletedeviceconfirmed", "deletedevicerequested"],
    ),
    (
        Class::Attribute,
        &[
            "compromisedstatuschanged",
            "compliancestatuschanged",
            "assetnumber",
            "assetnumberchanged",
            "friendlyname",
            "devicefriendlyname",
            "devicefriendlynamechanged",
            "organizationgroup",
            "deviceorganizationgroupchanged",
            "devicelocationgroupchanged",
            "useremailaddress",
            "useremailaddresschanged",
            "deviceuseremailaddresschanged",
            "ownership",
            "ownershipchanged",
            "deviceownershipchanged",
            "operatingsystem",
            "deviceoperatingsystemchanged",
            "phonenumber",
            "devicephonenumberchanged",
            "deviceattributephonenumbermodified",
            "devicemcc",
            "devicemccchanged",
            "deviceattributedevicemccmodified",
            "editdevice",
        ],
    ),
];

const NUMBERS: &[(i64, Class)] = &[
    (25, Class::WipeRequested),
    (39, Class::Unenrolled),
    (148, Class::Enrolled),
    (170, Class::Enrolled),
    (178, Class::Attribute),
    (229, Class::WipeRequested),
    (641, Class::Attribute),
    (642, Class::Attribute),
];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Some(39), Some("BreakMDMConfirmed"), Class::Unenrolled)]
    #[case(None, Some("Break MDM Confirmed"), Class::Unenrolled)]
    #[case(Some(39), None, Class::Unenrolled)]
    #[case(Some(148), Some("MDM Enrollment Complete"), Class::Enrolled)]
    #[case(Some(170), Some("anything"), Class::Enrolled)]
    #[case(Some(25), None, Class::WipeRequested)]
    #[case(Some(229), Some("DeviceEnterpriseWipeRequested"), Class::WipeRequested)]
    #[case(None, Some("WipeConfirmed"), Class::Wiped)]
    #[case(None, Some("Enterprise Wipe Confirmed"), Class::Unenrolled)]
    #[case(None, Some("Device Deleted"), Class::Deleted)]
    #[case(Some(641), Some("Asset Number"), Class::Attribute)]
    #[case(Some(9001), Some(" check-out "), Class::Handover)]
    #[case(Some(9001), Some("CheckIn"), Class::Handover)]
    #[case(None, Some("SecureChannelCheckIn"), Class::Unknown)]
    #[case(Some(9001), Some("Gerät ausgecheckt"), Class::Unknown)]
    #[case(None, None, Class::Unknown)]
    fn a_name_in_any_spelling_has_one_class(#[case] id: Option<i64>, #[case] name: Option<&str>, #[case] class: Class) {
        assert_eq!(EventTable::default().class(id, name), class);
    }

    #[test]
    fn the_table_is_data_and_the_first_entry_decides() {
        let entries: Vec<Entry> = serde_json::from_str(
            r#"[{"event_id":9001,"class":"handover"},{"event_type":"Gerät ausgecheckt","class":"handover"},
                {"event_id":148,"event_type":"Check In","class":"attribute"},{"class":"deleted"}]"#,
        )
        .unwrap();
        let table = EventTable::default().with_first(entries);

        assert_eq!(table.class(Some(9001), Some("anything")), Class::Handover);
        assert_eq!(table.class(None, Some("GERÄT AUSGECHECKT")), Class::Handover);
        assert_eq!(table.class(Some(148), Some("Check In")), Class::Attribute);
        assert_eq!(table.class(Some(148), None), Class::Enrolled);
        assert_eq!(table.class(None, Some("never heard")), Class::Unknown);
    }

    #[test]
    fn an_entry_with_a_typo_is_refused() {
        assert!(serde_json::from_str::<EventTable>(r#"[{"event_no":1,"class":"handover"}]"#).is_err());
    }
}
