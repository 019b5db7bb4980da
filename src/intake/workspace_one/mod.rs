//! Workspace ONE UEM (formerly AirWatch, now of Omnissa): its event notifications and its REST API.
//!
//! An event notification is one flat object per POST, as JSON or as XML, without version, delivery id or signature.
//! Every generation since 2013 is read by the same rules: all fields are optional but one name of the device, fields we
//! do not know are left alone, and "nothing" may be written in several ways.
//!
//! The vendor publishes no schema; what is known about the payload was collected from receivers in production. Its REST
//! API is described at `https://{host}/api/help` of each installation.

mod fields;
mod identity;
mod json;
mod record;
pub mod rest;
mod rules;
mod xml;

pub use record::read_record;
pub use rules::{Entry, EventTable, Limits, Rules};

use super::{Notice, Unreadable};

/// Reads one event as the UEM posted it.
///
/// Whether it is JSON or XML is told by its first character, since both are unmistakable and the sender's header has
/// never been written down; the header is asked for its charset only, because nothing but UTF-8 is read.
///
/// # Errors
///
/// [`Unreadable::Malformed`] for a body that is broken, too large, too deep or ambiguous, or that names no device;
/// [`Unreadable::Unknown`] for a sound body in which nothing is familiar, or something familiar has a new shape.
pub fn read(body: &[u8], content_type: Option<&str>, rules: &Rules) -> Result<Notice, Unreadable> {
    if body.len() > rules.limits.body_bytes {
        return Err(Unreadable::malformed("it is too large"));
    }
    let text = std::str::from_utf8(body).map_err(|_| Unreadable::malformed("it is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.is_ascii() && content_type.and_then(charset).is_some_and(|name| !is_utf8(name)) {
        return Err(Unreadable::malformed("it is sent in a charset other than UTF-8"));
    }
    let fields = match text.trim_start().chars().next() {
        None => return Err(Unreadable::malformed("it is empty")),
        Some('<') => xml::read(text, &rules.limits)?,
        Some(_) => json::read(text, &rules.limits)?,
    };
    fields.into_notice(rules)
}

fn charset(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    })
}

fn is_utf8(charset: &str) -> bool {
    ["utf-8", "utf8"].iter().any(|name| charset.eq_ignore_ascii_case(name))
}
