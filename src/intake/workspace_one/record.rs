//! One line of a CSV file, its columns named as the vendor names the fields.

use csv::StringRecord;

use super::Rules;
use super::fields::{Fields, Item};
use super::json::sound;
use crate::intake::{Notice, Unreadable};

/// Reads one line under its headers, which are the vendor's field names in any case. Columns with other names, or with
/// none, are left alone; a line may be shorter than its headers.
///
/// # Errors
///
/// As [`read`](super::read), for each line.
pub fn read_record(headers: &StringRecord, record: &StringRecord, rules: &Rules) -> Result<Notice, Unreadable> {
    if record.len() > headers.len() {
        return Err(Unreadable::malformed("the line has more columns than the headers"));
    }
    let mut fields = Fields::default();
    for (header, value) in headers.iter().zip(record) {
        sound(value, &rules.limits).map_err(Unreadable::malformed)?;
        fields.put(header.trim().trim_start_matches('\u{feff}'), Item::Scalar(value.to_owned()))?;
    }
    fields.into_notice(rules)
}
