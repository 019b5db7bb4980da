//! The devices and accounts of the simulated UEM.
//!
//! A device remembers who had it since when, so that a REST read can show what was true a while ago. Deleted devices stay as
//! records nobody is shown.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::sandbox::clock::before;

/// How many past holdings of a device are kept for stale reads.
const REMEMBERED: usize = 16;

/// An account to be added. One of the same user name is changed and keeps its id.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UemUserSpec {
    /// The login name.
    pub user_name: String,
    /// `uuid`; a fresh one when absent.
    pub uuid: Option<Uuid>,
    /// Display name; the user name when empty.
    pub display_name: String,
    /// Mail address; may be empty.
    pub email: String,
    /// `userPrincipalName`; only in v2 reads.
    pub upn: Option<String>,
    /// `externalId`: the Entra object id where accounts come by SCIM.
    pub external_id: Option<String>,
    /// `aadMappingAttribute`: the immutable id.
    pub aad_mapping_attribute: Option<String>,
    /// `basic`, `directory` (the default) or `authenticationProxy`.
    pub security_type: Option<String>,
    /// `deviceStagingType`; `StagingDisabled` when absent.
    pub staging: Option<String>,
}

/// A device to be added. It starts enrolled, with its pool account.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceSpec {
    /// The serial number.
    pub serial: String,
    /// The UDID as webhooks have it; made up when absent.
    pub udid: Option<String>,
    /// `uuid`; a fresh one when absent.
    pub uuid: Option<Uuid>,
    /// The friendly name; made from the serial number when empty.
    pub name: String,
    /// The asset number.
    pub asset_number: String,
    /// The organization group's name; `Contoso Clinics` when empty.
    pub organization_group: String,
    /// The user name of its pool account; the first pool account when absent.
    pub pool: Option<String>,
}

impl From<&str> for DeviceSpec {
    fn from(serial: &str) -> Self {
        Self { serial: serial.to_owned(), ..Self::default() }
    }
}

/// What the UEM does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No such device.
    #[error("no device is called {0}")]
    Device(String),
    /// No such account.
    #[error("no account is called {0}")]
    User(String),
}

#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) id: i64,
    pub(super) uuid: Uuid,
    pub(super) spec: UemUserSpec,
    /// How many devices it has.
    pub(super) devices: usize,
}

impl User {
    pub(super) fn staging(&self) -> &str {
        self.spec.staging.as_deref().unwrap_or("StagingDisabled")
    }

    pub(super) fn display_name(&self) -> &str {
        if self.spec.display_name.is_empty() { &self.spec.user_name } else { &self.spec.display_name }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Enrolled,
    EnterpriseWipePending,
    Unenrolled,
    Deleted,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Enrolled => "Enrolled",
            Self::EnterpriseWipePending => "EnterpriseWipePending",
            Self::Unenrolled | Self::Deleted => "Unenrolled",
        }
    }
}

/// Whose a device is, from a moment of true time on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    pub(super) since: DateTime<Utc>,
    /// The same moment on the UEM's clock.
    pub(super) said: DateTime<Utc>,
    pub(super) user: Option<i64>,
    pub(super) status: Status,
}

#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) id: i64,
    pub(super) uuid: Uuid,
    pub(super) udid: String,
    pub(super) spec: DeviceSpec,
    pub(super) pool: i64,
    holdings: VecDeque<Holding>,
}

impl Device {
    pub(super) fn now(&self) -> Holding {
        self.holdings.back().copied().unwrap_or(Holding {
            since: DateTime::<Utc>::MIN_UTC,
            said: DateTime::<Utc>::MIN_UTC,
            user: None,
            status: Status::Deleted,
        })
    }

    /// What a read that is `lag` behind shows; `None` when it shows no device.
    pub(super) fn shown(&self, now: DateTime<Utc>, lag: Duration) -> Option<Holding> {
        let then = before(now, lag);
        let shown = self.holdings.iter().rev().find(|holding| holding.since <= then).or(self.holdings.front());
        shown.copied().filter(|holding| holding.status != Status::Deleted)
    }

    fn becomes(&mut self, holding: Holding) {
        if self.holdings.len() == REMEMBERED {
            self.holdings.pop_front();
        }
        self.holdings.push_back(holding);
    }
}

/// Everything the UEM manages.
pub(super) struct Fleet {
    pub(super) devices: BTreeMap<i64, Device>,
    pub(super) users: BTreeMap<i64, User>,
    /// Serial numbers, UDIDs and uuids, each to the newest device that has it.
    by_key: HashMap<String, i64>,
    by_user: HashMap<String, i64>,
    first_pool: Option<i64>,
    last_device: i64,
    last_user: i64,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            devices: BTreeMap::new(),
            users: BTreeMap::new(),
            by_key: HashMap::new(),
            by_user: HashMap::new(),
            first_pool: None,
            last_device: 41_206,
            last_user: 70_000,
        }
    }
}

impl Fleet {
    /// Adds or changes an account.
    pub(super) fn put_user(&mut self, spec: UemUserSpec) -> (i64, Uuid) {
        let name = normal(&spec.user_name);
        let known = self.by_user.get(&name).and_then(|id| self.users.get(id)).map(|user| (user.id, user.uuid));
        let (id, uuid) = known.unwrap_or_else(|| {
            self.last_user += 1;
            (self.last_user, spec.uuid.unwrap_or_else(Uuid::new_v4))
        });
        if self.first_pool.is_none() && spec.staging.as_deref().is_some_and(|staging| staging.starts_with("Multiple")) {
            self.first_pool = Some(id);
        }
        self.by_user.insert(name, id);
        self.by_user.insert(normal(&uuid.to_string()), id);
        let devices = self.users.get(&id).map_or(0, |user| user.devices);
        self.users.insert(id, User { id, uuid, spec, devices });
        (id, uuid)
    }

    /// Adds an enrolled device with its pool account.
    pub(super) fn add_device(&mut self, spec: DeviceSpec, now: DateTime<Utc>, said: DateTime<Utc>) -> (i64, Uuid) {
        let named = spec.pool.as_deref().and_then(|name| self.user(name).ok()).map(|user| user.id);
        let pool = named.or(self.first_pool).unwrap_or_else(|| self.put_user(pool_account("stg-ipad")).0);
        self.last_device += 1;
        let id = self.last_device;
        let invented = || format!("00008103{}", &Uuid::new_v4().simple().to_string()[..16]).to_ascii_uppercase();
        let hardware = spec.udid.clone().unwrap_or_else(invented);
        let uuid = spec.uuid.unwrap_or_else(Uuid::new_v4);
        for key in [spec.serial.as_str(), hardware.as_str(), &uuid.to_string()] {
            self.by_key.insert(normal(key), id);
        }
        let holding = Holding { since: now, said, user: Some(pool), status: Status::Enrolled };
        let device = Device { id, uuid, udid: hardware, spec, pool, holdings: VecDeque::from([holding]) };
        self.devices.insert(id, device);
        self.count(None, Some(pool));
        (id, uuid)
    }

    /// The device becomes this from now on. Says who had it.
    pub(super) fn becomes(&mut self, key: &str, holding: Holding) -> Result<Option<i64>, Unknown> {
        let id = self.device(key)?.id;
        let device = self.devices.get_mut(&id).ok_or_else(|| Unknown::Device(key.to_owned()))?;
        let before = device.now().user;
        device.becomes(holding);
        self.count(before, holding.user);
        Ok(before)
    }

    fn count(&mut self, from: Option<i64>, to: Option<i64>) {
        if let Some(user) = from.and_then(|id| self.users.get_mut(&id)) {
            user.devices = user.devices.saturating_sub(1);
        }
        if let Some(user) = to.and_then(|id| self.users.get_mut(&id)) {
            user.devices += 1;
        }
    }

    /// The newest device with this serial number, UDID, uuid or id.
    pub(super) fn device(&self, key: &str) -> Result<&Device, Unknown> {
        let id = self.by_key.get(&normal(key)).copied().or_else(|| key.parse().ok());
        id.and_then(|id| self.devices.get(&id)).ok_or_else(|| Unknown::Device(key.to_owned()))
    }

    /// The account with this user name, uuid or id.
    pub(super) fn user(&self, key: &str) -> Result<&User, Unknown> {
        let id = self.by_user.get(&normal(key)).copied().or_else(|| key.parse().ok());
        id.and_then(|id| self.users.get(&id)).ok_or_else(|| Unknown::User(key.to_owned()))
    }
}

/// A multi-user staging account.
pub(super) fn pool_account(user_name: &str) -> UemUserSpec {
    UemUserSpec {
        user_name: user_name.to_owned(),
        security_type: Some("basic".to_owned()),
        staging: Some("MultipleUserStaging".to_owned()),
        ..UemUserSpec::default()
    }
}

/// Keys are compared without dashes and in any case.
fn normal(key: &str) -> String {
    key.chars().filter(|letter| *letter != '-').map(|letter| letter.to_ascii_lowercase()).collect()
}
