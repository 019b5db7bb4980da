//! What the core is told: events that name accounts, and what is known of those accounts.
//!
//! An event says with which *account* of the UEM a device is. Whether that account is a person, the pool or nobody we know
//! is a fact of its own ([`Standing`]): it arrives later and may change, and then the device is folded again.

use super::Moment;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);
    };
}

id! {
    /// An event. Derived from what the event says, so that hearing it twice is hearing it once. A custody has the id of
    /// the event that began it.
    EventId
}
id! {
    /// An account as its source names it.
    AccountId
}
id! {
    /// A person: an Entra user.
    PersonId
}

impl EventId {
    /// The id of an event of that time, of which `digest` says the rest: a uuid of version 8 whose first 48 bits are the
    /// milliseconds since 1970, so that ids sort by time and history lies by the month. Without a time, or with one outside
    /// what 48 bits hold, it sorts before all others.
    pub fn timed(at: Option<Moment>, digest: [u8; 16]) -> Self {
        let mut bytes = digest;
        bytes[..6].copy_from_slice(&Self::first_at(at.unwrap_or(Moment(0))).0[..6]);
        bytes[6] = (bytes[6] & 0x0F) | 0x80;
        bytes[8] = (bytes[8] & 0x3F) | 0x80;
        Self(bytes)
    }

    /// The least id that an event of that time can have.
    pub fn first_at(at: Moment) -> Self {
        let milliseconds = u64::try_from(at.0 / 1000).ok().filter(|milliseconds| *milliseconds < 1 << 48).unwrap_or(0);
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
        Self(bytes)
    }
}

/// Something a source said about one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event {
    /// Which event; breaks ties between events of the same moment.
    pub id: EventId,
    /// The ordering time: the source's own, or our receipt where the source's cannot be right.
    pub at: Moment,
    /// What it says about who has the device.
    pub what: What,
    /// How we came to know.
    pub how: How,
}

impl Event {
    /// The place of this event in its device's order (R3).
    pub fn key(&self) -> (Moment, EventId) {
        (self.at, self.id)
    }
}

/// What an event says about who has the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// The device is with this account.
    With(AccountId),
    /// The device was enrolled and is with this account: whatever was before has ended, whoever had it.
    Enrolled(AccountId),
    /// Somebody has the device, and nobody says who.
    Nameless,
    /// The device left our sight, with everything that is on it: unenrolment, enterprise wipe, deletion.
    Gone,
    /// The device was erased, and the tokens with it.
    Erased,
    /// Nothing about who has it: a hint to look, at most.
    Silent,
}

/// How we came to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// The source told us by itself.
    Told,
    /// We read it from the source: `reconciled`.
    Read,
}

/// What is known of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Nothing yet. Nothing is owed on its account; the waiting is visible and ends.
    Undecided,
    /// It is this person's.
    Person(PersonId),
    /// It is a staging account: nobody has the device.
    Pool,
    /// It was looked up, or waited for, and is nobody we know.
    Unresolved,
}

/// Who has a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A person, known through this account.
    Person(PersonId, AccountId),
    /// Nobody: it was returned.
    Pool(AccountId),
    /// Somebody we do not know; the account where one was named.
    Unknown(Option<AccountId>),
    /// An account of which nothing is known yet.
    Undecided(AccountId),
}

impl Holder {
    /// Who an account is, going by what is known of it.
    pub fn of(account: AccountId, standing: Standing) -> Self {
        match standing {
            Standing::Undecided => Self::Undecided(account),
            Standing::Person(person) => Self::Person(person, account),
            Standing::Pool => Self::Pool(account),
            Standing::Unresolved => Self::Unknown(Some(account)),
        }
    }

    /// The account that stands behind it.
    pub fn account(&self) -> Option<AccountId> {
        match *self {
            Self::Person(_, account) | Self::Pool(account) | Self::Undecided(account) => Some(account),
            Self::Unknown(account) => account,
        }
    }

    /// Whether both are the same holder. Two accounts of one person are one holder; so are two staging accounts.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Person(one, _), Self::Person(two, _)) => one == two,
            (Self::Pool(_), Self::Pool(_)) => true,
            (Self::Unknown(one), Self::Unknown(two)) => one == two,
            (Self::Undecided(one), Self::Undecided(two)) => one == two,
            (Self::Person(..) | Self::Pool(_) | Self::Unknown(_) | Self::Undecided(_), _) => false,
        }
    }

    /// Whose tokens may be on a device this holder had.
    pub fn subject(&self) -> Option<Subject> {
        match *self {
            Self::Person(person, _) => Some(Subject::Person(person)),
            Self::Unknown(Some(account)) => Some(Subject::Account(account)),
            Self::Pool(_) | Self::Unknown(None) | Self::Undecided(_) => None,
        }
    }
}

/// Whose tokens a revocation makes invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// This person's.
    Person(PersonId),
    /// Those of whoever this account is; an operator has to say.
    Account(AccountId),
}
