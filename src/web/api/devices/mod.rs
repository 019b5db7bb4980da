//! Devices.

pub(super) mod custodies;
pub(super) mod holder;
pub(super) mod list;
pub(super) mod one;
pub(super) mod timeline;

use uuid::Uuid;

use crate::store::Tx;
use crate::store::asking::devices;
use crate::web::Refusal;

/// The device of that name.
pub(super) async fn named(tx: &mut Tx, device: &str) -> Result<Uuid, Refusal> {
    devices::identify(tx, device).await?.ok_or(Refusal::NotFound("device"))
}
