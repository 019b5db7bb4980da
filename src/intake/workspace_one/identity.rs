//! The id of an event, since the sender gives none.
//!
//! Two deliveries are the same event when source, device, kind, time and account agree. The id is its time and a hash of
//! these, so that a repeat days later meets the first on the same row, in whatever format it came. Changing anything here
//! gives every event a new id; the test below holds it still. It was done once: the first release had the hash alone, and
//! what it wrote down is still found by that.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use crate::custody::EventId;
use crate::intake::{Notice, canon};

/// The id of this notice, and the one that the first release gave it. `content` is asked for only when the event has no readable time to tell it from others.
pub(super) fn of<'a>(
    source: &str,
    notice: &Notice,
    content: impl FnOnce() -> BTreeMap<&'a str, String>,
) -> (Uuid, Uuid) {
    let device = &notice.device;
    let device =
        first([("uuid", &device.uem_uuid), ("id", &device.uem_id), ("serial", &device.serial), ("udid", &device.udid)]);
    let kind = match (notice.kind, &notice.text) {
        (Some(kind), _) => ("id", kind.to_string()),
        (None, Some(text)) => ("text", canon::folded(text)),
        (None, None) => NOTHING,
    };
    let time = match notice.occurred_at {
        Some(at) => ("at", at.0.to_string()),
        None => ("content", hex::encode(digest_of(content()))),
    };
    let account = notice.account.as_ref().map_or(NOTHING, |account| {
        first([("uuid", &account.uuid), ("id", &account.id), ("name", &account.user_name), ("email", &account.email)])
    });
    let mut hash = Sha256::new();
    put(&mut hash, source);
    for (which, value) in [device, kind, time, account] {
        put(&mut hash, which);
        put(&mut hash, &value);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    let formerly = Builder::from_custom_bytes(bytes).into_uuid();
    (Uuid::from_bytes(EventId::timed(notice.occurred_at, bytes).0), formerly)
}

const NOTHING: (&str, String) = ("", String::new());

fn first<'a>(names: [(&'a str, &Option<String>); 4]) -> (&'a str, String) {
    names.into_iter().find_map(|(which, name)| Some((which, name.clone()?))).unwrap_or(NOTHING)
}

fn digest_of(content: BTreeMap<&str, String>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (name, value) in content {
        put(&mut hash, name);
        put(&mut hash, &value);
    }
    hash.finalize().into()
}

/// Adds a text with its length before it, so that no two lists of texts look alike.
fn put(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}
