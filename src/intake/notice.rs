//! The words the room hands over: one [`Notice`] per event, and why there is none.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::custody::Moment;

/// What a source said about one device at one time, normalised; nothing here is a judgement about who holds the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Derived from the source, the device, the event's kind, its time and its account: the same event has the same id.
    pub id: Uuid,
    /// The id that the first release gave the same event: its rows are found by it.
    pub formerly: Uuid,
    /// The source's own time of the event. `None` when it was absent or unreadable.
    pub occurred_at: Option<Moment>,
    /// When the source built the notification. For diagnosis of delays, not for ordering.
    pub notified_at: Option<Moment>,
    /// The number of the kind of event, where the source numbers its kinds.
    pub kind: Option<i64>,
    /// The name of the kind of event as sent, without blanks around it.
    pub text: Option<String>,
    /// What sort of event this is, by the configured table.
    pub class: Class,
    /// Whether the device is under management, where the event says so.
    pub enrolled: Option<bool>,
    /// What the device is called. At least one of serial number, UDID, UEM id and UEM uuid is present.
    pub device: DeviceNames,
    /// Whom the source names as the device's account. `None` when it names nobody.
    pub account: Option<AccountNames>,
    /// What did not fit and was set aside. Each kind appears once.
    pub oddities: Vec<Oddity>,
}

/// What sort of event a name stands for. The direction of a hand-over is not part of it: names do not tell it reliably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A shared device was checked out or checked in.
    Handover,
    /// The device came under management.
    Enrolled,
    /// The device left management.
    Unenrolled,
    /// The whole device was erased, and everything on it.
    Wiped,
    /// A wipe was asked for. It has not happened yet, and may never.
    WipeRequested,
    /// The device's record was deleted.
    Deleted,
    /// Something about the device changed that is no departure by itself.
    Attribute,
    /// A name we do not know. Legal, and a hint to look at the device like any other.
    Unknown,
}

/// What a source calls a device. All names are canonical: two spellings of one name are equal here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceNames {
    /// Serial number, in upper case.
    pub serial: Option<String>,
    /// UDID, in upper-case hex without dashes.
    pub udid: Option<String>,
    /// The source's own number for the device, in decimal. A new enrolment gives a new one.
    pub uem_id: Option<String>,
    /// The source's own uuid for the device, in lower case.
    pub uem_uuid: Option<String>,
    /// Friendly name. It often contains a person's name.
    pub name: Option<String>,
    /// Asset number.
    pub asset_number: Option<String>,
    /// The organisation group the device belongs to.
    pub site: Option<String>,
    /// Platform as the source spells it, `Apple` for an iPad.
    pub platform: Option<String>,
    /// Model, where the source tells it.
    pub model: Option<String>,
    /// Version of the operating system.
    pub os_version: Option<String>,
    /// Who owns the device, as the source spells it.
    pub ownership: Option<String>,
}

impl DeviceNames {
    /// Whether there is any name to find the device by.
    pub fn has_key(&self) -> bool {
        [&self.uem_uuid, &self.uem_id, &self.serial, &self.udid].into_iter().any(Option::is_some)
    }
}

/// What a source calls a user. At least one of them is present.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountNames {
    /// The source's uuid for the user, in lower case.
    pub uuid: Option<String>,
    /// The source's number for the user, in decimal.
    pub id: Option<String>,
    /// The login name as the source spells it: a UPN, `first.last` or a short account name, depending on the tenant.
    pub user_name: Option<String>,
    /// The e-mail address.
    pub email: Option<String>,
}

impl AccountNames {
    /// These names, or `None` when all of them are absent.
    pub fn any(self) -> Option<Self> {
        (self != Self::default()).then_some(self)
    }
}

/// Something in an event that did not fit. It is kept and shown, and never a reason to refuse the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oddity {
    /// The event's time was sent, but is not a time.
    TimeUnreadable,
    /// The time of the notification was sent, but is not a time.
    NotifiedTimeUnreadable,
    /// A field that holds a number held something else.
    NumberUnreadable,
    /// A field that holds a uuid held something else.
    UuidUnreadable,
    /// The UDID is not hexadecimal.
    UdidUnreadable,
    /// Neither the number nor the name of the event's kind was sent.
    NoEventName,
    /// An enrolment status we do not know.
    StatusUnknown,
}

/// Why there is no notice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The body is broken. The sender is told so (400).
    #[error("the body is malformed: {why}")]
    Malformed {
        /// What is wrong, without quoting the body.
        why: String,
    },
    /// The body is sound but says nothing we know. It is put aside and can be read again after an upgrade (202).
    #[error("the body is not one we know: {why}")]
    Unknown {
        /// What is unfamiliar, without quoting the body.
        why: String,
    },
}

impl Unreadable {
    pub(crate) fn malformed(why: impl Into<String>) -> Self {
        Self::Malformed { why: why.into() }
    }

    pub(crate) fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown { why: why.into() }
    }
}
