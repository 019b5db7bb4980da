//! The users of the simulated tenant and what became of their sessions.
//!
//! Two things follow a revocation, each at its own time: refresh tokens issued before it are refused, and its stamp becomes
//! readable. Which tokens are older is decided by a running number and not by comparing clocks, so that a token issued right
//! after a revocation is good however coarse the stamp is.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::sandbox::clock::{before, to_the_second};

/// A user to be added.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserSpec {
    /// User principal name.
    pub upn: String,
    /// Object id; a fresh one when absent.
    pub object_id: Option<Uuid>,
    /// Display name; made from the UPN when empty.
    pub display_name: String,
    /// Mail address; the UPN when absent.
    pub mail: Option<String>,
    /// An external user: a revocation answers 200 and changes nothing.
    pub guest: bool,
    /// Holds an administrator role.
    pub admin: bool,
    /// `onPremisesImmutableId`.
    pub immutable_id: Option<String>,
    /// `onPremisesSamAccountName`; with it the user counts as synchronised.
    pub sam_account_name: Option<String>,
    /// For the password grant. Default: `Handover-1`.
    pub password: Option<String>,
}

impl From<&str> for UserSpec {
    fn from(upn: &str) -> Self {
        Self { upn: upn.to_owned(), ..Self::default() }
    }
}

/// When a new stamp can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// This long after the revocation.
    After(Duration),
    /// Never.
    Never,
}

/// A revocation that really took effect.
#[derive(Clone, Debug, Serialize)]
pub struct Effect {
    /// When, in true time.
    pub at: DateTime<Utc>,
    /// What it set the user's stamp to, on the server's clock.
    pub stamp: String,
    /// The id the caller gave the request.
    pub client_request_id: Option<String>,
    /// The id the server gave it.
    pub request_id: Uuid,
    /// Refresh tokens up to this number are refused.
    #[serde(skip)]
    pub(super) after_token: u64,
}

/// One user.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) id: Uuid,
    pub(super) upn: String,
    pub(super) display_name: String,
    pub(super) mail: String,
    pub(super) guest: bool,
    pub(super) admin: bool,
    pub(super) enabled: bool,
    pub(super) immutable_id: Option<String>,
    pub(super) sam_account_name: Option<String>,
    pub(super) password: String,
    pub(super) created_at: DateTime<Utc>,
    pub(super) lag: Option<Lag>,
    pub(super) effects: Vec<Effect>,
}

impl User {
    /// The stamp as a read shows it `now`. `stale` hides the last revocation.
    pub(super) fn stamp(&self, now: DateTime<Utc>, default_lag: Lag, stale: bool) -> String {
        let shown = match self.lag.unwrap_or(default_lag) {
            Lag::After(lag) => before(now, lag),
            Lag::Never => DateTime::<Utc>::MIN_UTC,
        };
        let known = if stale { self.effects.len().saturating_sub(1) } else { self.effects.len() };
        let last = self.effects[..known].iter().rev().find(|effect| effect.at <= shown);
        last.map_or_else(|| to_the_second(self.created_at), |effect| effect.stamp.clone())
    }

    /// Whether refresh token number `token` has been revoked, `delay` after the fact.
    pub(super) fn refuses(&self, token: u64, now: DateTime<Utc>, delay: Duration) -> bool {
        let shown = before(now, delay);
        self.effects.iter().any(|effect| effect.after_token >= token && effect.at <= shown)
    }
}

/// All users, found by id and by UPN.
#[derive(Default)]
pub(super) struct Directory {
    users: HashMap<Uuid, User>,
    by_upn: HashMap<String, Uuid>,
}

impl Directory {
    /// Adds a user. One of the same UPN or id is replaced, as if deleted before.
    pub(super) fn add(&mut self, spec: UserSpec, now: DateTime<Utc>) -> Uuid {
        let id = spec.object_id.unwrap_or_else(Uuid::new_v4);
        if let Some(same_name) = self.by_upn.get(&spec.upn.to_ascii_lowercase()).copied() {
            self.delete(same_name);
        }
        self.delete(id);
        let name = spec.upn.split('@').next().unwrap_or_default().replace('.', " ");
        let user = User {
            id,
            display_name: if spec.display_name.is_empty() { name } else { spec.display_name },
            mail: spec.mail.unwrap_or_else(|| spec.upn.clone()),
            upn: spec.upn,
            guest: spec.guest,
            admin: spec.admin,
            enabled: true,
            immutable_id: spec.immutable_id,
            sam_account_name: spec.sam_account_name,
            password: spec.password.unwrap_or_else(|| "Handover-1".to_owned()),
            // An account older than the test: its first stamp differs from any that is set today.
            created_at: now - TimeDelta::days(30),
            lag: None,
            effects: Vec::new(),
        };
        self.by_upn.insert(user.upn.to_ascii_lowercase(), id);
        self.users.insert(id, user);
        id
    }

    /// Gives a user another UPN. Says whether there is such a user.
    pub(super) fn rename(&mut self, id: Uuid, upn: &str) -> bool {
        let Some(user) = self.users.get_mut(&id) else { return false };
        self.by_upn.remove(&user.upn.to_ascii_lowercase());
        upn.clone_into(&mut user.upn);
        self.by_upn.insert(upn.to_ascii_lowercase(), id);
        true
    }

    /// Deletes a user. Says whether there was one.
    pub(super) fn delete(&mut self, id: Uuid) -> bool {
        let Some(user) = self.users.remove(&id) else { return false };
        self.by_upn.remove(&user.upn.to_ascii_lowercase());
        true
    }

    pub(super) fn get(&self, id: Uuid) -> Option<&User> {
        self.users.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: Uuid) -> Option<&mut User> {
        self.users.get_mut(&id)
    }

    /// The user called `key`: an object id, or a UPN in any case.
    pub(super) fn find(&self, key: &str) -> Option<&User> {
        let id = Uuid::try_parse(key).ok().or_else(|| self.by_upn.get(&key.to_ascii_lowercase()).copied())?;
        self.users.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }
}
