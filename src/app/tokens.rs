//! API tokens are made and made void, and the audit history says so.

use serde_json::json;
use uuid::Uuid;

use crate::app::{App, again};
use crate::store::audit::Entry;
use crate::store::tokens::{self, NewToken, Role};
use crate::store::{Error, audit};

impl App {
    /// Makes a token and returns its text, which cannot be shown again, with its id.
    ///
    /// # Errors
    /// When the database fails. Then there is no token that anybody knows the text of.
    pub async fn create_token(&self, name: &str, role: Role, actor: &str) -> Result<(Uuid, String), Error> {
        again(|| self.try_create_token(name, role, actor)).await
    }

    async fn try_create_token(&self, name: &str, role: Role, actor: &str) -> Result<(Uuid, String), Error> {
        let mut tx = self.store.write().await?;
        let new = NewToken { id: self.new_id(), name, role, secret: rand::random(), at: self.utc() };
        let token = tokens::create(&mut tx, &new).await?;
        let entry = Entry {
            subject: Some(new.id),
            ..self.entry(actor, "token.created", json!({ "name": name, "role": role.name() }))
        };
        audit::write(&mut tx, &[entry]).await?;
        tx.commit().await?;
        Ok((new.id, token))
    }

    /// Makes a token void. Says whether it was valid until now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn void_token(&self, id: Uuid, actor: &str) -> Result<bool, Error> {
        again(|| self.try_void_token(id, actor)).await
    }

    async fn try_void_token(&self, id: Uuid, actor: &str) -> Result<bool, Error> {
        let mut tx = self.store.write().await?;
        let was_valid = tokens::revoke(&mut tx, id, self.utc()).await?;
        if was_valid {
            let entry = Entry { subject: Some(id), ..self.entry(actor, "token.revoked", json!({})) };
            audit::write(&mut tx, &[entry]).await?;
        }
        tx.commit().await?;
        Ok(was_valid)
    }
}
