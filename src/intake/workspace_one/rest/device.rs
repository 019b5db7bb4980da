//! A device as the API tells it, in its old form and its new one.

use std::collections::HashMap;

use serde_json::Value;

use super::{UemError, look};
use crate::custody::Moment;
use crate::intake::{AccountNames, DeviceNames, canon, time};

/// A device, and whose it is right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadDevice {
    /// What the device is called.
    pub names: DeviceNames,
    /// The account it belongs to: a person's, or the pool's. `None` when it belongs to nobody.
    pub account: Option<AccountNames>,
    /// Whether it is under management. Only a status that says otherwise makes it not so.
    pub enrolled: bool,
    /// When the UEM last heard from it.
    pub last_seen: Option<Moment>,
}

impl ReadDevice {
    /// Reads a device of either form; `None` when it has no name to know it by.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let text = |paths: &[&[&str]]| look::first(value, paths, canon::text);
        let number = |paths: &[&[&str]]| look::first(value, paths, |sent| canon::number(sent).ok().flatten());
        let uuid = |paths: &[&[&str]]| look::first(value, paths, |sent| canon::uuid(sent).ok().flatten());
        let names = DeviceNames {
            serial: look::first(value, &[&["SerialNumber"]], canon::serial),
            udid: look::first(value, &[&["Udid"]], |sent| canon::udid(sent).ok().flatten()),
            uem_id: number(&[&["Id", "Value"], &["Id"]]).map(|id| id.to_string()),
            uem_uuid: uuid(&[&["Uuid"]]),
            name: text(&[&["DeviceFriendlyName"], &["friendlyName"]]),
            asset_number: text(&[&["AssetNumber"]]),
            site: text(&[
                &["LocationGroupName"],
                &["LocationGroupId", "Name"],
                &["organizationGroupName"],
                &["enrollmentInfo", "organizationGroupName"],
            ]),
            platform: text(&[&["Platform"], &["platformInfo", "platformName"]]),
            model: text(&[&["Model"], &["platformInfo", "modelName"]]),
            os_version: text(&[&["OperatingSystem"], &["platformInfo", "osVersion"]]),
            ownership: text(&[&["Ownership"], &["enrollmentInfo", "ownership"]]),
        };
        // `EnrollmentUserUuid` has been seen all zeros beside a good `UserId`; and `UserId.Name` is no login name.
        let account = AccountNames {
            uuid: uuid(&[&["UserId", "Uuid"], &["EnrollmentUserUuid"], &["enrollmentInfo", "enrollmentUserUuid"]]),
            id: number(&[&["UserId", "Id", "Value"]]).map(|id| id.to_string()),
            user_name: text(&[&["UserName"], &["enrollmentInfo", "userName"]]),
            email: text(&[&["UserEmailAddress"], &["enrollmentInfo", "userEmailAddress"]]),
        };
        let status = text(&[&["EnrollmentStatus"], &["enrollmentInfo", "enrollmentStatus"]]);
        let zone = chrono::FixedOffset::east_opt(0)?;
        let last_seen = look::first(value, &[&["LastSeen"], &["enrollmentInfo", "lastSeenTimestamp"]], |sent| {
            time::read(sent, zone).ok().flatten()
        });
        let enrolled = status.is_none_or(|status| canon::enrolled(&status) != Some(false));
        names.has_key().then(|| Self { names, account: account.any(), enrolled, last_seen })
    }

    fn number(&self) -> i64 {
        self.names.uem_id.as_ref().and_then(|id| id.parse().ok()).unwrap_or(0)
    }
}

/// The device in an answer that should hold one. An answer that lists several gives the newest.
pub(super) fn one(body: &Value) -> Result<Option<ReadDevice>, UemError> {
    if let Some(found) = look::at(body, &["Devices"]).and_then(Value::as_array) {
        return Ok(found.iter().filter_map(ReadDevice::read).max_by_key(ReadDevice::number));
    }
    ReadDevice::read(body).map(Some).ok_or_else(|| UemError::unreadable("it holds no device"))
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The devices on it. One device that was enrolled twice is there twice; see [`newest_of_each_serial`].
    pub devices: Vec<ReadDevice>,
    /// The page's number, from 0.
    pub page: usize,
    /// How many devices there are on all pages, where the UEM says so.
    pub total: Option<usize>,
    /// Whether there is nothing after it.
    pub last: bool,
    /// How many entries could not be read as a device. A sweep that sees any does not know everything.
    pub unreadable: usize,
}

impl Page {
    /// Reads a page; no body at all means no devices.
    pub(super) fn read(body: Option<&Value>, page: usize, asked: usize) -> Result<Self, UemError> {
        let Some(body) = body else { return Ok(Self { page, last: true, ..Self::default() }) };
        let entries = look::at(body, &["Devices"]).and_then(Value::as_array);
        let entries = entries.ok_or_else(|| UemError::unreadable("it holds no list of devices"))?;
        let count = |name| look::first(body, &[&[name]], |text| text.trim().parse::<usize>().ok());
        let total = count("Total");
        let size = count("PageSize").filter(|size| (1..=asked).contains(size)).unwrap_or(asked);
        let last = match total {
            _ if entries.is_empty() => true,
            Some(total) => page.saturating_add(1).saturating_mul(size) >= total,
            None => entries.len() < size,
        };
        let devices: Vec<_> = entries.iter().filter_map(ReadDevice::read).collect();
        Ok(Self { unreadable: entries.len() - devices.len(), devices, page, total, last })
    }
}

/// Of several devices with one serial number, the one enrolled last, which has the highest number. Devices without a
/// serial number are all kept. The order of what is kept stays.
pub fn newest_of_each_serial(devices: Vec<ReadDevice>) -> Vec<ReadDevice> {
    let mut newest: HashMap<String, i64> = HashMap::new();
    for device in &devices {
        if let Some(serial) = &device.names.serial {
            let best = newest.entry(serial.clone()).or_insert(i64::MIN);
            *best = device.number().max(*best);
        }
    }
    let mut devices = devices;
    devices.retain(|device| match &device.names.serial {
        // Taken out once found, so that two with the same number do not both stay.
        Some(serial) => newest.remove_entry(serial).is_some_and(|(serial, best)| {
            let stays = best == device.number();
            if !stays {
                newest.insert(serial, best);
            }
            stays
        }),
        None => true,
    });
    devices
}
