//! The UEM's REST API, read only: what a hint is checked against, and what a sweep compares with.
//!
//! Every call is a GET, and every answer says when it was true by the UEM's own clock ([`Seen::at`]), never by ours.
//! Nothing here changes a device: the calls that wipe and delete look much like those that read, so they are not here at all.
//!
//! What would surprise you: a search answers an empty body for "none" and silently gives no more than 500 at a time; the
//! field `EnrollmentUserUuid` is all zeros where `UserId.Uuid` is filled; and repeated wrong passwords lock the account
//! for everybody, so after one refusal nothing is sent for a minute.

mod call;
mod candidate;
mod device;
mod error;
mod login;
mod look;
mod pace;
mod rule;
mod settings;
mod user;

pub use candidate::{By, Candidate, candidates};
pub use device::{Page, ReadDevice, newest_of_each_serial};
pub use error::UemError;
pub use rule::{Info, Rule};
pub use settings::{BadSettings, Login, Settings};
pub use user::{ReadUser, UserRef};

use serde_json::Value;
use url::Url;

use self::call::{Answer, Caller};

use crate::custody::Moment;
use crate::intake::DeviceNames;

/// How many devices a search gives at most; asking for more is cut silently.
const PAGE_SIZE: usize = 500;

/// Rules are searched this many pages deep. Installations have a handful.
const MOST_RULE_PAGES: usize = 20;

/// Something read from the UEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<T> {
    /// What was read.
    pub value: T,
    /// When, by the `Date` of the UEM's own answer. `None` when it sent none that can be read.
    pub at: Option<Moment>,
}

/// One UEM, as one API account sees it. Pace, token and refusals are shared by everybody who holds a reference.
#[derive(Debug)]
pub struct Uem {
    caller: Caller,
    base: Url,
}

impl Uem {
    /// Prepares the client. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When an address is not https (except on loopback) or the extra trust anchor is none.
    pub fn new(settings: Settings) -> Result<Self, BadSettings> {
        let base = settings.base()?;
        Ok(Self { caller: Caller::new(settings)?, base })
    }

    /// What the UEM says of itself: the cheapest call that needs a valid login.
    ///
    /// # Errors
    ///
    /// See [`UemError`].
    pub async fn info(&self) -> Result<Seen<Info>, UemError> {
        let answer = self.get(&["system", "info"], &[], 1).await?;
        let body = answer.json()?.ok_or_else(|| UemError::unreadable("there is no system information"))?;
        Ok(answer.seen(Info::read(&body)))
    }

    /// Reads one device: by its number if that is known, else by its uuid, serial number or UDID. `None` when the UEM
    /// knows no such device.
    ///
    /// # Errors
    ///
    /// See [`UemError`]; a device without any of the four names is [`UemError::Unreadable`].
    pub async fn device(&self, names: &DeviceNames) -> Result<Seen<Option<ReadDevice>>, UemError> {
        let by = |kind, name| [("searchby", kind), ("id", name)];
        let answer = match names {
            DeviceNames { uem_id: Some(id), .. } => self.get(&["mdm", "devices", id], &[], 1).await?,
            DeviceNames { uem_uuid: Some(uuid), .. } => self.get(&["mdm", "devices", uuid], &[], 2).await?,
            DeviceNames { serial: Some(serial), .. } => {
                self.get(&["mdm", "devices"], &by("Serialnumber", serial), 1).await?
            }
            DeviceNames { udid: Some(udid), .. } => self.get(&["mdm", "devices"], &by("Udid", udid), 1).await?,
            DeviceNames { .. } => return Err(UemError::unreadable("there is no name to find the device by")),
        };
        let device = answer.json()?.map(|body| device::one(&body)).transpose()?.flatten();
        Ok(answer.seen(device))
    }

    /// Reads one user, always in the form that has the UPN. A user known by number only is read twice, since the number
    /// first leads to the uuid. `None` when the UEM knows no such user.
    ///
    /// # Errors
    ///
    /// See [`UemError`].
    pub async fn user(&self, user: UserRef<'_>) -> Result<Seen<Option<ReadUser>>, UemError> {
        let (uuid, id) = match user {
            UserRef::Uuid(uuid) => (uuid.to_owned(), None),
            UserRef::Id(id) => {
                let answer = self.get(&["system", "users", id], &[], 1).await?;
                let Some(body) = answer.json()? else { return Ok(answer.seen(None)) };
                let uuid = user::uuid_of(&body).ok_or_else(|| UemError::unreadable("the user has no uuid"))?;
                (uuid, Some(id.to_owned()))
            }
        };
        let answer = self.get(&["system", "users", &uuid], &[], 2).await?;
        let read = answer.json()?.map(|body| ReadUser::read(&body, &uuid, id));
        Ok(answer.seen(read))
    }

    /// One page of all devices, counted from 0.
    ///
    /// # Errors
    ///
    /// See [`UemError`].
    pub async fn devices(&self, page: usize) -> Result<Seen<Page>, UemError> {
        let (number, size) = (page.to_string(), PAGE_SIZE.to_string());
        let query = [("page", number.as_str()), ("pagesize", size.as_str())];
        let answer = self.get(&["mdm", "devices", "search"], &query, 1).await?;
        let found = Page::read(answer.json()?.as_ref(), page, PAGE_SIZE)?;
        Ok(answer.seen(found))
    }

    /// The event notification rule that posts to this address, if there is one.
    ///
    /// # Errors
    ///
    /// See [`UemError`].
    pub async fn rule(&self, target_url: &Url) -> Result<Seen<Option<Rule>>, UemError> {
        let mut page = 0;
        loop {
            let (number, size) = (page.to_string(), PAGE_SIZE.to_string());
            let query = [("page", number.as_str()), ("pagesize", size.as_str())];
            let answer = self.get(&["system", "eventnotifications", "search"], &query, 2).await?;
            let rules = answer.json()?.as_ref().map(rule::all).transpose()?.unwrap_or_default();
            page += 1;
            let last = rules.len() < PAGE_SIZE || page == MOST_RULE_PAGES;
            let found = rules.into_iter().find(|rule| rule.posts_to(target_url));
            if found.is_some() || last {
                return Ok(answer.seen(found));
            }
        }
    }

    async fn get(&self, path: &[&str], query: &[(&str, &str)], version: u8) -> Result<Answer, UemError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.caller.get(url, version).await
    }
}

impl Answer {
    fn seen<T>(self, value: T) -> Seen<T> {
        Seen { value, at: self.at }
    }

    /// The body, or `None` when there is nothing: an empty body, `null`, or no such thing.
    fn json(&self) -> Result<Option<Value>, UemError> {
        if self.missing || self.body.trim_ascii().is_empty() {
            return Ok(None);
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Null) => Ok(None),
            Ok(body) => Ok(Some(body)),
            Err(_) => Err(UemError::unreadable("it is not JSON")),
        }
    }
}
