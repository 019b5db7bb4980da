//! People.

pub(super) mod custodies;
pub(super) mod one;

use uuid::Uuid;

use crate::store::Tx;
use crate::store::asking::people;
use crate::web::Refusal;

/// The person of that name.
pub(super) async fn named(tx: &mut Tx, person: &str) -> Result<Uuid, Refusal> {
    people::identify(tx, person).await?.ok_or(Refusal::NotFound("person"))
}
