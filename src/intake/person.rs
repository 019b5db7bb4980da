//! Who an account is, where there is no API to ask: the administrator says how a UPN is made, and which accounts are the
//! pool's.
//!
//! The mapping never guesses. What does not come out as one well-formed UPN is `None`, and somebody has to look.

use serde::Deserialize;

use super::AccountNames;

/// How accounts of one source are understood without asking it.
#[derive(Debug, Clone, Default)]
pub struct People {
    /// How a UPN is made. Without it no account has one.
    pub upn_from: Option<UpnFrom>,
    /// User names, e-mail addresses, ids or uuids of the accounts that returned devices belong to.
    pub pool_accounts: Vec<String>,
}

impl People {
    /// The account's UPN by the mapping, or `None` where it gives nothing that could be one.
    pub fn upn(&self, account: &AccountNames) -> Option<String> {
        self.upn_from.as_ref()?.upn(account)
    }

    /// Whether the account is one of the pool's. Letters are compared in any case, ASCII only.
    pub fn is_pool(&self, account: &AccountNames) -> bool {
        let names = [&account.user_name, &account.email, &account.id, &account.uuid];
        let is =
            |listed: &str| names.iter().any(|name| name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(listed)));
        self.pool_accounts.iter().map(|listed| listed.trim()).any(|listed| !listed.is_empty() && is(listed))
    }
}

/// How a UPN is made of an account's names: `email`, `user_name`, or a template such as `{user_name}@contoso.example`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct UpnFrom(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    UserName,
    Email,
}

/// The template cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not \"email\", \"user_name\" or a template with {{user_name}} or {{email}}")]
pub struct BadTemplate(String);

impl UpnFrom {
    /// The UPN, if every name that the template asks for is present and the result has one `@` with something on both
    /// sides and no blanks.
    pub fn upn(&self, account: &AccountNames) -> Option<String> {
        let mut upn = String::new();
        for piece in &self.0 {
            upn.push_str(match piece {
                Piece::Literal(text) => text,
                Piece::UserName => account.user_name.as_deref()?,
                Piece::Email => account.email.as_deref()?,
            });
        }
        is_upn(&upn).then_some(upn)
    }
}

/// Whether this could be a UPN at all.
pub(super) fn is_upn(text: &str) -> bool {
    let sound = !text.chars().any(|c| c.is_whitespace() || c.is_control());
    let halves = text
        .split_once('@')
        .is_some_and(|(name, domain)| !name.is_empty() && !domain.is_empty() && !domain.contains('@'));
    sound && halves
}

impl std::str::FromStr for UpnFrom {
    type Err = BadTemplate;

    fn from_str(template: &str) -> Result<Self, BadTemplate> {
        let bad = || BadTemplate(template.to_owned());
        match template.trim() {
            "email" => return Ok(Self(vec![Piece::Email])),
            "user_name" => return Ok(Self(vec![Piece::UserName])),
            _ => {}
        }
        let mut pieces = Vec::new();
        let mut rest = template.trim();
        while let Some((literal, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(bad)?;
            pieces.push(Piece::Literal(literal.to_owned()));
            pieces.push(match name {
                "user_name" => Piece::UserName,
                "email" => Piece::Email,
                _ => return Err(bad()),
            });
            rest = after;
        }
        pieces.push(Piece::Literal(rest.to_owned()));
        let literal_is_sound = |piece: &Piece| match piece {
            Piece::Literal(text) => !text.contains(['{', '}']),
            Piece::UserName | Piece::Email => true,
        };
        if pieces.len() < 2 || !pieces.iter().all(literal_is_sound) {
            return Err(bad());
        }
        Ok(Self(pieces))
    }
}

impl TryFrom<String> for UpnFrom {
    type Error = BadTemplate;

    fn try_from(template: String) -> Result<Self, BadTemplate> {
        template.parse()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn amina() -> AccountNames {
        AccountNames {
            uuid: Some("c7a4e9f2-25d1-4a6f-8a58-4fe0a2f3d901".into()),
            id: Some("88213".into()),
            user_name: Some("areuter".into()),
            email: Some("amina.reuter@contoso.example".into()),
        }
    }

    #[rstest]
    #[case("email", Some("amina.reuter@contoso.example"))]
    #[case("{email}", Some("amina.reuter@contoso.example"))]
    #[case("{user_name}@contoso.example", Some("areuter@contoso.example"))]
    #[case("x-{user_name}@contoso.example", Some("x-areuter@contoso.example"))]
    #[case::a_short_name_is_no_upn("user_name", None)]
    #[case::two_at_signs("{email}@contoso.example", None)]
    #[case::a_blank("{user_name} @contoso.example", None)]
    fn a_upn_is_made_by_the_mapping_or_not_at_all(#[case] template: &str, #[case] upn: Option<&str>) {
        let people = People { upn_from: Some(template.parse().unwrap()), pool_accounts: vec![] };

        assert_eq!(people.upn(&amina()).as_deref(), upn);
    }

    #[test]
    fn a_missing_name_gives_no_upn() {
        let nobody = AccountNames { user_name: None, ..amina() };
        let from: UpnFrom = "{user_name}@contoso.example".parse().unwrap();

        assert_eq!(from.upn(&nobody), None);
        assert_eq!(People::default().upn(&amina()), None);
    }

    #[rstest]
    #[case("")]
    #[case("upn")]
    #[case("{upn}@contoso.example")]
    #[case("{user_name@contoso.example")]
    #[case("user_name}@contoso.example")]
    #[case("{user_name}}@contoso.example")]
    #[case("someone@contoso.example")]
    fn a_template_with_a_typo_is_refused(#[case] template: &str) {
        assert!(template.parse::<UpnFrom>().is_err());
    }

    #[test]
    fn a_pool_account_is_known_by_any_of_its_names_in_any_case() {
        for listed in ["AReuter", " amina.reuter@CONTOSO.example", "88213", "C7A4E9F2-25D1-4A6F-8A58-4FE0A2F3D901"] {
            let people = People { upn_from: None, pool_accounts: vec![String::new(), listed.to_owned()] };
            assert!(people.is_pool(&amina()), "{listed}");
        }
        let others = People { upn_from: None, pool_accounts: vec![String::new(), "stg-ipad".to_owned()] };
        assert!(!others.is_pool(&amina()));
    }

    #[test]
    fn case_is_folded_in_ascii_only() {
        let kelvin = AccountNames { user_name: Some("\u{212a}im".into()), ..AccountNames::default() };
        let people = People { upn_from: None, pool_accounts: vec!["kim".to_owned()] };

        assert!(!people.is_pool(&kelvin));
    }
}
