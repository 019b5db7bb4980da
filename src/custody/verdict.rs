//! What an answer of the directory means.
//!
//! The `entra` room turns each answer into one [`Verdict`]; [`super::attempt`] turns a verdict into what we do next. The
//! letters G1–G14 are the rows of the fault table that the two of them keep together.

use std::time::Duration;

/// What became of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Any 2xx with a body that is empty or JSON (G1). The effect is still to be read back.
    Accepted,
    /// 429: everybody waits (G5). The wait is the server's own, already rounded up and bounded.
    Throttled(Option<Duration>),
    /// 5xx, a lock or a conflict, or no connection: the request had no effect (G6, G7). The wait is the server's own.
    Unavailable(Option<Duration>),
    /// The request was sent and no whole answer came back: it may have had its effect (G8).
    Ambiguous,
    /// Somebody other than the directory answered: a redirect, HTML, a wrong certificate (G9, G10). An alarm. When the
    /// request itself was sent to the right host it is [`Verdict::Ambiguous`] that counts for the effect.
    Misled,
    /// 401 twice, or no token to be had: our own credentials are at fault, for everybody (G2, G12, G13).
    Credentials,
    /// 403 for this person (G3).
    Forbidden,
    /// 404: no such person, or not yet everywhere (G4).
    Unfound,
    /// Another 4xx: the request itself is wrong (G11). Repeating it would not help.
    Refused,
}
