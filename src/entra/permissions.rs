//! What the app may do in the tenant, read from its own token.
//!
//! The token is only looked into, not verified: it came from the token endpoint over TLS, and nothing is decided by it but
//! what `doctor` says. Microsoft calls the token opaque to its bearer, so one that can't be read is not an error.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Permissions that let us revoke, least first.
const REVOKE: [&str; 3] = ["User.RevokeSessions.All", "User.ReadWrite.All", "Directory.ReadWrite.All"];
/// Permissions that let us find people and read the stamp back, least first.
const READ: [&str; 4] = ["User.Read.All", "User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"];

/// The application permissions in the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permissions {
    /// They could be read.
    Read {
        /// All of them, sorted.
        roles: Vec<String>,
        /// The least permissions that are wanted and that nothing here stands in for.
        missing: Vec<&'static str>,
        /// What we do not need: everything but `User.RevokeSessions.All` and `User.Read.All`, unless it stands in for one
        /// of them.
        surplus: Vec<String>,
    },
    /// The token is not one we can look into.
    Opaque,
}

/// The permissions in this token.
pub(crate) fn permissions(token: &str) -> Permissions {
    let Some(mut roles) = roles(token) else { return Permissions::Opaque };
    roles.sort_unstable();
    roles.dedup();
    let held = |wanted: &[&'static str]| wanted.iter().copied().find(|name| roles.iter().any(|role| role == name));
    let used = [held(&REVOKE), held(&READ)];
    let missing = [(used[0], REVOKE[0]), (used[1], READ[0])];
    let missing = missing.into_iter().filter(|(used, _)| used.is_none()).map(|(_, least)| least).collect();
    let surplus = roles.iter().filter(|role| !used.contains(&Some(role.as_str()))).cloned().collect();
    Permissions::Read { roles, missing, surplus }
}

fn roles(token: &str) -> Option<Vec<String>> {
    let mut parts = token.split('.');
    let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?).ok()?;
    match claims.get("roles") {
        Some(Value::Array(roles)) => Some(roles.iter().filter_map(|role| role.as_str().map(str::to_owned)).collect()),
        Some(_) => None,
        None => claims.is_object().then(Vec::new),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[rstest]
    #[case::least(&["User.RevokeSessions.All", "User.Read.All"], &[], &[])]
    #[case::nothing(&[], &["User.RevokeSessions.All", "User.Read.All"], &[])]
    #[case::cannot_verify(&["User.RevokeSessions.All"], &["User.Read.All"], &[])]
    #[case::sovereign(&["User.ReadWrite.All"], &[], &[])]
    #[case::too_much(&["User.RevokeSessions.All", "User.Read.All", "Mail.Read", "User.ReadWrite.All"], &[], &["Mail.Read", "User.ReadWrite.All"])]
    #[case::useless(&["Mail.Read"], &["User.RevokeSessions.All", "User.Read.All"], &["Mail.Read"])]
    fn permissions_are_neither_missing_nor_too_many(
        #[case] roles: &[&str],
        #[case] lacks: &[&str],
        #[case] over: &[&str],
    ) {
        let claims = serde_json::json!({ "roles": roles }).to_string();

        let Permissions::Read { missing, surplus, .. } = permissions(&token(&claims)) else { panic!("opaque") };
        assert_eq!(
            (missing.as_slice(), surplus.iter().map(String::as_str).collect::<Vec<_>>().as_slice()),
            (lacks, over)
        );
    }

    #[rstest]
    #[case("an opaque token")]
    #[case("a.b.c")]
    #[case("e30.e30")]
    #[case("")]
    fn a_token_that_is_none_is_opaque(#[case] token: &str) {
        assert_eq!(permissions(token), Permissions::Opaque);
    }

    #[test]
    fn a_token_without_roles_has_none() {
        assert!(matches!(permissions(&token("{}")), Permissions::Read { roles, .. } if roles.is_empty()));
    }
}
