//! API tokens.

use handover::store::Kind;
use handover::store::tokens::{self, NewToken, Role};
use rstest::rstest;
use uuid::Uuid;

use crate::support::empty;
use crate::ward::at;

#[rstest]
#[tokio::test]
async fn a_token_is_known_by_its_digest_until_it_is_made_void(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(test) = empty(kind).await else { return };
    let id = Uuid::from_u128(1);
    let new = NewToken { id, name: "nina", role: Role::Operator, secret: [7; 32], at: at("10:00:00") };

    let mut tx = test.store.write().await.unwrap();
    let token = tokens::create(&mut tx, &new).await.unwrap();
    let known = tokens::by_digest(&mut tx, &tokens::digest(&token)).await.unwrap().unwrap();
    let revoked = tokens::revoke(&mut tx, id, at("11:00:00")).await.unwrap();
    let again = tokens::revoke(&mut tx, id, at("12:00:00")).await.unwrap();
    let void = tokens::by_digest(&mut tx, &tokens::digest(&token)).await.unwrap();
    let all = tokens::list(&mut tx).await.unwrap();
    tx.commit().await.unwrap();

    assert_eq!((token.len(), &token[..3]), (46, "ho_"));
    assert_eq!((known.name.as_str(), known.role), ("nina", Role::Operator));
    assert_eq!((revoked, again, void), (true, false, None));
    assert_eq!(all[0].revoked_at, Some(at("11:00:00")));
}
