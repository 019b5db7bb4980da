//! What the UEM says of itself, and of the rule that makes it post to us.

use serde_json::Value;
use url::Url;

use super::{UemError, look};
use crate::intake::canon;

/// The format number of JSON. XML is 0.
const JSON: &str = "1";

/// What the UEM says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// The product's name.
    pub product: Option<String>,
    /// The product's version.
    pub version: Option<String>,
}

impl Info {
    pub(super) fn read(value: &Value) -> Self {
        let text = |name: &str| look::first(value, &[&[name]], canon::text);
        Self { product: text("ProductName"), version: text("ProductVersion") }
    }
}

/// An event notification rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The name an administrator gave it.
    pub name: Option<String>,
    /// Where it posts to.
    pub url: String,
    /// Whether it posts at all.
    pub active: bool,
    /// Whether it posts JSON. Otherwise it is XML, which is read too.
    pub json: bool,
    /// Whether check-ins and check-outs are among its events. Without them no hand-over is heard.
    pub check_out_check_in: bool,
    /// The other kinds of events it posts, as the API names them.
    pub events: Vec<String>,
}

impl Rule {
    fn read(value: &Value) -> Option<Self> {
        let truth = |path: &[&str]| look::at(value, path).and_then(Value::as_bool).unwrap_or(false);
        let mut events = Vec::new();
        flatten(look::at(value, &["DeviceEvents"])?, &mut events);
        events.retain(|event| !event.eq_ignore_ascii_case("CheckOutCheckIn"));
        Some(Self {
            name: look::first(value, &[&["TargetName"]], canon::text),
            url: look::first(value, &[&["TargetUrl"]], canon::text)?,
            active: truth(&["IsActive"]),
            json: look::at(value, &["Format"])
                .and_then(look::scalar)
                .is_some_and(|format| format == JSON || format.eq_ignore_ascii_case("json")),
            check_out_check_in: truth(&["DeviceEvents", "CheckOutCheckIn"]),
            events,
        })
    }

    /// Whether it posts to this address. A slash at the end makes no difference.
    pub fn posts_to(&self, target: &Url) -> bool {
        let bare = |url: &Url| url.as_str().trim_end_matches('/').to_owned();
        Url::parse(self.url.trim()).is_ok_and(|url| bare(&url) == bare(target))
    }
}

/// The names of all flags that are set, also of those inside.
fn flatten(flags: &Value, set: &mut Vec<String>) {
    for (name, value) in flags.as_object().into_iter().flatten() {
        match value {
            Value::Bool(true) => set.push(name.clone()),
            Value::Object(_) => flatten(value, set),
            Value::Null | Value::Bool(false) | Value::Number(_) | Value::String(_) | Value::Array(_) => {}
        }
    }
}

/// All rules of a search's answer.
pub(super) fn all(body: &Value) -> Result<Vec<Rule>, UemError> {
    let rules = look::at(body, &["EventNotifications"]).and_then(Value::as_array);
    let rules = rules.ok_or_else(|| UemError::unreadable("it holds no list of rules"))?;
    Ok(rules.iter().filter_map(Rule::read).collect())
}
