-- The first schema. Times are UTC to the microsecond; ids are uuids, derived from what they name wherever it has a nature.

-- A configured feed of events, as far as it has been heard. Written by intake and sweep.
CREATE TABLE sources (
    name          TEXT NOT NULL PRIMARY KEY,
    last_heard_at TEXT,                 -- last event or answer of any kind
    last_swept_at TEXT,                 -- end of the last complete sweep
    offset_us     INTEGER                   -- our receipt minus its own time, median of the last 50 events
) STRICT;

-- One iPad. `head` and `base` are caches of the fold: they may be rebuilt from events at any time.
CREATE TABLE devices (
    id             BLOB NOT NULL PRIMARY KEY,
    source         TEXT NOT NULL,       -- the source that named it last
    serial         TEXT,
    udid           TEXT,
    uem_id         TEXT,
    uem_uuid       TEXT,
    name           TEXT,
    asset_number   TEXT,
    site           TEXT,
    state          TEXT NOT NULL CHECK (state IN ('person', 'pool', 'unknown')),
    holder_person  BLOB,
    holder_account BLOB,
    undecided      INTEGER NOT NULL,       -- its account is not known to be a person or the pool yet
    since          TEXT,
    last_event_at  TEXT,                -- newest own time of an event
    head           TEXT NOT NULL,       -- the fold's state after every event
    base           TEXT NOT NULL,       -- the fold's state further back, where late events are folded from
    base_at        TEXT,                -- the own time up to which `base` has folded; absent: from the beginning
    confirmed_at   TEXT,                 -- when the source's inventory first showed it
    version        INTEGER NOT NULL,
    CHECK ((state = 'person') = (holder_person IS NOT NULL))
) STRICT;
CREATE INDEX devices_by_holder ON devices (holder_person) WHERE holder_person IS NOT NULL;
CREATE INDEX devices_by_serial ON devices (serial, id);
CREATE INDEX devices_by_base ON devices (base_at, id);

-- Every name a device has had. A serial number and a UDID are the world's, the others a source's own.
CREATE TABLE device_keys (
    kind      TEXT NOT NULL CHECK (kind IN ('serial', 'udid', 'uem_id', 'uem_uuid')),
    scope     TEXT NOT NULL,            -- the source, or '' for serial and udid
    value     TEXT NOT NULL,
    device_id BLOB NOT NULL,
    PRIMARY KEY (kind, scope, value)
) STRICT;
CREATE INDEX device_keys_by_value ON device_keys (value, kind);
CREATE INDEX device_keys_by_device ON device_keys (device_id);

-- A person: an Entra user. Before the directory has been asked it is known by its UPN alone.
CREATE TABLE people (
    id             BLOB NOT NULL PRIMARY KEY,
    object_id      BLOB UNIQUE,         -- the directory's id: stable, and what Graph is addressed by
    upn            TEXT NOT NULL,       -- as last seen, in its own spelling
    upn_key        TEXT NOT NULL,       -- ASCII lower case
    guest          INTEGER NOT NULL,
    stamp_verified TEXT,                -- newest stamp that ever proved a revocation of this person
    first_seen_at  TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX people_by_upn_alone ON people (upn_key) WHERE object_id IS NULL;

-- The UPNs a person has had.
CREATE TABLE person_names (
    person_id BLOB NOT NULL,
    upn_key   TEXT NOT NULL,
    upn       TEXT NOT NULL,
    from_at   TEXT NOT NULL,
    until_at  TEXT,
    PRIMARY KEY (person_id, upn_key, from_at)
) STRICT;
CREATE INDEX person_names_by_upn ON person_names (upn_key);

-- A user as its source names it, and what is known of it. Changing `standing` or `person_id` asks for its devices to be folded again.
CREATE TABLE accounts (
    id            BLOB NOT NULL PRIMARY KEY,
    source        TEXT NOT NULL,
    uem_uuid      TEXT,
    uem_id        TEXT,
    user_name     TEXT,
    email         TEXT,
    standing      TEXT NOT NULL CHECK (standing IN ('undecided', 'person', 'pool', 'unresolved')),
    person_id     BLOB,
    rule          TEXT,                 -- which rule of resolution matched
    why           TEXT,                 -- why it is unresolved
    first_seen_at TEXT NOT NULL,
    decided_at    TEXT,
    due_at        TEXT,                 -- when it is looked up (again)
    tries         INTEGER NOT NULL,
    CHECK ((standing = 'person') = (person_id IS NOT NULL)),
    CHECK ((standing = 'undecided') = (decided_at IS NULL))
) STRICT;
CREATE INDEX accounts_due ON accounts (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX accounts_by_user_name ON accounts (source, lower(user_name)) WHERE uem_uuid IS NOT NULL;
CREATE INDEX accounts_by_person ON accounts (person_id) WHERE person_id IS NOT NULL;

-- What a source said, for good. Never changed but for `disposition` and `oddity`, which a fold may set.
CREATE TABLE events (
    id           BLOB NOT NULL PRIMARY KEY, -- derived from what it says: the same event twice is one row
    device_id    BLOB NOT NULL,
    source       TEXT NOT NULL,
    class        TEXT NOT NULL,
    kind         INTEGER,                   -- the vendor's number of the kind of event
    label        TEXT,                  -- the vendor's name of it
    what         TEXT NOT NULL CHECK (what IN ('with', 'enrolled', 'nameless', 'gone', 'erased', 'silent')),
    how          TEXT NOT NULL CHECK (how IN ('told', 'read')),
    account_id   BLOB,
    occurred_at  TEXT,                  -- the source's own time, as it said it
    at           TEXT NOT NULL,         -- the ordering time
    received_at  TEXT NOT NULL,
    disposition  TEXT NOT NULL CHECK (disposition IN ('folded', 'too_late')),
    oddity       TEXT,
    content_type TEXT,
    raw          BLOB NOT NULL
) STRICT;
CREATE INDEX events_by_device ON events (device_id, at, id);
-- What came later than the fold can take in is counted and shown.
CREATE INDEX events_too_late ON events (received_at, id) WHERE disposition = 'too_late';
CREATE INDEX events_by_account ON events (account_id, at) WHERE account_id IS NOT NULL;

-- What an authenticated sender sent that could not be read. Can be read again later.
CREATE TABLE quarantine (
    id           BLOB NOT NULL PRIMARY KEY,
    source       TEXT NOT NULL,
    received_at  TEXT NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('malformed', 'unknown')),
    why          TEXT NOT NULL,
    content_type TEXT,
    body         BLOB NOT NULL,        -- whole where it may be read again, else the first 4 KiB
    read_at      TEXT                   -- when it was read after all
) STRICT;
CREATE INDEX quarantine_by_time ON quarantine (received_at, id);

-- Stretches of one holder on one device. Where the holder is a person or unknown, it is a custody; stretches in the pool
-- stand beside them, so that "who had it then" is one look-up. A projection of events: may be rebuilt.
CREATE TABLE custodies (
    id         BLOB NOT NULL PRIMARY KEY, -- the event that began it
    device_id  BLOB NOT NULL,
    holder     TEXT NOT NULL CHECK (holder IN ('person', 'pool', 'unknown')),
    person_id  BLOB,
    account_id BLOB,
    started_at TEXT NOT NULL,
    started    TEXT NOT NULL CHECK (started IN ('observed', 'inferred', 'reconciled')),
    ended_at   TEXT,
    ended      TEXT CHECK (ended IN ('observed', 'inferred', 'reconciled')),
    ended_by   BLOB,
    departure  TEXT CHECK (departure IN ('return', 'next', 're_enrolled', 'gone', 'erased')),
    CHECK ((holder = 'person') = (person_id IS NOT NULL)),
    CHECK ((ended_at IS NULL) = (ended IS NULL) AND (ended_at IS NULL) = (ended_by IS NULL) AND (ended_at IS NULL) = (departure IS NULL))
) STRICT;
CREATE INDEX custodies_by_device ON custodies (device_id, started_at, id);
CREATE INDEX custodies_by_person ON custodies (person_id, started_at, id) WHERE person_id IS NOT NULL;
CREATE INDEX custodies_open_by_person ON custodies (person_id) WHERE ended_at IS NULL AND person_id IS NOT NULL;

-- A revocation we owe. Rows are added and change state; they are never deleted.
CREATE TABLE revocations (
    id           BLOB NOT NULL PRIMARY KEY, -- derived: device, event that began the custody
    device_id    BLOB NOT NULL,
    custody_id   BLOB NOT NULL,
    person_id    BLOB,
    account_id   BLOB,                  -- whose tokens, where the person is not known
    reason       TEXT NOT NULL CHECK (reason IN ('next_user', 'unknown_user', 'left_sight', 'return')),
    state        TEXT NOT NULL CHECK (state IN ('open', 'in_flight', 'accepted', 'verified', 'held', 'needs_operator',
                                                 'covered_by_other', 'moot', 'not_effective', 'waived', 'shadow')),
    why          TEXT,                  -- why it waits
    note         TEXT,                  -- what a person or a late event had to say about it
    departed_at  TEXT NOT NULL,
    departed_by  BLOB NOT NULL,
    because      BLOB NOT NULL,         -- the event that made it owed
    exposed_from TEXT NOT NULL,
    owed_at      TEXT NOT NULL,         -- our clock, when it was written down
    urgency      INTEGER NOT NULL,          -- smaller is riskier, and goes first
    due_at       TEXT NOT NULL,         -- not before
    failed       INTEGER NOT NULL,          -- attempts without success in a row
    unfound      INTEGER NOT NULL,          -- answers 404 in a row
    blind        INTEGER NOT NULL,          -- lost answers in a row that could not be checked
    attempt_id   BLOB,                  -- the attempt that is under way, or that answered it
    covered_by   BLOB,                  -- the revocation whose attempt answered it
    accepted_at  TEXT,
    verified_at  TEXT,
    closed_at    TEXT,
    version      INTEGER NOT NULL,
    CHECK (person_id IS NOT NULL OR account_id IS NOT NULL),
    CHECK (state <> 'in_flight' OR attempt_id IS NOT NULL),
    CHECK (state <> 'verified' OR verified_at IS NOT NULL),
    CHECK (state <> 'covered_by_other' OR covered_by IS NOT NULL)
) STRICT;
-- Workers only ever look for unfinished work, so only unfinished work is indexed for them.
CREATE INDEX revocations_due ON revocations (urgency, due_at, id) WHERE state = 'open';
CREATE INDEX revocations_by_person ON revocations (person_id, owed_at, id);
CREATE INDEX revocations_by_account ON revocations (account_id) WHERE account_id IS NOT NULL;
CREATE INDEX revocations_by_device ON revocations (device_id, owed_at, id);
CREATE INDEX revocations_unfinished ON revocations (device_id)
    WHERE state IN ('open', 'in_flight', 'accepted', 'held', 'needs_operator');
CREATE INDEX revocations_by_custody ON revocations (custody_id);
CREATE INDEX revocations_by_state ON revocations (state, owed_at, id);
CREATE INDEX revocations_by_time ON revocations (owed_at, id);

-- One call to Graph for one person. The row is written before the call (R6).
CREATE TABLE attempts (
    id             BLOB NOT NULL PRIMARY KEY, -- also the client-request-id
    person_id      BLOB NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('in_flight', 'accepted', 'verified', 'unproven', 'failed')),
    began_at       TEXT NOT NULL,
    owner          TEXT NOT NULL,       -- the instance that makes the call
    lease_until    TEXT,                -- on the database's clock; after it, others may take over
    stamp_before   TEXT,                -- read just before
    stamp_verified TEXT,                -- the newest that had proved anything until then
    outcome        TEXT,                -- the verdict, once there is one
    status         INTEGER,
    error_code     TEXT,
    request_id     TEXT,
    graph_date     TEXT,                -- the answer's own time, on Graph's clock
    graph_offset_us INTEGER,                -- Graph's clock minus ours, when the attempt began
    ended_at       TEXT,                -- our clock, when the outcome was written
    reads          INTEGER NOT NULL,        -- how often the stamp was read back
    read_at        TEXT,                -- when it is read (again)
    stamp_after    TEXT,
    collateral     TEXT NOT NULL,       -- custodies of the person that were open when it began
    CHECK ((state = 'in_flight') = (lease_until IS NOT NULL)),
    CHECK ((state = 'in_flight') = (ended_at IS NULL))
) STRICT;
-- R7: at most one attempt in flight for a person, whoever makes it.
CREATE UNIQUE INDEX attempts_in_flight ON attempts (person_id) WHERE state = 'in_flight';
CREATE INDEX attempts_to_read ON attempts (read_at, id) WHERE read_at IS NOT NULL;
CREATE INDEX attempts_leased ON attempts (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX attempts_by_person ON attempts (person_id, began_at, id);

-- Which revocations an attempt covers.
CREATE TABLE attempt_revocations (
    attempt_id    BLOB NOT NULL,
    revocation_id BLOB NOT NULL,
    PRIMARY KEY (attempt_id, revocation_id)
) STRICT;
CREATE INDEX attempt_revocations_by_revocation ON attempt_revocations (revocation_id);

-- Devices to be read again over the source's API: at once, and once more after the settling time.
CREATE TABLE looks (
    device_id BLOB NOT NULL PRIMARY KEY,
    source    TEXT NOT NULL,
    settled   INTEGER NOT NULL,            -- whether this is the look that may convict
    due_at    TEXT NOT NULL,
    asked_at  TEXT NOT NULL,            -- what the settling time counts from
    tries     INTEGER NOT NULL
) STRICT;
CREATE INDEX looks_due ON looks (due_at, device_id);

-- What was done, by whom. Written in the transaction of the deed.
CREATE TABLE audit (
    id        BLOB NOT NULL PRIMARY KEY,
    at        TEXT NOT NULL,
    actor     TEXT NOT NULL,            -- a source, 'handover', or a token's name
    action    TEXT NOT NULL,
    device_id BLOB,
    person_id BLOB,
    subject   BLOB,                     -- the event, revocation, attempt, account or token it is about
    detail    TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_time ON audit (at, id);
CREATE INDEX audit_by_device ON audit (device_id, at, id) WHERE device_id IS NOT NULL;
CREATE INDEX audit_by_person ON audit (person_id, at, id) WHERE person_id IS NOT NULL;

-- API tokens. 256 random bits each; only their hash is here.
CREATE TABLE tokens (
    id         BLOB NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL,
    role       TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    digest     BLOB NOT NULL UNIQUE,   -- SHA-256
    created_at TEXT NOT NULL,
    revoked_at TEXT
) STRICT;

-- How far an import has come, so that it can go on.
CREATE TABLE imports (
    digest      BLOB NOT NULL PRIMARY KEY, -- SHA-256 of the file and the source
    name        TEXT NOT NULL,
    lines       INTEGER NOT NULL,           -- taken in so far
    finished_at TEXT
) STRICT;
