//! A fleet that changes hands without end, and the service that hears of it.
//!
//! The source has no API, so that the payload alone decides: every event after a device's first ends a custody, begins one,
//! makes a revocation owed and is told in the audit history twice.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use handover::cli::config::Config;
use handover::cli::house;
use handover::cli::serve::Service;

use crate::ground::Plot;

/// How many devices and people there are.
pub(crate) const DEVICES: u64 = 2000;
pub(crate) const PEOPLE: u64 = 2 * DEVICES;

/// Devices that go from hand to hand.
#[derive(Clone, Copy)]
pub(crate) struct Fleet {
    begin: DateTime<Utc>,
}

impl Fleet {
    /// A fleet whose first events lie an hour back, so that thousands of rounds later none lies in the future.
    pub(crate) fn new() -> Self {
        let now = DateTime::from_timestamp_micros(house::clock()().0).unwrap_or_default();
        Self { begin: now - TimeDelta::hours(1) }
    }

    /// Who has a device after so many hand-overs: never the same person twice in a row, and everybody within two rounds.
    pub(crate) fn holder(device: u64, round: u64) -> u64 {
        (2 * device + round % 2 + round / 2 * 194) % PEOPLE
    }

    /// The hand-over of a device, as the UEM posts it.
    pub(crate) fn event(self, device: u64, round: u64) -> Bytes {
        handed_over(device, Self::holder(device, round), self.at(device, round))
    }

    /// When that hand-over happened.
    pub(crate) fn at(self, device: u64, round: u64) -> DateTime<Utc> {
        self.begin + TimeDelta::seconds(round.cast_signed()) + TimeDelta::microseconds(device.cast_signed())
    }
}

/// The serial number of a device.
pub(crate) fn serial(device: u64) -> String {
    format!("DMPX{device:06}")
}

/// The body that the UEM posts when a device goes to a person.
pub(crate) fn handed_over(device: u64, person: u64, at: DateTime<Utc>) -> Bytes {
    let serial = serial(device);
    let time = at.format("%Y-%m-%dT%H:%M:%S%.6fZ");
    Bytes::from(format!(
        r#"{{"EventId":9001,"EventType":"Check Out","DeviceId":{device},"DeviceFriendlyName":"iPad {device:06}","EnrollmentEmailAddress":"person{person:06}@contoso.example","EnrollmentUserName":"person{person:06}@contoso.example","EventTime":"{time}","EnrollmentStatus":"Enrolled","CompromisedStatus":"","CompromisedTimeStamp":"{time}","ComplianceStatus":"Compliant","PhoneNumber":"","Udid":"00008103{device:016X}","SerialNumber":"{serial}","MACAddress":"000000000000","DeviceIMEI":"","EnrollmentUserId":{person},"AssetNumber":"W{device:06}","Platform":"Apple","OperatingSystem":"18.3.1","Ownership":"CorporateShared","SIMMCC":"","CurrentMCC":"","OrganizationGroupName":"Contoso Clinics","DeviceUUID":"5e0d4f0b-7f5e-4d0e-9b57-{device:012x}","EnrollmentUserUUID":"c7a4e9f2-25d1-4a6f-8a58-{person:012x}"}}"#
    ))
}

/// What the service is told: where its database is, in shadow mode unless `entra` says how to reach a directory.
pub(crate) fn text(url: &str, ports: (u16, u16), entra: &str) -> String {
    let (api, intake) = ports;
    format!(
        r#"
[server]
listen = "127.0.0.1:{api}"
[intake]
listen = "127.0.0.1:{intake}"
[database]
url = "{url}"
{entra}
[policy]
writes_per_second = 20
[[source]]
name = "uem"
kind = "workspace-one-uem"
username = "handover"
passwords = ["benchmark"]
upn_from = "user_name"
"#
    )
}

/// A service in this process.
pub(crate) async fn service(plot: &Plot, entra: &str) -> anyhow::Result<Service> {
    Service::start(&Config::read(&text(&plot.url, (0, 0), entra), plot.folder(), &BTreeMap::new())?).await
}

/// Takes events in without HTTP, some hundred at a time.
pub(crate) async fn tell(service: &Service, bodies: Vec<Bytes>) -> anyhow::Result<()> {
    let json = Some(String::from("application/json"));
    let count = bodies.len();
    let received = service.app.receive_many("uem", json, bodies).await?;
    anyhow::ensure!(received.len() == count, "{} of {count} events were answered", received.len());
    Ok(())
}

/// Two rounds of every device: after them every device has a holder, and everybody is known.
pub(crate) async fn assemble(service: &Service, fleet: Fleet) -> anyhow::Result<()> {
    for round in 0..2 {
        let devices: Vec<_> = (0..DEVICES).collect();
        for some in devices.chunks(250) {
            tell(service, some.iter().map(|device| fleet.event(*device, round)).collect()).await?;
        }
    }
    Ok(())
}
