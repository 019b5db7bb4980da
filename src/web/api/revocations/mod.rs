//! Revocations, and what operators do about them.

pub(super) mod list;
pub(super) mod one;
pub(super) mod release;
pub(super) mod retry;
pub(super) mod waive;

use uuid::Uuid;

use crate::store::asking::revocations::{self, Revocation};
use crate::web::{Refusal, Site};

/// The revocation as it is now.
pub(super) async fn as_it_is(site: &Site, id: Uuid) -> Result<Revocation, Refusal> {
    let mut tx = site.store.read().await?;
    revocations::one(&mut tx, id).await?.ok_or(Refusal::NotFound("revocation"))
}
