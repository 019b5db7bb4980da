//! The fields of one event, however they were written down, and the one way from there to a notice.
//!
//! JSON, XML and CSV differ only in how they fill [`Fields`]; everything that has a meaning happens here, so the same
//! event means the same in all three.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{Rules, identity};
use crate::custody::Moment;
use crate::intake::canon::{self, Odd};
use crate::intake::{AccountNames, Class, DeviceNames, Notice, Oddity, Unreadable, time};

/// The fields the vendor has used since 2013. An object with none of them is not an event.
pub(super) const KNOWN: [&str; 26] = [
    "EventId",
    "EventType",
    "DeviceId",
    "DeviceFriendlyName",
    "EnrollmentEmailAddress",
    "EnrollmentUserName",
    "EventTime",
    "EnrollmentStatus",
    "CompromisedStatus",
    "CompromisedTimeStamp",
    "ComplianceStatus",
    "PhoneNumber",
    "Udid",
    "SerialNumber",
    "MACAddress",
    "EnrollmentUserId",
    "DeviceIMEI",
    "AssetNumber",
    "Platform",
    "OperatingSystem",
    "Ownership",
    "SIMMCC",
    "CurrentMCC",
    "OrganizationGroupName",
    "DeviceUUID",
    "EnrollmentUserUUID",
];

/// One value as a format gave it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A text or a number.
    Scalar(String),
    /// Nothing at all.
    Nothing,
    /// A truth value, an object or an array.
    Other,
}

/// The fields of one event: texts that say something. Absent ones are not in it.
#[derive(Debug, Default)]
pub(super) struct Fields {
    known: BTreeMap<&'static str, String>,
    unknown: BTreeMap<String, String>,
    seen: Vec<&'static str>,
    reshaped: bool,
}

impl Fields {
    /// Adds a field. Known names are taken in any case, and only once.
    pub(super) fn put(&mut self, name: &str, item: Item) -> Result<(), Unreadable> {
        let Some(known) = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
            if let Item::Scalar(text) = item
                && let Some(text) = canon::text(&text)
                && let Entry::Vacant(place) = self.unknown.entry(name.to_owned())
            {
                place.insert(text);
            }
            return Ok(());
        };
        if self.seen.contains(known) {
            return Err(Unreadable::malformed(format!("{known} is there twice")));
        }
        self.seen.push(known);
        match item {
            Item::Scalar(text) => {
                if let Some(text) = canon::text(&text) {
                    self.known.insert(known, text);
                }
            }
            Item::Nothing => {}
            Item::Other => self.reshaped = true,
        }
        Ok(())
    }

    /// What the event says.
    pub(super) fn into_notice(self, rules: &Rules) -> Result<Notice, Unreadable> {
        if self.seen.is_empty() {
            return Err(Unreadable::unknown("it has none of the fields we know"));
        }
        if self.reshaped {
            return Err(Unreadable::unknown("a field we know has a new shape"));
        }
        let mut said = Said { fields: self, oddities: Vec::new() };
        let device = said.device();
        if !device.has_key() {
            return Err(Unreadable::malformed("it names no device"));
        }
        let account = said.account();
        let kind = said.take("EventId", Oddity::NumberUnreadable, canon::number);
        let text = said.text("EventType");
        if kind.is_none() && text.is_none() {
            said.oddities.push(Oddity::NoEventName);
        }
        let zone = rules.assumed_zone;
        let occurred_at = said.take("EventTime", Oddity::TimeUnreadable, |sent| time::read(sent, zone));
        let notified_at =
            said.take("CompromisedTimeStamp", Oddity::NotifiedTimeUnreadable, |sent| time::read(sent, zone));
        let enrolled = said.take("EnrollmentStatus", Oddity::StatusUnknown, |sent| {
            canon::enrolled(sent).map_or(Err(Odd), |enrolled| Ok(Some(enrolled)))
        });
        let class = class(rules, kind, text.as_deref(), enrolled);
        let Said { fields, mut oddities } = said;
        oddities.sort_unstable();
        oddities.dedup();
        let mut notice = Notice {
            id: uuid::Uuid::nil(),
            formerly: uuid::Uuid::nil(),
            occurred_at,
            notified_at,
            kind,
            text,
            class,
            enrolled,
            device,
            account,
            oddities,
        };
        (notice.id, notice.formerly) = identity::of(&rules.source, &notice, || fields.canonical(zone));
        Ok(notice)
    }

    /// Everything the event says, each field in its canonical spelling: equal for equal events in any format.
    fn canonical(&self, zone: chrono::FixedOffset) -> BTreeMap<&str, String> {
        let spelled = |name: &str, sent: &str| {
            match name {
                "EventId" | "DeviceId" | "EnrollmentUserId" => number(sent).ok().flatten(),
                "DeviceUUID" | "EnrollmentUserUUID" => canon::uuid(sent).ok().flatten(),
                "EventTime" | "CompromisedTimeStamp" => {
                    time::read(sent, zone).ok().flatten().map(|Moment(micros)| micros.to_string())
                }
                "Udid" => canon::udid(sent).ok().flatten(),
                "SerialNumber" => canon::serial(sent),
                "MACAddress" => return canon::mac(sent),
                _ => None,
            }
            .or_else(|| canon::text(sent))
        };
        let known = self.known.iter().filter_map(|(name, sent)| Some((*name, spelled(name, sent)?)));
        let unknown = self.unknown.iter().map(|(name, sent)| (name.as_str(), sent.clone()));
        unknown.chain(known).collect()
    }
}

fn number(sent: &str) -> Result<Option<String>, Odd> {
    Ok(canon::number(sent)?.map(|number| number.to_string()))
}

/// The table decides; but a device that is no longer enrolled has left, whatever the event is called.
fn class(rules: &Rules, kind: Option<i64>, text: Option<&str>, enrolled: Option<bool>) -> Class {
    let named = rules.table.class(kind, text);
    let gone = enrolled == Some(false) && !matches!(named, Class::Wiped | Class::Deleted);
    if gone { Class::Unenrolled } else { named }
}

/// Fields being read, and what did not fit so far.
struct Said {
    fields: Fields,
    oddities: Vec<Oddity>,
}

impl Said {
    fn text(&self, name: &str) -> Option<String> {
        self.fields.known.get(name).cloned()
    }

    fn take<T>(&mut self, name: &str, oddity: Oddity, read: impl Fn(&str) -> Result<Option<T>, Odd>) -> Option<T> {
        let sent = self.fields.known.get(name)?;
        read(sent).unwrap_or_else(|Odd| {
            self.oddities.push(oddity);
            None
        })
    }

    fn device(&mut self) -> DeviceNames {
        DeviceNames {
            serial: self.fields.known.get("SerialNumber").and_then(|sent| canon::serial(sent)),
            udid: self.take("Udid", Oddity::UdidUnreadable, canon::udid),
            uem_id: self.take("DeviceId", Oddity::NumberUnreadable, number),
            uem_uuid: self.take("DeviceUUID", Oddity::UuidUnreadable, canon::uuid),
            name: self.text("DeviceFriendlyName"),
            asset_number: self.text("AssetNumber"),
            site: self.text("OrganizationGroupName"),
            platform: self.text("Platform"),
            model: None,
            os_version: self.text("OperatingSystem"),
            ownership: self.text("Ownership"),
        }
    }

    fn account(&mut self) -> Option<AccountNames> {
        AccountNames {
            uuid: self.take("EnrollmentUserUUID", Oddity::UuidUnreadable, canon::uuid),
            id: self.take("EnrollmentUserId", Oddity::NumberUnreadable, number),
            user_name: self.text("EnrollmentUserName"),
            email: self.text("EnrollmentEmailAddress"),
        }
        .any()
    }
}
