//! API tokens. A token is 256 random bits; the database has its SHA-256 digest and nothing else, so that nobody who reads the
//! database can use one (K10).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::engine::{on, row};
use super::{Error, Tx};

/// What a token begins with, so that a scanner of leaked secrets can tell it.
const PREFIX: &str = "ho_";

/// What the bearer of a token may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Read.
    Viewer,
    /// Retry and release revocations.
    Operator,
    /// Waive them.
    Admin,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its name in SQL, JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// A token that is to be.
pub struct NewToken<'a> {
    /// Its id.
    pub id: Uuid,
    /// What it is called; the actor of the deeds it does.
    pub name: &'a str,
    /// What its bearer may do.
    pub role: Role,
    /// The secret, from a source of randomness that is fit for it.
    pub secret: [u8; 32],
    /// When.
    pub at: DateTime<Utc>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: Uuid,
    /// What it is called.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Since when it is void.
    pub revoked_at: Option<DateTime<Utc>>,
}

row! {
    struct TokenRow {
        id: Uuid,
        name: String,
        role: String,
        created_at: DateTime<Utc>,
        revoked_at: Option<DateTime<Utc>>,
    }
}

impl TryFrom<TokenRow> for Token {
    type Error = Error;

    fn try_from(row: TokenRow) -> Result<Self, Error> {
        let Some(role) = Role::named(&row.role) else {
            return Err(Error::Unreadable { table: "tokens", column: "role", id: row.id.to_string(), found: row.role });
        };
        Ok(Self { id: row.id, name: row.name, role, created_at: row.created_at, revoked_at: row.revoked_at })
    }
}

/// What is kept of a token.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

const CREATE: &str = "INSERT INTO tokens (id, name, role, digest, created_at) VALUES ($1, $2, $3, $4, $5)";

/// Writes a token down and returns its text, which can never be read again.
///
/// # Errors
/// When the database fails.
pub async fn create(tx: &mut Tx, new: &NewToken<'_>) -> Result<String, Error> {
    let token = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(new.secret));
    let digest = digest(&token);
    on!(tx, |c| sqlx::query(CREATE)
        .bind(new.id)
        .bind(new.name)
        .bind(new.role.name())
        .bind(&digest[..])
        .bind(new.at)
        .execute(c)
        .await
        .map(drop))?;
    Ok(token)
}

const BY_DIGEST: &str = "SELECT id, name, role, created_at, revoked_at FROM tokens
     WHERE digest = $1 AND revoked_at IS NULL";

/// The token with that digest, unless it is void.
///
/// # Errors
/// When the database fails.
pub async fn by_digest(tx: &mut Tx, digest: &[u8; 32]) -> Result<Option<Token>, Error> {
    let row = on!(tx, |c| sqlx::query_as::<_, TokenRow>(BY_DIGEST).bind(&digest[..]).fetch_optional(c).await)?;
    row.map(Token::try_from).transpose()
}

const REVOKE: &str = "UPDATE tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";

/// Makes a token void. Says whether it was valid until now.
///
/// # Errors
/// When the database fails.
pub async fn revoke(tx: &mut Tx, id: Uuid, at: DateTime<Utc>) -> Result<bool, Error> {
    let changed = on!(tx, |c| sqlx::query(REVOKE).bind(id).bind(at).execute(c).await.map(|done| done.rows_affected()))?;
    Ok(changed == 1)
}

const LIST: &str =
    "SELECT id, name, role, created_at, revoked_at FROM tokens ORDER BY created_at DESC, id DESC LIMIT 1000";

/// The newest thousand tokens, void ones included, newest first.
///
/// # Errors
/// When the database fails.
pub async fn list(tx: &mut Tx) -> Result<Vec<Token>, Error> {
    let rows = on!(tx, |c| sqlx::query_as::<_, TokenRow>(LIST).fetch_all(c).await)?;
    rows.into_iter().map(Token::try_from).collect()
}
