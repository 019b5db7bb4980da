//! From a user of the UEM to a person in the directory: what to ask for, in which order.

use serde::{Deserialize, Serialize};

use super::ReadUser;
use crate::intake::{canon, person};

/// The rule that leads from a user to a person. It is recorded with every resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The user principal name.
    Upn,
    /// The external id, as an object id.
    ExternalId,
    /// The mapping attribute, as `onPremisesImmutableId`.
    ImmutableId,
    /// The e-mail address.
    Email,
    /// A user name that looks like a UPN.
    UserName,
}

impl By {
    /// The rule's name as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upn => "upn",
            Self::ExternalId => "external_id",
            Self::ImmutableId => "immutable_id",
            Self::Email => "email",
            Self::UserName => "user_name",
        }
    }
}

/// One thing to ask the directory for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which rule led to it.
    pub by: By,
    /// What to ask for.
    pub value: String,
}

/// Whom a user may be, the surest first. None for a local account, which has no identity in a directory, and none for a
/// pool account, which is nobody.
pub fn candidates(user: &ReadUser) -> Vec<Candidate> {
    let local = user.security_type.as_ref().is_some_and(|kind| kind.eq_ignore_ascii_case("basic"));
    if local || user.pool {
        return Vec::new();
    }
    let upn = |text: &Option<String>| text.clone().filter(|text| person::is_upn(text));
    let found = [
        (By::Upn, upn(&user.upn)),
        (By::ExternalId, user.external_id.as_deref().and_then(|id| canon::uuid(id).ok().flatten())),
        (By::ImmutableId, user.aad_mapping_attribute.clone()),
        (By::Email, upn(&user.email)),
        (By::UserName, upn(&user.user_name)),
    ];
    found.into_iter().filter_map(|(by, value)| Some(Candidate { by, value: value? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amina() -> ReadUser {
        ReadUser {
            user_name: Some("amina@contoso.example".into()),
            upn: Some("amina.reuter@contoso.example".into()),
            external_id: Some("0D0F54A7-9C0C-4D8E-8F0A-2F6E3C1B7A55".into()),
            aad_mapping_attribute: Some("b2VlcSt5ZkVta1c4Zz09".into()),
            email: Some("a.reuter@contoso.example".into()),
            security_type: Some("directory".into()),
            ..ReadUser::default()
        }
    }

    #[test]
    fn a_person_is_looked_for_by_the_surest_rule_first() {
        let found: Vec<_> = candidates(&amina()).into_iter().map(|c| (c.by.as_str(), c.value)).collect();

        assert_eq!(
            found,
            [
                ("upn", "amina.reuter@contoso.example".to_owned()),
                ("external_id", "0d0f54a7-9c0c-4d8e-8f0a-2f6e3c1b7a55".to_owned()),
                ("immutable_id", "b2VlcSt5ZkVta1c4Zz09".to_owned()),
                ("email", "a.reuter@contoso.example".to_owned()),
                ("user_name", "amina@contoso.example".to_owned()),
            ]
        );
    }

    #[test]
    fn what_cannot_name_a_person_is_not_asked_for() {
        let vague = ReadUser {
            user_name: Some("areuter".into()),
            upn: None,
            external_id: Some("CN=Amina".into()),
            aad_mapping_attribute: None,
            email: None,
            ..amina()
        };

        assert_eq!(candidates(&vague), []);
    }

    #[test]
    fn a_local_account_and_a_pool_account_are_nobody() {
        assert_eq!(candidates(&ReadUser { security_type: Some("Basic".into()), ..amina() }), []);
        assert_eq!(candidates(&ReadUser { pool: true, ..amina() }), []);
    }
}
