//! The accounts that sources name, and the people they resolve to.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::engine::{on, padded, row, sheets};
use super::{Error, Tx};

row! {
    /// An account.
    pub struct AccountRow {
        /// Derived from its source and its best name.
        pub id: Uuid,
        /// The source.
        pub source: String,
        /// The UEM's uuid of the user.
        pub uem_uuid: Option<String>,
        /// The UEM's number of the user.
        pub uem_id: Option<String>,
        /// The login name.
        pub user_name: Option<String>,
        /// The mail address.
        pub email: Option<String>,
        /// `undecided`, `person`, `pool` or `unresolved`.
        pub standing: String,
        /// The person, where it is one.
        pub person_id: Option<Uuid>,
        /// The rule that matched.
        pub rule: Option<String>,
        /// Why it is unresolved.
        pub why: Option<String>,
        /// When it was first named.
        pub first_seen_at: DateTime<Utc>,
        /// When it was decided.
        pub decided_at: Option<DateTime<Utc>>,
        /// When it is looked up (again).
        pub due_at: Option<DateTime<Utc>>,
        /// Look-ups without an answer in a row.
        pub tries: i64,
    }
}

row! {
    /// A person.
    pub struct PersonRow {
        /// Derived from the object id, or from the UPN where that was all there was.
        pub id: Uuid,
        /// The directory's id.
        pub object_id: Option<Uuid>,
        /// The UPN in its own spelling.
        pub upn: String,
        /// The same in ASCII lower case.
        pub upn_key: String,
        /// Whether it is a guest, who cannot be revoked here.
        pub guest: bool,
        /// The newest stamp that ever proved anything.
        pub stamp_verified: Option<DateTime<Utc>>,
        /// When we first heard of them.
        pub first_seen_at: DateTime<Utc>,
    }
}

const ACCOUNT_COLUMNS: &str = "id, source, uem_uuid, uem_id, user_name, email, standing, person_id, rule, why, \
     first_seen_at, decided_at, due_at, tries";

/// Loads accounts.
pub async fn load(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<AccountRow>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new(format!("SELECT {ACCOUNT_COLUMNS} FROM accounts WHERE id IN ("));
        let mut list = query.separated(", ");
        for id in padded(ids) {
            list.push_bind(*id);
        }
        query.push(")").build_query_as().fetch_all(c).await
    })?)
}

row! {
    /// What a fold needs of an account.
    pub struct StandingRow {
        /// Derived from its source and its best name.
        pub id: Uuid,
        /// `undecided`, `person`, `pool` or `unresolved`.
        pub standing: String,
        /// The person, where it is one.
        pub person_id: Option<Uuid>,
        /// The rule that matched, or what kept every rule from matching.
        pub rule: Option<String>,
    }
}

/// What is known of accounts.
pub async fn standings(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<StandingRow>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new("SELECT id, standing, person_id, rule FROM accounts WHERE id IN (");
        let mut list = query.separated(", ");
        for id in padded(ids) {
            list.push_bind(*id);
        }
        query.push(")").build_query_as().fetch_all(c).await
    })?)
}

/// Adds accounts that nobody else added meanwhile.
pub async fn add(tx: &mut Tx, accounts: &[AccountRow]) -> Result<(), Error> {
    for sheet in sheets(accounts) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(format!("INSERT INTO accounts ({ACCOUNT_COLUMNS}) "));
            sheet.put(&mut query, |mut tuple, account| {
                tuple
                    .push_bind(account.id)
                    .push_bind(account.source.clone())
                    .push_bind(account.uem_uuid.clone())
                    .push_bind(account.uem_id.clone())
                    .push_bind(account.user_name.clone())
                    .push_bind(account.email.clone())
                    .push_bind(account.standing.clone())
                    .push_bind(account.person_id)
                    .push_bind(account.rule.clone())
                    .push_bind(account.why.clone())
                    .push_bind(account.first_seen_at)
                    .push_bind(account.decided_at)
                    .push_bind(account.due_at)
                    .push_bind(account.tries);
            });
            query.push(" ON CONFLICT (id) DO NOTHING").build().execute(c).await.map(drop)
        })?;
    }
    Ok(())
}

/// Writes down what is known of an account now.
pub async fn save(tx: &mut Tx, account: &AccountRow) -> Result<(), Error> {
    const SAVE: &str = "UPDATE accounts SET uem_uuid = $2, uem_id = $3, user_name = $4, email = $5, standing = $6,
             person_id = $7, rule = $8, why = $9, decided_at = $10, due_at = $11, tries = $12 WHERE id = $1";
    on!(tx, |c| {
        sqlx::query(SAVE)
            .bind(account.id)
            .bind(&account.uem_uuid)
            .bind(&account.uem_id)
            .bind(&account.user_name)
            .bind(&account.email)
            .bind(&account.standing)
            .bind(account.person_id)
            .bind(&account.rule)
            .bind(&account.why)
            .bind(account.decided_at)
            .bind(account.due_at)
            .bind(account.tries)
            .execute(c)
            .await
            .map(drop)
    })?;
    Ok(())
}

/// Accounts that are to be looked up now.
pub async fn due(tx: &mut Tx, now: DateTime<Utc>, limit: i64) -> Result<Vec<AccountRow>, Error> {
    const DUE: &str =
        "SELECT id, source, uem_uuid, uem_id, user_name, email, standing, person_id, rule, why, first_seen_at,
             decided_at, due_at, tries
         FROM accounts WHERE due_at IS NOT NULL AND due_at <= $1 ORDER BY due_at, id LIMIT $2";
    Ok(on!(tx, |c| sqlx::query_as(DUE).bind(now).bind(limit).fetch_all(c).await)?)
}

/// Takes up accounts that are to be looked up now, so that nobody else does before `until`. Whoever dies with one leaves it
/// due then.
pub async fn claim(
    tx: &mut Tx,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<AccountRow>, Error> {
    let text = tx.either(
        "WITH mine (which) AS MATERIALIZED (SELECT id FROM accounts
             WHERE due_at IS NOT NULL AND due_at <= $1 ORDER BY due_at, id LIMIT $3)
         UPDATE accounts SET due_at = $2 FROM mine WHERE id = mine.which
         RETURNING id, source, uem_uuid, uem_id, user_name, email, standing, person_id, rule, why, first_seen_at,
             decided_at, due_at, tries",
        "WITH mine (which) AS MATERIALIZED (SELECT id FROM accounts
             WHERE due_at IS NOT NULL AND due_at <= $1 ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED)
         UPDATE accounts SET due_at = $2 FROM mine WHERE id = mine.which
         RETURNING id, source, uem_uuid, uem_id, user_name, email, standing, person_id, rule, why, first_seen_at,
             decided_at, due_at, tries",
    );
    Ok(on!(tx, |c| sqlx::query_as(text).bind(now).bind(until).bind(limit).fetch_all(c).await)?)
}

/// Loads an account and, where several instances may write, keeps others from deciding it until the transaction ends.
pub async fn lock(tx: &mut Tx, id: Uuid) -> Result<Option<AccountRow>, Error> {
    let text = tx.either(
        "SELECT id, source, uem_uuid, uem_id, user_name, email, standing, person_id, rule, why, first_seen_at,
             decided_at, due_at, tries FROM accounts WHERE id = $1",
        "SELECT id, source, uem_uuid, uem_id, user_name, email, standing, person_id, rule, why, first_seen_at,
             decided_at, due_at, tries FROM accounts WHERE id = $1 FOR UPDATE",
    );
    Ok(on!(tx, |c| sqlx::query_as(text).bind(id).fetch_optional(c).await)?)
}

/// Has an account looked up again at `due_at`, after so many tries without an answer. What is known of it stays.
pub async fn put_off(tx: &mut Tx, id: Uuid, due_at: Option<DateTime<Utc>>, tries: i64) -> Result<(), Error> {
    const OFF: &str = "UPDATE accounts SET due_at = $2, tries = $3 WHERE id = $1";
    on!(tx, |c| sqlx::query(OFF).bind(id).bind(due_at).bind(tries).execute(c).await.map(drop))?;
    Ok(())
}

/// The accounts of a source with this login name (ASCII lower case) that the source can be asked about.
pub async fn namesakes(tx: &mut Tx, source: &str, user_name: &str) -> Result<Vec<AccountRow>, Error> {
    const NAMESAKES: &str =
        "SELECT id, source, uem_uuid, uem_id, user_name, email, standing, person_id, rule, why, first_seen_at,
             decided_at, due_at, tries
         FROM accounts WHERE source = $1 AND lower(user_name) = $2 AND uem_uuid IS NOT NULL ORDER BY id LIMIT 2";
    Ok(on!(tx, |c| sqlx::query_as(NAMESAKES).bind(source).bind(user_name).fetch_all(c).await)?)
}

/// The devices on which an account was named since `since`, or is named by the fold.
pub async fn devices(tx: &mut Tx, account: Uuid, since: DateTime<Utc>) -> Result<Vec<Uuid>, Error> {
    const DEVICES: &str = "SELECT device_id FROM events WHERE account_id = $1 AND at >= $2
         UNION SELECT id FROM devices WHERE holder_account = $1 ORDER BY 1";
    Ok(on!(tx, |c| sqlx::query_scalar(DEVICES).bind(account).bind(since).fetch_all(c).await)?)
}

/// Devices whose fold still waits for an account that has been decided since, or holds one for unknown in a custody that
/// began after `since`. On PostgreSQL an event and the decision about its account may be written at the same time, and
/// neither sees the other.
pub async fn left_waiting(tx: &mut Tx, since: DateTime<Utc>, limit: i64) -> Result<Vec<Uuid>, Error> {
    const WAITING: &str = "SELECT devices.id FROM devices JOIN accounts ON accounts.id = devices.holder_account
         WHERE devices.undecided AND accounts.standing <> 'undecided'
         UNION SELECT custodies.device_id FROM custodies JOIN accounts ON accounts.id = custodies.account_id
         WHERE custodies.holder = 'unknown' AND custodies.account_id IS NOT NULL AND custodies.started_at >= $1
           AND accounts.standing IN ('person', 'pool')
         ORDER BY 1 LIMIT $2";
    Ok(on!(tx, |c| sqlx::query_scalar(WAITING).bind(since).bind(limit).fetch_all(c).await)?)
}

/// What was folded for good before an account was known: its custodies get their holder (see `app::facts`).
pub async fn name_old_custodies(tx: &mut Tx, account: Uuid, holder: &str, person: Option<Uuid>) -> Result<u64, Error> {
    const NAME: &str = "UPDATE custodies SET holder = $2, person_id = $3
         WHERE account_id = $1 AND (holder <> $2 OR person_id IS DISTINCT FROM $3)";
    Ok(on!(tx, |c| sqlx::query(NAME)
        .bind(account)
        .bind(holder)
        .bind(person)
        .execute(c)
        .await
        .map(|d| d.rows_affected()))?)
}

const PERSON: &str =
    "SELECT id, object_id, upn, upn_key, guest, stamp_verified, first_seen_at FROM people WHERE id = $1";

/// A person by our id.
pub async fn person(tx: &mut Tx, id: Uuid) -> Result<Option<PersonRow>, Error> {
    Ok(on!(tx, |c| sqlx::query_as(PERSON).bind(id).fetch_optional(c).await)?)
}

/// A person by the directory's id.
pub async fn person_by_object(tx: &mut Tx, object: Uuid) -> Result<Option<PersonRow>, Error> {
    const BY_OBJECT: &str =
        "SELECT id, object_id, upn, upn_key, guest, stamp_verified, first_seen_at FROM people WHERE object_id = $1";
    Ok(on!(tx, |c| sqlx::query_as(BY_OBJECT).bind(object).fetch_optional(c).await)?)
}

/// The person known by this UPN now: one the directory knows first, else one known by the UPN alone.
pub async fn person_by_upn(tx: &mut Tx, upn_key: &str) -> Result<Option<PersonRow>, Error> {
    const BY_UPN: &str = "SELECT id, object_id, upn, upn_key, guest, stamp_verified, first_seen_at FROM people
         WHERE id IN (SELECT person_id FROM person_names WHERE upn_key = $1 AND until_at IS NULL)
         ORDER BY object_id IS NULL, first_seen_at, id LIMIT 1";
    Ok(on!(tx, |c| sqlx::query_as(BY_UPN).bind(upn_key).fetch_optional(c).await)?)
}

/// Adds a person, unless somebody did meanwhile.
pub async fn add_person(tx: &mut Tx, person: &PersonRow) -> Result<(), Error> {
    const ADD: &str = "INSERT INTO people (id, object_id, upn, upn_key, guest, stamp_verified, first_seen_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    on!(tx, |c| {
        sqlx::query(ADD)
            .bind(person.id)
            .bind(person.object_id)
            .bind(&person.upn)
            .bind(&person.upn_key)
            .bind(person.guest)
            .bind(person.stamp_verified)
            .bind(person.first_seen_at)
            .execute(c)
            .await
            .map(drop)
    })?;
    add_name(tx, person.id, &person.upn, &person.upn_key, person.first_seen_at).await
}

/// Writes down what the directory says of a person.
pub async fn save_person(tx: &mut Tx, person: &PersonRow) -> Result<(), Error> {
    const SAVE: &str = "UPDATE people SET object_id = $2, upn = $3, upn_key = $4, guest = $5 WHERE id = $1";
    on!(tx, |c| {
        sqlx::query(SAVE)
            .bind(person.id)
            .bind(person.object_id)
            .bind(&person.upn)
            .bind(&person.upn_key)
            .bind(person.guest)
            .execute(c)
            .await
            .map(drop)
    })?;
    Ok(())
}

/// Ends the names a person has, and gives it a new one.
pub async fn rename(tx: &mut Tx, person: Uuid, upn: &str, upn_key: &str, at: DateTime<Utc>) -> Result<(), Error> {
    end_names(tx, person, at).await?;
    add_name(tx, person, upn, upn_key, at).await
}

/// Ends the names a person has.
pub async fn end_names(tx: &mut Tx, person: Uuid, at: DateTime<Utc>) -> Result<(), Error> {
    const END: &str = "UPDATE person_names SET until_at = $2 WHERE person_id = $1 AND until_at IS NULL";
    on!(tx, |c| sqlx::query(END).bind(person).bind(at).execute(c).await.map(drop))?;
    Ok(())
}

async fn add_name(tx: &mut Tx, person: Uuid, upn: &str, upn_key: &str, at: DateTime<Utc>) -> Result<(), Error> {
    const NAME: &str = "INSERT INTO person_names (person_id, upn_key, upn, from_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (person_id, upn_key, from_at) DO NOTHING";
    on!(tx, |c| sqlx::query(NAME).bind(person).bind(upn_key).bind(upn).bind(at).execute(c).await.map(drop))?;
    Ok(())
}

/// Remembers the newest stamp that proved anything for a person; an older one changes nothing.
pub async fn prove_stamp(tx: &mut Tx, person: Uuid, stamp: DateTime<Utc>) -> Result<(), Error> {
    const PROVE: &str =
        "UPDATE people SET stamp_verified = $2 WHERE id = $1 AND (stamp_verified IS NULL OR stamp_verified < $2)";
    on!(tx, |c| sqlx::query(PROVE).bind(person).bind(stamp).execute(c).await.map(drop))?;
    Ok(())
}

/// The accounts that are this person.
pub async fn of_person(tx: &mut Tx, person: Uuid) -> Result<Vec<AccountRow>, Error> {
    const OF: &str =
        "SELECT id, source, uem_uuid, uem_id, user_name, email, standing, person_id, rule, why, first_seen_at,
             decided_at, due_at, tries
         FROM accounts WHERE person_id = $1 ORDER BY id";
    Ok(on!(tx, |c| sqlx::query_as(OF).bind(person).fetch_all(c).await)?)
}
