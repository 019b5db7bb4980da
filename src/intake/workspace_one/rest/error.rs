//! Why there is no answer, by what the caller does about it.

use std::time::Duration;

/// Why the UEM gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum UemError {
    /// No connection, or no whole answer in time. Ask again later.
    #[error("the UEM cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// It asks us to wait, or cannot do its work right now.
    #[error("the UEM is busy")]
    Busy {
        /// How long it asks us to wait, where it says so. Never to be shortened.
        retry_after: Option<Duration>,
    },
    /// The login is wrong or may not do this. Somebody has to look; asking again makes it worse.
    #[error("the UEM refused with {status}{}{}", part(", error ", code.as_ref()), part(", activity ", activity_id.as_ref()))]
    Refused {
        /// The HTTP status: 401 for the login, 403 for its role, 400 from the token endpoint.
        status: u16,
        /// The UEM's own error code.
        code: Option<String>,
        /// What the UEM's support asks for.
        activity_id: Option<String>,
    },
    /// The answer is not what this call gives. Perhaps somebody else answered.
    #[error("the UEM's answer cannot be read: {why}")]
    Unreadable {
        /// What is wrong with it, without quoting it.
        why: String,
    },
}

impl UemError {
    pub(super) fn unreadable(why: impl Into<String>) -> Self {
        Self::Unreadable { why: why.into() }
    }

    /// The address is left out, since it names a device or a user.
    pub(super) fn unreachable(error: reqwest::Error) -> Self {
        Self::Unreachable(error.without_url())
    }
}

fn part(before: &str, value: Option<&String>) -> String {
    value.map(|value| format!("{before}{value}")).unwrap_or_default()
}
