//! API tokens are made and made void, and the audit history says so.

use serde_json::json;
use uuid::Uuid;

use crate::app::{App, HANDOVER, again};
use crate::store::audit::Entry;
use crate::store::tokens::{self, NewToken, Role};
use crate::store::{Error, Tx, audit, house};

impl App {
    /// Makes a token and returns its text, which cannot be shown again, with its id.
    ///
    /// # Errors
    /// When the database fails. Then there is no token that anybody knows the text of.
    pub async fn create_token(&self, name: &str, role: Role, actor: &str) -> Result<(Uuid, String), Error> {
        again(|| self.try_create_token(name, role, actor)).await
    }

    /// Makes an administrator's token, if there is no token at all; of several instances that start at once, one does.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn first_token(&self) -> Result<Option<String>, Error> {
        again(|| self.try_first_token()).await
    }

    async fn try_first_token(&self) -> Result<Option<String>, Error> {
        if !tokens::list(&mut self.store.read().await?).await?.is_empty() {
            return Ok(None);
        }
        let mut tx = self.store.write().await?;
        house::lock(&mut tx).await?;
        if !tokens::list(&mut tx).await?.is_empty() {
            return Ok(None);
        }
        let (_, token) = self.write_token(&mut tx, "first", Role::Admin, HANDOVER).await?;
        tx.commit().await?;
        Ok(Some(token))
    }

    async fn try_create_token(&self, name: &str, role: Role, actor: &str) -> Result<(Uuid, String), Error> {
        let mut tx = self.store.write().await?;
        let made = self.write_token(&mut tx, name, role, actor).await?;
        tx.commit().await?;
        Ok(made)
    }

    async fn write_token(&self, tx: &mut Tx, name: &str, role: Role, actor: &str) -> Result<(Uuid, String), Error> {
        let new = NewToken { id: self.new_id(), name, role, secret: rand::random(), at: self.utc() };
        let token = tokens::create(tx, &new).await?;
        let entry = Entry {
            subject: Some(new.id),
            ..self.entry(actor, "token.created", json!({ "name": name, "role": role.name() }))
        };
        audit::write(tx, &[entry]).await?;
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
