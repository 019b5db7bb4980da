//! The read models: what the API, the console and the commands show. Nothing here writes.
//!
//! Lists are pages, newest first, by cursor: the place of the last row in the list's own order. A page costs the same
//! however far back it lies, because every list walks an index from that place on, and a row that arrives meanwhile is
//! neither skipped nor shown twice. A cursor is opaque; one that we did not make, or made for another list, is refused.
//!
//! What would surprise: the statements of one answer are separate reads. Between two of them the service goes on, so an
//! answer may show a revocation that is a moment newer than the custody beside it, never one that is older.

pub mod audit;
pub mod custodies;
pub mod database;
pub mod devices;
pub mod people;
pub mod revocations;
pub mod status;
pub mod timeline;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, SubsecRound as _, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// How many items a page has when nobody says.
pub const DEFAULT_LIMIT: u16 = 50;

/// How many items a page has at most.
pub const MAX_LIMIT: u16 = 500;

/// The last microsecond that both databases order correctly: SQLite keeps times as text with four digits of year.
const END_OF_TIME: DateTime<Utc> = match DateTime::from_timestamp_micros(253_402_300_799_999_999) {
    Some(at) => at,
    None => DateTime::<Utc>::MAX_UTC,
};

/// The first one.
const BEGINNING_OF_TIME: DateTime<Utc> = match DateTime::from_timestamp_micros(-62_135_596_800_000_000) {
    Some(at) => at,
    None => DateTime::<Utc>::MIN_UTC,
};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cursor is not one of this list.
    #[error("the cursor is not one that this list gave out")]
    Cursor,
    /// The name fits more than one thing.
    #[error("{name} is ambiguous; it could be {}", candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// What it could be.
        candidates: Vec<String>,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] super::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(super::Error::Database(error))
    }
}

/// Which part of a list is asked for.
#[derive(Debug, Clone)]
pub struct Paging {
    limit: u16,
    after: Option<String>,
}

impl Paging {
    /// At most `limit` items (never more than [`MAX_LIMIT`], never none) after the given cursor, or from the beginning.
    pub fn new(limit: Option<u16>, after: Option<String>) -> Self {
        Self { limit: limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT), after }
    }

    /// Everything that one page can hold, from the beginning.
    pub fn largest() -> Self {
        Self { limit: MAX_LIMIT, after: None }
    }

    /// The same length of page, further on.
    #[must_use]
    pub fn after(&self, cursor: String) -> Self {
        Self { limit: self.limit, after: Some(cursor) }
    }

    /// One row more than the page, which says whether there is another page.
    fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    fn place<T: DeserializeOwned>(&self, list: &str) -> Result<Option<T>, Error> {
        let Some(cursor) = &self.after else { return Ok(None) };
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| Error::Cursor)?;
        let (of, place): (String, T) = serde_json::from_slice(&bytes).map_err(|_| Error::Cursor)?;
        if of == list { Ok(Some(place)) } else { Err(Error::Cursor) }
    }

    /// The place to go on from in a list by time and id, newest first.
    fn older_than(&self, list: &str) -> Result<(DateTime<Utc>, Uuid), Error> {
        let Some((micros, id)) = self.place::<(i64, Uuid)>(list)? else { return Ok((END_OF_TIME, Uuid::max())) };
        Ok((moment(micros)?, id))
    }

    fn page<T, P: Serialize>(&self, list: &str, mut items: Vec<T>, place: impl Fn(&T) -> P) -> Page<T> {
        let more = items.len() > usize::from(self.limit);
        items.truncate(usize::from(self.limit));
        let next = items.last().filter(|_| more).map(|last| cursor(list, &place(last)));
        Page { items, next }
    }
}

fn cursor<P: Serialize>(list: &str, place: &P) -> String {
    let bytes = serde_json::to_vec(&(list, place)).expect("a place is a tuple of numbers and texts");
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The moment in a cursor, as far as both databases can order it.
fn moment(micros: i64) -> Result<DateTime<Utc>, Error> {
    DateTime::from_timestamp_micros(micros)
        .filter(|at| *at <= END_OF_TIME && *at >= BEGINNING_OF_TIME)
        .ok_or(Error::Cursor)
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Give this as `cursor` to go on; `null` when there is no more.
    pub next: Option<String>,
}

/// A person, as shown beside other things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Who {
    /// The user principal name, as last seen.
    pub upn: String,
    /// The directory's id; `null` until the directory has been asked.
    pub object_id: Option<Uuid>,
}

fn who(upn: Option<String>, object_id: Option<Uuid>) -> Option<Who> {
    upn.map(|upn| Who { upn, object_id })
}

/// An interval of time; open where an end is absent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    /// The beginning, included.
    pub from: Option<DateTime<Utc>>,
    /// The end, not included.
    pub to: Option<DateTime<Utc>>,
}

impl Span {
    fn from(&self) -> DateTime<Utc> {
        self.from.map_or(BEGINNING_OF_TIME, kept)
    }

    fn to(&self) -> DateTime<Utc> {
        self.to.map_or(END_OF_TIME, kept)
    }
}

/// The moment as both databases would keep it: to the microsecond, between the ends of time.
fn kept(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6).clamp(BEGINNING_OF_TIME, END_OF_TIME)
}

/// How a person is named in a question: by UPN, also a former one, in any ASCII case; or by object id.
struct PersonName {
    upn_key: Option<String>,
    object_id: Option<Uuid>,
}

impl PersonName {
    fn of(name: &str) -> Self {
        match Uuid::try_parse(name.trim()) {
            Ok(object_id) => Self { upn_key: None, object_id: Some(object_id) },
            Err(_) => Self { upn_key: Some(name.trim().to_ascii_lowercase()), object_id: None },
        }
    }
}

/// The pattern that finds `text` anywhere, with `!` as the escape.
fn anywhere(text: &str) -> String {
    let mut pattern = String::from("%");
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let id = Uuid::from_u128(7);
        let paging = Paging::new(None, Some(cursor("custodies", &(1_234_567_i64, id))));

        let (at, found) = paging.older_than("custodies").unwrap();

        assert_eq!((at.timestamp_micros(), found), (1_234_567, id));
    }

    #[test]
    fn a_cursor_that_we_did_not_make_is_refused() {
        let foreign = cursor("audit", &(1_i64, Uuid::nil()));
        let endless = cursor("custodies", &(i64::MAX, Uuid::nil()));
        for text in ["", "?", "e30", "bm90IGpzb24", &foreign, &endless] {
            let paging = Paging::new(None, Some(String::from(text)));
            assert!(matches!(paging.older_than("custodies"), Err(Error::Cursor)), "{text:?} was taken");
        }
    }

    #[test]
    fn a_page_is_never_empty_by_request_and_never_longer_than_the_maximum() {
        assert_eq!(Paging::new(Some(0), None).rows(), 2);
        assert_eq!(Paging::new(Some(u16::MAX), None).rows(), 501);
        assert_eq!(Paging::new(None, None).rows(), 51);
    }

    #[test]
    fn the_ends_of_time_are_what_they_say() {
        assert_eq!(END_OF_TIME.to_rfc3339(), "9999-12-31T23:59:59.999999+00:00");
        assert_eq!(BEGINNING_OF_TIME.to_rfc3339(), "0001-01-01T00:00:00+00:00");
    }

    #[test]
    fn a_search_takes_its_text_literally() {
        assert_eq!(anywhere("50%_a!"), "%50!%!_a!!%");
    }
}
