//! What a device management system says, checked and normalised: its webhooks, its imports and its REST API.
//!
//! The room promises three things. A sender is authenticated on raw bytes before anything is parsed ([`Door`]). A body
//! of any bytes gives a [`Notice`] or a reason, in linear time and without a panic ([`read`]). And a notice is only what
//! was said: who holds a device is judged elsewhere, by comparing accounts, never from the name of an event.
//!
//! What would surprise you: the webhook carries no UPN and no delivery id. The first comes from the REST client or from
//! the configured [`People`] mapping; the second is replaced by an id derived from what the event says, so that hearing
//! it again, in JSON or in XML, gives the same id.

mod basic;
mod canon;
mod notice;
mod person;
mod time;
pub mod workspace_one;

pub use basic::Door;
pub use notice::{AccountNames, Class, DeviceNames, Notice, Oddity, Unreadable};
pub use person::{BadTemplate, People, UpnFrom};
pub use workspace_one::{Entry, EventTable, Limits, Rules, read, read_record};
