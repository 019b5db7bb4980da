//! Finding a person, and reading what Graph says about one.
//!
//! A name finds one person or nobody: two answers are `Several`, and an answer that does not bear the name that was asked
//! for is not taken. A name that could be read as another address (empty, a dot segment) is never sent.

use serde_json::Value;
use uuid::Uuid;

use super::wire;
use crate::custody::{Moment, Verdict};

/// The longest name we ask for. A UPN has at most 113 characters, a mail address 320.
const LONGEST_NAME: usize = 512;

/// A name that a person is known by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PersonName {
    /// User principal name. Upper and lower case are the same.
    Upn(String),
    /// Directory object id.
    ObjectId(Uuid),
    /// On-premises immutable id (source anchor). Base64, so upper and lower case differ.
    ImmutableId(String),
    /// Primary mail address. Upper and lower case are the same.
    Mail(String),
}

/// What looking for a person yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// One person bears this name.
    Person(Found),
    /// Graph knows nobody of this name, now.
    Nobody,
    /// More than one does. None of them is chosen.
    Several,
    /// The name is empty, too long or has characters that no such name has; nothing was sent.
    Unusable,
    /// We may not read users: `User.Read.All` is missing.
    Unreadable,
    /// No usable answer; the verdict says when to try again and whether to raise an alarm.
    NotNow(Verdict),
}

/// A person that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Directory object id; it never changes.
    pub object_id: Uuid,
    /// User principal name as Graph spells it. It can change.
    pub upn: String,
    /// The person signs in through another tenant; revoking here has no effect on them.
    pub guest: bool,
    /// The account may sign in. `None`: Graph did not say.
    pub enabled: Option<bool>,
}

/// What reading a person's stamp yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stamp {
    /// Graph answered for this person.
    Read {
        /// `signInSessionsValidFromDateTime`, cut to microseconds. `None`: the property is not there.
        stamp: Option<Moment>,
        /// User principal name as Graph spells it.
        upn: Option<String>,
        /// The person signs in through another tenant.
        guest: bool,
    },
    /// We may not read it: `User.Read.All` is missing (G14).
    Unreadable,
    /// No such person, or not yet everywhere.
    Gone,
    /// No usable answer; the verdict says when to try again.
    NotNow(Verdict),
}

/// The path, below Graph's root, that asks for this name. `None`: it is not to be asked.
pub(crate) fn question(name: &PersonName) -> Option<String> {
    const FIELDS: &str = "id,userPrincipalName,userType,accountEnabled";
    match name {
        PersonName::ObjectId(id) => Some(format!("/v1.0/users/{id}?$select={FIELDS}")),
        PersonName::Upn(upn) => {
            let upn = usable(upn)?;
            if !upn.contains('@') {
                return None;
            }
            // Graph refuses a `$` at the start of a segment, but not inside the key form.
            let segment = match upn.strip_prefix('$') {
                Some(_) => format!("('{}')", encoded(&upn.replace('\'', "''"))),
                None => format!("/{}", encoded(upn)),
            };
            Some(format!("/v1.0/users{segment}?$select={FIELDS}"))
        }
        PersonName::ImmutableId(id) => Some(filtered(FIELDS, "onPremisesImmutableId", usable(id)?)),
        PersonName::Mail(mail) => Some(filtered(FIELDS, "mail", usable(mail)?)),
    }
}

/// The path that asks for a person's stamp.
pub(crate) fn stamp_question(object_id: Uuid) -> String {
    format!("/v1.0/users/{object_id}?$select=id,userPrincipalName,userType,signInSessionsValidFromDateTime")
}

/// What an accepted answer to [`question`] says.
pub(crate) fn finding(name: &PersonName, json: Option<&Value>) -> Finding {
    let misled = Finding::NotNow(Verdict::Misled);
    let Some(json) = json else { return misled };
    match name {
        PersonName::ObjectId(id) => match found(json) {
            Some(person) if person.object_id == *id => Finding::Person(person),
            Some(_) | None => misled,
        },
        PersonName::Upn(upn) => match found(json) {
            Some(person) if person.upn.eq_ignore_ascii_case(upn.trim()) => Finding::Person(person),
            Some(_) | None => misled,
        },
        PersonName::ImmutableId(id) => {
            only(json, |user| bears(user, "onPremisesImmutableId", |held| held == id.trim()))
        }
        PersonName::Mail(mail) => only(json, |user| bears(user, "mail", |held| held.eq_ignore_ascii_case(mail.trim()))),
    }
}

/// What an accepted answer to [`stamp_question`] says.
pub(crate) fn stamp(object_id: Uuid, json: Option<&Value>) -> Stamp {
    let misled = Stamp::NotNow(Verdict::Misled);
    let Some(json) = json else { return misled };
    if id(json) != Some(object_id) {
        return misled;
    }
    let upn = json.get("userPrincipalName").and_then(Value::as_str).map(str::to_owned);
    let guest = guest(json, upn.as_deref().unwrap_or_default());
    let stamp = match json.get("signInSessionsValidFromDateTime") {
        None | Some(Value::Null) => None,
        Some(value) => match value.as_str().and_then(wire::instant) {
            Some(stamp) => Some(stamp),
            None => return misled,
        },
    };
    Stamp::Read { stamp, upn, guest }
}

fn usable(name: &str) -> Option<&str> {
    let name = name.trim();
    (!name.is_empty() && name.len() <= LONGEST_NAME && !name.chars().any(char::is_control)).then_some(name)
}

fn filtered(fields: &str, property: &str, value: &str) -> String {
    // Five, not one: a comparison that ignores case may find namesakes of an id, and we pick by the exact spelling.
    let literal = encoded(&value.replace('\'', "''"));
    format!("/v1.0/users?$filter={property}%20eq%20'{literal}'&$select={fields},{property}&$top=5")
}

/// Percent-encoding of everything but RFC 3986's unreserved characters, so that no character can end the segment or the
/// literal it stands in.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

fn only(json: &Value, bears: impl Fn(&Value) -> bool) -> Finding {
    let Some(users) = json.get("value").and_then(Value::as_array) else { return Finding::NotNow(Verdict::Misled) };
    if json.get("@odata.nextLink").is_some() {
        return Finding::Several;
    }
    let mut bearers = users.iter().filter(|user| bears(user));
    match (bearers.next(), bearers.next()) {
        (None, _) => Finding::Nobody,
        (Some(_), Some(_)) => Finding::Several,
        (Some(user), None) => found(user).map_or(Finding::NotNow(Verdict::Misled), Finding::Person),
    }
}

/// The user has this property as asked. One that Graph left out was compared by Graph alone.
fn bears(user: &Value, property: &str, same: impl Fn(&str) -> bool) -> bool {
    user.get(property).and_then(Value::as_str).is_none_or(same)
}

fn found(user: &Value) -> Option<Found> {
    let upn = user.get("userPrincipalName")?.as_str()?.to_owned();
    let enabled = user.get("accountEnabled").and_then(Value::as_bool);
    Some(Found { object_id: id(user)?, guest: guest(user, &upn), upn, enabled })
}

fn id(user: &Value) -> Option<Uuid> {
    user.get("id")?.as_str()?.parse().ok()
}

fn guest(user: &Value, upn: &str) -> bool {
    let said = user.get("userType").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("guest"));
    said || upn.to_ascii_uppercase().contains("#EXT#")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const AMINA: &str = "0f0e7c52-0000-4000-8000-00000000000a";

    fn user(upn: &str) -> Value {
        json!({ "id": AMINA, "userPrincipalName": upn, "userType": "Member", "accountEnabled": true })
    }

    #[rstest]
    #[case("amina.reuter@contoso.example", "/amina.reuter%40contoso.example")]
    #[case("amina_fabrikam.com#EXT#@contoso.example", "/amina_fabrikam.com%23EXT%23%40contoso.example")]
    #[case("$amina@contoso.example", "('%24amina%40contoso.example')")]
    #[case("$o'neal@contoso.example", "('%24o%27%27neal%40contoso.example')")]
    #[case("o'neal@contoso.example", "/o%27neal%40contoso.example")]
    #[case("../groups/x@y", "/..%2Fgroups%2Fx%40y")]
    #[case("a?$expand=x&b@y%2f", "/a%3F%24expand%3Dx%26b%40y%252f")]
    fn a_upn_stays_inside_its_segment(#[case] upn: &str, #[case] segment: &str) {
        let path = question(&PersonName::Upn(upn.to_owned())).unwrap();

        assert_eq!(path, format!("/v1.0/users{segment}?$select=id,userPrincipalName,userType,accountEnabled"));
    }

    #[test]
    fn an_apostrophe_stays_inside_its_literal() {
        let path = question(&PersonName::Mail("o'neal@contoso.example".to_owned())).unwrap();

        assert!(path.starts_with("/v1.0/users?$filter=mail%20eq%20'o%27%27neal%40contoso.example'&$select="), "{path}");
    }

    #[rstest]
    #[case::empty("")]
    #[case::blank("  ")]
    #[case::parent("..")]
    #[case::no_domain("amina")]
    #[case::line_end("amina@contoso.example\r\nX: y")]
    fn a_upn_that_could_be_another_address_is_not_sent(#[case] upn: &str) {
        assert_eq!(question(&PersonName::Upn(upn.to_owned())), None);
    }

    #[rstest]
    #[case::member("amina@contoso.example", "AMINA@contoso.example", false)]
    #[case::guest("a_f.com#EXT#@contoso.example", "a_f.com#ext#@contoso.example", true)]
    fn a_upn_is_the_same_in_any_case(#[case] asked: &str, #[case] answered: &str, #[case] guest: bool) {
        let Finding::Person(found) = finding(&PersonName::Upn(asked.to_owned()), Some(&user(answered))) else {
            panic!("not found")
        };

        assert_eq!((found.upn.as_str(), found.guest), (answered, guest));
    }

    #[test]
    fn somebody_else_is_not_taken_for_the_person() {
        let asked = PersonName::Upn("bert@contoso.example".to_owned());
        let other = PersonName::ObjectId(Uuid::nil());

        assert_eq!(finding(&asked, Some(&user("amina@contoso.example"))), Finding::NotNow(Verdict::Misled));
        assert_eq!(finding(&other, Some(&user("amina@contoso.example"))), Finding::NotNow(Verdict::Misled));
    }

    #[test]
    fn the_nearest_of_several_is_never_chosen() {
        let mail = PersonName::Mail("ward@contoso.example".to_owned());
        let two = json!({ "value": [user("a@contoso.example"), user("b@contoso.example")] });
        let paged = json!({ "value": [user("a@contoso.example")], "@odata.nextLink": "https://…" });

        assert_eq!(finding(&mail, Some(&two)), Finding::Several);
        assert_eq!(finding(&mail, Some(&paged)), Finding::Several);
        assert_eq!(finding(&mail, Some(&json!({ "value": [] }))), Finding::Nobody);
    }

    #[test]
    fn an_immutable_id_is_told_from_one_in_other_letters() {
        let bearer = |id: &str| json!({ "id": AMINA, "userPrincipalName": id, "onPremisesImmutableId": id });
        let both = json!({ "value": [bearer("aBc="), bearer("abc=")] });

        let found = finding(&PersonName::ImmutableId("abc=".to_owned()), Some(&both));

        assert!(matches!(found, Finding::Person(Found { upn, .. }) if upn == "abc="));
    }

    #[rstest]
    #[case::there(json!({ "id": AMINA, "signInSessionsValidFromDateTime": "2026-03-02T05:58:41Z" }), Stamp::Read { stamp: Some(Moment(1_772_431_121_000_000)), upn: None, guest: false })]
    #[case::missing(json!({ "id": AMINA }), Stamp::Read { stamp: None, upn: None, guest: false })]
    #[case::null(json!({ "id": AMINA, "signInSessionsValidFromDateTime": null }), Stamp::Read { stamp: None, upn: None, guest: false })]
    #[case::nonsense(json!({ "id": AMINA, "signInSessionsValidFromDateTime": "soon" }), Stamp::NotNow(Verdict::Misled))]
    #[case::somebody_else(json!({ "id": Uuid::nil() }), Stamp::NotNow(Verdict::Misled))]
    fn a_stamp_is_read_or_not(#[case] json: Value, #[case] is: Stamp) {
        assert_eq!(stamp(AMINA.parse().unwrap(), Some(&json)), is);
    }

    proptest! {
        #[test]
        fn no_name_reaches_another_address(name in "[ -~]{0,40}@[ -~]{0,40}") {
            if let Some(path) = question(&PersonName::Upn(name)) {
                let url = url::Url::parse(&format!("https://graph.example{path}")).unwrap();

                prop_assert!(url.path().starts_with("/v1.0/users/") || url.path().starts_with("/v1.0/users('%24"));
                prop_assert_eq!(url.path_segments().unwrap().count(), path.matches('/').count());
                prop_assert_eq!(url.query(), Some("$select=id,userPrincipalName,userType,accountEnabled"));
                prop_assert_eq!(url.fragment(), None);
            }
        }
    }
}
