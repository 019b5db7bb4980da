//! The body of one webhook, field by field.
//!
//! Fields were only ever added, so an older generation is a shorter list. The real ids and texts of check-out and check-in are
//! not published; the defaults here are placeholders, and may be set to anything, even to the same for both.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::fleet::{Device, Status, User};

/// How a webhook is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON, 1 in the rule.
    #[default]
    Json,
    /// XML, 0 in the rule.
    Xml,
}

/// How a JSON webhook writes times. XML is always ISO 8601.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeForm {
    /// `2026-03-02T05:58:41.2284513Z`, without trailing zeros.
    #[default]
    Iso,
    /// `/Date(1368076195887)/`.
    DotNet,
    /// `\/Date(1368076195887)\/`.
    DotNetEscaped,
}

/// What one kind of event is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventName {
    /// `EventId`.
    pub id: i64,
    /// `EventType`; one of these, by the dice.
    pub texts: Vec<String>,
}

impl EventName {
    /// A kind with one spelling.
    pub fn new(id: i64, text: &str) -> Self {
        Self { id, texts: vec![text.to_owned()] }
    }
}

/// What the kinds of events are called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventNames {
    /// A person takes a device.
    pub check_out: EventName,
    /// A device goes back to the pool.
    pub check_in: EventName,
    /// A device is to be erased.
    pub wipe: EventName,
    /// A device is to leave management.
    pub enterprise_wipe: EventName,
    /// A device has left management.
    pub unenrolled: EventName,
    /// A device record was deleted.
    pub deleted: EventName,
    /// A device was enrolled.
    pub enrolled: EventName,
}

impl Default for EventNames {
    fn default() -> Self {
        Self {
            check_out: EventName::new(9001, "Check Out"),
            check_in: EventName::new(9002, "Check In"),
            wipe: EventName::new(25, "Device Wipe"),
            enterprise_wipe: EventName::new(229, "DeviceEnterpriseWipeRequested"),
            unenrolled: EventName::new(39, "Break MDM Confirmed"),
            deleted: EventName::new(9003, "Delete Device Requested"),
            enrolled: EventName::new(148, "MDM Enrollment Complete"),
        }
    }
}

/// One thing to tell, before it is put into words.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) event_id: i64,
    pub(super) event_type: String,
    pub(super) at: DateTime<Utc>,
    pub(super) device: Device,
    pub(super) status: Status,
    pub(super) user: Option<User>,
}

enum Field {
    Text(String),
    Number(i64),
    /// Already written as JSON.
    Json(String),
}

/// The body of `notice` with the first `fields` of the 26 known fields.
pub(super) fn written(notice: &Notice, format: Format, fields: u8, time: TimeForm) -> String {
    match format {
        Format::Json => {
            let pairs: Vec<_> = listed(notice, fields, time)
                .into_iter()
                .map(|(name, value)| match value {
                    Field::Text(text) => format!("\"{name}\":{}", serde_json::Value::String(text)),
                    Field::Number(number) => format!("\"{name}\":{number}"),
                    Field::Json(json) => format!("\"{name}\":{json}"),
                })
                .collect();
            format!("{{{}}}", pairs.join(","))
        }
        Format::Xml => {
            let children: String = listed(notice, fields, TimeForm::Iso)
                .into_iter()
                .map(|(name, value)| match value {
                    Field::Text(text) | Field::Json(text) if text.is_empty() => format!("<{name} />"),
                    Field::Text(text) | Field::Json(text) => {
                        format!("<{name}>{}</{name}>", quick_xml::escape::escape(text.trim_matches('"')))
                    }
                    Field::Number(number) => format!("<{name}>{number}</{name}>"),
                })
                .collect();
            format!(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?><Eventlog xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
                 xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">{children}</Eventlog>"
            )
        }
    }
}

fn listed(notice: &Notice, fields: u8, time: TimeForm) -> Vec<(&'static str, Field)> {
    let text = |value: &str| Field::Text(value.to_owned());
    let Notice { device, user, .. } = notice;
    let user_text = |of: fn(&User) -> &str| text(user.as_ref().map_or("", of));
    let user_id = || Field::Number(user.as_ref().map_or(0, |user| user.id));
    // The notification is built a moment after the event; in the older generations seconds after.
    let built_after = if fields <= 16 { TimeDelta::milliseconds(5_043) } else { TimeDelta::microseconds(572_661) };
    let group =
        if device.spec.organization_group.is_empty() { "Contoso Clinics" } else { &device.spec.organization_group };
    let compliance = match notice.status {
        Status::Enrolled | Status::EnterpriseWipePending => "Compliant",
        Status::Unenrolled | Status::Deleted => "NotAvailable",
    };
    let name =
        if device.spec.name.is_empty() { format!("iPad {}", device.spec.serial) } else { device.spec.name.clone() };
    let event_type = if fields <= 15 { notice.event_type.replace(' ', "") } else { notice.event_type.clone() };
    let mut list = vec![
        ("EventId", Field::Number(notice.event_id)),
        ("EventType", Field::Text(event_type)),
        ("DeviceId", Field::Number(device.id)),
        ("DeviceFriendlyName", Field::Text(name)),
        ("EnrollmentEmailAddress", user_text(|user| &user.spec.email)),
        ("EnrollmentUserName", user_text(|user| &user.spec.user_name)),
        ("EventTime", timed(notice.at, time)),
        ("EnrollmentStatus", text(notice.status.name())),
        ("CompromisedStatus", text("")),
        ("CompromisedTimeStamp", timed(notice.at + built_after, time)),
        ("ComplianceStatus", text(compliance)),
        ("PhoneNumber", text("")),
        ("Udid", if fields <= 15 { text("System.Byte[]") } else { text(&device.udid) }),
        ("SerialNumber", text(&device.spec.serial)),
        ("MACAddress", text(if fields <= 15 { "System.Byte[]" } else { "000000000000" })),
    ];
    if fields == 16 {
        list.push(("EnrollmentUserId", user_id()));
    }
    if fields >= 24 {
        list.extend([
            ("DeviceIMEI", text("")),
            ("EnrollmentUserId", user_id()),
            ("AssetNumber", text(&device.spec.asset_number)),
            ("Platform", text("Apple")),
            ("OperatingSystem", text("18.3.1")),
            ("Ownership", text("CorporateShared")),
            ("SIMMCC", text("")),
            ("CurrentMCC", text("")),
            ("OrganizationGroupName", text(group)),
        ]);
    }
    if fields >= 26 {
        list.push(("DeviceUUID", Field::Text(device.uuid.to_string())));
        let user_uuid = user.as_ref().map_or(Uuid::nil(), |user| user.uuid);
        list.push(("EnrollmentUserUUID", Field::Text(user_uuid.to_string())));
    }
    list
}

fn timed(at: DateTime<Utc>, time: TimeForm) -> Field {
    match time {
        TimeForm::Iso => Field::Text(to_the_tick(at)),
        TimeForm::DotNet => Field::Text(format!("/Date({})/", at.timestamp_millis())),
        TimeForm::DotNetEscaped => Field::Json(format!("\"\\/Date({})\\/\"", at.timestamp_millis())),
    }
}

/// Up to seven digits of a second, trailing zeros cut, as .NET writes it.
fn to_the_tick(at: DateTime<Utc>) -> String {
    let whole = at.format("%Y-%m-%dT%H:%M:%S");
    let ticks = format!("{:07}", at.timestamp_subsec_nanos().min(999_999_999) / 100);
    match ticks.trim_end_matches('0') {
        "" => format!("{whole}Z"),
        digits => format!("{whole}.{digits}Z"),
    }
}
