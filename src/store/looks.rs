//! Devices to be read again over the source's API. Durable, so that no restart forgets a suspicion.

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::engine::{on, row, sheets};
use super::{Error, Tx};

row! {
    /// A look to be taken.
    pub struct LookRow {
        /// At which device.
        pub device_id: Uuid,
        /// Over whose API.
        pub source: String,
        /// Whether this is the look that may convict.
        pub settled: bool,
        /// When.
        pub due_at: DateTime<Utc>,
        /// What the settling time counts from.
        pub asked_at: DateTime<Utc>,
        /// Failures in a row.
        pub tries: i64,
        /// Whether it is asked because a whole sweep did not list the device.
        pub unlisted: bool,
    }
}

/// Asks for looks; one already asked for starts again from the newer question.
pub async fn ask(tx: &mut Tx, looks: &[LookRow]) -> Result<(), Error> {
    put(
        tx,
        looks,
        " ON CONFLICT (device_id) DO UPDATE SET source = excluded.source, settled = excluded.settled, \
         due_at = excluded.due_at, asked_at = excluded.asked_at, tries = 0, unlisted = excluded.unlisted",
    )
    .await
}

/// Asks for looks on suspicion; one already asked for stands.
pub async fn suspect(tx: &mut Tx, looks: &[LookRow]) -> Result<(), Error> {
    put(tx, looks, " ON CONFLICT (device_id) DO NOTHING").await
}

async fn put(tx: &mut Tx, looks: &[LookRow], otherwise: &'static str) -> Result<(), Error> {
    for sheet in sheets(looks) {
        on!(tx, |c| {
            let mut query =
                QueryBuilder::new("INSERT INTO looks (device_id, source, settled, due_at, asked_at, tries, unlisted) ");
            sheet.put(&mut query, |mut tuple, look| {
                tuple
                    .push_bind(look.device_id)
                    .push_bind(look.source.clone())
                    .push_bind(look.settled)
                    .push_bind(look.due_at)
                    .push_bind(look.asked_at)
                    .push_bind(look.tries)
                    .push_bind(look.unlisted);
            });
            query.push(otherwise).build().execute(c).await.map(drop)
        })?;
    }
    Ok(())
}

/// The looks that are due. Whatever is due after `never` is due too (E8).
pub async fn due(tx: &mut Tx, now: DateTime<Utc>, never: DateTime<Utc>, limit: i64) -> Result<Vec<LookRow>, Error> {
    const DUE: &str = "SELECT device_id, source, settled, due_at, asked_at, tries, unlisted FROM looks
         WHERE due_at <= $1 OR due_at > $2 ORDER BY due_at, device_id LIMIT $3";
    Ok(on!(tx, |c| sqlx::query_as(DUE).bind(now).bind(never).bind(limit).fetch_all(c).await)?)
}

/// Takes up looks that are due, so that nobody else does before `until`. Whoever dies with one leaves it due then.
pub async fn claim(
    tx: &mut Tx,
    now: DateTime<Utc>,
    never: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<LookRow>, Error> {
    let text = tx.either(
        "WITH mine (id) AS MATERIALIZED (SELECT device_id FROM looks
             WHERE due_at <= $1 OR due_at > $2 ORDER BY due_at, device_id LIMIT $4)
         UPDATE looks SET due_at = $3 FROM mine WHERE device_id = mine.id
         RETURNING device_id, source, settled, due_at, asked_at, tries, unlisted",
        "WITH mine (id) AS MATERIALIZED (SELECT device_id FROM looks
             WHERE due_at <= $1 OR due_at > $2 ORDER BY due_at, device_id LIMIT $4 FOR UPDATE SKIP LOCKED)
         UPDATE looks SET due_at = $3 FROM mine WHERE device_id = mine.id
         RETURNING device_id, source, settled, due_at, asked_at, tries, unlisted",
    );
    Ok(on!(tx, |c| sqlx::query_as(text).bind(now).bind(never).bind(until).bind(limit).fetch_all(c).await)?)
}

/// Puts a look off, unless it was asked for anew meanwhile.
pub async fn put_off(
    tx: &mut Tx,
    look: &LookRow,
    settled: bool,
    due_at: DateTime<Utc>,
    tries: i64,
) -> Result<(), Error> {
    const OFF: &str = "UPDATE looks SET settled = $3, due_at = $4, tries = $5 WHERE device_id = $1 AND asked_at = $2";
    on!(tx, |c| {
        sqlx::query(OFF)
            .bind(look.device_id)
            .bind(look.asked_at)
            .bind(settled)
            .bind(due_at)
            .bind(tries)
            .execute(c)
            .await
            .map(drop)
    })?;
    Ok(())
}

/// Takes a look off the list, unless it was asked for anew meanwhile. Says whether it stood.
pub async fn done(tx: &mut Tx, look: &LookRow) -> Result<bool, Error> {
    const DONE: &str = "DELETE FROM looks WHERE device_id = $1 AND asked_at = $2";
    let gone = on!(tx, |c| sqlx::query(DONE)
        .bind(look.device_id)
        .bind(look.asked_at)
        .execute(c)
        .await
        .map(|d| d.rows_affected()))?;
    Ok(gone == 1)
}
