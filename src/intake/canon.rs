//! The one spelling of every name.
//!
//! Sources write the same thing in several ways, and write "nothing" in several more. Each function here gives the
//! canonical spelling, `Ok(None)` for nothing, and [`Odd`] for something that is neither.

use uuid::Uuid;

/// The value is there but is not what the field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Odd;

/// The text without blanks around it; `None` when it says "nothing" in one of the ways sources say it: an empty text,
/// `System.Byte[]` (an old version's way to write bytes), the all-zero uuid, `0`.
///
/// Tabs and line breaks inside are one blank, since XML and JSON do not agree on keeping them.
pub(super) fn text(sent: &str) -> Option<String> {
    const NIL: &str = "00000000-0000-0000-0000-000000000000";
    let sent = sent.trim();
    if sent.is_empty() || sent == "0" || sent == NIL || sent.eq_ignore_ascii_case("System.Byte[]") {
        return None;
    }
    if sent.contains(['\t', '\n', '\r']) {
        return Some(sent.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    Some(sent.to_owned())
}

/// A serial number, in upper case.
pub(super) fn serial(sent: &str) -> Option<String> {
    text(sent).map(|sent| sent.to_ascii_uppercase())
}

/// A UDID, in upper-case hex without dashes.
pub(super) fn udid(sent: &str) -> Result<Option<String>, Odd> {
    let Some(sent) = text(sent) else { return Ok(None) };
    let hex: String = sent.chars().filter(|c| *c != '-').map(|c| c.to_ascii_uppercase()).collect();
    if hex.is_empty() || !hex.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err(Odd);
    }
    Ok(hex.bytes().any(|c| c != b'0').then_some(hex))
}

/// A number above zero.
pub(super) fn number(sent: &str) -> Result<Option<i64>, Odd> {
    let Some(sent) = text(sent) else { return Ok(None) };
    if !sent.bytes().all(|c| c.is_ascii_digit()) {
        return Err(Odd);
    }
    let number: i64 = sent.parse().map_err(|_| Odd)?;
    Ok((number > 0).then_some(number))
}

/// A uuid, in lower case with dashes.
pub(super) fn uuid(sent: &str) -> Result<Option<String>, Odd> {
    let Some(sent) = text(sent) else { return Ok(None) };
    let uuid = Uuid::try_parse(&sent).map_err(|_| Odd)?;
    Ok((!uuid.is_nil()).then(|| uuid.to_string()))
}

/// A MAC address; zeros are nothing.
pub(super) fn mac(sent: &str) -> Option<String> {
    let bare: String = text(sent)?.chars().filter(char::is_ascii_alphanumeric).collect();
    bare.bytes().any(|c| c != b'0').then(|| bare.to_ascii_uppercase())
}

/// Letters and digits only, in lower case: how names of events and states are compared.
pub(super) fn folded(sent: &str) -> String {
    sent.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether a device with this enrolment status is under management; `None` for a status we do not know.
///
/// A device that waits for its wipe still is: what is pending has not happened.
pub(super) fn enrolled(status: &str) -> Option<bool> {
    match folded(status).as_str() {
        "enrolled" | "enterprisewipepending" | "devicewipepending" => Some(true),
        "unenrolled" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_in_many_ways() {
        for sent in ["", "  ", "0", "System.Byte[]", "system.byte[]", "00000000-0000-0000-0000-000000000000"] {
            assert_eq!(text(sent), None, "{sent:?}");
        }
        assert_eq!(udid("0000000000"), Ok(None));
        assert_eq!(number("000"), Ok(None));
        assert_eq!(uuid("00000000000000000000000000000000"), Ok(None));
        assert_eq!(mac("00:00:00:00:00:00"), None);
    }

    #[test]
    fn two_spellings_of_one_name_are_equal() {
        assert_eq!(udid("00008103-000a51c23e88001e"), Ok(Some("00008103000A51C23E88001E".into())));
        assert_eq!(serial(" dmpx7q2lk1 "), Some("DMPX7Q2LK1".into()));
        assert_eq!(number("041207"), Ok(Some(41207)));
        assert_eq!(uuid("5E0D4F0B7F5E4D0E9B570C0F6A1F7A11"), uuid("5e0d4f0b-7f5e-4d0e-9b57-0c0f6a1f7a11"));
        assert_eq!(folded(" Check-Out "), "checkout");
        assert_eq!(text("Ward\r\n3B"), text("Ward\t3B"));
    }

    #[test]
    fn what_is_neither_a_name_nor_nothing_is_odd() {
        assert_eq!(udid("DMPX"), Err(Odd));
        assert_eq!(udid("---"), Err(Odd));
        assert_eq!(number("-5"), Err(Odd));
        assert_eq!(number("99999999999999999999"), Err(Odd));
        assert_eq!(uuid("me"), Err(Odd));
    }
}
