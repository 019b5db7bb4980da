//! A user as the API tells it.

use serde_json::Value;

use super::look;
use crate::intake::{AccountNames, canon};

/// How a user is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserRef<'a> {
    /// By its uuid.
    Uuid(&'a str),
    /// By its number, which leads to its uuid.
    Id(&'a str),
}

impl<'a> UserRef<'a> {
    /// The best way to ask for this account; `None` when it has neither uuid nor number.
    pub fn of(account: &'a AccountNames) -> Option<Self> {
        let uuid = account.uuid.as_deref().map(Self::Uuid);
        uuid.or_else(|| account.id.as_deref().map(Self::Id))
    }
}

/// A user, with what leads to a person in the directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadUser {
    /// The user's uuid.
    pub uuid: Option<String>,
    /// The user's number.
    pub id: Option<String>,
    /// The login name.
    pub user_name: Option<String>,
    /// The user principal name of the directory the UEM was told about. It may differ from the one in Entra.
    pub upn: Option<String>,
    /// The id in the directory that the user was synchronised from.
    pub external_id: Option<String>,
    /// The immutable id.
    pub aad_mapping_attribute: Option<String>,
    /// The e-mail address.
    pub email: Option<String>,
    /// `basic`, `directory` or `authenticationProxy`.
    pub security_type: Option<String>,
    /// Whether this is a staging account for many users: the pool's own, never a person.
    pub pool: bool,
    /// Whether the account is active.
    pub status: Option<bool>,
}

impl ReadUser {
    pub(super) fn read(value: &Value, asked_uuid: &str, id: Option<String>) -> Self {
        let text = |name: &str| look::first(value, &[&[name]], canon::text);
        Self {
            uuid: uuid_of(value).or_else(|| Some(asked_uuid.to_owned())),
            id: id.or_else(|| number(value)),
            user_name: text("userName"),
            upn: text("userPrincipalName"),
            external_id: text("externalId"),
            aad_mapping_attribute: text("aadMappingAttribute"),
            email: text("emailAddress"),
            security_type: text("securityType"),
            pool: text("deviceStagingType").is_some_and(|kind| is_pool(&kind)),
            status: text("status").and_then(|status| is_active(&status)),
        }
    }
}

pub(super) fn uuid_of(value: &Value) -> Option<String> {
    look::first(value, &[&["Uuid"]], |sent| canon::uuid(sent).ok().flatten())
}

fn number(value: &Value) -> Option<String> {
    let number = look::first(value, &[&["Id", "Value"], &["Id"]], |sent| canon::number(sent).ok().flatten());
    number.map(|number| number.to_string())
}

fn is_pool(staging_type: &str) -> bool {
    const MANY: &str = "MultipleUserStaging";
    staging_type.get(..MANY.len()).is_some_and(|start| start.eq_ignore_ascii_case(MANY))
}

fn is_active(status: &str) -> Option<bool> {
    match canon::folded(status).as_str() {
        "true" | "active" => Some(true),
        "false" | "inactive" => Some(false),
        _ => None,
    }
}
