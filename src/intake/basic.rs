//! HTTP Basic, the only proof of who is knocking that the UEM can give.
//!
//! The header is judged as raw bytes before anything else of the request is read. Digests of equal length are compared in
//! constant time, with every password that is valid and always the same number of places, and a source that does not exist
//! has a [`Door::dummy`] that does the same work and never opens.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// A header longer than this opens no door. Real ones have less than 200 bytes.
const LONGEST_HEADER: usize = 4096;

/// How many passwords are compared at least, so that the time does not tell how many there are.
const PLACES: usize = 8;

/// Padding is cut off by some senders.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

type Digest = [u8; 32];

/// The door of one source: a user name and the passwords that open it, all valid at once so that they can be rotated.
pub struct Door {
    user_names: [Digest; 2],
    passwords: Vec<Digest>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door(…)")
    }
}

impl Door {
    /// A door for this user name and any of these passwords. An empty password opens nothing.
    pub fn new(user_name: &str, passwords: &[SecretString]) -> Self {
        let user_names = [digest(user_name.as_bytes()), digest(&latin1(user_name).unwrap_or_else(|| user_name.into()))];
        let mut digests = Vec::with_capacity(PLACES);
        for password in passwords.iter().map(SecretString::expose_secret).filter(|text| !text.is_empty()) {
            digests.push(digest(password.as_bytes()));
            digests.extend(latin1(password).map(|bytes| digest(&bytes)));
        }
        while digests.len() < PLACES {
            // Nothing is known that hashes to zeros.
            digests.push([0; 32]);
        }
        Self { user_names, passwords: digests }
    }

    /// The door of a source that does not exist: it takes as long and never opens.
    pub fn dummy() -> Self {
        Self { user_names: [[0; 32]; 2], passwords: vec![[0; 32]; PLACES] }
    }

    /// Whether this `Authorization` header opens the door.
    pub fn opens_to(&self, authorization: Option<&[u8]>) -> bool {
        let sent = authorization.and_then(credentials);
        let (user_name, password) = sent.as_ref().map_or((&b""[..], &b""[..]), |(user, password)| (user, password));
        let known = any(&self.user_names, &digest(user_name));
        let right = any(&self.passwords, &digest(password));
        let complete = Choice::from(u8::from(sent.is_some() && !password.is_empty()));
        bool::from(known & right & complete)
    }
}

/// Compares with every place, also after one was equal.
fn any(places: &[Digest], sent: &Digest) -> Choice {
    places.iter().fold(Choice::from(0), |found, place| found | place.ct_eq(sent))
}

/// User name and password of a Basic header, scheme in any case. The first colon divides them.
fn credentials(header: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    if header.len() > LONGEST_HEADER {
        return None;
    }
    let header = header.trim_ascii();
    let (scheme, rest) = header.split_at_checked(5)?;
    if !scheme.eq_ignore_ascii_case(b"basic") || !rest.starts_with(b" ") {
        return None;
    }
    let mut user_name = BASE64.decode(rest.trim_ascii()).ok()?;
    let colon = user_name.iter().position(|byte| *byte == b':')?;
    let password = user_name.split_off(colon + 1);
    user_name.truncate(colon);
    Some((user_name, password))
}

/// The text in ISO 8859-1, where that differs from UTF-8 and is possible: some senders still encode credentials so.
fn latin1(text: &str) -> Option<Vec<u8>> {
    if text.is_ascii() {
        return None;
    }
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn door() -> Door {
        let passwords = ["new password", "old:password", "pässwort", ""].map(SecretString::from);
        Door::new("handover", &passwords)
    }

    fn header(scheme: &str, credentials: &[u8]) -> Vec<u8> {
        let mut header = format!("{scheme} ").into_bytes();
        header.extend(base64::engine::general_purpose::STANDARD.encode(credentials).bytes());
        header
    }

    #[rstest]
    #[case::new(b"handover:new password")]
    #[case::old_with_a_colon(b"handover:old:password")]
    #[case::utf8("handover:pässwort".as_bytes())]
    #[case::latin1(b"handover:p\xe4sswort")]
    fn every_valid_password_opens(#[case] credentials: &[u8]) {
        for scheme in ["Basic", "basic", "BASIC", "BaSiC", "Basic  "] {
            assert!(door().opens_to(Some(&header(scheme, credentials))), "{scheme}");
        }
    }

    #[rstest]
    #[case::wrong(b"handover:wrong")]
    #[case::another_user(b"Handover:new password")]
    #[case::nobody(b":new password")]
    #[case::empty(b"handover:")]
    #[case::no_colon(b"handovernew password")]
    #[case::longer(b"handover:new password ")]
    #[case::nothing(b"")]
    fn nothing_else_opens(#[case] credentials: &[u8]) {
        assert!(!door().opens_to(Some(&header("Basic", credentials))));
    }

    #[test]
    fn a_header_that_is_no_basic_opens_nothing() {
        let good = header("Basic", b"handover:new password");
        let mut long = good.clone();
        long.extend([b' '; 5000]);
        for header in
            [&b""[..], b"Basic", b"Basic ", b"Basic ***", b"Basic\xff\xfe", b"Bearer abc", b"Bas", &good[6..], &long]
        {
            assert!(!door().opens_to(Some(header)));
        }
        assert!(!door().opens_to(None));
        assert!(!door().opens_to(Some(&header("Basicx", b"handover:new password"))));
    }

    #[test]
    fn padding_may_be_cut_off() {
        let padded = header("Basic", b"handover:new password");
        let cut: Vec<u8> = padded.into_iter().filter(|byte| *byte != b'=').collect();

        assert!(door().opens_to(Some(&cut)));
    }

    #[test]
    fn a_door_without_passwords_and_a_dummy_open_to_nobody() {
        for credentials in [&b":"[..], b"handover:", b"handover:x", &[0; 32]] {
            assert!(!Door::new("handover", &[]).opens_to(Some(&header("Basic", credentials))));
            assert!(!Door::dummy().opens_to(Some(&header("Basic", credentials))));
        }
    }

    #[test]
    fn a_door_does_not_print_what_opens_it() {
        assert_eq!(format!("{:?}", door()), "Door(…)");
    }
}
