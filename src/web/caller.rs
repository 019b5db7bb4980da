//! Who calls: a bearer token, looked up by its digest at every request, so that a token that is made void is void at once.
//!
//! Everything behind [`signed_in`] needs a valid token, whatever its handler says. A handler that needs more than reading
//! takes an [`Operator`] or an [`Admin`], and the role is looked at before the thing it is about: who may not act learns
//! nothing about what there is (C5).

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use crate::store::tokens::{self, Role, Token};
use crate::web::{Refusal, Site};

/// Lets a request pass that has a valid token.
pub(super) async fn signed_in(
    State(site): State<Arc<Site>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let token = bearer(&request).ok_or(Refusal::Unauthenticated)?;
    let digest = tokens::digest(token);
    let caller = {
        let mut tx = site.store.read().await?;
        tokens::by_digest(&mut tx, &digest).await?
    };
    request.extensions_mut().insert(caller.ok_or(Refusal::Unauthenticated)?);
    Ok(next.run(request).await)
}

fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A caller who may retry and release. Holds the name of the token.
pub(super) struct Operator(pub(super) String);

/// A caller who may waive. Holds the name of the token.
pub(super) struct Admin(pub(super) String);

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        at_least(Role::Operator, parts).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        at_least(Role::Admin, parts).map(Self)
    }
}

fn at_least(role: Role, parts: &Parts) -> Result<String, Refusal> {
    let caller = parts.extensions.get::<Token>().ok_or(Refusal::Unauthenticated)?;
    if caller.role >= role { Ok(caller.name.clone()) } else { Err(Refusal::Forbidden(role.name())) }
}
