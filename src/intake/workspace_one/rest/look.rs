//! Finding a value in an answer whose versions spell the same names in different case.

use serde_json::Value;

/// The value at this path, names in any case.
pub(super) fn at<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, name| {
        let object = value.as_object()?;
        object
            .get(*name)
            .or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
    })
}

/// A text, number or truth value as text.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The first of these paths that leads to something `canonical` accepts.
pub(super) fn first<T>(value: &Value, paths: &[&[&str]], canonical: impl Fn(&str) -> Option<T>) -> Option<T> {
    paths.iter().find_map(|path| canonical(&scalar(at(value, path)?)?))
}
