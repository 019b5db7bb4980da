//! Ids derived from what they name, so that replaying, racing and folding again meet on the same rows.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::custody::{EventId, Moment};
use crate::intake::{AccountNames, DeviceNames};
use crate::store::recording::DeviceKey;

/// A uuid made of the parts, each with its length, so that no two lists of parts make the same.
pub fn derived(parts: &[&[u8]]) -> Uuid {
    uuid::Builder::from_custom_bytes(digest(parts)).into_uuid()
}

fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes
}

/// The names of a device as keys, the most telling first: serial number and UDID are the world's, the others the source's.
pub fn device_keys(names: &DeviceNames, source: &str) -> Vec<(&'static str, String, String)> {
    let mut keys = Vec::with_capacity(4);
    let mut add = |kind, scope: &str, value: &Option<String>| {
        if let Some(value) = value {
            keys.push((kind, scope.to_owned(), value.clone()));
        }
    };
    add("serial", "", &names.serial);
    add("uem_uuid", source, &names.uem_uuid);
    add("udid", "", &names.udid);
    add("uem_id", source, &names.uem_id);
    keys
}

/// The id of a device that is first heard of by this key.
pub fn device_id(kind: &str, scope: &str, value: &str) -> Uuid {
    derived(&[b"device", kind.as_bytes(), scope.as_bytes(), value.as_bytes()])
}

/// A key of a device as a row.
pub fn key_row((kind, scope, value): &(&'static str, String, String), device_id: Uuid) -> DeviceKey {
    DeviceKey { kind: (*kind).to_owned(), scope: scope.clone(), value: value.clone(), device_id }
}

/// The id of an account: by the best name that the source gave it.
pub fn account_id(source: &str, names: &AccountNames) -> Uuid {
    let (kind, value) = match (&names.uuid, &names.id, &names.user_name, &names.email) {
        (Some(uuid), ..) => ("uuid", uuid.to_ascii_lowercase()),
        (None, Some(id), ..) => ("id", id.clone()),
        (None, None, Some(name), _) => ("user_name", name.to_ascii_lowercase()),
        (None, None, None, email) => ("email", email.clone().unwrap_or_default().to_ascii_lowercase()),
    };
    derived(&[b"account", source.as_bytes(), kind.as_bytes(), value.as_bytes()])
}

/// The id of a person who is first known by the directory's id.
pub fn person_by_object(object_id: Uuid) -> Uuid {
    derived(&[b"person", b"object", object_id.as_bytes()])
}

/// The id of a person who is first known by a UPN.
pub fn person_by_upn(upn_key: &str) -> Uuid {
    derived(&[b"person", b"upn", upn_key.as_bytes()])
}

/// The id of the revocation that answers a custody. It begins with the time that the custody's id begins with, so that
/// revocations lie by time too.
pub fn revocation_id(device: Uuid, custody: Uuid) -> Uuid {
    let mut bytes = digest(&[b"revocation", device.as_bytes(), custody.as_bytes()]);
    bytes[..6].copy_from_slice(&custody.as_bytes()[..6]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The id that the first release gave it.
pub fn former_revocation_id(device: Uuid, custody: Uuid) -> Uuid {
    derived(&[b"revocation", device.as_bytes(), custody.as_bytes()])
}

/// The id of what a read of a device showed, and the one that the first release gave it.
pub fn read_id(source: &str, device: Uuid, at: Moment, account: Option<Uuid>) -> (Uuid, Uuid) {
    let account = account.map(Uuid::into_bytes).unwrap_or_default();
    let parts: [&[u8]; 5] = [b"read", source.as_bytes(), device.as_bytes(), &at.0.to_be_bytes(), &account];
    (Uuid::from_bytes(EventId::timed(Some(at), digest(&parts)).0), derived(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_run_into_each_other() {
        assert_ne!(derived(&[b"ab", b"c"]), derived(&[b"a", b"bc"]));
    }

    #[test]
    fn an_account_is_known_by_the_best_of_its_names() {
        let full = AccountNames { uuid: Some("C7A4".into()), id: Some("8".into()), ..AccountNames::default() };
        let only = AccountNames { uuid: Some("c7a4".into()), ..AccountNames::default() };

        assert_eq!(account_id("uem", &full), account_id("uem", &only));
        assert_ne!(account_id("uem", &full), account_id("other", &full));
    }
}
