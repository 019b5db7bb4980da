//! How fast all instances together call Graph. One row a lane; one small statement reserves a turn on the database's clock.
//!
//! What would surprise: these statements exist on PostgreSQL only. Where there is one process, it counts in memory. And they
//! do not wait for the disk: what a crash of the server forgets is a fraction of a second of the pace, while waiting for a
//! flush, or for a synchronous standby, with the row locked would slow everybody down.

use super::engine::{Side, in_time, row};
use super::{Error, Tx};

row! {
    /// A turn that was reserved.
    pub struct Reserved {
        /// In how many microseconds it comes.
        pub wait: i64,
        /// Whether there is something that calm answers should undo: throttling, or a stretched gap.
        pub strained: bool,
    }
}

row! {
    /// How a lane stands.
    pub struct Standing {
        /// In how many microseconds a turn is free; zero or less when one is.
        pub free: i64,
        /// For how many microseconds the lane is closed; zero or less when it is open.
        pub closed: i64,
    }
}

/// Reserves the next turn of a lane whose calls leave `gap` microseconds apart, if it comes within `patience`.
pub async fn take(tx: &mut Tx, lane: &str, gap: i64, patience: i64) -> Result<Option<Reserved>, Error> {
    const TAKE: &str = "WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
         UPDATE paces SET next_at = GREATEST(next_at, closed_until, clock_timestamp())
             + (stretch * CAST($2 AS bigint) / 1000) * interval '1 microsecond'
         FROM quick
         WHERE lane = $1
           AND GREATEST(next_at - GREATEST(0, 1000000 - stretch * CAST($2 AS bigint) / 1000) * interval '1 microsecond', closed_until)
             <= clock_timestamp() + CAST($3 AS bigint) * interval '1 microsecond'
         RETURNING GREATEST(0, CAST(1000000 * EXTRACT(EPOCH FROM GREATEST(
                 next_at - GREATEST(1000000, stretch * CAST($2 AS bigint) / 1000) * interval '1 microsecond', closed_until)
                 - clock_timestamp()) AS bigint)) AS wait,
             stretch > 1000 OR throttled > 0 AS strained";
    let limit = tx.limit();
    let Side::Postgres(c) = tx.side() else { return Ok(Some(Reserved { wait: 0, strained: false })) };
    Ok(in_time(limit, sqlx::query_as(TAKE).bind(lane).bind(gap).bind(patience).fetch_optional(c)).await?)
}

/// How a lane stands; one that nobody used yet is opened.
pub async fn standing(tx: &mut Tx, lane: &str, gap: i64) -> Result<Standing, Error> {
    const STANDING: &str = "SELECT CAST(1000000 * EXTRACT(EPOCH FROM GREATEST(
                 next_at - GREATEST(0, 1000000 - stretch * CAST($2 AS bigint) / 1000) * interval '1 microsecond', closed_until)
                 - clock_timestamp()) AS bigint) AS free,
             COALESCE(CAST(1000000 * EXTRACT(EPOCH FROM closed_until - clock_timestamp()) AS bigint), 0) AS closed
         FROM paces WHERE lane = $1";
    const OPEN: &str = "INSERT INTO paces (lane, next_at, throttled, stretch) VALUES ($1, clock_timestamp(), 0, 1000)
         ON CONFLICT (lane) DO NOTHING";
    let limit = tx.limit();
    let Side::Postgres(c) = tx.side() else { return Ok(Standing { free: 0, closed: 0 }) };
    let known = in_time(limit, sqlx::query_as(STANDING).bind(lane).bind(gap).fetch_optional(&mut *c)).await?;
    if let Some(standing) = known {
        return Ok(standing);
    }
    in_time(limit, sqlx::query(OPEN).bind(lane).execute(c)).await?;
    Ok(Standing { free: 0, closed: 0 })
}

/// Closes a lane for so many microseconds. No burst follows.
pub async fn close(tx: &mut Tx, lane: &str, gap: i64, wait: i64) -> Result<(), Error> {
    const CLOSE: &str = "INSERT INTO paces (lane, next_at, closed_until, throttled, stretch)
         VALUES ($1, clock_timestamp() + (GREATEST(0, 1000000 - CAST($2 AS bigint)) + CAST($3 AS bigint)) * interval '1 microsecond',
             clock_timestamp() + CAST($3 AS bigint) * interval '1 microsecond', 1, 1000)
         ON CONFLICT (lane) DO UPDATE SET
             closed_until = GREATEST(paces.closed_until, excluded.closed_until),
             next_at = GREATEST(paces.next_at, GREATEST(paces.closed_until, excluded.closed_until)
                 + GREATEST(0, 1000000 - paces.stretch * CAST($2 AS bigint) / 1000) * interval '1 microsecond'),
             throttled = paces.throttled + 1";
    let limit = tx.limit();
    let Side::Postgres(c) = tx.side() else { return Ok(()) };
    in_time(limit, sqlx::query(CLOSE).bind(lane).bind(gap).bind(wait).execute(c)).await?;
    Ok(())
}

/// An answer that was no 429: under pressure, in thousandths of the limit, the gap grows; without, it shrinks again.
pub async fn answered(tx: &mut Tx, lane: &str, pressure: Option<i64>) -> Result<(), Error> {
    const PRESSED: &str = "UPDATE paces SET throttled = 0, stretch = LEAST(4000, GREATEST(stretch, $2) * 105 / 100)
         WHERE lane = $1";
    const CALM: &str = "UPDATE paces SET throttled = 0, stretch = GREATEST(1000, stretch * 98 / 100) WHERE lane = $1";
    let limit = tx.limit();
    let Side::Postgres(c) = tx.side() else { return Ok(()) };
    match pressure {
        Some(pressure) => in_time(limit, sqlx::query(PRESSED).bind(lane).bind(pressure).execute(c)).await?,
        None => in_time(limit, sqlx::query(CALM).bind(lane).execute(c)).await?,
    };
    Ok(())
}
